"""The CheckpointIO of training runs."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from minillm.checkpoint.validation import Checkpoint, read_checkpoint
from minillm.files import write_atomically


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints atomically, and read them only after validation.

    Args:
        opened: A checkpoint that is read already, as torch tensors; it is not read again.
    """

    def __init__(self, opened: Checkpoint | None = None) -> None:
        self._opened = opened

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint; until it is whole and on disk, the one before stays.

        Raises:
            OSError: It cannot be written; the one before is still there.
        """
        content = BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(exist_ok=True)
        write_atomically(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, onto the CPU; of plain values only, whatever is asked for.

        Raises:
            ValueError: It is not a whole checkpoint of ours.
        """
        opened, self._opened = self._opened, None  # its memory is for whoever asks first
        if opened is not None and opened.path == Path(path):
            return opened.content
        return read_checkpoint(Path(path), torch.tensor).content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
