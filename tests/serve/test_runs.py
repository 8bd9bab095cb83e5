import csv
import json
from pathlib import Path

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
