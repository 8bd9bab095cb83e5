"""The LightningModule: the loss, the optimizer, and what validation measures."""

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from minillm.model import Decoder
from minillm.training.optimizer import adamw
from minillm.training.resume import check_training_state


class LanguageModel(LightningModule):
    """Train a decoder to predict the next token.

    Args:
        vocab_size: Different tokens.
        context_length: Tokens the model looks at together.
        embed_dim: Channels of the residual stream.
        num_layers: Blocks.
        num_heads: Attention heads in each block.
        dropout: Probability of dropping a channel of the embedding, and of what each branch adds.
        learning_rate: AdamW's step size, constant through the run.
        weight_decay: AdamW's, on matrices only.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        embed_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.2,
        learning_rate: float = 3e-4,
        weight_decay: float = 0.1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.model = Decoder(vocab_size, context_length, embed_dim, num_layers, num_heads, dropout)
        self.mean_loss = MeanMetric()
        self.configure_optimizers()  # so that a wrong value is refused before anything is written

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with this module's settings."""
        return adamw(self.model, self.hparams["learning_rate"], self.hparams["weight_decay"])

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
        return self._loss(windows)

    def validation_step(self, windows: Tensor, batch_idx: int) -> None:
        """Take windows (B, up to T + 1) into the mean."""
        self.mean_loss.update(self._loss(windows), weight=windows[:, 1:].numel())

    def on_validation_epoch_end(self) -> None:
        """Log the loss over the whole validation text as `val_loss`, `val_perplexity` and `val_bits_per_char`."""
        self._log_evaluation("val")

    def test_step(self, windows: Tensor, batch_idx: int) -> None:
        """As in validation."""
        self.validation_step(windows, batch_idx)

    def on_test_epoch_end(self) -> None:
        """As in validation, as `test_loss` and so on."""
        self._log_evaluation("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the tokenizer with the weights (neither is of use alone), and the seed that the windows came from."""
        checkpoint["seed"] = torch.initial_seed()
        checkpoint["tokenizer"] = {"alphabet": self.trainer.datamodule.tokenizer.alphabet}  # pyright: ignore[reportAttributeAccessIssue]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let this run's optimizer settings win over those that the checkpoint was trained with."""
        optimizer = self.configure_optimizers()
        check_training_state(checkpoint, optimizer)
        for saved, ours in zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True):
            saved.update({name: ours[name] for name in ("lr", "weight_decay")})

    def _loss(self, windows: Tensor) -> Tensor:
        logits = self.model(windows[:, :-1])
        return F.cross_entropy(logits.flatten(end_dim=1), windows[:, 1:].flatten())

    def _log_evaluation(self, split: str) -> None:
        loss = self.mean_loss.compute().item()  # over all batches of all ranks, which then log the same
        self.mean_loss.reset()
        values = {"loss": loss, "perplexity": torch.tensor(loss).exp().item(), "bits_per_char": loss / math.log(2)}
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
