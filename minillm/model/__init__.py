"""The Transformer, as tensors only; read decoder.py first, then attention.py.

Shapes are written with these letters:
    B  batch: how many texts side by side
    T  time: positions in a text, at most the context length
    C  channels: the width of the residual stream, `embed_dim`
    H  heads, each of D = C / H channels
    V  vocabulary: how many different tokens there are
"""

from minillm.model.decoder import Decoder

__all__ = ["Decoder"]
