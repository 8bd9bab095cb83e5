from typing import Any, ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from minillm.callbacks.lightning_internals import validation_follows
from tests.conftest import CONFIGS


class Watch(Callback):
    """Compare what is foretold with what happens."""

    foretold: ClassVar[list[int]] = []
    happened: ClassVar[list[int]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if validation_follows(trainer):
            self.foretold.append(trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.happened.append(trainer.global_step)


def test_lightning_has_the_names():
    assert callable(_TrainingEpochLoop._should_check_val_fx)
    assert hasattr(_FitLoop(Trainer(logger=False, barebones=True)), "_data_fetcher")


def test_a_validation_is_foretold_after_the_batch_before_it(minillm: Any):
    Watch.foretold, Watch.happened = [], []
    flags = ("--trainer.callbacks", f"{__name__}.Watch", "--trainer.val_check_interval", 5)
    assert minillm("fit", "--config", CONFIGS / "smoke.yaml", *flags)[0] == 0
    assert Watch.foretold == Watch.happened == [5, 10, 15, 20]
