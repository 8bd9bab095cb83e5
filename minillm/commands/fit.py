"""`fit`, `validate` and `test`: train a model, or measure one."""

import logging
import os
import re
import warnings
from pathlib import Path

from minillm.checkpoint.run_folder import RunFolder
from minillm.commands.exit_messages import exit_with_one_line
from minillm.commands.trainer_cli import MiniLLMCLI
from minillm.errors import exit_on_wrong_input, fail, one_line_warnings
from minillm.training.fine_tuning import tokenizer_changes
from minillm.training.hardware import keep_freed_memory

HARMLESS_WARNINGS = (
    "does not have many workers",  # a batch is one gather of 0.1 ms
    "You're resuming from a checkpoint that ended before the epoch ended",  # BatchNumbers goes on where it stopped
    "is smaller than the logging interval",  # the curves of a very short run have no points: so be it
    "Be aware that when using `ckpt_path`",  # measuring needs none of the callbacks that training had
    "`isinstance(treespec, LeafSpec)` is deprecated",  # Lightning's own business
)


def run(args: list[str]) -> None:
    """Run `fit`, `validate` or `test`.

    Args:
        args: The command line, from the subcommand on.
    """
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", f"(?s).*{re.escape(message)}")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    one_line_warnings()  # once more: Lightning has a form of its own
    keep_freed_memory()
    command, *flags = args
    cli = MiniLLMCLI(command, flags)
    path: str | None = cli.config.ckpt_path
    if command == "fit":
        _announce(cli)
        with exit_with_one_line(cli.trainer, cli.checkpoints):
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=path, weights_only=True)
        _report(cli)
    else:
        measure = cli.trainer.validate if command == "validate" else cli.trainer.test
        measure(cli.model, datamodule=cli.datamodule, ckpt_path=path, weights_only=True)


def _announce(cli: MiniLLMCLI) -> None:
    """Say in a line what is going to happen."""
    trainer, data = cli.trainer, cli.datamodule
    folder = trainer.log_dir or "."  # asked in every process: the answer is broadcast
    if not trainer.is_global_zero:
        return
    run = RunFolder(Path(folder))
    if cli.resumed_run is None and any(run.checkpoints.glob("*.ckpt")):
        fail(f"{folder} holds a run: resume it with --ckpt_path {folder}, or give another --version or --name")
    with exit_on_wrong_input():
        run.path.mkdir(parents=True, exist_ok=True)
    parameters = sum(parameter.numel() for parameter in cli.model.parameters())
    text = f"{data.train.characters + data.val.characters:,} characters, {data.vocab_size:,} different tokens"
    where = f"{trainer.strategy.root_device.type} in {trainer.precision}"
    since = "" if cli.resumed_step is None else f", from step {cli.resumed_step}"
    print(f"{parameters:,} parameters, {text}, {where}{since}, into {folder}", flush=True)
    if cli.base is not None:
        print(f"begins with the weights of {cli.base.path}, {tokenizer_changes(cli.base, data.tokenizer)}", flush=True)


def _report(cli: MiniLLMCLI) -> None:
    """Say what came out and how to generate with it."""
    saved = cli.checkpoints
    if cli.trainer.is_global_zero and saved.run.best.exists():
        path = os.path.relpath(saved.run.best)
        print(f"best val_loss {saved.best_val_loss:.4f}; now: minillm predict --ckpt_path {path}")
