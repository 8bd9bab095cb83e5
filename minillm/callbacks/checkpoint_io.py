"""CheckpointIO plugin: atomic writes and validated reads of checkpoints."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from minillm.checkpoint.validation import Checkpoint, read_checkpoint
from minillm.files import write_atomically


class AtomicCheckpointIO(CheckpointIO):
    """Write checkpoints atomically, and validate them when they are read.

    Args:
        preloaded: A checkpoint that has already been read, with torch tensors; the first load does not read it again.
    """

    def __init__(self, preloaded: Checkpoint | None = None) -> None:
        self._preloaded = preloaded
        self._temporary: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint atomically: the previous file stays in place until the new one is complete and on disk.

        Raises:
            OSError: The file cannot be written; the previous one is unchanged.
        """
        content = BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(exist_ok=True)
        if Path(path).name.startswith("."):
            self._temporary.add(Path(path))
        write_atomically(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read and validate a checkpoint, as plain values and CPU tensors; the other arguments are ignored.

        Raises:
            ValueError: The file is not a complete checkpoint of this project.
        """
        preloaded, self._preloaded = self._preloaded, None  # releases its memory after the first load
        if preloaded is not None and preloaded.path == Path(path):
            return preloaded.content
        return read_checkpoint(Path(path), torch.tensor, allow_custom_parts=True).content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)

    def remove_temporary(self) -> None:
        """Delete the hidden files of Lightning's tuners, which leave them behind when they are interrupted."""
        for path in self._temporary:
            self.remove_checkpoint(path)
