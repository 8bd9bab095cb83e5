"""Catastrophic forgetting: compare losses before and after fine-tuning."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from minillm.checkpoint.validation import Checkpoint
from minillm.data.corpus import may_read_unasked
from minillm.data.datamodule import TextDataModule
from minillm.data.prepare import prepare
from minillm.data.text_files import TextFormat
from minillm.data.windows import ConsecutiveWindows, Tokens
from minillm.training.module import LanguageModel


class Forgetting(Callback):
    """Measure `val_loss` on the new and on the old text before and after fine-tuning.

    Args:
        base: Checkpoint that the model is initialized from; it names the old text.
        data: Data of the fine-tuning run, which has the new text.
    """

    def __init__(self, base: Checkpoint, data: TextDataModule) -> None:
        self.texts: dict[str, Tokens] = {"new": data.val.tokens}
        val_corpus = base.data.get("val_corpus")
        name = val_corpus or base.data.get("corpus")
        if name is not None and may_read_unasked(name):
            prepared = prepare(name, data.tokenizer, text_format=TextFormat.of(base.data))
            if base.text_sha256.get("val_corpus" if val_corpus else "corpus", prepared.sha256) == prepared.sha256:
                self.texts["old"] = (prepared.whole if val_corpus else prepared.val).tokens
        self.batch_size = data.batch_size

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step."""
        self.before = self._measure(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after the last step, and print both measurements."""
        after = self._measure(trainer, pl_module)
        if trainer.is_global_zero:
            for name in self.texts:
                print(f"val_loss on the {name} text: {self.before[name]:.4f} before, {after[name]:.4f} after")
            if "old" not in self.texts:
                print("the old text is not available or has changed: forgetting was not measured")

    @torch.no_grad()
    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        assert isinstance(pl_module, LanguageModel)
        losses, training = dict[str, float](), pl_module.training
        pl_module.eval()
        for name, tokens in self.texts.items():
            windows = ConsecutiveWindows(tokens, pl_module.config.context_length, self.batch_size)
            total = torch.zeros((), device=pl_module.device)
            with trainer.precision_plugin.forward_context():
                for index in range(len(windows)):
                    batch = windows[index].to(pl_module.device)
                    total += pl_module.loss(batch) * batch[:, 1:].numel()
            losses[name] = total.item() / (len(tokens) - 1)
        pl_module.train(training)
        for logger in trainer.loggers:
            logger.log_metrics({f"val_loss_{name}_text": loss for name, loss in losses.items()}, trainer.global_step)
        return losses
