"""Interface of the decoders that text generation can use."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minillm.config import ModelConfig


class InferenceDecoder(Protocol):
    """Decoder for generation: `NumpyDecoder` or `TorchDecoder`, each with a KV cache of its own type."""

    config: ModelConfig

    def new_cache(self, batch_size: int) -> Any:
        """Create an empty cache for `batch_size` sequences of the same length."""

    def new_ragged_cache(self, capacity: int) -> Any:
        """Create an empty KV cache to which up to `capacity` sequences of different lengths can be appended."""

    def __call__(self, ids: NDArray[np.intp], cache: Any) -> NDArray[np.float32]:
        """Compute the logits of the next token, and add the new positions to the cache.

        Args:
            ids: (B, T) token ids that follow those in the cache; together at most `config.context_length` positions.
            cache: Cache of the B sequences, updated in place.

        Returns:
            (B, V) float32 logits of the token after the last position.
        """
        ...
