"""The public Python API: its documentation, and its types as a user's program sees them."""

import ast
import doctest
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minillm
from tests.conftest import ROOT
from tests.test_docs import code_blocks

PAGE = ROOT / "docs" / "api.md"
SCRIPT = """\
from typing import assert_type

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

import minillm
from minillm.config import ModelConfig
from minillm.data.datamodule import TextDataModule
from minillm.model import Decoder
from minillm.training.module import LanguageModel


class Bigram(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.table(ids)
        return logits


result = minillm.fit("quick", name="typed", model={"learning_rate": 1e-3}, model_class=Bigram)
assert_type(result.val_loss, float | None)
model, tokenizer = minillm.load("best")
assert_type(model, Decoder)
own, _ = minillm.load(result.run_folder, model_class=Bigram)
logits: Tensor = model(torch.tensor([tokenizer.encode("A")]))
text: str = "".join(minillm.generate(result.model, result.tokenizer, "A", max_new_tokens=5, stop="B"))
data = TextDataModule("tinyshakespeare", context_length=64, batch_size=32)
module = LanguageModel(vocab_size=data.vocab_size, context_length=64, embed_dim=16)
Trainer(max_steps=1).fit(module, data)
"""
ERRORS = (
    "LanguageModel(vocab_size=65)",
    "LanguageModel(vocab_size=65, context_length=64, width=3)",
    "minillm.generate(result.model, result.tokenizer)",
    "minillm.load(3)",
)
CONFIGS = {
    "mypy.ini": "[mypy]\nstrict = True\ndisallow_subclassing_any = False\n"  # torch takes mypy half a minute
    "[mypy-torch.*,lightning.*,torchmetrics.*,numpy.*]\nfollow_imports = skip\n",
    "pyrightconfig.json": json.dumps({"typeCheckingMode": "strict"}),
}


def test_examples_of_the_page_are_right(in_smoke_run: Path):
    failed, attempted = doctest.testfile(str(PAGE), module_relative=False)
    assert (failed, attempted > 15) == (0, True)


def test_signatures_of_the_page_are_those_of_the_functions():
    blocks = [code for page, code in code_blocks("python") if page == PAGE and code.startswith("def ")]
    for block in blocks:
        (stated,) = ast.parse(f"{block.strip()}: ...").body
        assert isinstance(stated, ast.FunctionDef)
        actual = inspect.signature(getattr(minillm, stated.name))
        parameters = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in actual.parameters.values()]
        signature = actual.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
        assert f"({ast.unparse(stated.args)})" == str(signature)
    assert {block.partition("(")[0].removeprefix("def ") for block in blocks} == {"fit", "generate", "load"}


def test_page_names_every_public_name():
    assert [name for name in minillm.__all__ if f"`{name}`" not in PAGE.read_text().replace("minillm.", "")] == []


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_accept_a_program_and_find_its_errors(checker: str, wheel: Path, tmp_path: Path):
    for name, content in CONFIGS.items():
        (tmp_path / name).write_text(content)
    for name, code in (("right.py", SCRIPT), ("wrong.py", SCRIPT + "\n".join(ERRORS) + "\n")):
        (tmp_path / name).write_text(code)
    environment = {"MYPYPATH": str(wheel), "PYTHONPATH": str(wheel)}
    python = ["--python-executable" if checker == "mypy" else "--pythonpath", sys.executable]
    command = [sys.executable, "-m", checker, *python, "right.py", "wrong.py"]
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    first = len(SCRIPT.splitlines()) + 1
    lines = {f"wrong.py:{first + index}:" for index in range(len(ERRORS))}
    assert {found for line in errors for found in lines if found in line} == lines, done.stdout + done.stderr
    assert [line for line in errors if not any(found in line for found in lines)] == []
