"""What a person gets to read when a training ends before its time."""

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

RESTORING = (KeyError, TypeError, AttributeError, IndexError, RuntimeError)  # what a made-up training state leads to


@contextmanager
def exit_with_one_line(trainer: Trainer, checkpoints: Checkpoints) -> Generator[None]:
    """End the program with a line that says why, and what there is to go on from, and with the exit code for it.

    Args:
        trainer: Trains inside.
        checkpoints: What it keeps.
    """
    hook, threading.excepthook = threading.excepthook, _quiet_writers
    try:
        yield
    except StoppedError as stop:
        name = signal.Signals(stop.signum).name
        _leave(trainer, checkpoints, 128 + stop.signum, f"stopped by {name} after step {trainer.global_step}")
    except DivergedError as error:
        _leave(trainer, checkpoints, 2, f"error: {error}: a lower --model.learning_rate may help")
    except OSError as error:
        where = error.filename or (trainer.loggers[0].log_dir if trainer.loggers else trainer.default_root_dir)
        _leave(trainer, checkpoints, 2, f"error: {where}: {error.strerror or error}")
    except SystemExit:  # Lightning's answer to Ctrl-C before training has begun, or to a second one
        if not trainer.interrupted:
            raise
        _leave(trainer, checkpoints, 130, "stopped at once")
    except MisconfigurationException as error:
        _leave(trainer, checkpoints, 2, f"error: {error}")
    except (ValueError, *RESTORING) as error:
        resumed = trainer.ckpt_path is not None
        if checkpoints.has_begun or not (resumed or isinstance(error, ValueError)):
            raise
        fail(f"{trainer.ckpt_path} cannot be resumed: {error!r}" if resumed else str(error))
    finally:
        threading.excepthook = hook


@contextmanager
def exit_on_early_signal() -> Generator[None]:
    """Before there is anything to save, Ctrl-C and SIGTERM end the program at once, with a line and its exit code."""

    def leave(signum: int, frame: FrameType | None) -> NoReturn:
        print(f"minillm: stopped by {signal.Signals(signum).name}; nothing was saved yet", file=sys.stderr)
        sys.exit(128 + signum)

    before = {signum: signal.signal(signum, leave) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _quiet_writers(problem: threading.ExceptHookArgs) -> None:
    """What TensorBoard's thread cannot write, the main thread hears of too, when it asks for all to be on disk."""
    if "tensorboard" not in type(problem.thread).__module__:
        threading.__excepthook__(problem)


def _leave(trainer: Trainer, checkpoints: Checkpoints, code: int, reason: str) -> NoReturn:
    """End the program; of several processes the first one speaks, and the others end without a word."""
    if not trainer.is_global_zero:
        sys.exit(0)
    if checkpoints.newest is None:
        kept = f"{trainer.ckpt_path} is as it was" if trainer.ckpt_path else "nothing was saved yet"
    else:
        path, step = checkpoints.newest
        run = RunFolder.of(path)
        again = f"--config {os.path.relpath(run.config)} " if run else ""
        kept = f"step {step} is kept; go on with: minillm fit {again}--ckpt_path {os.path.relpath(path)}"
    print(f"minillm: {' '.join(reason.split())}; {kept}", file=sys.stderr)
    sys.exit(code)
