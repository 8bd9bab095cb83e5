"""What the model writes while it learns."""

from dataclasses import asdict
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from minillm.checkpoint.run_folder import RunFolder, Sample, code_block, format_sample, samples_until
from minillm.files import write_atomically
from minillm.generation.generate import encode_prompt, generate
from minillm.generation.sampling_params import SamplingParams
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
        self.settings = asdict(SamplingParams(max_new_tokens, temperature, top_k, seed=seed))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what a resumed run wrote after the step that it resumes from: it comes again."""
        folder = trainer.log_dir  # asked in every process: the answer is broadcast
        if not trainer.is_global_zero or not folder:
            return
        path = RunFolder(Path(folder)).samples
        if path.exists():
            write_atomically(path, samples_until(trainer.global_step, path.read_bytes().decode("utf-8")).encode())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write one sample, if this is a run that keeps a folder."""
        folder = trainer.log_dir
        if not trainer.is_global_zero or not trainer.loggers or not folder or trainer.sanity_checking:
            return
        assert isinstance(pl_module, LanguageModel)
        text = self.prompt + "".join(generate(pl_module.model, self.tokenizer, self.prompt, **self.settings))
        sample = Sample(trainer.global_step, trainer.callback_metrics["val_loss"].item(), text)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("sample", code_block(text), trainer.global_step)
        with RunFolder(Path(folder)).samples.open("ab") as file:
            file.write(format_sample(sample).encode())
