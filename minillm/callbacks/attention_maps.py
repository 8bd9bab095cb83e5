"""Attention maps: images of the attention weights, in TensorBoard."""

from typing import cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw
from torch import Tensor, nn

from minillm.data.datamodule import get_datamodule
from minillm.model import Decoder
from minillm.tokenizer import Tokenizer
from minillm.training.module import LanguageModel

CELL_PIXELS = 12  # side of the square of one weight
MARGIN_PIXELS = 16  # around each map, for the labels


class AttentionMaps(Callback):
    """Draw the attention weights of every layer and head for one fixed text at every validation, in TensorBoard.

    Args:
        tokenizer: The model's tokenizer.
        sentence: Text whose attention weights are drawn; by default the first 32 tokens of the validation split.

    Raises:
        ValueError: The sentence is empty, or has a character that the tokenizer does not know.
    """

    def __init__(self, tokenizer: Tokenizer, sentence: str | None = None) -> None:
        if sentence == "":
            raise ValueError("attention_maps.sentence must have at least one character, got ''")
        self.tokenizer = tokenizer
        self.ids = None if sentence is None else torch.tensor(tokenizer.encode(sentence))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the attention maps, if the run logs to TensorBoard and the model is a `Decoder`."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        assert isinstance(pl_module, LanguageModel)
        decoder = cast(nn.Module, pl_module.model)  # or a model class of one's own
        if not trainer.is_global_zero or not loggers or trainer.sanity_checking or not isinstance(decoder, Decoder):
            return
        ids = get_datamodule(trainer).val.tokens[:32] if self.ids is None else self.ids
        ids = ids[: decoder.config.context_length]
        maps = decoder.attention_maps(ids[None].to(pl_module.device))[:, 0].float().cpu()
        picture = draw_attention_maps(maps, [self.tokenizer.decode([int(index)]) for index in ids])
        for logger in loggers:
            logger.experiment.add_image("attention", picture, trainer.global_step)


def draw_attention_maps(maps: Tensor, labels: list[str]) -> Tensor:
    """Draw a grid of attention maps, with one row per layer and one column per head.

    A row of a map has the weights with which one position attends to the positions before it and to itself.

    Args:
        maps: (num_layers, H, T, T) attention weights.
        labels: The T tokens as text.

    Returns:
        RGB image (3, height, width), uint8.
    """
    num_layers, num_heads, T, _ = maps.shape
    side = MARGIN_PIXELS + T * CELL_PIXELS + MARGIN_PIXELS
    picture = Image.new("RGB", (num_heads * side, num_layers * side), "white")
    for layer in range(num_layers):
        for head in range(num_heads):
            left, top = head * side, layer * side
            picture.paste(_heatmap(maps[layer, head]), (left + MARGIN_PIXELS, top + MARGIN_PIXELS))
            pen = ImageDraw.Draw(picture)
            pen.text((left + MARGIN_PIXELS, top + 2), f"layer {layer + 1}, head {head + 1}", fill="black")
            for index, label in enumerate(labels):
                text = {"\n": "\\n", " ": "_"}.get(label, label)
                offset = MARGIN_PIXELS + index * CELL_PIXELS
                pen.text((left + 3, top + offset), text, fill="black")
                pen.text((left + offset + 2, top + side - MARGIN_PIXELS), text, fill="black")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)


def _heatmap(weights: Tensor) -> Image.Image:
    """Map weights to colours from white (0) to dark blue (1), by their square root to make small weights visible."""
    strength = weights.sqrt()[..., None]
    white, blue = torch.tensor([255.0, 255.0, 255.0]), torch.tensor([8.0, 48.0, 107.0])
    colours = (white + strength * (blue - white)).round().to(torch.uint8)
    return Image.fromarray(colours.numpy()).resize(
        (len(weights) * CELL_PIXELS, len(weights) * CELL_PIXELS), Image.Resampling.NEAREST
    )
