"""Models that the server offers, each loaded at its first request."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

from minillm.checkpoint.run_folder import CheckpointFile, checkpoint_files, is_inside_runs
from minillm.generation.load import Device
from minillm.serve.engine import Engine
from minillm.serve.errors import RefusedError
from minillm.serve.limits import Limits

MAX_LOADED = 4
LIST_SECONDS = 1.0  # for which the list of checkpoints is cached


class Models:
    """Checkpoints by name, and the engines of the loaded ones.

    Args:
        default: The default checkpoint.
        limits: Limits of each engine.
        device: Device of PyTorch; None generates with NumPy.
    """

    def __init__(self, default: Path, limits: Limits, device: Device | None = None) -> None:
        self._default, self._limits, self._device = default, limits, device
        self._engines: dict[Path, Engine] = {}  # the least recently used first
        self._retired: list[Engine] = []  # they complete their texts
        self._loading = asyncio.Lock()
        self._listed: dict[str, CheckpointFile] = {}
        self._listed_at = -math.inf

    def named(self) -> dict[str, CheckpointFile]:
        """Return the checkpoints by name, the default one first."""
        if time.monotonic() - self._listed_at > LIST_SECONDS:
            found = checkpoint_files()
            default = {name: one for name, one in found.items() if one.file.absolute() == self._default.absolute()}
            self._listed = (default or {self._default.stem: CheckpointFile(self._default, 0)}) | found
            self._listed_at = time.monotonic()
        return self._listed

    async def get(self, name: str = "") -> tuple[str, Engine]:
        """Return the name and the engine of a model, by default of the default checkpoint.

        Raises:
            RefusedError: There is no such model, it cannot be loaded, or too many others are in use.
        """
        name = name or next(iter(self._listed or self.named()))
        checkpoint = self._listed.get(name) or self.named().get(name)  # listing all files takes a while
        if checkpoint is None:
            message = f"there is no model {name[:100]!r}: /v1/models lists them"
            raise RefusedError(404, message, "model", "model_not_found")
        file = checkpoint.file
        try:
            if file != self._default and not is_inside_runs(file):  # replaced by a link since it was listed
                raise ValueError(f"{file} is not a file inside the runs folder")
            modified_ns = file.stat().st_mtime_ns  # a run that is training replaces its checkpoints
            if not self._has(file, modified_ns):
                async with self._loading:
                    if not self._has(file, modified_ns):
                        await self._load(file, modified_ns)
        except (ValueError, FileNotFoundError) as error:
            raise RefusedError(404, f"model {name!r} cannot be read: {error}", "model", "model_not_found") from error
        except (OSError, MemoryError) as error:
            raise RefusedError(503, f"model {name!r} cannot be loaded now: {error}", "model") from error
        self._engines[file] = self._engines.pop(file)  # the most recently used is the last
        return name, self._engines[file]

    def close(self) -> None:
        """End all engines soon, without completing their texts."""
        for engine in [*self._engines.values(), *self._retired]:
            engine.close()

    async def closed(self) -> None:
        """Wait for the end of all engines."""
        await asyncio.gather(*(engine.closed() for engine in [*self._engines.values(), *self._retired]))

    def _has(self, file: Path, modified_ns: int) -> bool:
        engine = self._engines.get(file)
        return engine is not None and engine.modified_ns == modified_ns and engine.is_alive

    async def _load(self, file: Path, modified_ns: int) -> None:
        if file in self._engines:  # of an earlier version of the file, or without workers
            self._retired.append(self._engines.pop(file))
        elif len(self._engines) >= MAX_LOADED:
            idle = [other for other, engine in self._engines.items() if not engine.num_texts]
            if not idle:
                raise RefusedError(503, "too many models are in use: try again soon")
            self._retired.append(self._engines.pop(idle[0]))
        unused = [engine for engine in self._retired if not engine.num_texts]
        self._retired = [engine for engine in self._retired if engine not in unused]
        await asyncio.gather(*(engine.closed() for engine in unused))
        self._engines[file] = await Engine.load(file, modified_ns, self._limits, self._device)
