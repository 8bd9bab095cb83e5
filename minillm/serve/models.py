"""The models that can be talked to, each loaded when it is first asked for."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

from minillm.checkpoint.run_folder import CheckpointFile, checkpoint_files
from minillm.serve.engine import Engine
from minillm.serve.errors import RefusedError
from minillm.serve.limits import Limits

MOST_LOADED = 4
FRESH = 1.0  # seconds for which the list of checkpoints is taken as it is


class Models:
    """Checkpoints by name, and the engines of those in use.

    Args:
        default: The checkpoint that is meant where none is named.
        limits: How much each takes on.
    """

    def __init__(self, default: Path, limits: Limits) -> None:
        self._default, self._limits = default, limits
        self._engines: dict[Path, Engine] = {}  # the least recently used first
        self._retired: list[Engine] = []  # they finish what they have begun
        self._loading = asyncio.Lock()
        self._listed: dict[str, CheckpointFile] = {}
        self._listed_at = -math.inf

    def named(self) -> dict[str, CheckpointFile]:
        """Every checkpoint by its name; the default one first."""
        if time.monotonic() - self._listed_at > FRESH:
            found = checkpoint_files()
            default = {name: one for name, one in found.items() if one.file.absolute() == self._default.absolute()}
            self._listed = (default or {self._default.stem: CheckpointFile(self._default, 0)}) | found
            self._listed_at = time.monotonic()
        return self._listed

    async def get(self, name: str = "") -> tuple[str, Engine]:
        """The engine of a model, by its name; that of the default one, if it is empty.

        Raises:
            RefusedError: There is no such model, it cannot be read, or too many others are in use.
        """
        name = name or next(iter(self._listed or self.named()))
        checkpoint = self._listed.get(name) or self.named().get(name)  # to look at every file takes a while
        if checkpoint is None:
            message = f"there is no model {name[:100]!r}: /v1/models lists them"
            raise RefusedError(404, message, "model", "model_not_found")
        file = checkpoint.file
        try:
            written = file.stat().st_mtime_ns  # a run that goes on writes its checkpoints anew
            if not self._has(file, written):
                async with self._loading:
                    if not self._has(file, written):
                        await self._load(file, written)
        except (ValueError, FileNotFoundError) as error:
            raise RefusedError(404, f"model {name!r} cannot be read: {error}", "model", "model_not_found") from error
        except (OSError, MemoryError) as error:
            raise RefusedError(503, f"model {name!r} cannot be loaded now: {error}", "model") from error
        self._engines[file] = self._engines.pop(file)  # the most recently used is the last
        return name, self._engines[file]

    def close(self) -> None:
        """Have all work end soon."""
        for engine in [*self._engines.values(), *self._retired]:
            engine.close()

    async def closed(self) -> None:
        """Wait until all work has ended."""
        await asyncio.gather(*(engine.closed() for engine in [*self._engines.values(), *self._retired]))

    def _has(self, file: Path, written: int) -> bool:
        engine = self._engines.get(file)
        return engine is not None and engine.written == written and engine.is_alive

    async def _load(self, file: Path, written: int) -> None:
        if file in self._engines:  # of what was written before, or dead
            self._retired.append(self._engines.pop(file))
        elif len(self._engines) >= MOST_LOADED:
            idle = [other for other, engine in self._engines.items() if not engine.num_texts]
            if not idle:
                raise RefusedError(503, "too many models are in use: try again soon")
            self._retired.append(self._engines.pop(idle[0]))
        done = [engine for engine in self._retired if not engine.num_texts or not engine.is_alive]
        self._retired = [engine for engine in self._retired if engine not in done]
        await asyncio.gather(*(engine.closed() for engine in done))
        self._engines[file] = await Engine.load(file, written, self._limits)
