"""The run folder: its location, its files and resuming in it, also with additional loggers."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger

from minillm.checkpoint import find as finding
from minillm.checkpoint.find import find_checkpoint
from minillm.commands.parser import first_union_error
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", str(CONFIGS / "smoke.yaml"), "--trainer.limit_val_batches", "2")
CSV = ("--trainer.logger=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=elsewhere")
TENSORBOARD = ("--trainer.logger=lightning.pytorch.loggers.TensorBoardLogger", "--trainer.logger.save_dir=elsewhere")
LIST = ("--trainer.logger+=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=elsewhere")
RUN = "lightning_logs/smoke/version_0"


class MyTensorBoardLogger(TensorBoardLogger):
    """A user-defined logger."""


DOCUMENTED_FILES = {"config.yaml", "metrics.csv", "samples.md", "checkpoints/best.ckpt", "checkpoints/last.ckpt"}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "logger", [(), ("--trainer.logger=false",), ("--trainer.logger=true",), CSV, TENSORBOARD, LIST], ids=" ".join
)
def test_additional_loggers_do_not_change_the_run_folder(logger: tuple[str, ...], minillm: Run):
    assert minillm(*FIT, *logger)[0] == 0
    (run,) = Path("lightning_logs/smoke").iterdir()
    assert files(run) >= DOCUMENTED_FILES
    assert len([name for name in files(run) if name.startswith("events.out.tfevents.")]) == 1
    assert Path("elsewhere").exists() == (len(logger) > 1)
    assert find_checkpoint("best") == run / "checkpoints" / "best.ckpt"
    code, out, _ = minillm(*FIT, *logger, "--ckpt_path", "last", "--trainer.max_steps", 30)
    assert code == 0
    assert f"from step 20, writing to {run}\n" in out
    assert list(Path("lightning_logs/smoke").iterdir()) == [run]
    assert (run / "config_until_step_20.yaml").exists()
    steps = [line.partition(",")[0] for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == ["5", "10", "10", "15", "20", "20", "25", "30", "30"]
    assert re.findall(r"^## Step (\d+)", (run / "samples.md").read_text(), re.MULTILINE) == ["10", "20", "30"]


def test_name_version_and_root_folder_determine_the_run_folder(minillm: Run):
    short = (*FIT, "--trainer.max_steps", 1)
    for flags, folder in (
        (("--name", "a/b"), "lightning_logs/a/b/version_0"),
        (("--name", "a/b", "--version", 5), "lightning_logs/a/b/version_5"),
        (("--name", "a/b"), "lightning_logs/a/b/version_6"),
        (("--name", "a", "--version", "first"), "lightning_logs/a/first"),
        (("--trainer.default_root_dir", "root"), "root/lightning_logs/smoke/version_0"),
    ):
        assert f"writing to {folder}\n" in minillm(*short, *flags)[1]


@pytest.mark.parametrize(
    "flags",
    [("--name", "other"), ("--version", 7), ("--trainer.default_root_dir", "root")],
    ids=["name", "version", "root"],
)
def test_resuming_in_another_folder_does_not_change_the_old_run(
    flags: tuple[object, ...], in_smoke_run: Path, minillm: Run
):
    before = {path: path.read_bytes() for path in in_smoke_run.rglob("*") if path.is_file()}
    code, out, _ = minillm(*FIT, "--ckpt_path", in_smoke_run, "--trainer.max_steps", 21, *flags)
    assert code == 0
    assert "from step 20, writing to lightning_logs/smoke/version_0" not in out
    assert {path: path.read_bytes() for path in in_smoke_run.rglob("*") if path.is_file()} == before


def test_run_with_a_nested_name_resumes_in_its_folder(minillm: Run):
    assert minillm(*FIT, "--name", "a/b")[0] == 0
    code, out, _ = minillm("fit", "--ckpt_path", "last", "--trainer.max_steps", 21, "--trainer.limit_val_batches", 2)
    assert code == 0
    assert "from step 20, writing to lightning_logs/a/b/version_0\n" in out


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("last", ["last.ckpt"]),
        ("lightning_logs/smoke/version_0", ["last.ckpt"]),
        ("lightning_logs/smoke/version_0/checkpoints/last.ckpt", ["last.ckpt"]),
        ("lightning_logs/smoke/version_0/checkpoints/best.ckpt", ["best.ckpt", "last.ckpt"]),
    ],
)
def test_resuming_reads_no_checkpoint_twice(
    name: str, files: list[str], in_smoke_run: Path, minillm: Run, monkeypatch: pytest.MonkeyPatch
):
    read, paths = finding.read_checkpoint, []

    def counted(path: Path, *args: object, **kwargs: object):
        paths.append(path)
        return read(path, *args, **kwargs)  # pyright: ignore[reportArgumentType]

    for module in ("minillm.callbacks.checkpoint_io", "minillm.commands.settings_cli"):
        monkeypatch.setattr(f"{module}.read_checkpoint", counted)
    assert minillm(*FIT, "--ckpt_path", name, "--trainer.max_steps", 21)[0] == 0
    assert sorted(path.name for path in paths) == files


def test_error_about_a_missing_logger_package_names_what_to_install():
    message = (
        "Does not validate against any of the Union subtypes\nSubtypes: [<class 'Logger'>, <class 'bool'>]\nErrors:\n"
        "  - Problem with given class_path 'WandbLogger':\n      Requirement 'wandb' not met: `pip install wandb`\n"
        "  - Expected a <class 'bool'>\nGiven value type: <class 'Namespace'>\nGiven value: Namespace()"
    )
    assert " ".join(first_union_error(message).split()) == (
        "Problem with given class_path 'WandbLogger': Requirement 'wandb' not met: `pip install wandb`"
    )


def test_fast_dev_run_writes_no_files(own_folder: Path, minillm: Run):
    Path("samples.md").write_text("## Step 7, val_loss 1.0\n\nmine")
    assert minillm(*FIT, "--trainer.fast_dev_run", "true")[0] == 0
    assert Path("samples.md").read_text() == "## Step 7, val_loss 1.0\n\nmine"
    assert list(own_folder.iterdir()) == [own_folder / "samples.md"]


def test_user_defined_tensorboard_logger_does_not_replace_the_built_in_one(minillm: Run):
    config = (CONFIGS / "smoke.yaml").read_text()
    logger = f"  logger:\n    class_path: {__name__}.MyTensorBoardLogger\n    init_args: {{save_dir: mine}}\n"
    Path("mine.yaml").write_text(config.replace("trainer:\n", f"trainer:\n{logger}"))
    assert minillm("fit", "--config", "mine.yaml", "--trainer.max_steps", 1)[0] == 0
    assert Path("lightning_logs/smoke/version_0/metrics.csv").exists()
    assert Path("mine").exists()


@pytest.mark.parametrize("swapped", [False, True])
def test_run_resumes_with_its_own_configuration_in_any_order_of_flags(swapped: bool, in_smoke_run: Path, minillm: Run):
    flags = [("--ckpt_path", RUN), ("--config", f"{RUN}/config.yaml")]
    one, other = reversed(flags) if swapped else flags
    code, out, _ = minillm("fit", *one, *other, "--trainer.max_steps", 25)
    assert code == 0
    assert f"from step 20, writing to {RUN}\n" in out


@pytest.mark.parametrize(
    ("folder", "flags"),
    [
        ("lightning_logs/inside", ()),
        (".", ("--name", "a//b/")),
        (".", ("--trainer.default_root_dir", "~/there")),
        (".", ("--name", "with space")),
    ],
    ids=["inside another lightning_logs", "name with extra slashes", "root in the home folder", "name with a space"],
)
def test_run_resumes_in_its_folder_for_every_spelling_of_the_path(
    folder: str, flags: tuple[str, ...], minillm: Run, monkeypatch: pytest.MonkeyPatch
):
    Path(folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(folder)
    _, out, _ = minillm(*FIT, *flags)
    run = re.findall(r"writing to (.*)$", out, re.MULTILINE)[0]
    again = ("fit", "--config", f"{run}/config.yaml", "--ckpt_path", run, "--trainer.max_steps", 25)
    code, out, err = minillm(*again)
    assert (code, err) == (0, "")
    (where,) = re.findall(r"from step 20, writing to (.*)$", out, re.MULTILINE)
    assert Path(where).resolve() == Path(run).resolve()
    assert "--name" not in out


def test_print_config_with_a_checkpoint_prints_the_settings_of_the_checkpoint(in_smoke_run: Path, minillm: Run):
    for flags in (("fit", "--ckpt_path", "last"), ("validate",), ("fit", "--init_from", "best")):
        more = ("--trainer.max_steps", 30) if flags[0] == "fit" else ()
        code, out, err = minillm(*flags, *more, "--print_config")
        assert (code, err) == (0, "")
        assert yaml.safe_load(out)["model"]["embed_dim"] == 16
        assert yaml.safe_load(out)["data"]["grow_tokenizer"] == ("--init_from" in flags)


@pytest.mark.parametrize("link", ["lightning_logs", "lightning_logs/smoke", RUN])
@pytest.mark.parametrize("target", ["last", RUN, f"{RUN}/checkpoints/last.ckpt"])
def test_run_behind_a_symbolic_link_resumes_in_its_folder(link: str, target: str, in_smoke_run: Path, minillm: Run):
    shutil.move(link, "elsewhere")
    Path(link).symlink_to(Path("elsewhere").resolve())
    code, out, err = minillm(*FIT, "--ckpt_path", target, "--trainer.max_steps", 25)
    assert (code, err) == (0, "")
    assert f"from step 20, writing to {RUN}\n" in out
    assert "changed from here on: --name" not in out


def test_link_to_a_run_folder_resumes_in_the_run_folder(in_smoke_run: Path, minillm: Run):
    Path("link").symlink_to(in_smoke_run)
    for max_steps, target in ((25, "link"), (30, "link/checkpoints/last.ckpt")):
        code, out, err = minillm(*FIT, "--ckpt_path", target, "--trainer.max_steps", max_steps)
        assert (code, err) == (0, "")
        assert f"writing to {RUN}\n" in out
    assert list(in_smoke_run.parent.iterdir()) == [in_smoke_run]


def test_last_is_the_newest_run_of_the_configured_name_or_of_any_name_without_one(in_smoke_run: Path, minillm: Run):
    assert minillm(*FIT, "--name", "other")[0] == 0
    more = ("--trainer.max_steps", 25, "--trainer.limit_val_batches", 2)
    assert f"from step 20, writing to {RUN}\n" in minillm(*FIT, "--ckpt_path", "last", *more)[1]
    assert minillm(*FIT, "--name", "other", "--ckpt_path", "last", *more)[0] == 0
    out = minillm("fit", "--ckpt_path", "last", "--trainer.max_steps", 30, "--trainer.limit_val_batches", 2)[1]
    assert "from step 25, writing to lightning_logs/other/version_0\n" in out


def test_printed_commands_are_quoted_for_the_shell_and_resume_the_run(minillm: Run):
    flags = ("--name", "it's a run; $HOME", "--trainer.default_root_dir", "my runs")
    code, out, _ = minillm(*FIT, *flags)
    assert code == 0
    assert shlex.split(out.rpartition("generate text with: ")[2])[:3] == ["minillm", "predict", "--ckpt_path"]
    more = ("--trainer.max_steps", 100, "--trainer.callbacks+", "tests.training.interrupt.Interrupt")
    code, _, err = minillm(*FIT, *flags, "--version", 1, *more, "--trainer.callbacks.step", 7)
    assert code == 143
    command = shlex.split(err.rpartition("resume with: ")[2])
    code, out, err = minillm(*command[1:], "--trainer.max_steps", 10, "--trainer.callbacks", "null")
    assert (code, err) == (0, "")
    assert "from step 7, writing to my runs/lightning_logs/it's a run; $HOME/version_1\n" in out


def test_missing_package_of_a_logger_is_named(refused: Callable[..., str]):
    line = refused(*FIT, "--trainer.logger", f"{__name__}.LoggerOfAMissingPackage")
    assert line.endswith("Requirement 'no_such_package' not met: `pip install no_such_package`\n")


class LoggerOfAMissingPackage(TensorBoardLogger):
    """A logger like Lightning's for W&B, MLflow and others, whose packages are optional."""

    def __init__(self) -> None:
        raise ModuleNotFoundError("Requirement 'no_such_package' not met:\n`pip install no_such_package`")


def test_fast_dev_run_works_beside_a_checkpoints_folder(minillm: Run):
    Path("checkpoints").mkdir()
    Path("checkpoints/last.ckpt").touch()
    code, out, err = minillm(*FIT, "--trainer.fast_dev_run", "true")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].endswith(", without a run folder")


def test_kept_checkpoints_are_not_replaced_and_can_be_resumed_in_a_new_folder(minillm: Run):
    assert minillm(*FIT, "--checkpoints.keep_every_n_steps", 6)[0] == 0
    names = {path.name for path in Path(RUN, "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt", "step_6.ckpt", "step_12.ckpt", "step_18.ckpt"}
    for step in (6, 12, 18):
        path = Path(RUN, "checkpoints", f"step_{step}.ckpt")
        assert torch.load(path, weights_only=True)["global_step"] == step
    out = minillm(*FIT, "--ckpt_path", f"{RUN}/checkpoints/step_6.ckpt", "--trainer.max_steps", 8)[1]
    assert "resuming from step 6, writing to lightning_logs/smoke/version_1\n" in out


def test_environment_json_has_the_documented_facts(in_smoke_run: Path):
    (session,) = json.loads((in_smoke_run / "environment.json").read_text())["sessions"]
    assert session.keys() >= {"started", "seconds", "pid", "command", "git_commit", "versions", "processor", "threads"}
    assert session["command"] == f"minillm fit --config {CONFIGS / 'smoke.yaml'}"
    assert (session["accelerator"], session["processes"], session["threads"]) == ("cpu", 1, 1)


def test_other_number_of_threads_on_resume_is_warned_of(in_smoke_run: Path, minillm: Run):
    path = in_smoke_run / "environment.json"
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 3'))
    with pytest.warns(UserWarning, match="^resuming with 1 threads instead of 3: sums are rounded differently$"):
        assert minillm(*FIT, "--ckpt_path", "last", "--trainer.max_steps", 21)[0] == 0
