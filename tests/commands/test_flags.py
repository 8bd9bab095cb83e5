from collections.abc import Callable

import pytest
import yaml

from minillm.commands.flags import LINKED_ARGUMENTS, SECTIONS, TOP_LEVEL_FLAGS, arguments

Run = Callable[..., tuple[int, str, str]]


def test_flags_read_from_source_match_those_of_the_parser(minillm: Run):
    settings = yaml.safe_load(minillm("fit", "--print_config")[1])
    assert set(settings) <= {*SECTIONS, *TOP_LEVEL_FLAGS, "trainer", "format"}
    for section in SECTIONS:
        names = {name for name in arguments(section) if f"{section}.{name}" not in LINKED_ARGUMENTS}
        assert names == set(settings[section])


def test_defaults_in_the_help_match_those_of_the_parser(minillm: Run):
    settings = yaml.safe_load(minillm("fit", "--print_config")[1])
    assert f"(default: {settings['seed_everything']})" in TOP_LEVEL_FLAGS["seed_everything"]
    for section in SECTIONS:
        for name, argument in arguments(section).items():
            if f"{section}.{name}" not in LINKED_ARGUMENTS:
                assert yaml.safe_load(str(eval(argument.default))) == yaml.safe_load(str(settings[section][name]))
                assert argument.description
                assert f"--{section}.{name} " in minillm("fit", "--help")[1]


@pytest.mark.parametrize(
    ("flag", "suggestion"),
    [
        ("--max_steps", "; did you mean --trainer.max_steps?"),
        ("--model.embed_dimm=3", "did you mean --model.embed_dim?"),
        ("--trainer.max_step", "did you mean --trainer.max_steps?"),
        ("--trainer.foo", "unrecognized flag --trainer.foo"),
        ("--zzz", "unrecognized flag --zzz (minillm fit --help"),
    ],
)
def test_unrecognized_flag_is_rejected_with_the_closest_known_flag(
    flag: str, suggestion: str, refused: Callable[..., str]
):
    assert suggestion in refused("fit", flag)


def test_value_with_a_space_may_start_with_two_dashes(refused: Callable[..., str]):
    assert "unrecognized flag" not in refused("fit", "--data.corpus", "--my corpus.txt")


def test_arguments_of_classes_are_checked_by_the_parser(refused: Callable[..., str]):
    assert "no.such" in refused("fit", "--trainer.callbacks+=no.such.Thing")
