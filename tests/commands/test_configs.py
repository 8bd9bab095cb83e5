from collections.abc import Callable
from pathlib import Path

import pytest

from minillm.commands.config_files import locate, packaged_configs
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]


def test_every_configuration_is_listed_with_its_purpose(minillm: Run):
    code, out, err = minillm("configs")
    assert (code, err) == (0, "")
    for path in CONFIGS.glob("*.yaml"):
        (line,) = [line for line in out.splitlines() if line.split()[0] == path.stem]
        assert line.endswith(path.read_text().splitlines()[0].removeprefix("# "))


def test_one_is_printed_as_it_is(minillm: Run):
    assert minillm("configs", "best-small") == (0, (CONFIGS / "best-small.yaml").read_text(), "")


@pytest.mark.parametrize("flags", [("--config", "smoke"), ("--config=smoke",), ("-c", "smoke")])
def test_a_name_means_the_packages_configuration_whatever_the_working_folder_holds(
    flags: tuple[str, ...], minillm: Run
):
    Path("smoke").write_text("not: this")
    code, out, _ = minillm("fit", *flags, "--trainer.max_steps", 1)
    assert code == 0
    assert "into lightning_logs/smoke/version_0" in out
    Path("smoke").unlink()
    Path("smoke").mkdir()
    assert minillm("fit", *flags, "--trainer.max_steps", 1)[0] == 0


def test_a_path_means_the_file(minillm: Run):
    Path("smoke.yaml").write_text((CONFIGS / "smoke.yaml").read_text().replace("name: smoke", "name: mine"))
    Path("other").write_text((CONFIGS / "smoke.yaml").read_text().replace("name: smoke", "name: other"))
    for path, name in (("smoke.yaml", "mine"), ("./smoke.yaml", "mine"), ("other", "other")):
        assert f"into lightning_logs/{name}/version_" in minillm("fit", "--config", path, "--trainer.max_steps", 1)[1]


def test_later_configurations_and_flags_win(minillm: Run):
    Path("more.yaml").write_text("model: {embed_dim: 8}\ntrainer: {max_steps: 1}\n")
    code, out, _ = minillm("fit", "--config", "smoke", "--config", "more.yaml", "--model.embed_dim", 4, "--name", "x")
    assert code == 0
    assert "into lightning_logs/x/version_0" in out
    assert "step 1/1" in out


def test_a_name_that_is_unknown_is_refused_with_those_that_are_known():
    with pytest.raises(
        ValueError, match=f"no configuration is named 'tiny': give one of {', '.join(packaged_configs())}, or a"
    ):
        locate("tiny")


def test_what_is_commented_out_is_not_there(minillm: Run):
    Path("empty.yaml").write_text("# data:\n#   batch_size: 4\n")
    Path("sections.yaml").write_text("trainer:\n  # max_steps: 4\ndata:\nsamples:\n")
    code, out, err = minillm("fit", "--config", "smoke", "--config", "empty.yaml", "--config", "sections.yaml")
    assert (code, err) == (0, "")
    assert "step 20/20" in out


def test_a_section_can_have_a_file_of_its_own(minillm: Run):
    Path("parts").mkdir()
    Path("parts/model.yaml").write_text("embed_dim: 8\nnum_heads: 2\n")
    Path("parts/all.yaml").write_text("format: 2\nmodel: model.yaml\n")
    code, out, _ = minillm("fit", "--config", "smoke", "--config", "parts/all.yaml", "--trainer.max_steps", 1)
    assert code == 0
    assert out.startswith("1,960 parameters")  # 8 channels: 2 V C + T C embeddings and head, 12 C² + 2 C a block, C
