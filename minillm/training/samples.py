"""What the model writes while it learns."""

import re
from dataclasses import asdict
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from minillm.files import write_whole
from minillm.generation.generate import encode_prompt, generate
from minillm.generation.settings import Settings
from minillm.tokenizer import Tokenizer
from minillm.training.module import LanguageModel


class Samples(Callback):
    """At every validation, continue the same prompt with the same seed: in TensorBoard and in `samples.md`.

    Args:
        tokenizer: The model's.
        prompt: Text to continue; an empty one starts a new line.
        max_new_tokens: Length of a sample, in tokens.
        temperature: At least 0; 0 always takes the likeliest token.
        top_k: Choose among the likeliest `top_k` tokens only.
        seed: Of the sample, apart from that of the training.

    Raises:
        ValueError: A setting is out of range, or the tokenizer does not know a character of the prompt.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: str = "",
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = 40,
        seed: int = 1,
    ) -> None:
        encode_prompt(tokenizer, prompt)
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.settings = asdict(Settings(max_new_tokens, temperature, top_k, seed=seed))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what a resumed run wrote after the step that it goes on from: it comes again."""
        for logger in trainer.loggers:
            path = Path(logger.log_dir or "", "samples.md")
            if trainer.is_global_zero and isinstance(logger, TensorBoardLogger) and path.exists():
                sections = re.split(r"^(?=## Step \d)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
                steps = [int(found[1]) if (found := re.match(r"## Step (\d+)", text)) else 0 for text in sections]
                kept = [text for text, step in zip(sections, steps, strict=True) if step <= trainer.global_step]
                write_whole(path, "".join(kept).encode())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one sample, if this is a run that keeps a folder."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not loggers or trainer.sanity_checking:
            return
        assert isinstance(pl_module, LanguageModel)
        text = self.prompt + "".join(generate(pl_module.model, self.tokenizer, self.prompt, **self.settings))
        loss = trainer.callback_metrics["val_loss"]
        for logger in loggers:
            logger.experiment.add_text("sample", _code_block(text), trainer.global_step)
            with Path(logger.log_dir, "samples.md").open("a", encoding="utf-8") as file:
                file.write(f"## Step {trainer.global_step}, val_loss {loss:.4f}\n\n{_code_block(text)}\n\n")


def _code_block(text: str) -> str:
    """Markdown that shows the text as it is, whatever stands in it."""
    return "\n".join("    " + line for line in text.split("\n"))
