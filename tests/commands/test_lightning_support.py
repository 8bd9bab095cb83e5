"""Lightning's callbacks and strategies: those that are tested resume exactly, the others say so or are refused."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import EMAWeightAveraging, LearningRateFinder, ProgressBar, StochasticWeightAveraging

import minillm as package
from minillm.callbacks.lightning_internals import starts_processes_without_command
from minillm.checkpoint.validation import read_checkpoint
from minillm.commands.lightning_support import TESTED_CALLBACKS
from tests.conftest import files_in

Refused = Callable[..., str]
CALLBACKS = "lightning.pytorch.callbacks"
TRAINER = {
    "max_steps": 20,
    "val_check_interval": 5,
    "limit_val_batches": 2,
    "log_every_n_steps": 5,
    "enable_progress_bar": False,
}
BY_EPOCHS = {"max_steps": -1, "max_epochs": 4, "limit_train_batches": 5}
CASES: dict[str, dict[str, Any]] = {
    "DeviceStatsMonitor": {},
    "EarlyStopping": {"monitor": "val_loss", "patience": 1, "min_delta": 0.0},
    "EMAWeightAveraging": {"decay": 0.7},
    "LearningRateFinder": {"num_training_steps": 30},
    "LearningRateMonitor": {},
    "ModelCheckpoint": {"filename": "{step}", "every_n_train_steps": 10, "save_top_k": -1},
    "RichProgressBar": {},
    "StochasticWeightAveraging": {"swa_lrs": 0.01, "swa_epoch_start": 1},
    "TQDMProgressBar": {},
}


def fit(name: str, arguments: dict[str, Any], run: str, **settings: Any) -> Any:
    trainer: dict[str, Any] = {**TRAINER, **(BY_EPOCHS if name == "StochasticWeightAveraging" else {})}
    if name != "None":
        trainer["callbacks"] = [{"class_path": f"{CALLBACKS}.{name}", "init_args": arguments}]
    if "ProgressBar" in name:
        del trainer["enable_progress_bar"]
    return package.fit("smoke", name=run, trainer=trainer, checkpoints={"keep_every_n_steps": 10}, **settings)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # ModelCheckpoint forgets the best ones of the other run
@pytest.mark.parametrize("name", CASES)
def test_resume_with_the_callback_is_exact(name: str, capsys: pytest.CaptureFixture[str]):
    whole = fit(name, CASES[name], "whole")
    assert "not tested" not in capsys.readouterr().out
    resumed = fit(name, CASES[name], "resumed", ckpt_path=whole.run_folder / "checkpoints" / "step_10.ckpt")
    assert resumed.num_steps == whole.num_steps == 20
    assert resumed.val_loss == whole.val_loss
    files = [torch.load(result.last_checkpoint, weights_only=True) for result in (whole, resumed)]
    torch.testing.assert_close(files[0]["state_dict"], files[1]["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(files[0]["optimizer_states"], files[1]["optimizer_states"], rtol=0, atol=0)
    assert [path for path in files_in(Path()) if path.name.startswith(".") and path.name != ".lock"] == []


def test_every_tested_callback_has_a_case():
    classes = {getattr(__import__(CALLBACKS, fromlist=[name]), name) for name in CASES}
    assert {cls for cls in classes if not issubclass(cls, ProgressBar)} == {*TESTED_CALLBACKS} - {ProgressBar}


def test_early_stopping_stops():
    result = fit("EarlyStopping", {"monitor": "val_loss", "patience": 1, "min_delta": 9.0}, "early")
    assert result.num_steps == 10


def test_validation_loss_and_checkpoint_of_weight_averaging_are_those_of_the_average():
    averaged = fit("EMAWeightAveraging", {"decay": 0.7}, "ema")
    plain = fit("None", {}, "plain")
    content = torch.load(averaged.last_checkpoint, weights_only=True)
    weight = "model.output_head.weight"
    assert not torch.equal(content["state_dict"][weight], content["current_model_state"][weight])
    expected = torch.load(plain.last_checkpoint, weights_only=True)["state_dict"][weight]
    assert torch.equal(content["current_model_state"][weight], expected)
    assert torch.equal(averaged.model.output_head.weight, content["state_dict"][weight])
    assert averaged.val_loss != plain.val_loss


def test_stochastic_weight_averaging_saves_the_average(capsys: pytest.CaptureFixture[str]):
    result = fit("StochasticWeightAveraging", CASES["StochasticWeightAveraging"], "swa")
    path = result.run_folder / "checkpoints" / "swa.ckpt"
    printed = f"the averaged weights, which are not validated, are in {os.path.relpath(path)}\n"
    assert printed in capsys.readouterr().out
    saved = read_checkpoint(path, torch.tensor).weights
    torch.testing.assert_close(saved, dict(result.model.state_dict()), rtol=0, atol=0)
    last = read_checkpoint(result.last_checkpoint, torch.tensor).weights
    assert not torch.equal(saved["output_head.weight"], last["output_head.weight"])


def test_learning_rate_finder_is_used_and_kept():
    whole = fit("LearningRateFinder", CASES["LearningRateFinder"], "finder")
    rate = read_checkpoint(whole.last_checkpoint).hyper_parameters["learning_rate"]
    assert rate != 3e-4
    assert torch.load(whole.last_checkpoint, weights_only=True)["optimizer_states"][0]["param_groups"][0]["lr"] == rate
    same = package.fit("smoke", name="same", trainer=TRAINER, model={"learning_rate": rate})
    assert same.val_loss == whole.val_loss  # the weights and the random states are those before the search
    config = whole.run_folder / "config.yaml"
    resumed = package.fit(config, ckpt_path=whole.last_checkpoint, trainer={"max_steps": 25})
    assert read_checkpoint(Path(str(resumed.last_checkpoint))).hyper_parameters["learning_rate"] == rate


def test_learning_rate_finder_passed_as_an_object_is_kept_too():
    def run(steps: int, config: Any = "smoke", **settings: Any) -> Any:
        return package.fit(config, trainer={**TRAINER, "max_steps": steps}, **settings)

    finder: dict[str, Any] = {"model": {"learning_rate": 1e-5}}
    whole = run(15, **finder, callbacks=LearningRateFinder(num_training_steps=30))
    for config, settings in (("smoke", finder), ("config.yaml", {})):
        half = run(10, **finder, name="half", callbacks=LearningRateFinder(num_training_steps=30))
        source = config if settings else half.run_folder / config
        callbacks = LearningRateFinder() if settings else None
        resumed = run(15, source, **settings, name="half", ckpt_path=half.run_folder, callbacks=callbacks)
        assert resumed.val_loss == whole.val_loss


def test_interrupted_learning_rate_finder_leaves_no_file(monkeypatch: pytest.MonkeyPatch):
    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning.pytorch.tuner.lr_finder._try_loop_run", interrupt)
    monkeypatch.setattr("lightning.fabric.plugins.io.torch_io.TorchCheckpointIO.remove_checkpoint", interrupt)
    monkeypatch.setattr("lightning.pytorch.strategies.Strategy.remove_checkpoint", interrupt)
    with pytest.raises(KeyboardInterrupt, match="no checkpoint has been saved yet"):
        fit("LearningRateFinder", {}, "interrupted")
    assert [path for path in files_in(Path()) if path.suffix == ".ckpt"] == []


REFUSED = {
    "BatchSizeFinder is not supported: batch_size is part": {f"{CALLBACKS}.BatchSizeFinder": {}},
    "GradientAccumulationScheduler is not supported: pass --trainer.accumulate_grad_batches": {
        f"{CALLBACKS}.GradientAccumulationScheduler": {"scheduling": {0: 2}}
    },
    "Timer is not supported: pass --trainer.max_time": {f"{CALLBACKS}.Timer": {"duration": "00:01:00:00"}},
    "StochasticWeightAveraging averages once per epoch": {f"{CALLBACKS}.StochasticWeightAveraging": {"swa_lrs": 0.01}},
}


@pytest.mark.parametrize(("message", "callbacks"), REFUSED.items(), ids=REFUSED)
def test_callbacks_that_change_a_step_are_refused(message: str, callbacks: dict[str, Any], refused: Refused):
    listed = [{"class_path": path, "init_args": arguments} for path, arguments in callbacks.items()]
    Path("callbacks.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": listed}}))
    assert message in refused("fit", "--config", "smoke", "--config", "callbacks.yaml")


def test_learning_rate_finder_with_muon_is_refused():
    with pytest.raises(ValueError, match="LearningRateFinder finds one learning rate, but muon has two"):
        package.fit("smoke", model={"optimizer": "muon"}, callbacks=[LearningRateFinder()])


def test_weights_are_averaged_by_one_callback_only():
    with pytest.raises(ValueError, match=r"EMAWeightAveraging averages the weights, as model\.average_last_steps does"):
        package.fit("smoke", model={"average_last_steps": 5}, callbacks=[EMAWeightAveraging()])


def test_refused_callbacks_are_refused_as_objects_too():
    with pytest.raises(ValueError, match="StochasticWeightAveraging averages once per epoch"):
        package.fit("smoke", callbacks=[StochasticWeightAveraging(0.01)])


STRATEGIES = {
    ("--trainer.strategy", "ddp_spawn"): "ddp_spawn, ddp_fork and ddp_notebook are not supported",
    ("--trainer.strategy", "ddp_notebook"): "ddp_spawn, ddp_fork and ddp_notebook are not supported",
    ("--trainer.strategy", "ddp_fork", "--trainer.devices", 2): "ddp_spawn, ddp_fork and ddp_notebook are not",
    ("--trainer.strategy", "ddp_find_unused_parameters_true", "--trainer.strategy", "ddp_spawn"): "are not supported",
    ("--trainer.strategy.class_path", "lightning.pytorch.strategies.ModelParallelStrategy"): "is not supported",
    ("--trainer.strategy", "xla"): "torch_xla",
    ("--trainer.strategy", "deepspeed"): "DeepSpeed",
    ("--trainer.strategy", "fsdp"): "requires a GPU accelerator",
    ("--trainer.strategy", "other"): "invalid strategy name",
    ("--trainer.accelerator", "tpu"): "torch_xla",
    ("--trainer.accelerator", "other"): "invalid accelerator name",
}


@pytest.mark.parametrize(("flags", "message"), STRATEGIES.items(), ids=str)
def test_strategies_that_do_not_work_are_refused(flags: tuple[Any, ...], message: str, refused: Refused):
    assert message in refused("fit", "--config", "smoke", *flags)


def test_strategy_given_by_class_path_works(minillm: Callable[..., Any]):
    strategy = {"class_path": "lightning.pytorch.strategies.SingleDeviceStrategy", "init_args": {"device": "cpu"}}
    result = package.fit("smoke", trainer={**TRAINER, "max_steps": 5, "strategy": strategy})
    assert result.num_steps == 5


def test_lightning_has_the_launcher_of_forked_processes():
    from lightning.pytorch import Trainer

    trainers = [Trainer(strategy=name, accelerator="cpu", devices=1, logger=False) for name in ("ddp_spawn", "ddp")]
    assert [starts_processes_without_command(trainer) for trainer in trainers] == [True, False]
