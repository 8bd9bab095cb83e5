from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

import minillm as package
from minillm.tokenizer import CharTokenizer
from tests.export.models import ALPHABET, CONTEXT_LENGTH, save_checkpoint

PARTS: dict[str, Any] = {  # a model of the reference's parts is exported by test_examples.py
    **{"position": "rotary", "norm": "rms", "activation": "swiglu", "token_shift": True},
    **{"query_key_norm": True, "query_key_scale": "channel"},
}


def test_logits_are_those_of_ours_for_any_batch_and_length(tmp_path: Path):
    model = save_checkpoint(tmp_path / "model.ckpt", **PARTS)
    package.export(tmp_path / "model.ckpt", "onnx", tmp_path / "onnx")
    onnx.checker.check_model(tmp_path / "onnx" / "model.onnx", full_check=True)
    session = InferenceSession(tmp_path / "onnx" / "model.onnx")
    for shape in ((1, 1), (2, 7), (3, CONTEXT_LENGTH)):
        ids = torch.randint(model.config.vocab_size, shape)
        (logits,) = session.run(None, {"ids": ids.numpy()})
        assert isinstance(logits, np.ndarray)
        torch.testing.assert_close(torch.from_numpy(logits), model(ids).detach(), atol=1e-4, rtol=0)
    tokenizer = Tokenizer.from_file(str(tmp_path / "onnx" / "tokenizer.json"))
    assert tokenizer.encode("a bc").ids == CharTokenizer(ALPHABET).encode("a bc")
