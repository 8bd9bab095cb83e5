import base64
import csv
import json
from pathlib import Path
from typing import Any

import pytest

from minillm.serve import runs
from tests.serve.client import ask


def test_a_run_shows_its_losses_and_its_samples(address: str, in_smoke_run: Path):
    listed = json.loads(ask(address, "/runs", None)[2])["data"]
    assert listed == [{"name": "smoke/version_0", "checkpoints": ["smoke/version_0/best", "smoke/version_0/last"]}]
    shown = json.loads(ask(address, "/runs/smoke/version_0", None)[2])
    with (in_smoke_run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_loss"]]
    assert shown["val_loss"] == {
        "steps": [int(row["step"]) for row in rows],
        "values": [float(row["val_loss"]) for row in rows],
    }
    assert len(shown["samples"]) == len(rows)
    first = shown["samples"][0]
    assert first["title"] == f"Step {rows[0]['step']}, val_loss {float(rows[0]['val_loss']):.4f}"
    assert (
        "\n".join("    " + line for line in first["text"].split("\n")).strip()
        in (in_smoke_run / "samples.md").read_text()
    )


def test_half_written_and_strange_tables_are_shown_as_far_as_they_go(tmp_path: Path):
    folder = tmp_path / "lightning_logs" / "r"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_bytes(b"step,train_loss,val_loss\n1,2.5,\n2,nan,\nx,1,1\n3,\xff,4\n4,1.5,1.75\n5,1")
    shown = runs.run_details("r")
    assert (shown.train_loss.steps, shown.train_loss.values) == ([1, 4, 5], [2.5, 1.5, 1.0])
    assert (shown.val_loss.steps, shown.val_loss.values, shown.lowest_val_loss) == ([3, 4], [4.0, 1.75], 1.75)
    (folder / "metrics.csv").write_text("step,train_loss\n" + "".join(f"{n},1\n" for n in range(10_000)))
    steps = runs.run_details("r").train_loss.steps
    assert len(steps) <= runs.MAX_POINTS
    assert steps[-1] == 9_999
    (folder / "metrics.csv").write_text("step\n" + "1" * 200_000)
    assert runs.run_details("r").train_loss.steps == []


def test_attention_is_that_of_the_model(address: str, in_smoke_run: Path):
    import numpy as np
    import torch

    import minillm

    model, tokenizer = minillm.load()
    expected = model.attention_maps(torch.tensor([tokenizer.encode("ROMEO: speak")]))[0, 0]
    for head, weights in enumerate(expected):
        status, _, content = ask(address, "/attention", {"text": "ROMEO: speak", "layer": 0, "head": head})
        shown = json.loads(content)
        assert status == 200
        assert shown["tokens"] == list("ROMEO: speak")
        for place, row in enumerate(shown["weights"]):
            np.testing.assert_allclose(row, weights[place, : place + 1], atol=1e-4)


def test_attention_maps_are_the_weights_of_all_heads(address: str, in_smoke_run: Path):
    import numpy as np
    import torch

    import minillm

    model, tokenizer = minillm.load()
    text = "Speak, speak, and more than the context"
    ids = tokenizer.encode(text)[-model.config.context_length :]
    status, _, content = ask(address, "/attention_maps", {"text": text})
    shown = json.loads(content)
    assert (status, shown["tokens"]) == (200, list(text[-model.config.context_length :]))
    bytes_of_heads = [[np.frombuffer(base64.b64decode(head), np.uint8) for head in layer] for layer in shown["maps"]]
    expected = model.attention_maps(torch.tensor([ids]))[:, 0].flatten(2)
    np.testing.assert_allclose(np.array(bytes_of_heads) / 255, expected, atol=0.6 / 255)


def test_the_logit_lens_is_the_head_applied_to_the_residual_stream_after_each_block(tmp_path: Path):
    import torch

    from minillm.generation.numpy_decoder import NumpyDecoder
    from tests.export.models import save_checkpoint

    model = save_checkpoint(tmp_path / "model.ckpt", num_layers=3, token_shift=True)
    ids = torch.randint(model.config.vocab_size, (2, 9))
    residuals: list[Any] = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, args, output: residuals.append(output))
    logits = model(ids)
    lens = [torch.from_numpy(one) for one in NumpyDecoder.from_model(model).logit_lens(ids.numpy())]
    for layer, residual in enumerate(residuals):
        torch.testing.assert_close(lens[layer], model.output_head(model.final_norm(residual)), atol=1e-4, rtol=0)
    torch.testing.assert_close(lens[-1], logits, atol=1e-4, rtol=0)


def test_the_last_block_of_the_lens_says_what_the_model_says(address: str, in_smoke_run: Path):
    import torch

    import minillm

    model, tokenizer = minillm.load()
    text = "Speak"
    status, _, content = ask(address, "/logit_lens", {"text": text})
    shown = json.loads(content)
    assert (status, shown["tokens"], len(shown["layers"])) == (200, list(text), model.config.num_layers)
    expected = model(torch.tensor([tokenizer.encode(text)]))[0].softmax(dim=-1).topk(3)
    for place, likeliest in enumerate(shown["layers"][-1]):
        assert [tokenizer.encode(one["token"])[0] for one in likeliest] == expected.indices[place].tolist()
        assert [one["probability"] for one in likeliest] == pytest.approx(expected.values[place].tolist(), abs=1e-4)


def test_a_model_says_its_text_and_its_loss(address: str, in_smoke_run: Path):
    about = json.loads(ask(address, "/v1/models/smoke/version_0/best", None)[2])
    assert (about["corpus"], about["default_prompt"], about["num_parameters"]) == ("tinyshakespeare", "\n", 5456)
    assert about["tokenizer_class"] == "CharTokenizer"
    loss = json.loads(ask(address, "/runs/smoke/version_0", None)[2])["lowest_val_loss"]
    assert about["lowest_val_loss"] == pytest.approx(loss, abs=1e-4)
