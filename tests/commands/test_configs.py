from collections.abc import Callable
from pathlib import Path

import pytest

from minillm.commands.config_files import packaged_configs, resolve_config
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]


def test_configs_lists_every_configuration_with_its_summary(minillm: Run):
    code, out, err = minillm("configs")
    assert (code, err) == (0, "")
    for path in CONFIGS.glob("*.yaml"):
        (line,) = [line for line in out.splitlines() if line.split()[0] == path.stem]
        assert line.endswith(path.read_text().splitlines()[0].removeprefix("# "))


def test_configs_with_a_name_prints_the_file_unchanged(minillm: Run):
    assert minillm("configs", "best-small") == (0, (CONFIGS / "best-small.yaml").read_text(), "")


@pytest.mark.parametrize("flags", [("--config", "smoke"), ("--config=smoke",), ("-c", "smoke")])
def test_name_of_a_packaged_configuration_takes_precedence_over_files(flags: tuple[str, ...], minillm: Run):
    Path("smoke").write_text("not: this")
    code, out, _ = minillm("fit", *flags, "--trainer.max_steps", 1)
    assert code == 0
    assert "writing to lightning_logs/smoke/version_0" in out
    Path("smoke").unlink()
    Path("smoke").mkdir()
    assert minillm("fit", *flags, "--trainer.max_steps", 1)[0] == 0


def test_path_selects_the_file(minillm: Run):
    Path("smoke.yaml").write_text((CONFIGS / "smoke.yaml").read_text().replace("name: smoke", "name: mine"))
    Path("other").write_text((CONFIGS / "smoke.yaml").read_text().replace("name: smoke", "name: other"))
    for path, name in (("smoke.yaml", "mine"), ("./smoke.yaml", "mine"), ("other", "other")):
        assert (
            f"writing to lightning_logs/{name}/version_"
            in minillm("fit", "--config", path, "--trainer.max_steps", 1)[1]
        )


def test_later_configurations_and_flags_override_earlier_ones(minillm: Run):
    Path("more.yaml").write_text("model: {embed_dim: 8}\ntrainer: {max_steps: 1}\n")
    code, out, _ = minillm("fit", "--config", "smoke", "--config", "more.yaml", "--model.embed_dim", 4, "--name", "x")
    assert code == 0
    assert "writing to lightning_logs/x/version_0" in out
    assert "step 1/1" in out


def test_unknown_configuration_name_is_rejected_with_the_known_names():
    with pytest.raises(
        ValueError, match=f"unknown configuration 'tiny'; choose from {', '.join(packaged_configs())}, or pass the path"
    ):
        resolve_config("tiny")


def test_empty_files_and_sections_have_no_effect(minillm: Run):
    Path("empty.yaml").write_text("# data:\n#   batch_size: 4\n")
    Path("sections.yaml").write_text("trainer:\n  # max_steps: 4\ndata:\nsamples:\n")
    code, out, err = minillm("fit", "--config", "smoke", "--config", "empty.yaml", "--config", "sections.yaml")
    assert (code, err) == (0, "")
    assert "step 20/20" in out


def test_section_can_be_the_path_of_another_file(minillm: Run):
    Path("parts").mkdir()
    Path("parts/model.yaml").write_text("embed_dim: 8\nnum_heads: 2\n")
    Path("parts/all.yaml").write_text("format: 2\nmodel: model.yaml\n")
    code, out, _ = minillm("fit", "--config", "smoke", "--config", "parts/all.yaml", "--trainer.max_steps", 1)
    assert code == 0
    assert out.startswith("1,960 parameters")  # C = 8: 2 V C + T C embeddings and head, 12 C² + 2 C per block, C
