"""Generate samples during training, for TensorBoard and samples.md."""

from dataclasses import asdict
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from minillm.checkpoint.run_folder import RunFolder, Sample, code_block, format_sample, truncate_samples
from minillm.files import write_atomically
from minillm.generation.generate import encode_prompt, generate
from minillm.generation.sampling_params import SamplingParams
from minillm.tokenizer import Tokenizer
from minillm.training.module import LanguageModel


class Samples(Callback):
    """Continue the same prompt with the same seed at every validation, in TensorBoard and in `samples.md`.

    Args:
        tokenizer: The model's tokenizer.
        prompt: Text to continue; an empty prompt starts a new line.
        max_new_tokens: Maximum number of tokens to generate.
        temperature: Sampling temperature, at least 0; 0 always chooses the likeliest token.
        top_k: Sample from the `top_k` likeliest tokens only.
        seed: Seed of the sample, independent of the training seed.

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
        """Drop the samples after the step that the run resumes from, as the run repeats these steps."""
        folder = trainer.log_dir  # in every process: reading it is a broadcast
        if not trainer.is_global_zero or not folder:
            return
        path = RunFolder(Path(folder)).samples
        if path.exists():
            write_atomically(path, truncate_samples(path.read_bytes().decode("utf-8"), trainer.global_step).encode())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Generate and write one sample, if the run has a folder."""
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
