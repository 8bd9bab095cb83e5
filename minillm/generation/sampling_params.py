"""How to choose the next token, and when to stop."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingParams:
    """The settings of a generation.

    Args:
        max_new_tokens: Most tokens to make.
        temperature: Divides the logits: below 1 the likely becomes likelier; 0 always takes the likeliest token.
        top_k: Choose among this many likeliest tokens; None leaves this filter out.
        top_p: Choose among the likeliest tokens that reach this probability together; None leaves this filter out.
        seed: The same seed gives the same text; None takes a fresh one.
        stop: The text ends before the first of these strings that appears in it.

    Raises:
        ValueError: A setting is out of its range.
    """

    max_new_tokens: int = 500
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 (always the likeliest) or positive, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1 (leave it out to keep every token), got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1 (leave it out for every token), got {self.top_p}")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be at least 0 and less than 2**63, got {self.seed}")
        if "" in self.stop:
            raise ValueError("a stop string must hold at least one character, got ''")
