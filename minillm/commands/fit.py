"""`fit`, `validate` and `test`: train or evaluate a model."""

import logging
import os
import re
import shlex
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree

import torch
from lightning.pytorch import Trainer

from minillm.callbacks.checkpoints import Checkpoints
from minillm.checkpoint.claim import create_run_folder, lock_run
from minillm.checkpoint.format import versions
from minillm.checkpoint.run_folder import RunFolder
from minillm.checkpoint.sessions import read_sessions, record_session
from minillm.commands.advice import text_advice
from minillm.commands.exit_messages import early_end, exit_on_early_signal, exit_with_one_line, resume_command
from minillm.commands.lightning_support import untested
from minillm.commands.trainer_cli import MiniLLMCLI
from minillm.errors import exit_on_wrong_input, fail, format_warnings_on_one_line
from minillm.training.fine_tuning import tokenizer_changes
from minillm.training.hardware import keep_freed_memory
from minillm.training.interruption import stop_with_torchrun
from minillm.training.session_facts import git_commit, machine

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
    quiet_lightning()
    format_warnings_on_one_line()  # again, because importing Lightning replaces warnings.formatwarning
    keep_freed_memory()
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append("")  # for classes of the user's, as with python -m
    command, *flags = args
    cli = MiniLLMCLI(command, flags)
    if command == "fit":
        train(cli)
        _close_process_group()
    else:
        evaluate = cli.trainer.validate if command == "validate" else cli.trainer.test
        with exit_on_wrong_input():
            evaluate(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
        _close_process_group()


def _close_process_group() -> None:
    """Close the connections to other processes: ending while one of them is still waiting would be an error there."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def quiet_lightning() -> None:
    """Ignore Lightning's hints and the warnings that do not apply here."""
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", f"(?s).*{re.escape(message)}")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.tuner").setLevel(logging.INFO)  # the learning rate that it has found


def train(cli: MiniLLMCLI) -> None:
    """Train in a run folder that no other process writes to.

    Args:
        cli: The parsed command line of `fit`.
    """
    trainer: Trainer = cli.trainer
    stop_with_torchrun()
    with ExitStack() as stack:
        with exit_on_early_signal():
            if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
                _print_run_summary(cli, "without a run folder")
            else:
                run = cli.resumed_run or RunFolder(cli.runs_folder / "version_0")
                if trainer.is_global_zero:  # the other processes get the folder from this one when training starts
                    with exit_on_wrong_input():
                        run = _claim_run_folder(cli, stack)
                    _print_run_summary(cli, f"writing to {os.path.relpath(run.path)}")
                cli.add_loggers(run)
        stack.callback(cli.checkpoint_io.remove_temporary)
        with exit_with_one_line(trainer, cli.checkpoints, cli.config.ckpt_path):
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.config.ckpt_path, weights_only=True)
        if trainer.is_global_zero:
            _print_result(cli)


def _claim_run_folder(cli: MiniLLMCLI, stack: ExitStack) -> RunFolder:
    """Create or lock the run folder, and record the session, until the stack is closed."""
    run = cli.resumed_run
    if run is None:
        run = create_run_folder(cli.runs_folder, cli.config.version)
        if cli.config.version is None:
            stack.callback(_remove_unless_started, run, cli.checkpoints)
    stack.enter_context(lock_run(run))
    if cli.resumed_run is None and any(run.checkpoints.glob("*.ckpt")):
        path = os.path.relpath(run.path)
        flag = f"--ckpt_path {shlex.quote(path)}"
        fail(f"{path} already has a run: resume it with {flag}, or pass another --version or --name")
    if cli.resumed_run is not None and Path(cli.config.ckpt_path).stat().st_mtime_ns != cli.resumed_file_time:
        fail(f"another process has continued {os.path.relpath(run.path)} since its checkpoint was read: start again")
    facts = {"command": cli.command_line, "git_commit": git_commit(), "versions": versions(), **machine(cli.trainer)}
    if (sessions := read_sessions(run)) and sessions[-1].get("threads", facts["threads"]) != facts["threads"]:
        was, is_ = sessions[-1]["threads"], facts["threads"]
        warnings.warn(f"resuming with {is_} threads instead of {was}: sums are rounded differently", stacklevel=2)
    stack.enter_context(record_session(run, os.getpid(), **facts))
    return run


def _remove_unless_started(run: RunFolder, checkpoints: Checkpoints) -> None:
    """Remove the folder of a new run that has ended before training started."""
    if not checkpoints.has_started:
        rmtree(run.path, ignore_errors=True)


def _print_run_summary(cli: MiniLLMCLI, folder: str) -> None:
    """Print one line about the model, the data, the device and the run folder before training starts."""
    trainer, data = cli.trainer, cli.datamodule
    num_parameters = sum(parameter.numel() for parameter in cli.model.model.parameters())
    text = f"{data.train.num_chars + data.val.num_chars:,} characters, vocabulary of {data.vocab_size:,} tokens"
    device = f"{trainer.strategy.root_device.type} with precision {trainer.precision}"
    if trainer.strategy.root_device.type == "cpu":
        num_threads = torch.get_num_threads()
        device += f" and {num_threads} thread{'s' if num_threads > 1 else ''}"
    start = "" if cli.resumed_step is None else f", resuming from step {cli.resumed_step}"
    print(f"{num_parameters:,} parameters, {text}, {device}{start}, {folder}", flush=True)
    names = [type(value).__name__ for value in (*cli.extra_callbacks, *cli.extra_loggers)]
    if cli.custom_model_class is not None and cli.custom_model_class.__module__ == "__main__":
        names.append(cli.custom_model_class.__qualname__)
    if names:
        print(f"config.yaml does not contain the objects passed to minillm.fit: {', '.join(names)}", flush=True)
    is_new = cli.base is None and cli.resumed_step is None
    advice = text_advice(data.train.num_chars, len(data.val.tokens)) if is_new else []
    for note in (f"one pass over the training text takes {data.steps_per_epoch:,} steps", *advice, *cli.notes):
        print(note, flush=True)
    if names := untested(trainer, cli.configured_callbacks):
        print(f"not tested with exact resume: {', '.join(names)}", flush=True)
    if cli.base is not None:
        changes = tokenizer_changes(cli.base, data.tokenizer)
        print(f"initialized from the weights of {cli.base.path}, {changes}", flush=True)


def _print_result(cli: MiniLLMCLI) -> None:
    """Print why the run ended early, the best validation loss, and the command that generates text."""
    checkpoints, trainer = cli.checkpoints, cli.trainer
    if reason := early_end(trainer):
        path = checkpoints.newest[0] if checkpoints.newest else cli.config.ckpt_path
        print(f"training ended {reason}{f': {resume_command(Path(path))}' if path else ''}")
    for path, result in (
        (checkpoints.run.best, f"best val_loss {checkpoints.best_val_loss:.4f}"),
        (checkpoints.run.last, "no validation"),
    ):
        if path.exists():
            command = shlex.join(["minillm", "predict", "--ckpt_path", os.path.relpath(path)])
            print(f"{result}; generate text with: {command}")
            break
