"""Limits on the load of the server: concurrent sequences, queue length, time and workers."""

from dataclasses import dataclass

from minillm.cpus import usable_cpus


@dataclass(frozen=True)
class Limits:
    """Limits on the load of the server.

    Args:
        max_batch_size: Maximum number of texts that a model generates at the same time.
        max_waiting: Maximum number of further texts that wait; requests beyond it are refused.
        max_seconds: Time until a request is refused.
        num_workers: Worker processes per model.
        keep_alive_seconds: Time after which an idle connection is closed.

    Raises:
        ValueError: A limit is out of range.
    """

    max_batch_size: int = 64
    max_waiting: int = 192
    max_seconds: float = 60.0
    num_workers: int = min(usable_cpus(), 2)
    keep_alive_seconds: int = 75

    def __post_init__(self) -> None:
        """Validate the values."""
        ranges = {
            "max_batch_size": (1, 1024),
            "max_waiting": (0, 10**6),
            "num_workers": (1, 64),
            "keep_alive_seconds": (1, 86_400),
        }
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be from {least} to {most}, got {getattr(self, name)}")
        if not 0 < self.max_seconds <= 10**6:
            raise ValueError(f"max_seconds must be above 0 and at most 1000000, got {self.max_seconds}")

    @property
    def max_texts(self) -> int:
        """Maximum number of texts that are generated or wait."""
        return self.max_batch_size + self.max_waiting

    @property
    def batch_sizes(self) -> list[int]:
        """Maximum batch size of each worker, at least 1."""
        each, more = divmod(self.max_batch_size, self.num_workers)
        return [each + 1] * more + ([each] * (self.num_workers - more) if each else [])
