import contextlib
import io
import re
from pathlib import Path

import pytest

import minillm as package
from minillm.tokenizer import CharTokenizer
from tests.conftest import ROOT
from tests.export.models import save_checkpoint

PROMPT = "ROMEO:"


@pytest.mark.parametrize("format", ["hf", "onnx"])
def test_the_examples_of_the_documentation_and_of_the_model_card_run(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "model.ckpt", CharTokenizer("\n abcdeROME:"), context_length=64)
    package.export(tmp_path / "model.ckpt", format, format)
    for page in (ROOT / "docs" / "export.md", Path(format, "README.md")):
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        (code,) = [block for block in blocks if f'"{format}' in block or "THIS_FOLDER" in block]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code.replace("THIS_FOLDER", format), {})
        assert len(printed.getvalue()) > 50
