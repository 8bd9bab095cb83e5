"""Limits on the load of the server: concurrent sequences, queue length, time and workers."""

from dataclasses import dataclass

from minillm.cpus import usable_cpus


@dataclass(frozen=True)
class Limits:
    """How much a server takes on.

    Args:
        max_batch_size: Most texts that a model makes at the same time.
        max_waiting: Most texts that wait for their turn besides; who asks for more is sent away.
        max_seconds: After which a request is given up.
        num_workers: Processes that make a model's texts.

    Raises:
        ValueError: A limit is out of its range.
    """

    max_batch_size: int = 64
    max_waiting: int = 192
    max_seconds: float = 60.0
    num_workers: int = min(usable_cpus(), 2)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name, least, most in (("max_batch_size", 1, 1024), ("max_waiting", 0, 10**6), ("num_workers", 1, 64)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {getattr(self, name)}")
        if not 0 < self.max_seconds <= 10**6:
            raise ValueError(f"max_seconds must be above 0 and at most 1000000, got {self.max_seconds}")

    @property
    def max_texts(self) -> int:
        """Most texts at a time, growing or waiting."""
        return self.max_batch_size + self.max_waiting

    @property
    def batch_sizes(self) -> list[int]:
        """The part of the batch of each worker; none has nothing to do."""
        each, more = divmod(self.max_batch_size, self.num_workers)
        return [each + 1] * more + ([each] * (self.num_workers - more) if each else [])
