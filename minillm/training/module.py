"""LightningModule: loss, optimizer, and validation metrics."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal, Unpack

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import CatMetric

from minillm.checkpoint.format import FORMAT, versions
from minillm.checkpoint.validation import STATE_DICT_PREFIX
from minillm.config import ModelArguments, ModelConfig
from minillm.data.datamodule import get_datamodule
from minillm.model import Decoder
from minillm.model.custom import check_model, custom_parts
from minillm.tokenizer import Tokenizer, tokenizer_from_state
from minillm.tokenizer.letter_case import case_groups
from minillm.training.dynamic_evaluation import dynamic_loss
from minillm.training.losses import cross_entropy, second_head
from minillm.training.metrics import log, weighted_mean
from minillm.training.optimizer import Muon, RowGroups, adamw, check_values, token_tables
from minillm.training.resume import check_training_state, convert_batch_counts
from minillm.training.schedule import Schedule, learning_rate_factor
from minillm.training.weight_average import WeightAverage


class LanguageModel(LightningModule):
    """Train a decoder to predict the next token.

    Args:
        optimizer: `adamw`, or `muon` for the matrices inside the blocks and AdamW for the rest.
        learning_rate: Peak learning rate of AdamW.
        muon_learning_rate: Peak learning rate of Muon.
        muon_momentum: Decay of Muon's momentum.
        schedule: Decay of the learning rate: `constant` (none), or `linear` or `cosine`, to 0 at the end of the run.
        warmup_steps: Number of steps in which the learning rate rises linearly to its peak.
        decay_fraction: Final fraction of the run in which the learning rate decays, at most 1; it is constant before.
        weight_decay: Weight decay of the matrices that AdamW trains.
        muon_weight_decay: Weight decay of the matrices that Muon trains; None is `weight_decay`.
        beta2: AdamW's beta2, the decay of its second moment.
        case_sharing: Train the embedding and the output head of a token as the sum of a row of its own and one that it
            shares with the tokens that differ from it only in upper and lower case.
        multi_token_weight: Initial weight of the loss of a second output head, which predicts the token after the next
            in training only; it falls linearly to 0 at the end of the run. 0 leaves the head out.
        average_last_steps: Number of steps at the end of the run whose weights are averaged; validation and checkpoints
            have the average. 0 averages none.
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
        muon_momentum: float = 0.95,
        schedule: Schedule = "constant",
        warmup_steps: int = 0,
        decay_fraction: float = 1.0,
        weight_decay: float = 0.1,
        muon_weight_decay: float | None = None,
        beta2: float = 0.999,
        case_sharing: bool = False,
        multi_token_weight: float = 0.0,
        average_last_steps: int = 0,
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
        self.average_last_steps = average_last_steps
        self.second_head = second_head(self.model) if multi_token_weight else None
        self.rows: RowGroups | None = None  # known with the tokenizer
        self.num_batches: int | None = None  # None without a Trainer
        self.compile_mode: str = compile
        self.dynamic_learning_rate, self.multi_token_weight = dynamic_learning_rate, multi_token_weight
        self.losses, self.sliding_losses = (CatMetric(nan_strategy="disable") for _ in range(2))
        self.configure_optimizers()  # rejects invalid values before anything is written
        if case_sharing and not token_tables(self.model):
            raise ValueError("case_sharing needs a model with a token_embedding or an output_head")
        for name, steps in (("warmup_steps", warmup_steps), ("average_last_steps", average_last_steps)):
            if steps < 0:
                raise ValueError(f"{name} must be at least 0, got {steps}")
        check_values(multi_token_weight=multi_token_weight, dynamic_learning_rate=dynamic_learning_rate or 0.0)
        if not 0 < decay_fraction <= 1:
            raise ValueError(f"decay_fraction must be more than 0 and at most 1, got {decay_fraction}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create AdamW, or Muon and AdamW, from the hyperparameters."""
        settings: dict[str, Any] = {**self.hparams}
        shared: dict[str, Any] = {
            "weight_decay": settings["weight_decay"],
            "beta2": settings["beta2"],
            "rows": self.rows,
        }
        if settings["optimizer"] == "muon":
            shared |= {"muon_weight_decay": settings["muon_weight_decay"], "momentum": settings["muon_momentum"]}
            return Muon(self, settings["learning_rate"], settings["muon_learning_rate"], **shared)
        return adamw(self, settings["learning_rate"], **shared)

    def setup(self, stage: str) -> None:
        """Record the number of accumulated batches per step, before a checkpoint is restored; compile the model."""
        self.num_batches = self.trainer.accumulate_grad_batches
        if self.hparams["case_sharing"]:
            self._share_rows(get_datamodule(self.trainer).tokenizer)
        if self.second_head is not None:
            self.hidden_states: Callable[[Tensor], Tensor] = self.model.hidden_states
        if stage == "fit" and self.compile_mode != "none":
            self.model.compile(mode=self.compile_mode)  # in place: the names of the weights stay the same
            if self.second_head is not None:
                self.hidden_states = torch.compile(self.model.hidden_states, mode=self.compile_mode)

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
            clip(self.parameters(), gradient_clip_val)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callback that averages the weights of the last steps."""
        return [WeightAverage(self.average_last_steps)]

    def training_step(self, windows: Tensor, batch_idx: int) -> Tensor | dict[str, Tensor]:
        """Return the mean loss of windows (B, T + 1); with a second head, `train_loss` beside the sum of both losses.

        Multi-token prediction adds weight * (1 - s / S) * (the loss of the token after the next) at step s of S.

        Source: Gloeckle et al. 2024, "Better & Faster Large Language Models via Multi-token Prediction".
        """
        if self.second_head is None:
            return self.loss(windows)
        hidden = self.hidden_states(windows[:, :-1])
        loss = cross_entropy(self.model.output_head(hidden).float(), windows[:, 1:])
        second_loss = cross_entropy(self.second_head(hidden[:, :-1]).float(), windows[:, 2:])
        weight = self.multi_token_weight * (1 - self.global_step / float(self.num_steps))
        return {"loss": loss + weight * second_loss, "train_loss": loss.detach()}

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
        """Add the format, the seed of the training windows, and what using the weights requires.

        The weights of the second head, which only training needs, are moved to `training_weights`.
        """
        data = get_datamodule(self.trainer)
        checkpoint.update(format=FORMAT, versions=versions(), seed=data.seed, tokenizer=data.tokenizer.state)
        checkpoint.update(num_processes=self.trainer.world_size, num_batches=self.trainer.accumulate_grad_batches)
        if parts := custom_parts(self.model):
            checkpoint["custom_parts"] = parts
        if self.second_head is not None:
            weights: dict[str, Any] = checkpoint["state_dict"]
            checkpoint.setdefault("training_weights", weights)
            checkpoint["state_dict"] = {name: w for name, w in weights.items() if name.startswith(STATE_DICT_PREFIX)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Override the checkpoint's settings with this run's; keep the hyperparameters of a later version.

        Lightning's counters of batches are converted to the number of batches that this run accumulates per step.
        """
        self.hparams.update({**checkpoint["hyper_parameters"], **self.hparams})
        if not checkpoint.get("optimizer_states"):  # saved with weights only
            return
        if self.second_head is not None:
            checkpoint["state_dict"] = {**checkpoint.get("training_weights", {}), **checkpoint["state_dict"]}
        if self.hparams["case_sharing"] and self.rows is None:
            self._share_rows(tokenizer_from_state(checkpoint["tokenizer"]))
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
        return cross_entropy(logits, targets)

    def _share_rows(self, tokenizer: Tokenizer) -> None:
        tables = token_tables(self.model) + ([self.second_head.weight] if self.second_head else [])
        self.rows = RowGroups(tables, torch.tensor(case_groups(tokenizer)))

    def _dynamic_loss(self, learning_rate: float, num_targets: int) -> float:
        """Return the dynamic loss of the targets of the validation, which `limit_val_batches` may limit."""
        data = get_datamodule(self.trainer)
        tokens = data.val.tokens[: num_targets + 1]
        return dynamic_loss(self.model, tokens, learning_rate, data.stride, self.trainer.is_global_zero)

    def _log_evaluation(self, split: str) -> None:
        loss, num_targets = weighted_mean(self.losses)
        per_char = loss / get_datamodule(self.trainer).chars_per_val_token
        perplexity = torch.tensor(per_char).exp().item()
        values = {"loss": loss, "perplexity": perplexity, "bits_per_char": per_char / math.log(2)}
        if self.sliding_losses.update_called:
            values["loss_sliding"], _ = weighted_mean(self.sliding_losses)
        rate = self.dynamic_learning_rate
        if rate is not None and self.trainer.state.fn != TrainerFn.FITTING:
            values["loss_dynamic"] = self._dynamic_loss(rate, num_targets)
        log(self, {f"{split}_{name}": value for name, value in values.items()}, sync_dist=True)


# for jsonargparse, which would take the flags from the TypedDict, without defaults: now it finds ModelConfig(**decoder)
LanguageModel.__init__.__annotations__["decoder"] = Any
