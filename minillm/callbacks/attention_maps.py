"""Pictures of what the model looks at."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw
from torch import Tensor

from minillm.data.datamodule import data_of
from minillm.tokenizer import Tokenizer
from minillm.training.module import LanguageModel

CELL = 12  # pixels a side
MARGIN = 16  # pixels around a map, for the characters


class AttentionMaps(Callback):
    """At every validation, draw the attention weights of every layer and head for one fixed text, to TensorBoard.

    Args:
        tokenizer: The model's.
        sentence: The text; None takes the first 32 tokens of the validation text.

    Raises:
        ValueError: The tokenizer does not know a character of the sentence, or there is none.
    """

    def __init__(self, tokenizer: Tokenizer, sentence: str | None = None) -> None:
        if sentence == "":
            raise ValueError("attention_maps.sentence must hold at least one character, got ''")
        self.tokenizer = tokenizer
        self.ids = None if sentence is None else torch.tensor(tokenizer.encode(sentence))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if this is a run with TensorBoard."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not trainer.is_global_zero or not loggers or trainer.sanity_checking:
            return
        ids = data_of(trainer).val.tokens[:32] if self.ids is None else self.ids
        assert isinstance(pl_module, LanguageModel)
        ids = ids[: pl_module.model.config.context_length]
        maps = pl_module.model.attention_maps(ids[None].to(pl_module.device))[:, 0].float().cpu()
        picture = draw(maps, [self.tokenizer.decode([int(index)]) for index in ids])
        for logger in loggers:
            logger.experiment.add_image("attention", picture, trainer.global_step)


def draw(maps: Tensor, labels: list[str]) -> Tensor:
    """A row of maps a layer, a column a head; each row of a map shows what that character looked at.

    Args:
        maps: (num_layers, H, T, T) attention weights.
        labels: T characters.

    Returns:
        (3, height, width) picture, bytes.
    """
    num_layers, num_heads, T, _ = maps.shape
    side = MARGIN + T * CELL + MARGIN
    picture = Image.new("RGB", (num_heads * side, num_layers * side), "white")
    for layer in range(num_layers):
        for head in range(num_heads):
            left, top = head * side, layer * side
            picture.paste(_heat(maps[layer, head]), (left + MARGIN, top + MARGIN))
            pen = ImageDraw.Draw(picture)
            pen.text((left + MARGIN, top + 2), f"layer {layer + 1}, head {head + 1}", fill="black")
            for index, label in enumerate(labels):
                shown = {"\n": "\\n", " ": "_"}.get(label, label)
                along = MARGIN + index * CELL
                pen.text((left + 3, top + along), shown, fill="black")
                pen.text((left + along + 2, top + side - MARGIN), shown, fill="black")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)


def _heat(weights: Tensor) -> Image.Image:
    """White for 0, dark blue for 1, a step darker for small weights than in proportion."""
    strength = weights.sqrt()[..., None]
    white, blue = torch.tensor([255.0, 255.0, 255.0]), torch.tensor([8.0, 48.0, 107.0])
    colours = (white + strength * (blue - white)).round().to(torch.uint8)
    return Image.fromarray(colours.numpy()).resize((len(weights) * CELL, len(weights) * CELL), Image.Resampling.NEAREST)
