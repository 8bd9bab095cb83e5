"""LightningModule: loss, optimizer, and validation metrics."""

import math
from dataclasses import asdict
from typing import Any, Literal, Unpack

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import CatMetric

from minillm.checkpoint.format import FORMAT, versions
from minillm.config import ModelArguments, ModelConfig
from minillm.data.datamodule import get_datamodule
from minillm.model import Decoder
from minillm.model.custom import check_model, custom_parts
from minillm.training.dynamic_evaluation import dynamic_loss
from minillm.training.optimizer import Muon, adamw
from minillm.training.resume import check_training_state, convert_batch_counts
from minillm.training.schedule import Schedule, learning_rate_factor


class LanguageModel(LightningModule):
    """Train a decoder to predict the next token.

    Args:
        optimizer: `adamw`, or `muon` for the matrices inside the blocks and AdamW for the rest.
        learning_rate: Peak learning rate of AdamW.
        muon_learning_rate: Peak learning rate of Muon.
        schedule: Decay of the learning rate: `constant` (none), or `linear` or `cosine`, to 0 at the end of the run.
        warmup_steps: Number of steps in which the learning rate rises linearly to its peak.
        decay_fraction: Final fraction of the run in which the learning rate decays, at most 1; it is constant before.
        weight_decay: Weight decay of the matrices, with either optimizer.
        beta2: AdamW's beta2, the decay of its second moment.
        frozen_blocks: Number of leading blocks whose weights are frozen.
        compile: Mode of `torch.compile` for the training steps, or `none`; for GPUs, as compiling takes time.
        dynamic_learning_rate: Learning rate of dynamic evaluation, for `val_loss_dynamic`, which `validate` and `test`
            measure; None leaves it out.
        model_class: A model class of your own, by default `Decoder`: a module that is created with a ModelConfig, has
            it as attribute `config`, and maps token ids (B, T) to logits (B, T, V).
        decoder: Arguments of `ModelConfig`.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        optimizer: Literal["adamw", "muon"] = "adamw",
        learning_rate: float = 3e-4,
        muon_learning_rate: float = 0.02,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
        decay_fraction: float = 1.0,
        weight_decay: float = 0.1,
        beta2: float = 0.999,
        frozen_blocks: int = 0,
        compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none",
        dynamic_learning_rate: float | None = None,
        model_class: type[nn.Module] | None = None,
        **decoder: Unpack[ModelArguments],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["model_class", "dynamic_learning_rate"])
        self.config = ModelConfig(**decoder)
        new_model: Any = model_class or Decoder
        self.model: Decoder = new_model(self.config)  # or a model class of your own
        if model_class is not None:
            check_model(self.model, self.config)
        self.hparams.update(asdict(self.config))  # includes the defaults
        blocks = getattr(self.model, "blocks", None)
        blocks = blocks if isinstance(blocks, nn.ModuleList) else nn.ModuleList()
        if not 0 <= frozen_blocks <= len(blocks):
            raise ValueError(f"frozen_blocks must be from 0 to {len(blocks)}, got {frozen_blocks}")
        blocks[:frozen_blocks].requires_grad_(False)
        self.num_batches: int | None = None  # None without a Trainer
        self.compile_mode: str = compile
        self.dynamic_learning_rate = dynamic_learning_rate
        self.losses, self.sliding_losses = (CatMetric(nan_strategy="disable") for _ in range(2))
        self.configure_optimizers()  # rejects invalid values before anything is written
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, got {warmup_steps}")
        if dynamic_learning_rate is not None and not 0 <= dynamic_learning_rate < math.inf:
            raise ValueError(f"dynamic_learning_rate must be at least 0 and finite, got {dynamic_learning_rate}")
        if not 0 < decay_fraction <= 1:
            raise ValueError(f"decay_fraction must be more than 0 and at most 1, got {decay_fraction}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create AdamW, or Muon and AdamW, from the hyperparameters."""
        settings: dict[str, Any] = {**self.hparams}
        shared = {"weight_decay": settings["weight_decay"], "beta2": settings["beta2"]}
        if settings["optimizer"] == "muon":
            return Muon(self.model, settings["learning_rate"], settings["muon_learning_rate"], **shared)
        return adamw(self.model, settings["learning_rate"], **shared)

    def setup(self, stage: str) -> None:
        """Record the number of accumulated batches per step, before a checkpoint is restored; compile the model."""
        self.num_batches = self.trainer.accumulate_grad_batches
        if stage == "fit" and self.compile_mode != "none":
            self.model.compile(mode=self.compile_mode)  # in place: the names of the weights stay the same

    def on_train_start(self) -> None:
        """Record the peak learning rates and the number of steps of the run; validate between steps only."""
        self.peak_learning_rates = [group["lr"] for group in self.configure_optimizers().param_groups]
        self.num_steps = self.trainer.estimated_stepping_batches
        interval, num_batches = self.trainer.val_check_batch, self.trainer.accumulate_grad_batches
        if isinstance(interval, int):  # a fraction of an epoch need not be a number of whole steps
            self.trainer.val_check_batch = -(-interval // num_batches) * num_batches

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Set the learning rates of the next step, unless a callback has brought its own schedule."""
        if self.trainer.lr_scheduler_configs:
            return
        settings: list[Any] = [self.hparams[name] for name in ("schedule", "warmup_steps", "decay_fraction")]
        factor = learning_rate_factor(self.global_step, self.num_steps, *settings)
        for group, peak in zip(self.trainer.optimizers[0].param_groups, self.peak_learning_rates, strict=True):
            group["lr"] = factor * peak

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients by norm or by value; Lightning refuses to clip for fused optimizers in mixed precision."""
        if gradient_clip_val:
            by_value = gradient_clip_algorithm == "value"
            clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(self.model.parameters(), gradient_clip_val)

    def training_step(self, windows: Tensor, batch_idx: int) -> Tensor:
        """Return the mean loss of windows (B, T + 1)."""
        return self.loss(windows)

    def validation_step(self, batch: Tensor | list[Any], batch_idx: int) -> None:
        """Record the loss of a batch and its number of targets.

        Args:
            batch: Consecutive windows (B, up to T + 1), or sliding windows (B, T + 1) with the number of targets to
                score at the end of each.
            batch_idx: Index of the batch.
        """
        windows, num_scored = (batch, 0) if isinstance(batch, Tensor) else batch
        loss = self.loss(windows, num_scored)
        num_targets = loss.new_tensor(windows[:, 1:][:, -num_scored:].numel())
        losses = self.losses if isinstance(batch, Tensor) else self.sliding_losses
        losses.update(torch.stack([loss, num_targets]))

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss`, `val_perplexity`, `val_bits_per_char`, and in evaluation the sliding and the dynamic loss.

        Losses are per token; perplexity and bits are per character, and comparable between tokenizers.
        """
        self._log_evaluation("val")

    def test_step(self, batch: Tensor | list[Any], batch_idx: int) -> None:
        """Record the loss of a batch, as in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of `on_validation_epoch_end`, with the prefix `test_`."""
        self._log_evaluation("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the format, the seed of the training windows, and what using the weights requires."""
        data = get_datamodule(self.trainer)
        checkpoint.update(format=FORMAT, versions=versions(), seed=data.seed, tokenizer=data.tokenizer.state)
        checkpoint.update(num_processes=self.trainer.world_size, num_batches=self.trainer.accumulate_grad_batches)
        if parts := custom_parts(self.model):
            checkpoint["custom_parts"] = parts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Override the checkpoint's settings with this run's; keep the hyperparameters of a later version.

        Lightning's counters of batches are converted to the number of batches that this run accumulates per step.
        """
        self.hparams.update({**checkpoint["hyper_parameters"], **self.hparams})
        if not checkpoint.get("optimizer_states"):  # saved with weights only
            return
        if unmatched := checkpoint["state_dict"].keys() ^ self.state_dict().keys():
            name = type(self.model).__qualname__
            raise ValueError(f"its weights are not those of {name}: missing or unexpected weight {min(unmatched)}")
        optimizer = self.configure_optimizers()
        check_training_state(checkpoint, optimizer)
        if self.num_batches is not None:
            convert_batch_counts(checkpoint, self.num_batches)
        kept = {"params", "lr"} if checkpoint.get("lr_schedulers") else {"params"}  # a callback's schedule continues
        for saved, group in zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True):
            saved.update({name: value for name, value in group.items() if name not in kept})

    def loss(self, windows: Tensor, num_scored: int = 0) -> Tensor:
        """Return the mean cross-entropy loss, in nats per token.

        Args:
            windows: Token ids (B, T + 1).
            num_scored: Number of targets to score at the end of each window; 0 scores all of them.
        """
        runs_eagerly = self.compile_mode != "none" and not self.training  # evaluation is not compiled
        model = self.model.forward if runs_eagerly else self.model
        logits, targets = model(windows[:, :-1])[:, -num_scored:], windows[:, 1:][:, -num_scored:]
        return F.cross_entropy(logits.flatten(end_dim=1), targets.flatten())

    def _log_evaluation(self, split: str) -> None:
        loss = _weighted_mean(self.losses)
        per_char = loss / get_datamodule(self.trainer).chars_per_val_token
        perplexity = torch.tensor(per_char).exp().item()
        values = {"loss": loss, "perplexity": perplexity, "bits_per_char": per_char / math.log(2)}
        if self.sliding_losses.update_called:
            values["loss_sliding"] = _weighted_mean(self.sliding_losses)
        rate = self.dynamic_learning_rate
        if rate is not None and self.trainer.state.fn != TrainerFn.FITTING:
            values["loss_dynamic"] = dynamic_loss(self.model, get_datamodule(self.trainer).val.tokens, rate)
        log(self, {f"{split}_{name}": value for name, value in values.items()}, sync_dist=True)


def _weighted_mean(losses: CatMetric) -> float:
    """Return the mean of all processes' pairs of a loss and its weight, summed in float64, and reset the metric."""
    loss, weight = losses.compute().cpu().double().view(-1, 2).T
    losses.reset()
    return ((loss * weight).sum() / weight.sum()).float().item()


# for jsonargparse, which would take the flags from the TypedDict, without defaults: now it finds ModelConfig(**decoder)
LanguageModel.__init__.__annotations__["decoder"] = Any


def log(module: LightningModule, values: dict[str, Any], **kwargs: Any) -> None:
    """Write metrics to the loggers immediately, with the number of completed optimizer steps.

    In training, the loggers are called directly, because Lightning's `log_dict` writes training metrics only after the
    hooks that save checkpoints, counts steps from 0, and costs up to a millisecond per step. It still serves the
    progress bar, and evaluation, whose results it returns.

    Args:
        module: The module that is being trained.
        values: Metrics by name.
        kwargs: Further arguments of `log_dict`.
    """
    is_fitting = module.trainer.state.fn == TrainerFn.FITTING
    module.log_dict(values, prog_bar=True, logger=False if is_fitting else None, **kwargs)
    if is_fitting and not module.trainer.sanity_checking:
        for logger in module.loggers:
            logger.log_metrics({name: float(value) for name, value in values.items()}, module.global_step)
