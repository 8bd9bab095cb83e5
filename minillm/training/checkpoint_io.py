"""How checkpoints are written and read."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from minillm.files import write_whole
from minillm.generation.untrusted import read


class WholeCheckpointIO(CheckpointIO):
    """Checkpoints are never half written, and never believed more than they prove."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint; until it is whole and on disk, the one before stays.

        Raises:
            OSError: It cannot be written; the one before is still there.
        """
        content = BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(exist_ok=True)
        write_whole(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint, onto the CPU; of plain values only, whatever is asked for.

        Raises:
            ValueError: It is not a whole checkpoint of ours.
        """
        return read(Path(path), torch.tensor)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
