"""Shortened error messages of jsonargparse: one case per kind, which fails when an upgrade changes the wording."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model.num_layers", "two"), r'"model\.num_layers": Expected a <class \'int\'>\. Got value: two$'),
        (("--model.activation", "gelu"), r'"model\.activation": .*Got value: gelu$'),
        (("--trainer.logger", "5"), r'"trainer\.logger": .*expected Logger or bool or null\. Got value: 5$'),
        (("--data.stride", "x"), r'"data\.stride": .*expected int or null\. Got value: x$'),
        (("--trainer.max_step", "3"), r"unrecognized flag --trainer\.max_step 3; did you mean --trainer\.max_steps\?$"),
        (("--config", "./none.yaml"), r"File does not exist: .*none\.yaml"),
    ],
)
def test_error_about_a_wrong_value_is_short(flags: tuple[str, ...], message: str, refused: Refused):
    assert re.search(message, refused("fit", *flags).rstrip(), re.IGNORECASE)


def test_error_names_the_configuration_file_unless_it_is_about_a_flag(refused: Refused):
    Path("mine.yaml").write_text("model: {num_layers: two}\n")
    assert refused("fit", "--config", "mine.yaml").startswith("minillm: error: mine.yaml: ")
    Path("mine.yaml").write_text("model: {num_layers: 2}\n")
    assert "mine.yaml" not in refused("fit", "--config", "mine.yaml", "--model.num_heads", "two")
