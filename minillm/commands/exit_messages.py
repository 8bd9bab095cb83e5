"""Messages and exit codes of a training run that ends early."""

import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from minillm.callbacks.checkpoints import Checkpoints
from minillm.checkpoint.run_folder import RunFolder
from minillm.errors import fail
from minillm.training.interruption import DivergedError, StoppedError

# raised when a malformed training state is restored
RESTORE_ERRORS = (KeyError, TypeError, AttributeError, IndexError, RuntimeError)


@contextmanager
def exit_with_one_line(trainer: Trainer, checkpoints: Checkpoints) -> Generator[None]:
    """Exit on an error or signal with one line on stderr: the reason, and the command that resumes the run.

    The exit code is 2 after an error and 128 plus the signal number after a signal.

    Args:
        trainer: The Trainer that runs inside the context.
        checkpoints: Its checkpoint callback.
    """
    original_hook, threading.excepthook = threading.excepthook, _ignore_tensorboard_thread_errors
    try:
        yield
    except StoppedError as stop:
        reason = f"stopped by {signal.Signals(stop.signum).name} after step {trainer.global_step}"
        _exit_with_message(trainer, checkpoints, 128 + stop.signum, reason)
    except DivergedError as error:
        _exit_with_message(trainer, checkpoints, 2, f"error: {error}: try a lower --model.learning_rate")
    except OSError as error:
        path = error.filename or (trainer.loggers[0].log_dir if trainer.loggers else trainer.default_root_dir)
        _exit_with_message(trainer, checkpoints, 2, f"error: {path}: {error.strerror or error}")
    except SystemExit:  # raised by Lightning on Ctrl-C before training starts, and on a second Ctrl-C
        if not trainer.interrupted:
            raise
        _exit_with_message(trainer, checkpoints, 130, "stopped immediately")
    except MisconfigurationException as error:
        _exit_with_message(trainer, checkpoints, 2, f"error: {error}")
    except (ValueError, *RESTORE_ERRORS) as error:
        resumed = trainer.ckpt_path is not None
        if checkpoints.has_started or not (resumed or isinstance(error, ValueError)):
            raise
        fail(f"{trainer.ckpt_path} cannot be resumed: {error!r}" if resumed else str(error))
    finally:
        threading.excepthook = original_hook


@contextmanager
def exit_on_early_signal() -> Generator[None]:
    """Exit immediately on Ctrl-C or SIGTERM, with one line on stderr, while there is no training state to save."""

    def exit_now(signum: int, frame: FrameType | None) -> NoReturn:
        print(f"minillm: stopped by {signal.Signals(signum).name}; no checkpoint has been saved yet", file=sys.stderr)
        sys.exit(128 + signum)

    original_handlers = {signum: signal.signal(signum, exit_now) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in original_handlers.items():
            signal.signal(signum, handler)


def _ignore_tensorboard_thread_errors(args: threading.ExceptHookArgs) -> None:
    """Print no traceback for TensorBoard's writer thread: flushing the logger raises its error in the main thread."""
    if "tensorboard" not in type(args.thread).__module__:
        threading.__excepthook__(args)


def _exit_with_message(trainer: Trainer, checkpoints: Checkpoints, code: int, reason: str) -> NoReturn:
    """Exit with a message from the process of rank 0; the other processes exit silently."""
    if not trainer.is_global_zero:
        sys.exit(0)
    if checkpoints.newest is None:
        saved = f"{trainer.ckpt_path} is unchanged" if trainer.ckpt_path else "no checkpoint has been saved yet"
    else:
        path, step = checkpoints.newest
        run = RunFolder.of(path)
        config = f"--config {os.path.relpath(run.config)} " if run else ""
        saved = f"step {step} is saved; resume with: minillm fit {config}--ckpt_path {os.path.relpath(path)}"
    print(f"minillm: {' '.join(reason.split())}; {saved}", file=sys.stderr)
    sys.exit(code)
