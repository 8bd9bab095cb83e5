"""`minillm.fit`, the training of the command line as a function."""

import gc
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

import minillm
from minillm.cli import main
from minillm.commands.fit_function import FitResult
from minillm.training.module import LanguageModel
from tests.conftest import CONFIGS, files_in
from tests.processes import TIMEOUT_SECONDS

SHORT = {"max_steps": 4, "val_check_interval": 2, "limit_val_batches": 2, "log_every_n_steps": 1}


def short_fit(name: str = "short", **settings: Any) -> FitResult:
    settings = {"trainer": SHORT, **settings}
    return minillm.fit("smoke", name=name, **settings)


def test_result_is_that_of_the_command_line():
    result = short_fit(model={"learning_rate": 1e-2})
    flags = [flag for name, value in SHORT.items() for flag in (f"--trainer.{name}", value)]
    main(["fit", "--config", "smoke", "--name", "flags", "--model.learning_rate", "0.01", *map(str, flags)])
    files = [torch.load(path, weights_only=True) for path in sorted(Path("lightning_logs").glob("*/*/*/last.ckpt"))]
    assert len(files) == 2
    for name, weight in files[0]["state_dict"].items():
        assert torch.equal(weight, files[1]["state_dict"][name])
        assert torch.equal(weight, result.model.state_dict()[name.removeprefix("model.")])
    assert result.val_loss == result.best_val_loss == files[0]["callbacks"]["Checkpoints"]["best_val_loss"]
    assert (result.num_steps, result.run_folder) == (4, Path("lightning_logs/short/version_0").absolute())
    assert result.best_checkpoint == result.run_folder / "checkpoints" / "best.ckpt"
    assert result.last_checkpoint == result.run_folder / "checkpoints" / "last.ckpt"
    assert not result.model.training


def test_result_generates_text():
    result = short_fit()
    text = "".join(minillm.generate(result.model, result.tokenizer, "ROMEO:", max_new_tokens=7, seed=1))
    assert len(text) == 7


def test_losses_are_none_without_a_validation():
    result = short_fit(trainer={**SHORT, "limit_val_batches": 0})
    assert (result.val_loss, result.best_val_loss, result.best_checkpoint) == (None, None, None)
    assert result.last_checkpoint is not None


@pytest.mark.parametrize("form", ["name", "path", "mapping"])
def test_configuration_is_a_name_a_path_or_a_mapping(form: str):
    path = CONFIGS / "smoke.yaml"
    config = {"name": "smoke", "path": path, "mapping": yaml.safe_load(path.read_text())}[form]
    result = minillm.fit(config, name="form", trainer=SHORT)
    assert (result.model.config.embed_dim, result.num_steps) == (16, 4)  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]


def test_values_of_all_plain_types_are_passed_on():
    callbacks = [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor", "init_args": {}}]
    result = minillm.fit(
        "smoke",
        seed_everything=np.int64(7),
        init_from=None,
        name=None,
        data={"val_corpus": None, "corpus": write_text(), "batch_size": torch.tensor(4)},
        model={"learning_rate": np.float32(0.5), "token_shift": True},
        samples={"prompt": "to be\nor not", "top_k": None},
        trainer={**SHORT, "callbacks": callbacks, "limit_val_batches": 1.0},
    )
    config = yaml.safe_load((result.run_folder / "config.yaml").read_text())
    assert config["seed_everything"] == 7
    assert config["model"] | {"learning_rate": 0.5, "token_shift": True} == config["model"]
    assert config["data"] | {"corpus": "texts/poem.txt", "batch_size": 4} == config["data"]
    assert config["name"] == "smoke"
    assert config["samples"] | {"prompt": "to be\nor not", "top_k": None} == config["samples"]
    assert config["trainer"]["callbacks"][0]["class_path"].endswith("LearningRateMonitor")


def write_text() -> Path:
    path = Path("texts/poem.txt")
    path.parent.mkdir()
    path.write_text("to be or not to be\n" * 99)
    return path


WRONG = {
    "unknown configuration 'nothing'; choose from": {"config": "nothing"},
    r"unrecognized flag --learning_rate; did you mean --model\.learning_rate\?": {"learning_rate": 1},
    r"unrecognized flag --model\.layers": {"model": {"layers": 1}},
    r"unrecognized flag --model\.lr; did you mean --model\.learning_rate\?": {"model": {"lr": 1}},
    "embed_dim 15 must be divisible by num_heads 2": {"model": {"embed_dim": 15}},
    "data.batch_size.*Got value: many": {"data": {"batch_size": "many"}},
    r"trainer\.callbacks must be a plain value, got .*pass callbacks and loggers to": {
        "trainer": {"callbacks": [Callback()]}
    },
    r"no checkpoint at 'nothing\.ckpt'": {"ckpt_path": "nothing.ckpt"},
    r"'nothing\.txt'": {"data": {"corpus": "nothing.txt"}},
    r"trainer\.max_steps must be at least 1": {"trainer": {"max_steps": 0}},
    "unrecognized flag --modell; did you mean": {"modell": {}},
    r"unrecognized flag --trainr": {"config": {"trainr": {}}},
    "print_config is not a setting of minillm.fit": {"print_config": True},
    "model must be a dictionary of settings, got 'x'": {"model": "x"},
    "callbacks must be objects of Lightning's Callback, got <class": {"callbacks": [Callback]},
    "loggers must be objects of Lightning's Logger, got 'csv'": {"loggers": ["csv"]},
    "model_class must be a class derived from torch.nn.Module, got <function": {"model_class": lambda config: config},
    "model_class must be a class derived from torch.nn.Module, got 'mm.Model'": {"model_class": "mm.Model"},
}


@pytest.mark.parametrize(("message", "settings"), WRONG.items(), ids=WRONG)
def test_wrong_settings_raise_value_error_and_write_nothing(
    message: str, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    before = files_in(Path())
    with pytest.raises(ValueError, match=message):
        minillm.fit(settings.pop("config", "smoke"), **settings)
    assert files_in(Path()) == before
    assert capsys.readouterr() == ("", "")


def test_divergence_is_an_error_of_its_own_with_what_is_saved():
    with pytest.raises(
        minillm.DivergedError, match=r"^the loss is NaN or infinite at step .*; no checkpoint has been saved yet$"
    ):
        short_fit(model={"learning_rate": 1e30}, trainer={**SHORT, "max_steps": 50, "val_check_interval": 50})


def test_configuration_of_a_resume_or_of_fine_tuning_is_that_of_the_checkpoint():
    first = short_fit(model={"embed_dim": 24})
    for key in ("ckpt_path", "init_from"):
        settings: dict[str, Any] = {"trainer": {**SHORT, "max_steps": 6}, key: first.last_checkpoint}
        result = minillm.fit(**settings)
        assert result.model.config.embed_dim == 24  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]


def test_resume_continues_and_a_complete_run_raises_value_error():
    first = short_fit()
    with pytest.raises(ValueError, match="training is complete"):
        short_fit(ckpt_path=first.last_checkpoint)
    result = short_fit(ckpt_path=first.run_folder, trainer={**SHORT, "max_steps": 6})
    assert (result.num_steps, result.run_folder) == (6, first.run_folder)


class Recorder(Callback):
    """Record the steps; raise an error or send a signal after one of them."""

    def __init__(self, error: BaseException | None = None, signum: int | None = None) -> None:
        self.steps: list[int] = []
        self.error, self.signum = error, signum

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(trainer.global_step)
        if self.signum is not None and trainer.global_step == 3:
            os.kill(os.getpid(), self.signum)
        if self.error is not None:
            raise self.error


def test_callbacks_and_loggers_are_objects(capsys: pytest.CaptureFixture[str]):
    recorder, logger = Recorder(), CSVLogger("other")
    short_fit(callbacks=recorder, loggers=[logger])
    assert recorder.steps == [1, 2, 3, 4]
    assert "val_loss" in Path(logger.log_dir, "metrics.csv").read_text()
    out = capsys.readouterr().out
    assert "not tested with exact resume: Recorder\n" in out
    assert "config.yaml does not contain the objects passed to minillm.fit: Recorder, CSVLogger\n" in out


def handlers() -> list[Any]:
    return [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] + [threading.excepthook]


def test_error_of_a_callback_reaches_the_caller_and_restores_the_process_state():
    class PrunedError(Exception):
        pass

    num_threads, filters, before = torch.get_num_threads(), [*warnings.filters], handlers()
    with pytest.raises(PrunedError):
        short_fit(callbacks=[Recorder(PrunedError())])
    assert (torch.get_num_threads(), [*warnings.filters], handlers()) == (num_threads, filters, before)


@pytest.mark.parametrize("error", [OSError("mine"), ConnectionError(111, "refused"), SystemExit(3), TypeError("mine")])
def test_errors_of_callbacks_pass_through(error: BaseException):
    with pytest.raises(type(error)) as raised:
        short_fit(callbacks=Recorder(error))
    assert raised.value is error


def test_seeds_of_two_runs_are_independent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    short_fit(seed_everything=3)
    assert "PL_GLOBAL_SEED" not in os.environ


def test_state_of_the_process_is_restored_after_training():
    num_threads, filters, before = torch.get_num_threads(), [*warnings.filters], handlers()
    short_fit()
    assert (torch.get_num_threads(), [*warnings.filters], handlers()) == (num_threads, filters, before)


def test_ctrl_c_saves_a_checkpoint_and_raises_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT after step 3; step 3 is saved"):
        short_fit(callbacks=[Recorder(signum=signal.SIGINT)])
    assert short_fit(ckpt_path="last").num_steps == 4


def test_sigterm_saves_a_checkpoint_and_exits(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as exit:
        short_fit(callbacks=[Recorder(signum=signal.SIGTERM)])
    assert exit.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 3; step 3 is saved" in capsys.readouterr().err


def test_sigterm_after_training_ends_the_process():
    pid = os.fork()
    if pid == 0:
        try:
            short_fit()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(TIMEOUT_SECONDS)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_training_in_another_thread_gives_the_same_result():
    results: list[FitResult] = []
    thread = threading.Thread(target=lambda: results.append(short_fit("thread")))
    thread.start()
    thread.join()
    (result,) = results
    assert result.val_loss == short_fit().val_loss


def test_two_trainings_in_threads_wait_for_each_other():
    results: list[FitResult] = []
    threads = [threading.Thread(target=lambda: results.append(short_fit("threads"))) for _ in range(2)]
    folder = Path.cwd()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.run_folder.name for result in results) == ["version_0", "version_1"]
    assert {result.run_folder.parent for result in results} == {folder / "lightning_logs" / "threads"}
    assert len({result.val_loss for result in results}) == 1
    assert Path.cwd() == folder


def test_many_runs_do_not_grow_the_process():
    one_step = {"max_steps": 1, "val_check_interval": 1, "limit_val_batches": 1, "enable_progress_bar": False}

    def count() -> tuple[int, int, int]:
        gc.collect()
        return len(gc.get_objects()), len(os.listdir("/proc/self/fd")), threading.active_count()  # noqa: PTH208

    for run in range(5):
        short_fit(f"run_{run}", trainer=one_step)
    before = count()
    for run in range(5, 15):
        short_fit(f"run_{run}", trainer=one_step)
    after = count()
    assert after[0] < before[0] + 400  # objects, of 400,000
    assert after[1:] == before[1:]


def test_notebook_shows_a_progress_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("rich.get_console", lambda: type("Console", (), {"is_jupyter": True})())
    short_fit(trainer={**SHORT, "enable_progress_bar": True})
    assert "4/4" in capsys.readouterr().out


def test_language_model_is_not_part_of_the_result():
    assert not isinstance(short_fit().model, LanguageModel)  # it would keep the Trainer and the data in memory
