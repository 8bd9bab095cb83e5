from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from minillm.callbacks.lightning_internals import validation_follows
from tests.conftest import CONFIGS


class ValidationRecorder(Callback):
    """Record the steps with an expected and with an actual validation."""

    expected: ClassVar[list[int]] = []
    actual: ClassVar[list[int]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if validation_follows(trainer):
            self.expected.append(trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.actual.append(trainer.global_step)


def test_lightning_has_the_private_names():
    assert callable(_TrainingEpochLoop._should_check_val_fx)
    assert hasattr(_FitLoop(Trainer(logger=False, barebones=True)), "_data_fetcher")


def test_validation_follows_is_true_exactly_before_each_validation(minillm: Any):
    ValidationRecorder.expected, ValidationRecorder.actual = [], []
    flags = ("--trainer.callbacks", f"{__name__}.ValidationRecorder", "--trainer.val_check_interval", 5)
    assert minillm("fit", "--config", CONFIGS / "smoke.yaml", *flags)[0] == 0
    assert ValidationRecorder.expected == ValidationRecorder.actual == [5, 10, 15, 20]
