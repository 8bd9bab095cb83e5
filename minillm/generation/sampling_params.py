"""Sampling parameters of text generation."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingParams:
    """Sampling parameters and stopping criteria of a text generation.

    Args:
        max_new_tokens: Maximum number of tokens to generate.
        temperature: Divides the logits; below 1, likely tokens become likelier; 0 always selects the most likely token.
        top_k: Sample from this many most likely tokens; None disables this filter.
        top_p: Sample from the smallest set of most likely tokens whose total probability reaches this value; None
            disables this filter.
        seed: Seed of the sampling; None draws a random one.
        stop: Generation ends before the first of these strings.

    Raises:
        ValueError: A parameter is out of range.
    """

    max_new_tokens: int = 500
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that all parameters are in range."""
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be 0 (greedy) or positive and finite, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1 (omit it to keep all tokens), got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1 (omit it to keep all tokens), got {self.top_p}")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be at least 0 and less than 2**63, got {self.seed}")
        if "" in self.stop:
            raise ValueError("stop strings must not be empty, got ''")
