"""Files of earlier formats are read, resumed and repeated; files of later formats are refused."""

import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import minillm as package
from minillm.checkpoint.format import FORMAT, UnsupportedFileError, check_format
from minillm.checkpoint.validation import read_checkpoint
from tests.conftest import CONFIGS

Run = Callable[..., tuple[int, str, str]]
FORMAT_1 = Path(__file__).parent / "format_1"  # a run of smoke.yaml in float32, whose folder is named by a logger
RUN = Path("lightning_logs/smoke/version_0")


@pytest.fixture
def old_run(own_folder: Path) -> Path:
    """Run folder in format 1."""
    (RUN / "checkpoints").mkdir(parents=True)
    shutil.copy(FORMAT_1 / "last.ckpt", RUN / "checkpoints")
    for name in ("config.yaml", "metrics.csv"):
        shutil.copy(FORMAT_1 / name, RUN)
    return RUN


def losses(run: Path) -> dict[str, list[float]]:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in ("train_loss", "val_loss")}


def changed(path: Path, **changes: Any) -> Path:
    """Copy a checkpoint with other values."""
    checkpoint = torch.load(path, weights_only=True)
    for name, values in changes.items():
        checkpoint[name] = {**checkpoint[name], **values} if isinstance(values, dict) else values
    torch.save(checkpoint, "changed.ckpt")
    return Path("changed.ckpt")


def test_files_contain_their_format_and_package_versions(in_smoke_run: Path):
    checkpoint = torch.load(in_smoke_run / "checkpoints" / "last.ckpt", weights_only=True)
    versions = {name: version(name) for name in ("minillm", "torch", "lightning")}
    assert (checkpoint["format"], checkpoint["versions"]) == (FORMAT, versions)
    config = (in_smoke_run / "config.yaml").read_text()
    assert yaml.safe_load(config)["format"] == FORMAT
    head = ", ".join(f"{name}=={number}" for name, number in versions.items())
    assert config.startswith(f"# {head}\nformat: {FORMAT}\n")


def test_printed_configuration_contains_its_format(minillm: Run):
    assert yaml.safe_load(minillm("fit", "--config", "smoke", "--print_config")[1])["format"] == FORMAT


def test_format_1_checkpoint_loads_and_generates(old_run: Path, minillm: Run):
    model, tokenizer = package.load(old_run / "checkpoints" / "last.ckpt")
    assert (model.config.embed_dim, tokenizer.vocab_size) == (16, 65)
    code, out, _ = minillm(
        "predict", "--ckpt_path", "last", "--prompt", "A", "--max_new_tokens", 7, "--corpus", "shakespeare"
    )
    assert (code, len(out)) == (0, 7)


def test_format_1_run_resumes_in_its_folder_as_if_never_interrupted(old_run: Path, minillm: Run):
    more = ("--trainer.max_steps", 30)
    code, out, err = minillm("fit", "--config", old_run / "config.yaml", "--ckpt_path", "last", *more)
    assert (code, err) == (0, "")
    assert f"from step 20, writing to {old_run}" in out
    assert minillm("fit", "--config", CONFIGS / "smoke.yaml", "--trainer.precision", "32-true", *more)[0] == 0
    uninterrupted = losses(RUN.with_name("version_1"))
    for name, values in losses(old_run).items():
        assert values == pytest.approx(uninterrupted[name], abs=2e-5)  # summation order depends on the processor
    assert torch.load(old_run / "checkpoints" / "last.ckpt", weights_only=True)["format"] == FORMAT


def test_format_1_config_repeats_its_run_in_a_folder_of_the_same_name(old_run: Path, minillm: Run):
    code, out, err = minillm("fit", "--config", old_run / "config.yaml")
    assert (code, err) == (0, "")
    assert "writing to lightning_logs/smoke/version_1" in out
    for name, values in losses(RUN.with_name("version_1")).items():
        assert values == pytest.approx(losses(old_run)[name], abs=2e-5)


@pytest.mark.parametrize(
    ("logger", "settings", "folder"),
    [
        ({"name": "mine"}, {}, "lightning_logs/mine/version_0"),
        ({"name": "mine", "version": 7}, {}, "lightning_logs/mine/version_7"),
        ({"name": "mine", "version": "first"}, {}, "lightning_logs/mine/first"),
        ({"name": "mine"}, {"name": "mine"}, "lightning_logs/mine/version_0"),
        ({"name": "mine", "save_dir": "there/lightning_logs"}, {}, "there/lightning_logs/mine/version_0"),
        ({"name": "mine", "save_dir": "there"}, {}, "there/lightning_logs/mine/version_0"),
        ({}, {"name": "mine"}, "lightning_logs/mine/version_0"),
    ],
)
def test_format_1_logger_block_names_the_run_folder(
    logger: dict[str, Any], settings: dict[str, Any], folder: str, minillm: Run
):
    config = yaml.safe_load((CONFIGS / "smoke.yaml").read_text())
    del config["name"]
    block = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": logger}
    for name, loggers in (("one.yaml", block), ("list.yaml", [block])):
        Path(name).write_text(
            yaml.safe_dump({**config, **settings, "trainer": {**config["trainer"], "logger": loggers}})
        )
    code, out, err = minillm("fit", "--config", "one.yaml", "--trainer.max_steps", 1)
    assert (code, err) == (0, "")
    assert f"writing to {folder}\n" in out
    assert len(list(Path().rglob("events.out.tfevents.*"))) == 1
    code, out, _ = minillm("fit", "--config", "list.yaml", "--trainer.max_steps", 1, "--version", 9)
    assert f"writing to {Path(folder).with_name('version_9')}\n" in out


def test_values_missing_in_older_checkpoints_have_their_defaults(in_smoke_run: Path, minillm: Run):
    checkpoint = torch.load(in_smoke_run / "checkpoints" / "last.ckpt", weights_only=True)
    for part, names in {
        "hyper_parameters": ("activation", "token_shift", "beta2"),
        "datamodule_hyper_parameters": ("val_corpus", "sampling", "vocab_size"),
    }.items():
        for name in names:
            del checkpoint[part][name]
    del checkpoint["format"], checkpoint["versions"]
    torch.save(checkpoint, "older.ckpt")
    assert read_checkpoint(Path("older.ckpt")).config.activation == "relu"
    assert minillm("predict", "--ckpt_path", "older.ckpt", "--prompt", "A", "--max_new_tokens", 5)[0] == 0
    assert minillm("validate", "--ckpt_path", "older.ckpt", "--trainer.limit_val_batches", 2)[0] == 0
    assert minillm("fit", "--config", "smoke", "--ckpt_path", "older.ckpt", "--trainer.max_steps", 21)[0] == 0


def test_unknown_hyper_parameters_of_a_later_version_are_kept_and_warned_of(in_smoke_run: Path, minillm: Run):
    more = {"future": 1, "a.b.c": "x", "keys": None}
    path = changed(in_smoke_run / "checkpoints" / "last.ckpt", hyper_parameters=more)
    assert minillm("predict", "--ckpt_path", path, "--prompt", "A", "--max_new_tokens", 5)[0] == 0
    unknown = r"model\.a\.b\.c, model\.future, model\.keys"
    with pytest.warns(
        UserWarning, match=rf"changed\.ckpt has settings of another version, which have no effect: {unknown}"
    ):
        code, out, _ = minillm("fit", "--config", "smoke", "--ckpt_path", path, "--trainer.max_steps", 21)
    assert code == 0
    run = Path(re.findall(r"writing to (\S+)", out)[0])
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert {name: saved[name] for name in more} == more


def test_other_data_settings_of_a_checkpoint_are_ignored(in_smoke_run: Path, minillm: Run):
    path = changed(in_smoke_run / "checkpoints" / "last.ckpt", datamodule_hyper_parameters={"num_workers": 5000})
    assert "num_workers" not in read_checkpoint(path).data
    code, out, _ = minillm("validate", "--ckpt_path", path, "--print_config")
    assert (code, yaml.safe_load(out)["data"]["num_workers"]) == (0, 0)
    assert minillm("validate", "--ckpt_path", path, "--trainer.limit_val_batches", 2)[0] == 0


def test_context_length_of_rotary_positions_is_limited(minillm: Run):
    assert minillm("fit", "--config", "smoke", "--model.position", "rotary", "--trainer.max_steps", 1)[0] == 0
    path = changed(RUN / "checkpoints" / "last.ckpt", hyper_parameters={"context_length": 10**9})
    with pytest.raises(ValueError, match="context_length 1000000000 is more than 1048576"):
        read_checkpoint(path)


def test_current_and_earlier_formats_are_supported_and_the_default_is_1():
    for content in ({}, {"format": 1}, {"format": FORMAT}):
        check_format(content, "a.ckpt")


def test_later_format_is_refused_with_advice_to_upgrade():
    with pytest.raises(
        UnsupportedFileError, match=r"^a\.ckpt has format 4, but this version supports formats up to 3: upgrade MiniLLM"
    ):
        check_format({"format": 4}, "a.ckpt")


@pytest.mark.parametrize("number", [0, -1, True, 1.0, "two", None])
def test_format_that_is_not_a_positive_integer_is_refused(number: object):
    with pytest.raises(ValueError, match=r"^a\.ckpt: format must be an integer from 1 to 3, got") as refusal:
        check_format({"format": number}, "a.ckpt")
    assert type(refusal.value) is ValueError


@pytest.mark.parametrize("flags", [("last",), (RUN,)])
def test_checkpoint_of_a_later_format_is_neither_skipped_nor_overwritten(
    flags: tuple[object, ...], in_smoke_run: Path, minillm: Run
):
    last = in_smoke_run / "checkpoints" / "last.ckpt"
    torch.save({**torch.load(last, weights_only=True), "format": FORMAT + 1}, last)
    before = last.read_bytes()
    code, _, err = minillm("fit", "--config", "smoke", "--ckpt_path", *flags, "--trainer.max_steps", 30)
    assert (code, err.count("\n")) == (2, 1)
    assert f"last.ckpt has format {FORMAT + 1}" in err
    assert last.read_bytes() == before
    best = in_smoke_run / "checkpoints" / "best.ckpt"
    assert (
        "writing to lightning_logs/smoke/version_1" in minillm("fit", "--ckpt_path", best, "--trainer.max_steps", 21)[1]
    )
    assert last.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"format: {FORMAT + 1}\n", f"config.yaml has format {FORMAT + 1}"),
        ("a: [", "config.yaml: not YAML"),
        ("[]", "config.yaml must contain a mapping of settings"),
    ],
)
def test_run_with_an_unreadable_configuration_is_not_resumed(
    content: str, message: str, in_smoke_run: Path, refused: Callable[..., str]
):
    (in_smoke_run / "config.yaml").write_text(content)
    assert message in refused(
        "fit", "--config", CONFIGS / "smoke.yaml", "--ckpt_path", "last", "--trainer.max_steps", 30
    )


def test_resuming_a_format_1_run_reports_only_changed_settings(old_run: Path, minillm: Run):
    code, out, _ = minillm(
        "fit", "--ckpt_path", old_run, "--config", old_run / "config.yaml", "--trainer.max_steps", 30
    )
    assert code == 0
    assert re.findall(r"^changed from here on: (.*)$", out, re.MULTILINE) == ["--trainer.max_steps 20 -> 30"]


def test_values_are_parsed_the_same_in_a_file_without_a_format(minillm: Run):
    Path("folder").mkdir()
    Path("folder/model.yaml").write_text("embed_dim: 8\nnum_heads: 2\nlearning_rate: 1e-2\n")
    logger = "logger: {class_path: lightning.pytorch.loggers.TensorBoardLogger, init_args: {name: '1e3'}}"
    text = f"model: model.yaml\nsamples: {{prompt: '1', temperature: 1e-1}}\ntrainer:\n  {logger}\n"
    Path("folder/all.yaml").write_text(text)
    code, out, err = minillm("fit", "--config", "folder/all.yaml", "--print_config")
    assert (code, err) == (0, "")
    shown = yaml.safe_load(out)
    assert shown["name"] == "1e3"
    assert (shown["model"]["embed_dim"], shown["model"]["learning_rate"]) == (8, 0.01)
    assert (shown["samples"]["prompt"], shown["samples"]["temperature"]) == ("1", 0.1)


def test_only_the_first_tensorboard_logger_of_format_1_names_the_run_folder(minillm: Run):
    config = yaml.safe_load((CONFIGS / "smoke.yaml").read_text())
    blocks = [
        {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"save_dir": place}}
        for place in ("lightning_logs", "other")
    ]
    trainer = {**config["trainer"], "logger": blocks, "default_root_dir": "unused", "max_steps": 1}
    Path("two.yaml").write_text(yaml.safe_dump({**config, "trainer": trainer}))
    code, out, err = minillm("fit", "--config", "two.yaml")
    assert (code, err) == (0, "")
    assert "writing to lightning_logs/smoke/version_0" in out
    assert list(Path("other").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", "abc"), ("learning_rate", 10**400), ("beta2", None), ("optimizer", "sgd"), ("schedule", "zz")],
)
def test_checkpoint_values_that_no_flag_accepts_are_refused(
    name: str, value: object, in_smoke_run: Path, refused: Callable[..., str]
):
    path = changed(in_smoke_run / "checkpoints" / "last.ckpt", hyper_parameters={name: value})
    assert "changed.ckpt: " in refused("fit", "--config", "smoke", "--ckpt_path", path, "--trainer.max_steps", 30)


def test_warning_is_one_line_also_after_lightning_is_imported(in_smoke_run: Path):
    path = changed(in_smoke_run / "checkpoints" / "last.ckpt", hyper_parameters={"future": 1})
    command = [
        sys.executable,
        "-m",
        "minillm",
        "validate",
        "--ckpt_path",
        str(path),
        "--trainer.limit_val_batches",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        done.stderr
        == "minillm: warning: changed.ckpt has settings of another version, which have no effect: model.future\n"
    )
