import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from minillm.checkpoint.run_folder import checkpoint_files
from minillm.serve import runs
from minillm.serve.api import create_app
from minillm.serve.limits import Limits
from tests.serve.client import ask, error

DEEP = b"[" * 100_000
WRONG: list[tuple[object, str]] = [
    (b"", "body"),
    (b"{", "body"),
    (b"\xff\xfe", "body"),
    (DEEP, "body"),
    (b'{"prompt":' + DEEP, "body"),
    (b"null", "body"),
    (b"[]", "body"),
    (b'{"temperature": NaN}', "temperature"),
    (b'{"temperature": Infinity}', "temperature"),
    (b'{"temperature": 1e999}', "temperature"),
    (b'{"max_tokens": ' + b"9" * 5000 + b"}", "body"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 4097}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"n": 65}, "n"),
    ({"n": 33, "prompt": ["A", "B"]}, "n times prompts"),
    ({"seed": 2**62}, "seed"),
    ({"seed": -2}, "seed"),
    ({"seed": True}, "seed"),
    ({"stop": ""}, "'stop': an empty string"),
    ({"stop": ["a", ""]}, "'stop': an empty string"),
    ({"stop": "a" * 257}, "'stop': at most 256 characters"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": 5}, "stop"),
    ({"logprobs": 129}, "logprobs"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": []}, "'prompt': send a text, token ids, or a list of either"),
    ({"prompt": ["A"] * 65}, "at most 64 prompts"),
    ({"max_completion_tokens": 5, "max_tokens": 6}, "max_tokens and max_completion_tokens are the same setting"),
    ({"n": 64, "max_tokens": 4096, "logprobs": 2}, "786,432 tokens, alternatives included, but the maximum is 524,288"),
    ({"prompt": ["A" * 13000] * 2, "echo": True, "logprobs": 20}, "ask for fewer texts, tokens or logprobs"),
    ({"min_p": 0.1}, "min_p"),
    ({"repetition_penalty": 1.1}, "repetition_penalty"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": [1, "A"]}, "prompt"),
    ({"prompt": [65]}, "token 65 is not in the vocabulary of 65"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": "\ud800"}, "prompt"),
    ({"prompt": "\0"}, "U\\+0000"),
    ({"prompt": "A" * 70_000}, "prompt"),
    ({"prompt": "<script>alert(1)</script>"}, "'<'"),
    ({"model": 5}, "model"),
    ({"best_of": 2}, "best_of"),
    ({"presence_penalty": 1}, "presence_penalty"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"suffix": "x"}, "suffix"),
    ({"nonsense": 1}, "unknown field 'nonsense'"),
    ({"__proto__": {}}, "__proto__"),
]


@pytest.mark.parametrize(("body", "message"), WRONG, ids=[str(body)[:40] for body, _ in WRONG])
def test_a_wrong_request_is_refused_in_a_line(address: str, body: object, message: str):
    import re

    status, found = error(address, body=body)
    assert status == 400
    assert re.search(message, found["message"])
    assert "\n" not in found["message"]


@pytest.mark.parametrize(
    "name",
    ["../secret", "..%2f..%2fsecret", "/etc/passwd", "%2fetc%2fpasswd", "smoke/version_0/../../../secret", "secret",
     "linked/secret", "smoke/version_0/best\0", "smoke/version_0/best.ckpt", "C:\\secret", "~root", "*", "é" * 500],
)  # fmt: skip
def test_no_name_leads_out_of_the_runs(address: str, name: str, in_smoke_run: Path):
    from urllib.parse import quote

    status, found = error(address, body={"prompt": "A", "model": name})
    assert (status, found["code"]) == (404, "model_not_found")
    for path in ("/v1/models/", "/runs/", "/"):
        status, _, content = ask(address, path + quote(name, safe="/%"), None)
        assert status == (400 if "\0" in name else 404)
        assert set(json.loads(content)) == {"error"}


def test_links_out_of_the_runs_are_not_followed(in_smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lightning_logs" / "mine" / "checkpoints").mkdir(parents=True)
    (tmp_path / "lightning_logs" / "mine" / "checkpoints" / "best.ckpt").write_bytes(b"")
    (tmp_path / "secret" / "checkpoints").mkdir(parents=True)
    (tmp_path / "secret" / "checkpoints" / "best.ckpt").write_bytes(b"")
    (tmp_path / "secret" / "samples.md").write_text("## Step 1\n\n    secret\n")
    monkeypatch.chdir(tmp_path)
    Path("lightning_logs/linked").symlink_to(tmp_path / "secret")
    Path("lightning_logs/mine/checkpoints/last.ckpt").symlink_to(tmp_path / "secret" / "checkpoints" / "best.ckpt")
    Path("lightning_logs/mine/samples.md").symlink_to(tmp_path / "secret" / "samples.md")
    assert list(checkpoint_files()) == ["mine/best"]
    assert runs.run_details("mine").samples == []


PATHS = create_app(Path(), Limits()).openapi()["paths"]


@pytest.mark.parametrize("operation", [f"{method} {path}" for path, methods in PATHS.items() for method in methods])
def test_whatever_the_schema_allows_or_forbids_is_answered_as_it_says(address: str, operation: str):
    method, path = operation.split()
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")

    strategies: Any = (schema[path][method].as_strategy(mode) for mode in GenerationMode)

    @given(one_of(strategies))
    @settings(max_examples=40, deadline=None, suppress_health_check=list[Any](HealthCheck), database=None)
    def check(case: schemathesis.Case) -> None:
        answer = case.call()
        if answer.status_code != 413:  # no schema says how many bytes a body may have, nor which characters are known
            case.validate_response(answer, excluded_checks=[positive_data_acceptance])

    check()
