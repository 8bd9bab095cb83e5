from pathlib import Path
from typing import Any

import pytest
import yaml

from minillm.commands import fit, trainer_cli
from minillm.commands.trainer_settings import TRAINER_DEFAULTS
from tests.conftest import CONFIGS


def resolved(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Return the resolved configuration of `fit` with these arguments."""
    found: list[dict[str, Any]] = []

    def stop(cli: trainer_cli.MiniLLMCLI) -> None:
        found.append(cli.config.as_dict())
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer_cli.MiniLLMCLI, "before_instantiate_classes", stop)
    with pytest.raises(KeyboardInterrupt):
        fit.run(["fit", *arguments])
    found[0].pop("config")
    return found[0]


def test_reference_configuration_equals_the_defaults(monkeypatch: pytest.MonkeyPatch):
    assert resolved(monkeypatch, "--config", str(CONFIGS / "minillm.yaml")) == resolved(monkeypatch)


def test_reference_configuration_lists_every_setting_of_this_project(monkeypatch: pytest.MonkeyPatch):
    shown = yaml.safe_load((CONFIGS / "minillm.yaml").read_text())
    defaults = resolved(monkeypatch)
    for group in ("data", "model", "checkpoints", "samples", "attention_maps"):
        assert (
            shown[group].keys()
            == defaults[group].keys() - {"context_length"} | shown["data"].keys() & shown[group].keys()
        )
    assert TRAINER_DEFAULTS.keys() <= shown["trainer"].keys()


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_trains(config: Path, tmp_path: Path, minillm: Any):
    few = ("--trainer.max_steps", 2, "--trainer.limit_val_batches", 2, "--data.batch_size", 4)
    code, out, _ = minillm("fit", "--config", config, *few)
    assert code == 0
    assert "step 2/2  val_loss" in out
