from collections.abc import Callable

import pytest
import yaml

from minillm.commands.flags import NOT_FLAGS, SECTIONS, TOP_LEVEL_FLAGS, arguments

Run = Callable[..., tuple[int, str, str]]


def test_the_flags_read_from_source_are_those_that_the_command_takes(minillm: Run):
    settings = yaml.safe_load(minillm("fit", "--print_config")[1])
    assert set(settings) <= {*SECTIONS, *TOP_LEVEL_FLAGS, "trainer", "format"}
    for section in SECTIONS:
        names = {name for name in arguments(section) if f"{section}.{name}" not in NOT_FLAGS}
        assert names == set(settings[section])


def test_the_defaults_in_the_help_are_those_of_the_command(minillm: Run):
    settings = yaml.safe_load(minillm("fit", "--print_config")[1])
    assert f"(default: {settings['seed_everything']})" in TOP_LEVEL_FLAGS["seed_everything"]
    for section in SECTIONS:
        for name, argument in arguments(section).items():
            if f"{section}.{name}" not in NOT_FLAGS:
                assert yaml.safe_load(str(eval(argument.default))) == yaml.safe_load(str(settings[section][name]))
                assert argument.about
                assert f"--{section}.{name} " in minillm("fit", "--help")[1]


@pytest.mark.parametrize(
    ("flag", "suggestion"),
    [
        ("--max_steps", "; did you mean --trainer.max_steps?"),
        ("--model.embed_dimm=3", "did you mean --model.embed_dim?"),
        ("--trainer.max_step", "did you mean --trainer.max_steps?"),
        ("--trainer.foo", "nrecognized arguments: --trainer.foo"),
        ("--zzz", "unrecognized flag --zzz (minillm fit --help"),
    ],
)
def test_a_flag_that_is_none_is_answered_with_the_nearest_that_is(
    flag: str, suggestion: str, refused: Callable[..., str]
):
    assert suggestion in refused("fit", flag)


def test_a_value_may_look_like_a_flag_if_it_has_a_space(refused: Callable[..., str]):
    assert "unrecognized flag" not in refused("fit", "--data.corpus", "--my corpus.txt")


def test_flags_of_what_is_configured_by_class_are_left_to_the_command(refused: Callable[..., str]):
    assert "no.such" in refused("fit", "--trainer.callbacks+=no.such.Thing")
