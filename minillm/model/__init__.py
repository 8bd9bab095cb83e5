"""Transformer language model in plain PyTorch; read decoder.py first, then attention.py.

Tensor shapes use these letters:
    B  batch size: number of sequences
    T  time: positions in a sequence, at most the context length
    C  channels: width of the residual stream, `embed_dim`
    H  attention heads per block
    D  channels per head, C / H
    F  hidden channels of a feed-forward network
    V  vocabulary size: number of different tokens
"""

from minillm.model.decoder import Decoder

__all__ = ["Decoder"]
