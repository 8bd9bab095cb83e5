"""Invalid checkpoints, each with one defect."""

import copy
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch


class Bomb:
    """An object whose pickle creates a folder when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


class Allocation:
    """An object whose pickle allocates 100 GB when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (10**11,)


def changed(checkpoint: dict[str, Any], part: str, **values: Any) -> dict[str, Any]:
    return {**checkpoint, part: {**checkpoint[part], **values}}


def write_checkpoints(valid: Path) -> None:
    """Write one checkpoint per defect to the working folder, derived from a valid checkpoint."""
    content = valid.read_bytes()
    good = torch.load(valid, weights_only=True)
    name, weight = next(iter(good["state_dict"].items()))
    huge = torch.zeros(1).expand(10**6, 10**6)
    (optimizer,) = good["optimizer_states"]
    malformed = {**optimizer, "state": {**optimizer["state"], 0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}}}
    many_batches = copy.deepcopy(good)
    many_batches["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] = 10**30
    for file, checkpoint in {
        **with_wrong_settings(good),
        "no_state_dict.ckpt": {"weights": weight},
        "bomb.ckpt": {**good, "seed": Bomb()},
        "allocation.ckpt": {**good, "seed": Allocation()},
        "no_alphabet.ckpt": {**good, "tokenizer": {}},
        "repeated_character.ckpt": changed(good, "tokenizer", alphabet="aa"),
        "short_alphabet.ckpt": changed(good, "tokenizer", alphabet="ab"),
        "nan.ckpt": changed(good, "state_dict", **{name: weight * float("nan")}),
        "huge.ckpt": changed(
            changed(good, "hyper_parameters", embed_dim=10**6, vocab_size=10**6), "state_dict", **{name: huge}
        ),
        "no_weight.ckpt": {**good, "state_dict": {}},
        "float_weight.ckpt": changed(good, "state_dict", **{name: 1.0}),
        "negative.ckpt": {**good, "global_step": -1},
        "optimizer.ckpt": {**good, "optimizer_states": [malformed], "global_step": 10},
        "loops.ckpt": {**good, "loops": {"fit_loop": {}}, "global_step": 10},
        "forward_merge.ckpt": {**good, "tokenizer": {"merges": [[0, 999]], "special_tokens": []}},
        "string_merges.ckpt": {**good, "tokenizer": {"merges": [["a", "b"]], "special_tokens": []}},
        "long_token.ckpt": {
            **good,
            "tokenizer": {"merges": [[255 + n, 255 + n] for n in range(60)], "special_tokens": []},
        },
        "integer_alphabet.ckpt": {**good, "tokenizer": {"alphabet": list(range(65))}},
        "seed.ckpt": {**good, "seed": 2**40},
        "bool_seed.ckpt": {**good, "seed": True},
        "corpus.ckpt": changed(good, "datamodule_hyper_parameters", corpus=7),
        "states.ckpt": {**good, "random_states": [], "global_step": 20},
        "windows.ckpt": many_batches,
        "batch.ckpt": changed(good, "datamodule_hyper_parameters", batch_size=0),
    }.items():
        torch.save(checkpoint, file)
    write_broken_containers(content)


def with_wrong_settings(good: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return checkpoints whose format or model settings are invalid or do not match the weights."""
    return {
        "huge_embed_dim.ckpt": changed(good, "hyper_parameters", embed_dim=10**6),
        "huge_num_layers.ckpt": changed(good, "hyper_parameters", num_layers=10**9),
        "astronomical_embed_dim.ckpt": changed(good, "hyper_parameters", embed_dim=10**30),
        "huge_context_length.ckpt": changed(good, "hyper_parameters", context_length=10**9),
        "string_num_heads.ckpt": changed(good, "hyper_parameters", num_heads="two"),
        "unknown_activation.ckpt": changed(good, "hyper_parameters", activation="gelu"),
        "int_for_bool.ckpt": changed(good, "hyper_parameters", token_shift=1),
        "missing_weight.ckpt": changed(good, "hyper_parameters", query_key_norm=True),
        "newer.ckpt": {**good, "format": 4, "state_dict": {}},
        "format.ckpt": {**good, "format": "two"},
        "nan_setting.ckpt": changed(good, "hyper_parameters", learning_rate=float("nan")),
        "nested.ckpt": changed(good, "hyper_parameters", learning_rate=[1]),
        "no_settings.ckpt": {**good, "hyper_parameters": {}},
    }


def write_broken_containers(content: bytes) -> None:
    """Write files that are not zip archives of one pickle, or that are truncated or malicious."""
    Path("half.ckpt").write_bytes(content[: len(content) // 2])
    Path("without_end.ckpt").write_bytes(content[:-100])
    Path("pickle.ckpt").write_bytes(pickle.dumps({"state_dict": 1}, protocol=2))
    with zipfile.ZipFile("inflating.ckpt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", b"\0" * 10**6)
    levels = b"".join(b"h%ch%c\x86q%c" % (level, level, level + 1) for level in range(60))  # n + 1: (n, n)
    with zipfile.ZipFile("nested_tuples.ckpt", "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02)q\x00" + levels + b"}h\x3cK\x01s.")  # as a dictionary key
    write_two_directories(Path("two_directories.ckpt"), content)
    with zipfile.ZipFile("other.ckpt", "w") as file:
        file.writestr("hello.txt", "hello")


def write_two_directories(path: Path, content: bytes) -> None:
    """Write a zip archive with two central directories: different readers find different content."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(10**6 * "a", protocol=2))
    path.write_bytes(content + inner.getvalue())
