"""Checkpoints that are wrong, each in a way of its own."""

import copy
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


class Bomb:
    """A pickle that would leave a folder behind when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


class Balloon:
    """A pickle that would fill 100 GB of memory with nothing."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (10**11,)


def changed(checkpoint: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    return {**checkpoint, part: {**checkpoint[part], **values}}


def write_checkpoints(whole: Path) -> None:
    """A dozen ways in which a checkpoint can be wrong, beside a good one."""
    content = whole.read_bytes()
    good = torch.load(whole, weights_only=True)
    name, weight = next(iter(good["state_dict"].items()))
    huge = torch.zeros(1).expand(10**6, 10**6)
    (optimizer,) = good["optimizer_states"]
    made_up = {**optimizer, "state": {**optimizer["state"], 0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}}}
    far = copy.deepcopy(good)
    far["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] = 10**30
    for file, checkpoint in {
        **of_wrong_settings(good),
        "weights.ckpt": {"weights": weight},
        "bomb.ckpt": {**good, "seed": Bomb()},
        "balloon.ckpt": {**good, "seed": Balloon()},
        "no_alphabet.ckpt": {**good, "tokenizer": {}},
        "twice.ckpt": changed(good, "tokenizer", alphabet="aa"),
        "short_alphabet.ckpt": changed(good, "tokenizer", alphabet="ab"),
        "nan.ckpt": changed(good, "state_dict", **{name: weight * float("nan")}),
        "huge.ckpt": changed(
            changed(good, "hyper_parameters", embed_dim=10**6, vocab_size=10**6), "state_dict", **{name: huge}
        ),
        "no_weight.ckpt": {**good, "state_dict": {}},
        "numbers.ckpt": changed(good, "state_dict", **{name: 1.0}),
        "negative.ckpt": {**good, "global_step": -1},
        "optimizer.ckpt": {**good, "optimizer_states": [made_up], "global_step": 10},
        "loops.ckpt": {**good, "loops": {"fit_loop": {}}, "global_step": 10},
        "later.ckpt": {**good, "tokenizer": {"merges": [[0, 999]], "special_tokens": []}},
        "wordy.ckpt": {**good, "tokenizer": {"merges": [["a", "b"]], "special_tokens": []}},
        "swollen.ckpt": {
            **good,
            "tokenizer": {"merges": [[255 + n, 255 + n] for n in range(60)], "special_tokens": []},
        },
        "alphabet.ckpt": {**good, "tokenizer": {"alphabet": list(range(65))}},
        "seed.ckpt": {**good, "seed": 2**40},
        "truth.ckpt": {**good, "seed": True},
        "corpus.ckpt": changed(good, "datamodule_hyper_parameters", corpus=7),
        "states.ckpt": {**good, "random_states": [], "global_step": 20},
        "windows.ckpt": far,
        "batch.ckpt": changed(good, "datamodule_hyper_parameters", batch_size=0),
    }.items():
        torch.save(checkpoint, file)
    write_broken_containers(content)


def of_wrong_settings(good: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What says of its model what is not so."""
    return {
        "wide.ckpt": changed(good, "hyper_parameters", embed_dim=10**6),
        "deep.ckpt": changed(good, "hyper_parameters", num_layers=10**9),
        "astronomical.ckpt": changed(good, "hyper_parameters", embed_dim=10**30),
        "long.ckpt": changed(good, "hyper_parameters", context_length=10**9),
        "worded.ckpt": changed(good, "hyper_parameters", num_heads="two"),
        "no_such_part.ckpt": changed(good, "hyper_parameters", activation="gelu"),
        "half_a_part.ckpt": changed(good, "hyper_parameters", token_shift=1),
        "other_part.ckpt": changed(good, "hyper_parameters", query_key_norm=True),
        "newer.ckpt": {**good, "format": 3, "state_dict": {}},
        "format.ckpt": {**good, "format": "two"},
        "nan_setting.ckpt": changed(good, "hyper_parameters", learning_rate=float("nan")),
        "nested.ckpt": changed(good, "hyper_parameters", learning_rate=[1]),
        "no_settings.ckpt": {**good, "hyper_parameters": {}},
    }


def write_broken_containers(content: bytes) -> None:
    """What is no checkpoint from the outside already."""
    Path("cut.ckpt").write_bytes(content[: len(content) // 2])
    Path("end.ckpt").write_bytes(content[:-100])
    Path("pickle.ckpt").write_bytes(pickle.dumps({"state_dict": 1}, protocol=2))
    with zipfile.ZipFile("inflating.ckpt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", b"\0" * 10**6)
    levels = b"".join(b"h%ch%c\x86q%c" % (level, level, level + 1) for level in range(60))  # (x, x) of the one before
    with zipfile.ZipFile("tuples.ckpt", "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02)q\x00" + levels + b"}h\x3cK\x01s.")  # {the last of them: 1}
    doubled(Path("doubled.ckpt"), content)
    with zipfile.ZipFile("other.ckpt", "w") as file:
        file.writestr("hello.txt", "hello")


def doubled(path: Path, content: bytes) -> None:
    """A file with two tables of contents: one reader finds the good checkpoint, another one something else."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(10**6 * "a", protocol=2))
    path.write_bytes(content + inner.getvalue())
