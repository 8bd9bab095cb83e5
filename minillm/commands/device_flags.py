"""Flags of `predict` and `serve` for generation with PyTorch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from minillm.commands.command_parser import CommandParser

if TYPE_CHECKING:
    from minillm.generation.load import Device

ACCELERATORS = ("auto", "cpu", "gpu", "mps")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true")


def add_device_flags(parser: CommandParser) -> None:
    """Add the flags to a parser."""
    accelerator_help = "generate with PyTorch on this device, as in fit; without it, with NumPy on the CPU"
    parser.add_argument("--accelerator", choices=ACCELERATORS, help=accelerator_help)
    precision_help = f"precision of --accelerator, by default {PRECISIONS[0]}"
    parser.add_argument("--precision", choices=PRECISIONS, help=precision_help)


def chosen_device(options: argparse.Namespace) -> Device | None:
    """Return the device of the parsed flags, or None for NumPy.

    Raises:
        ValueError: There is a precision without an accelerator.
    """
    if options.accelerator is None:
        if options.precision is not None:
            raise ValueError(f"--precision {options.precision} needs --accelerator: pass --accelerator auto")
        return None
    from minillm.generation.load import Device  # imported late, to keep --help fast

    return Device(options.accelerator, options.precision or PRECISIONS[0])
