"""ONNX model: any decoder, with dynamic batch size and number of positions."""

from __future__ import annotations

import logging
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import onnx
import torch

from minillm.checkpoint.validation import Checkpoint
from minillm.export.huggingface_tokenizer import tokenizer_json
from minillm.model import Decoder

import_module("onnxscript")  # torch.onnx needs it, and would name it in an error of many lines


def onnx_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the files of the folder by name: `model.onnx`, and the tokenizer for Hugging Face's tokenizers library.

    The input `ids` is (B, T) int64, T at most the context length; the output `logits` is (B, T, V) float32.
    """
    model = Decoder(checkpoint.config)
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in checkpoint.weights.items()})
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # internal to the exporter
        path = Path(folder, "model.onnx")
        _convert(model.eval(), path)
        onnx.checker.check_model(path, full_check=True)
        return {"model.onnx": path.read_bytes(), "tokenizer.json": tokenizer_json(checkpoint.tokenizer).encode()}


def _convert(model: Decoder, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names packages that are not needed
    context_length = model.config.context_length
    num_positions = min(context_length, 2)  # of the example; it is static if the context has one position
    ids = torch.zeros(2, num_positions, dtype=torch.long)
    shapes = {0: torch.export.Dim("batch")}
    if context_length > 1:
        shapes[1] = torch.export.Dim("time", max=context_length)
    program = torch.onnx.export(
        model,
        (ids,),
        dynamo=True,
        input_names=["ids"],
        output_names=["logits"],
        dynamic_shapes={"ids": shapes},
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.save(path)
