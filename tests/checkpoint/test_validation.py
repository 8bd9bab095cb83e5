from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minillm.checkpoint.format import UnsupportedFileError
from minillm.checkpoint.validation import MAX_CONTEXT_LENGTH, check_tensor, read_checkpoint
from minillm.config import ModelConfig
from minillm.model import Decoder

SIZES = {"vocab_size": 3, "context_length": 7, "embed_dim": 4, "num_layers": 1, "num_heads": 2}
CONFIG: dict[str, Any] = {**SIZES, "position": "rotary"}
DATA = {"corpus": "a.txt", "val_corpus": None, "batch_size": 5, "sampling": "random", "vocab_size": None}


def content(**model: Any) -> dict[str, Any]:
    """Return the keys of a small model's checkpoint that are read."""
    config = ModelConfig(**{**CONFIG, **model})
    torch.manual_seed(0)
    return {
        "state_dict": {f"model.{name}": weight for name, weight in Decoder(config).state_dict().items()},
        "hyper_parameters": {**asdict(config), "learning_rate": 0.1},
        "datamodule_hyper_parameters": {**DATA, "num_workers": 3},
        "tokenizer": {"alphabet": "abc"},
        "seed": 5,
        "global_step": 20,
    }


def saved(checkpoint: Any) -> Path:
    torch.save(checkpoint, "file.ckpt")
    return Path("file.ckpt")


def changed(part: str, **values: Any) -> dict[str, Any]:
    good = content()
    return {**good, part: {**good[part], **values}}


def test_checkpoint_has_the_saved_values():
    good = content()
    checkpoint = read_checkpoint(saved(good), torch.tensor)
    assert (checkpoint.path, checkpoint.step, checkpoint.seed) == (Path("file.ckpt"), 20, 5)
    assert checkpoint.config == ModelConfig(**CONFIG)
    assert checkpoint.hyper_parameters == good["hyper_parameters"]
    assert checkpoint.data == DATA
    assert checkpoint.tokenizer.decode([2, 0, 1]) == "cab"
    Decoder(checkpoint.config).load_state_dict(checkpoint.weights)


@pytest.mark.parametrize("part", content())
def test_missing_key_or_value_of_another_type_is_refused_by_name(part: str):
    good = content()
    message = f"its {part} is missing or not of type {type(good[part]).__name__}"
    for wrong in ({name: good[name] for name in good if name != part}, {**good, part: "x"}):
        with pytest.raises(ValueError, match=f"file.ckpt is not a valid MiniLLM checkpoint: {message}$"):
            read_checkpoint(saved(wrong))


def test_later_format_is_refused_before_any_other_check():
    with pytest.raises(UnsupportedFileError, match=r"^file\.ckpt has format 4"):
        read_checkpoint(saved({"format": 4, "weights": 1}))


@pytest.mark.parametrize("wrong", [[content()], "text", None])
def test_content_other_than_a_dictionary_is_refused(wrong: object):
    with pytest.raises(ValueError, match=f"it must contain a dictionary, got {type(wrong).__name__}"):
        read_checkpoint(saved(wrong))


@pytest.mark.parametrize(("name", "maximum"), [("seed", 2**32 - 1), ("global_step", 2**62)])
def test_seed_and_step_are_integers_in_their_range(name: str, maximum: int):
    for value in (0, maximum):
        assert read_checkpoint(saved({**content(), name: value})).content[name] == value
    for value in (-1, maximum + 1, True):
        with pytest.raises(ValueError, match=f"its {name} must be an integer from 0 to {maximum}$"):
            read_checkpoint(saved({**content(), name: value}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [1], (), {}])
def test_hyper_parameters_are_strings_bools_and_finite_numbers(value: object):
    for valid in ("x", True, 1, 0.5, None):
        assert read_checkpoint(saved(changed("hyper_parameters", future=valid))).hyper_parameters["future"] == valid
    with pytest.raises(ValueError, match="its future is not a string, a bool or a finite number"):
        read_checkpoint(saved(changed("hyper_parameters", future=value)))


def test_keys_of_hyper_parameters_are_strings():
    wrong = content()
    wrong["hyper_parameters"][7] = 1
    with pytest.raises(ValueError, match="a key of its hyper_parameters is not a string"):
        read_checkpoint(saved(wrong))


@pytest.mark.parametrize(
    ("name", "type_name", "wrong", "valid"),
    [
        ("corpus", "str", [7, None], ["x"]),
        ("val_corpus", "str", [7], ["x", None]),
        ("batch_size", "int", ["7", True, None], [7]),
        ("sampling", "str", [7, None], ["x"]),
        ("vocab_size", "int", ["7", True], [7, None]),
    ],
)
def test_data_settings_have_their_types(name: str, type_name: str, wrong: list[object], valid: list[object]):
    for value in valid:
        assert read_checkpoint(saved(changed("datamodule_hyper_parameters", **{name: value}))).data[name] == value
    for value in wrong:
        with pytest.raises(ValueError, match=f"its {name} must be of type {type_name}, got {value!r}$"):
            read_checkpoint(saved(changed("datamodule_hyper_parameters", **{name: value})))


@pytest.mark.parametrize("name", ["vocab_size", "context_length"])
def test_size_without_a_default_is_required(name: str):
    wrong = content()
    del wrong["hyper_parameters"][name]
    with pytest.raises(ValueError, match=f"its hyper_parameters have no {name}"):
        read_checkpoint(saved(wrong))


@pytest.mark.parametrize("name", [name for name in asdict(ModelConfig(3, 7)) if name not in CONFIG])
def test_missing_model_setting_has_its_default(name: str):
    older = content()
    del older["hyper_parameters"][name]
    assert read_checkpoint(saved(older)).config == ModelConfig(**CONFIG)


def test_more_layers_than_weights_are_refused():
    count = len(content()["state_dict"])
    with pytest.raises(ValueError, match=f"do not match .num_layers is {count + 1}, but there are {count} weights"):
        read_checkpoint(saved(changed("hyper_parameters", num_layers=count + 1)))
    with pytest.raises(ValueError, match="missing or unexpected weight"):
        read_checkpoint(saved(changed("hyper_parameters", num_layers=count)))


def test_context_length_of_rotary_positions_is_limited():
    assert (
        read_checkpoint(saved(changed("hyper_parameters", context_length=2**20))).config.context_length
        == MAX_CONTEXT_LENGTH
    )
    with pytest.raises(ValueError, match="context_length 1048577 is more than 1048576"):
        read_checkpoint(saved(changed("hyper_parameters", context_length=2**20 + 1)))


def test_tokenizer_of_another_vocab_size_is_refused():
    for alphabet in ("ab", "abcd"):
        with pytest.raises(ValueError, match=f"vocab_size is 3, but the tokenizer has {len(alphabet)} tokens"):
            read_checkpoint(saved({**content(), "tokenizer": {"alphabet": alphabet}}))


def test_missing_or_unexpected_weight_is_refused_by_name():
    more = changed("state_dict", **{"model.more.weight": torch.ones(1)})
    fewer = content()
    del fewer["state_dict"]["model.final_norm.weight"]
    for wrong, name in ((more, "model.more.weight"), (fewer, "model.final_norm.weight")):
        with pytest.raises(ValueError, match=f"do not match .missing or unexpected weight {name}"):
            read_checkpoint(saved(wrong))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(5), r"must be float32 \(4,\), got float32 \(5,\)"),
        (torch.ones(4, 1), r"must be float32 \(4,\), got float32 \(4, 1\)"),
        (torch.ones(4, dtype=torch.float64), r"must be float32 \(4,\), got float64 \(4,\)"),
        (torch.tensor([1, 1, 1, float("nan")]), "contains NaN or infinite values"),
        (torch.tensor([1, 1, 1, float("inf")]), "contains NaN or infinite values"),
        ([1.0] * 4, "is not a tensor"),
    ],
)
def test_weight_of_another_shape_or_dtype_or_with_non_finite_values_is_refused_by_name(weight: Any, message: str):
    with pytest.raises(ValueError, match=f"do not match .model.final_norm.weight {message}"):
        read_checkpoint(saved(changed("state_dict", **{"model.final_norm.weight": weight})))
    with pytest.raises(ValueError, match=f"^w {message}"):
        check_tensor("w", weight, (4,))


def test_arrays_and_tensors_of_the_expected_shape_are_accepted():
    check_tensor("w", np.ones((2, 3), np.float32), (2, 3))
    check_tensor("w", torch.ones(2, 3), (2, 3))
    check_tensor("w", torch.tensor(1.0), ())


def test_missing_file_is_not_reported_as_damaged():
    with pytest.raises(FileNotFoundError):
        read_checkpoint(Path("missing.ckpt"))


def test_damaged_file_is_reported_in_one_line_with_its_name():
    path = saved(content())
    path.write_bytes(path.read_bytes().replace(b"global_step", b"global\xffstep"))
    with pytest.raises(ValueError, match=r"^file\.ckpt is not a valid MiniLLM checkpoint: it is truncated or damaged"):
        read_checkpoint(path)
