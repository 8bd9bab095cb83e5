"""Messages and exit codes of a training run that ends early."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from torch.distributed import DistBackendError, DistNetworkError

from minillm.callbacks.checkpoints import Checkpoints
from minillm.checkpoint.run_folder import RunFolder
from minillm.checkpoint.validation import Checkpoint
from minillm.errors import CommandExit, fail
from minillm.training.interruption import DivergedError, StoppedError, stop_signals
from minillm.training.resume import epochs_done

# raised when a malformed training state is restored
RESTORE_ERRORS = (KeyError, TypeError, AttributeError, IndexError, RuntimeError)

CONNECTION_WORDS = ("connection", "timed out", "timeout")  # in gloo's errors about another process


@contextmanager
def exit_with_one_line(trainer: Trainer, checkpoints: Checkpoints, ckpt_path: str | None) -> Generator[None]:
    """Exit on an error or signal with one line: the reason, and the command that resumes the run.

    The exit code is 2 after an error and 128 plus the signal number after a signal.

    Args:
        trainer: The Trainer that runs inside the context.
        checkpoints: Its checkpoint callback.
        ckpt_path: The checkpoint that it resumes from.
    """

    def stop_now(signum: int, frame: FrameType | None) -> NoReturn:
        raise StoppedError(signum)

    original_hook, threading.excepthook = threading.excepthook, _ignore_tensorboard_thread_errors
    try:
        with _signal_handler(stop_now):  # until training starts, when the checkpoint callback installs its own
            yield
    except StoppedError as stop:
        step = f" after step {trainer.global_step}" if checkpoints.has_started else ""
        reason = f"stopped by {signal.Signals(stop.signum).name}{step}"
        _exit_with_message(trainer, checkpoints, ckpt_path, 128 + stop.signum, reason)
    except DivergedError as error:
        _exit_with_message(trainer, checkpoints, ckpt_path, 2, f"{error}: try a lower --model.learning_rate")
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError | TimeoutError):
            raise  # not of a file: a callback's or a logger's
        path = error.filename or (trainer.loggers[0].log_dir if trainer.loggers else trainer.default_root_dir)
        _exit_with_message(trainer, checkpoints, ckpt_path, 2, f"{path}: {error.strerror or error}")
    except SystemExit as exit:
        if not isinstance(exit.__context__, KeyboardInterrupt):
            raise
        # Lightning exits on Ctrl-C before training starts, and on a second Ctrl-C
        _exit_with_message(trainer, checkpoints, ckpt_path, 130, "stopped immediately")
    except MisconfigurationException as error:
        _exit_with_message(trainer, checkpoints, ckpt_path, 2, str(error))
    except (ValueError, *RESTORE_ERRORS) as error:
        if trainer.world_size > 1 and is_connection_error(error):
            reason = (
                f"rank {trainer.global_rank} lost the connection to another process, which has ended or is unreachable"
            )
            raise CommandExit(2, f"{reason}; {_what_is_saved(checkpoints, ckpt_path)}") from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):  # they have no public names
            fail(f"the model cannot be compiled: {str(error).splitlines()[0]}; pass --model.compile none")
        resumed = ckpt_path is not None
        if checkpoints.has_started or not (resumed or isinstance(error, ValueError)):
            raise
        fail(f"{ckpt_path} cannot be resumed: {error!r}" if resumed else str(error))
    finally:
        threading.excepthook = original_hook


@contextmanager
def exit_on_early_signal() -> Generator[None]:
    """Exit immediately on Ctrl-C or SIGTERM, with one line on stderr, while there is no training state to save."""

    def exit_now(signum: int, frame: FrameType | None) -> NoReturn:
        raise CommandExit(128 + signum, f"stopped by {signal.Signals(signum).name}; no checkpoint has been saved yet")

    with _signal_handler(exit_now):
        yield


@contextmanager
def _signal_handler(handler: Callable[[int, FrameType | None], Any]) -> Generator[None]:
    """Handle `stop_signals` inside the context; then restore the previous handlers."""
    original_handlers = {signum: signal.signal(signum, handler) for signum in stop_signals()}
    try:
        yield
    finally:
        for signum, original in original_handlers.items():
            signal.signal(signum, original)


def exit_if_complete(checkpoint: Checkpoint, trainer: Namespace) -> None:
    """Exit with a message if the run of a checkpoint has reached the number of steps or epochs in its settings."""
    if checkpoint.step >= trainer.max_steps > 0 or (
        (trainer.max_epochs or 0) > 0 and epochs_done(checkpoint.content) >= trainer.max_epochs
    ):
        hint = "(to continue, raise --trainer.max_steps or max_epochs)"
        raise CommandExit(0, f"{checkpoint.path} is at step {checkpoint.step}: training is complete {hint}")


def early_end(trainer: Trainer) -> str | None:
    """Describe why training has ended before its last step, and what to change to resume it.

    Returns:
        Such as "at step 120 of 4000: ...; to continue, ...", or None if training is complete.
    """
    num_steps = trainer.estimated_stepping_batches
    if trainer.fast_dev_run or trainer.global_step >= num_steps:  # pyright: ignore[reportAttributeAccessIssue]
        return None
    reason, change = "a callback or a limit of 0 batches ended it", "resume with other settings"
    callbacks: list[Callback] = getattr(trainer, "callbacks")  # noqa: B009 - its class does not declare it
    for callback in callbacks:
        if isinstance(callback, Timer) and (seconds := callback.time_remaining()) is not None and seconds <= 0:
            reason = f"the time limit is used up, after {callback.time_elapsed():,.0f} seconds"
            change = "resume with a larger --trainer.max_time"
        elif isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            reason, change = callback.stopping_reason_message.rstrip("."), "resume with a larger patience"
    return f"at step {trainer.global_step} of {num_steps}: {reason}; to continue, {change}"


def resume_command(checkpoint: Path) -> str:
    """Return the command that resumes a run, quoted for the shell."""
    run = RunFolder.of(checkpoint)
    config = ["--config", os.path.relpath(run.config)] if run else []
    return shlex.join(["minillm", "fit", *config, "--ckpt_path", os.path.relpath(checkpoint)])


def _ignore_tensorboard_thread_errors(args: threading.ExceptHookArgs) -> None:
    """Print no traceback for TensorBoard's writer thread: flushing the logger raises its error in the main thread."""
    if "tensorboard" not in type(args.thread).__module__:
        threading.__excepthook__(args)


def _exit_with_message(
    trainer: Trainer, checkpoints: Checkpoints, ckpt_path: str | None, code: int, reason: str
) -> NoReturn:
    """Exit with a message from the process of rank 0; the other processes exit silently."""
    if not trainer.is_global_zero:
        # Lightning's launcher would stop rank 0 before its message; torchrun and SLURM must learn of the failure
        environment = getattr(trainer.strategy, "cluster_environment", None)
        sys.exit(0 if isinstance(environment, LightningEnvironment) else code)
    raise CommandExit(code, f"{reason}; {_what_is_saved(checkpoints, ckpt_path)}")


def _what_is_saved(checkpoints: Checkpoints, ckpt_path: str | None) -> str:
    if checkpoints.newest is None:
        return f"{ckpt_path} is unchanged" if ckpt_path else "no checkpoint has been saved yet"
    path, step = checkpoints.newest
    return f"step {step} is saved; resume with: {resume_command(path)}"


def is_connection_error(error: Exception) -> bool:
    """Return whether an error of torch.distributed says that another process cannot be reached."""
    if isinstance(error, DistNetworkError | DistBackendError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "gloo" in text and any(word in text for word in CONNECTION_WORDS)
