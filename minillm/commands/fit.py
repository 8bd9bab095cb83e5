"""`fit`, `validate` and `test`: train or evaluate a model."""

import logging
import os
import re
import warnings
from pathlib import Path

from minillm.checkpoint.run_folder import RunFolder
from minillm.commands.exit_messages import exit_with_one_line
from minillm.commands.trainer_cli import MiniLLMCLI
from minillm.errors import exit_on_wrong_input, fail, format_warnings_on_one_line
from minillm.training.fine_tuning import tokenizer_changes
from minillm.training.hardware import keep_freed_memory

HARMLESS_WARNINGS = (
    "does not have many workers",  # a batch takes 0.1 ms to assemble
    "You're resuming from a checkpoint that ended before the epoch ended",  # resuming repeats no batch
    "is smaller than the logging interval",  # a very short run has no logged points
    "Be aware that when using `ckpt_path`",  # evaluation needs no training callbacks
    "`isinstance(treespec, LeafSpec)` is deprecated",  # internal to Lightning
)


def run(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`.

    Args:
        args: The command line, starting with the subcommand.
    """
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", f"(?s).*{re.escape(message)}")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    format_warnings_on_one_line()  # again, because importing Lightning replaces warnings.formatwarning
    keep_freed_memory()
    command, *flags = args
    cli = MiniLLMCLI(command, flags)
    path: str | None = cli.config.ckpt_path
    if command == "fit":
        _print_run_summary(cli)
        with exit_with_one_line(cli.trainer, cli.checkpoints):
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=path, weights_only=True)
        _print_result(cli)
    else:
        evaluate = cli.trainer.validate if command == "validate" else cli.trainer.test
        evaluate(cli.model, datamodule=cli.datamodule, ckpt_path=path, weights_only=True)


def _print_run_summary(cli: MiniLLMCLI) -> None:
    """Print one line about the model, the data, the device and the run folder before training starts."""
    trainer, data = cli.trainer, cli.datamodule
    folder = trainer.log_dir or "."  # log_dir is a broadcast: every process has to read it
    if not trainer.is_global_zero:
        return
    run = RunFolder(Path(folder))
    if cli.resumed_run is None and any(run.checkpoints.glob("*.ckpt")):
        fail(f"{folder} already has a run: resume it with --ckpt_path {folder}, or pass another --version or --name")
    with exit_on_wrong_input():
        run.path.mkdir(parents=True, exist_ok=True)
    num_parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    text = f"{data.train.num_chars + data.val.num_chars:,} characters, vocabulary of {data.vocab_size:,} tokens"
    device = f"{trainer.strategy.root_device.type} with precision {trainer.precision}"
    start = "" if cli.resumed_step is None else f", resuming from step {cli.resumed_step}"
    print(f"{num_parameters:,} parameters, {text}, {device}{start}, writing to {folder}", flush=True)
    if cli.base is not None:
        changes = tokenizer_changes(cli.base, data.tokenizer)
        print(f"initialized from the weights of {cli.base.path}, {changes}", flush=True)


def _print_result(cli: MiniLLMCLI) -> None:
    """Print the best validation loss and the command that generates text with its checkpoint."""
    checkpoints = cli.checkpoints
    if cli.trainer.is_global_zero and checkpoints.run.best.exists():
        path = os.path.relpath(checkpoints.run.best)
        print(f"best val_loss {checkpoints.best_val_loss:.4f}; generate text with: minillm predict --ckpt_path {path}")
