"""What a text has in common with the training text."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CONFIGS
from tests.serve.client import ask, error
from tests.serve.conftest import serving

Run = Callable[..., tuple[int, str, str]]


def test_parts_of_the_training_text_are_found_with_their_lines(address: str, in_smoke_run: Path):
    text = "É Before we proceed any further, hear me speak. You are all resolved rather to die than walk"
    status, _, content = ask(address, "/verbatim_matches", {"text": text})
    first, second = "Before we proceed any further, hear me speak.", "You are all resolved rather to die than "
    assert (status, json.loads(content)) == (
        200,
        {
            "corpus": "tinyshakespeare",
            "matches": [
                {"start": text.index(first), "length": len(first), "line": 2},
                {"start": text.index(second), "length": len(second), "line": 8},
            ],
        },
    )
    assert json.loads(ask(address, "/verbatim_matches", {"text": text, "min_length": 46})[2])["matches"] == []
    assert json.loads(ask(address, "/verbatim_matches", {"text": ""})[2])["matches"] == []
    for wrong in ({"text": "a" * 8193}, {"text": "a", "min_length": 14}, {"text": "\ud800"}, {}):
        assert error(address, "/verbatim_matches", wrong)[0] == 400


@pytest.mark.parametrize("change", ["missing", "changed", "unproven"])
def test_a_text_that_the_model_may_not_have_seen_is_not_searched(
    minillm: Run, own_folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    monkeypatch.chdir(own_folder)
    own = Path("secret", "own.txt")
    own.parent.mkdir()
    own.write_text("A line.\nThese are the lines of a text of one's own.\n" + "And others.\n" * 99)
    assert minillm("fit", "--config", CONFIGS / "smoke.yaml", "--data.corpus", own)[0] == 0
    with serving() as address:
        body = {"text": "are the lines of a text", "min_length": 15}
        assert json.loads(ask(address, "/verbatim_matches", body)[2])["matches"] == [
            {"start": 0, "length": 23, "line": 2}
        ]
    if change == "missing":
        own.unlink()
    elif change == "changed":
        own.write_text(own.read_text() + "And one more.\n")
    else:  # the checkpoint has no hash of its text
        monkeypatch.setattr("minillm.checkpoint.validation.Checkpoint.text_sha256", {})
    with serving() as address:
        status, found = error(address, "/verbatim_matches", body)
    assert (status, found["code"]) == (404, "training_text_not_found")
    assert "secret" not in found["message"]
