"""Report overfitting: the training loss falls, but the validation loss does not."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

NUM_VALIDATIONS = 5  # without a lower val_loss, until overfitting is reported
MIN_DIFFERENCE = 0.05  # nats per token, more than the noise of either loss


class Overfitting(Callback):
    """Print one line, once in a run, if `train_loss` has fallen since the lowest `val_loss`, which is long ago."""

    def __init__(self) -> None:
        self.is_reported = False
        self.lowest: dict[str, Any] = {}  # the validation of the lowest val_loss
        self.later: list[list[float]] = []  # val_loss and train_loss of the validations since then

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save."""
        return {"is_reported": self.is_reported, "lowest": dict(self.lowest), "later": [*self.later]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the saved state."""
        self.is_reported, self.lowest = state_dict["is_reported"], state_dict["lowest"]
        self.later = state_dict["later"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the losses with those of the validation of the lowest `val_loss`."""
        metrics = {name: trainer.callback_metrics.get(name) for name in ("val_loss", "train_loss")}
        if self.is_reported or trainer.sanity_checking or None in metrics.values():
            return
        losses = {name: float(value) for name, value in metrics.items() if value is not None}
        if losses["val_loss"] < self.lowest.get("val_loss", float("inf")):
            self.lowest, self.later = {"step": trainer.global_step, **losses}, []
            return
        self.later = [*self.later, [losses["val_loss"], losses["train_loss"]]][-NUM_VALIDATIONS:]
        val_loss, train_loss = (sum(values) / len(self.later) for values in zip(*self.later, strict=True))
        if (
            len(self.later) == NUM_VALIDATIONS
            and val_loss > self.lowest["val_loss"] + MIN_DIFFERENCE
            and train_loss < self.lowest["train_loss"] - MIN_DIFFERENCE
        ):
            self.is_reported = True
            if trainer.is_global_zero:
                print(
                    f"overfitting: since step {self.lowest['step']}, val_loss has risen from"
                    f" {self.lowest['val_loss']:.4f} to {losses['val_loss']:.4f}, while train_loss has fallen to"
                    f" {losses['train_loss']:.4f}; best.ckpt is of that step; more text, a smaller model, a higher"
                    " --model.dropout or fewer steps help",
                    flush=True,
                )
