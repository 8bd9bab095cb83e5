"""Training on from another model's weights, with another text."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from minillm.data.corpus import is_at_hand
from minillm.data.datamodule import TextDataModule
from minillm.data.prepare import prepare
from minillm.data.windows import ConsecutiveWindows, Tokens
from minillm.model import Decoder
from minillm.tokenizer import CharTokenizer
from minillm.training.module import LanguageModel
from minillm.training.resume import SHAPES, saved_settings

KEPT = (*SHAPES, "data.vocab_size")  # flags that the weights and the tokenizer leave no choice in


def shape_settings(base: dict[str, Any]) -> dict[str, Any]:
    """The flags that give a model the shape of a checkpoint's."""
    saved = saved_settings(base)
    return {name: saved[name] for name in (*KEPT, "data.context_length")}


def begin_from(base: dict[str, Any], model: Decoder) -> None:
    """Give a model the weights of a checkpoint.

    A token that is new begins as the mean of the old ones, so that nobody expects it more than them; positions that the
    model does not have are left out.

    Args:
        base: The checkpoint, as `read` returns it.
        model: Of the same shape, but for the number of tokens and of positions.

    Source: Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models".
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            old: Tensor = base["state_dict"][f"model.{name}"]
            parameter[: len(old)] = old[: len(parameter)]
            parameter[len(old) :] = old.mean(dim=0)


def describe(base: dict[str, Any], data: TextDataModule) -> str:
    """What became of the checkpoint's tokenizer."""
    if not isinstance(data.tokenizer, CharTokenizer):
        return "with its byte pairs"
    added = data.tokenizer.alphabet[len(base["tokenizer"]["alphabet"]) :]
    return f"with {len(added)} new characters{': ' if added else ''}{' '.join(map(repr, added))}"


class Forgetting(Callback):
    """Measure `val_loss` on the new and on the old text before and after, to see what is learned and what forgotten.

    Args:
        base: The checkpoint that training begins from.
        data: The new text.
    """

    def __init__(self, base: dict[str, Any], data: TextDataModule) -> None:
        self.texts: dict[str, Tokens] = {"new": data.val.tokens}
        old = base["datamodule_hyper_parameters"]
        name = old["val_corpus"] or old["corpus"]
        if is_at_hand(name):
            prepared = prepare(name, data.tokenizer)
            self.texts["old"] = (prepared.whole if old["val_corpus"] else prepared.val).tokens
        self.batch_size = data.batch_size

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step."""
        self.before = self._measure(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after the last step, and report."""
        after = self._measure(trainer, pl_module)
        if trainer.is_global_zero:
            for which in self.texts:
                print(f"val_loss on the {which} text: {self.before[which]:.4f} before, {after[which]:.4f} after")
            if "old" not in self.texts:
                print("the old text is not here: what was forgotten is not known")

    @torch.no_grad()
    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        assert isinstance(pl_module, LanguageModel)
        losses, training = {}, pl_module.training
        pl_module.eval()
        for which, tokens in self.texts.items():
            windows = ConsecutiveWindows(tokens, pl_module.model.context_length, self.batch_size)
            total = torch.zeros((), device=pl_module.device)
            with trainer.precision_plugin.forward_context():
                for number in range(len(windows)):
                    batch = windows[number].to(pl_module.device)
                    total += pl_module.loss(batch) * batch[:, 1:].numel()
            losses[which] = total.item() / (len(tokens) - 1)
        pl_module.train(training)
        for logger in trainer.loggers:
            logger.log_metrics({f"val_loss_{which}_text": loss for which, loss in losses.items()}, trainer.global_step)
        return losses
