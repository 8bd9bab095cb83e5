"""The LightningModule: the loss, the optimizer, and what validation measures."""

import math
from dataclasses import asdict
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from minillm.checkpoint.format import FORMAT, versions
from minillm.config import ModelConfig
from minillm.data.datamodule import data_of
from minillm.model import Decoder
from minillm.training.optimizer import Muon, adamw
from minillm.training.resume import check_training_state
from minillm.training.schedule import Schedule, learning_rate_factor


class LanguageModel(LightningModule):
    """Train a decoder to predict the next token.

    Args:
        optimizer: `adamw`, or `muon` for the matrices inside the blocks and AdamW for the rest.
        learning_rate: AdamW's step size, at its highest.
        muon_learning_rate: Muon's, at its highest.
        schedule: How the learning rate falls: `constant` (not at all), `linear` or `cosine`, to 0 at the run's end.
        warmup_steps: Steps in which it rises from 0 at the beginning.
        decay_fraction: Which last part of the run it falls in, at most 1; it is flat before.
        weight_decay: Of matrices, by either optimizer.
        beta2: How much of the mean of squared gradients AdamW keeps from step to step.
        frozen_blocks: The first blocks, as many of them, stay as they are.
        decoder: The arguments of `ModelConfig`.

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
        **decoder: Any,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.model = Decoder(ModelConfig(**decoder))
        self.hparams.update(asdict(self.model.config))  # the defaults, too
        if not 0 <= frozen_blocks <= len(self.model.blocks):
            raise ValueError(f"frozen_blocks must be from 0 to {len(self.model.blocks)}, got {frozen_blocks}")
        self.model.blocks[:frozen_blocks].requires_grad_(False)
        self.mean_loss, self.mean_sliding_loss = MeanMetric(), MeanMetric()
        self.configure_optimizers()  # so that a wrong value is refused before anything is written
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, got {warmup_steps}")
        if not 0 < decay_fraction <= 1:
            raise ValueError(f"decay_fraction must be more than 0 and at most 1, got {decay_fraction}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, or Muon and AdamW, with this module's settings."""
        settings: dict[str, Any] = {**self.hparams}
        decay = {"weight_decay": settings["weight_decay"], "beta2": settings["beta2"]}
        if settings["optimizer"] == "muon":
            return Muon(self.model, settings["learning_rate"], settings["muon_learning_rate"], **decay)
        return adamw(self.model, settings["learning_rate"], **decay)

    def on_train_start(self) -> None:
        """Remember how far the learning rates can rise, and how long the run is."""
        self.highest = [group["lr"] for group in self.configure_optimizers().param_groups]
        self.num_steps = self.trainer.estimated_stepping_batches

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Set the learning rates of the next step."""
        settings: list[Any] = [self.hparams[name] for name in ("schedule", "warmup_steps", "decay_fraction")]
        factor = learning_rate_factor(self.global_step, self.num_steps, *settings)
        for group, highest in zip(self.trainer.optimizers[0].param_groups, self.highest, strict=True):
            group["lr"] = factor * highest

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm, or by value; Lightning's own way refuses fused optimizers under mixed precision."""
        if gradient_clip_val:
            by_value = gradient_clip_algorithm == "value"
            clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
            clip(self.model.parameters(), gradient_clip_val)

    def training_step(self, windows: Tensor, batch_idx: int) -> Tensor:
        """The mean loss, in nats a token, over windows (B, T + 1)."""
        return self.loss(windows)

    def validation_step(self, batch: Tensor | list[Any], batch_idx: int) -> None:
        """Take windows (B, up to T + 1) into the mean; or, of sliding ones, as many last targets as come with them."""
        if isinstance(batch, Tensor):
            self.mean_loss.update(self.loss(batch), weight=batch[:, 1:].numel())
        else:
            windows, scored = batch
            self.mean_sliding_loss.update(self.loss(windows, scored), weight=windows[:, 1:][:, -scored:].numel())

    def on_validation_epoch_end(self) -> None:
        """Log the loss over the whole validation text as `val_loss`, and per character, whatever the tokens, as
        `val_perplexity` and `val_bits_per_char`.

        If it was measured with sliding windows too, that is `val_loss_sliding`.
        """
        self._log_evaluation("val")

    def test_step(self, batch: Tensor | list[Any], batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """As in validation, as `test_loss` and so on."""
        self._log_evaluation("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the format, the tokenizer (weights are of no use without it), and the seed that decides the windows."""
        checkpoint.update(format=FORMAT, versions=versions(), seed=torch.initial_seed())
        checkpoint["tokenizer"] = data_of(self.trainer).tokenizer.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Prefer this run's settings to the checkpoint's; keep the hyper-parameters that only other versions know."""
        self.hparams.update({**checkpoint["hyper_parameters"], **self.hparams})
        optimizer = self.configure_optimizers()
        check_training_state(checkpoint, optimizer)
        for saved, ours in zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True):
            saved.update({name: value for name, value in ours.items() if name != "params"})

    def loss(self, windows: Tensor, scored: int = 0) -> Tensor:
        """The mean loss, in nats a token.

        Args:
            windows: (B, T + 1) token ids.
            scored: How many targets at the end of each window count; 0: all.
        """
        logits, targets = self.model(windows[:, :-1])[:, -scored:], windows[:, 1:][:, -scored:]
        return F.cross_entropy(logits.flatten(end_dim=1), targets.flatten())

    def _log_evaluation(self, split: str) -> None:
        loss = self.mean_loss.compute().item()  # over all batches of all ranks, which then log the same
        self.mean_loss.reset()
        per_char = loss / data_of(self.trainer).chars_per_val_token
        perplexity = torch.tensor(per_char).exp().item()
        values = {"loss": loss, "perplexity": perplexity, "bits_per_char": per_char / math.log(2)}
        if self.mean_sliding_loss.update_called:
            values["loss_sliding"] = self.mean_sliding_loss.compute().item()
            self.mean_sliding_loss.reset()
        log(self, {f"{split}_{name}": value for name, value in values.items()}, sync_dist=True)


def log(module: LightningModule, values: dict[str, Any], **how: Any) -> None:
    """Log values, with the number of optimizer steps done.

    They are written at once. Lightning's own way writes training's values only after the hooks that save checkpoints,
    counts steps from 0, and costs up to a millisecond at every step.

    Args:
        module: Whose values they are.
        values: Numbers by name.
        how: More arguments of `log_dict`.
    """
    module.log_dict(values, prog_bar=True, logger=False if module.loggers else None, **how)
    if module.loggers and not module.trainer.sanity_checking:
        for logger in module.loggers:
            logger.log_metrics({name: float(value) for name, value in values.items()}, module.global_step)
