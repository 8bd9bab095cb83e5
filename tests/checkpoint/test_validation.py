from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minillm.checkpoint.format import NewerFormatError
from minillm.checkpoint.validation import MAX_CONTEXT_LENGTH, check_tensor, read_checkpoint
from minillm.config import ModelConfig
from minillm.model import Decoder

SIZES = {"vocab_size": 3, "context_length": 7, "embed_dim": 4, "num_layers": 1, "num_heads": 2}
CONFIG: dict[str, Any] = {**SIZES, "position": "rotary"}
DATA = {"corpus": "a.txt", "val_corpus": None, "batch_size": 5, "sampling": "random", "vocab_size": None}


def content(**model: Any) -> dict[str, Any]:
    """What the checkpoint of a small model holds, as far as it is read."""
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


def test_a_checkpoint_says_what_was_saved():
    good = content()
    checkpoint = read_checkpoint(saved(good), torch.tensor)
    assert (checkpoint.path, checkpoint.step, checkpoint.seed) == (Path("file.ckpt"), 20, 5)
    assert checkpoint.config == ModelConfig(**CONFIG)
    assert checkpoint.hyper_parameters == good["hyper_parameters"]
    assert checkpoint.data == DATA
    assert checkpoint.tokenizer.decode([2, 0, 1]) == "cab"
    Decoder(checkpoint.config).load_state_dict(checkpoint.weights)


@pytest.mark.parametrize("part", content())
def test_a_part_that_is_missing_or_of_another_type_is_refused_by_name(part: str):
    good = content()
    for wrong in ({name: good[name] for name in good if name != part}, {**good, part: "x"}):
        with pytest.raises(ValueError, match=f"file.ckpt is not a whole MiniLLM checkpoint: it has no {part}$"):
            read_checkpoint(saved(wrong))


def test_of_a_later_format_nothing_else_is_said():
    with pytest.raises(NewerFormatError, match=r"^file\.ckpt has format 3"):
        read_checkpoint(saved({"format": 3, "weights": 1}))


@pytest.mark.parametrize("wrong", [[content()], "text", None])
def test_what_is_not_a_dictionary_is_refused(wrong: object):
    with pytest.raises(ValueError, match="it is something else"):
        read_checkpoint(saved(wrong))


@pytest.mark.parametrize(("name", "largest"), [("seed", 2**32 - 1), ("global_step", 2**62)])
def test_seeds_and_steps_are_whole_numbers_in_their_range(name: str, largest: int):
    for value in (0, largest):
        assert read_checkpoint(saved({**content(), name: value})).content[name] == value
    for value in (-1, largest + 1, True):
        with pytest.raises(ValueError, match=f"its {name} is out of range"):
            read_checkpoint(saved({**content(), name: value}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [1], (), {}])
def test_hyper_parameters_are_words_switches_and_finite_numbers(value: object):
    for fine in ("x", True, 1, 0.5, None):
        assert read_checkpoint(saved(changed("hyper_parameters", future=fine))).hyper_parameters["future"] == fine
    with pytest.raises(ValueError, match="its future is not a string, a bool or a finite number"):
        read_checkpoint(saved(changed("hyper_parameters", future=value)))


def test_names_of_hyper_parameters_are_strings():
    wrong = content()
    wrong["hyper_parameters"][7] = 1
    with pytest.raises(ValueError, match="a name of its hyper_parameters is not a string"):
        read_checkpoint(saved(wrong))


@pytest.mark.parametrize(
    ("name", "kind", "wrong", "fine"),
    [
        ("corpus", "str", [7, None], ["x"]),
        ("val_corpus", "str", [7], ["x", None]),
        ("batch_size", "int", ["7", True, None], [7]),
        ("sampling", "str", [7, None], ["x"]),
        ("vocab_size", "int", ["7", True], [7, None]),
    ],
)
def test_settings_of_the_data_are_of_their_types(name: str, kind: str, wrong: list[object], fine: list[object]):
    for value in fine:
        assert read_checkpoint(saved(changed("datamodule_hyper_parameters", **{name: value}))).data[name] == value
    for value in wrong:
        with pytest.raises(ValueError, match=f"its {name} must be of type {kind}, got {value!r}$"):
            read_checkpoint(saved(changed("datamodule_hyper_parameters", **{name: value})))


@pytest.mark.parametrize("name", ["vocab_size", "context_length"])
def test_a_size_without_a_default_must_be_there(name: str):
    wrong = content()
    del wrong["hyper_parameters"][name]
    with pytest.raises(ValueError, match=f"its hyper_parameters have no {name}"):
        read_checkpoint(saved(wrong))


@pytest.mark.parametrize("name", [name for name in asdict(ModelConfig(3, 7)) if name not in CONFIG])
def test_a_setting_of_the_model_that_was_not_written_has_its_default(name: str):
    older = content()
    del older["hyper_parameters"][name]
    assert read_checkpoint(saved(older)).config == ModelConfig(**CONFIG)


def test_a_model_has_at_most_as_many_layers_as_weights():
    count = len(content()["state_dict"])
    with pytest.raises(ValueError, match=f"do not fit together .{count + 1} layers, but {count} weights"):
        read_checkpoint(saved(changed("hyper_parameters", num_layers=count + 1)))
    with pytest.raises(ValueError, match="the weights' names differ"):
        read_checkpoint(saved(changed("hyper_parameters", num_layers=count)))


def test_positions_without_weights_are_at_most_a_million_and_some():
    assert (
        read_checkpoint(saved(changed("hyper_parameters", context_length=2**20))).config.context_length
        == MAX_CONTEXT_LENGTH
    )
    with pytest.raises(ValueError, match="context_length 1048577 is more than 1048576"):
        read_checkpoint(saved(changed("hyper_parameters", context_length=2**20 + 1)))


def test_a_tokenizer_with_another_number_of_tokens_is_refused():
    for alphabet in ("ab", "abcd"):
        with pytest.raises(ValueError, match=f"do not fit together .{len(alphabet)} tokens for the 3 of the model"):
            read_checkpoint(saved({**content(), "tokenizer": {"alphabet": alphabet}}))


def test_a_weight_too_many_or_too_few_is_refused_by_name():
    more = changed("state_dict", **{"model.more.weight": torch.ones(1)})
    fewer = content()
    del fewer["state_dict"]["model.final_norm.weight"]
    for wrong, name in ((more, "model.more.weight"), (fewer, "model.final_norm.weight")):
        with pytest.raises(ValueError, match=f"do not fit together .the weights' names differ: {name}"):
            read_checkpoint(saved(wrong))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(5), r"must be float32 \(4,\), got float32 \(5,\)"),
        (torch.ones(4, 1), r"must be float32 \(4,\), got float32 \(4, 1\)"),
        (torch.ones(4, dtype=torch.float64), r"must be float32 \(4,\), got float64 \(4,\)"),
        (torch.tensor([1, 1, 1, float("nan")]), "does not hold finite numbers"),
        (torch.tensor([1, 1, 1, float("inf")]), "does not hold finite numbers"),
        ([1.0] * 4, "is not a tensor"),
    ],
)
def test_a_weight_of_another_shape_type_or_without_finite_numbers_is_refused_by_name(weight: Any, message: str):
    with pytest.raises(ValueError, match=f"do not fit together .model.final_norm.weight {message}"):
        read_checkpoint(saved(changed("state_dict", **{"model.final_norm.weight": weight})))
    with pytest.raises(ValueError, match=f"^w {message}"):
        check_tensor("w", weight, (4,))


def test_arrays_and_tensors_of_the_shape_are_fine():
    check_tensor("w", np.ones((2, 3), np.float32), (2, 3))
    check_tensor("w", torch.ones(2, 3), (2, 3))
    check_tensor("w", torch.tensor(1.0), ())


def test_a_file_that_cannot_be_read_is_not_said_to_be_damaged():
    with pytest.raises(FileNotFoundError):
        read_checkpoint(Path("missing.ckpt"))


def test_a_file_that_was_damaged_is_said_to_be_in_a_line_with_its_name():
    path = saved(content())
    path.write_bytes(path.read_bytes().replace(b"global_step", b"global\xffstep"))
    with pytest.raises(ValueError, match=r"^file\.ckpt is not a whole MiniLLM checkpoint: it was cut off or damaged"):
        read_checkpoint(path)
