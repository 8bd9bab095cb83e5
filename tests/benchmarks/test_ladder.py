from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CONFIGS


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


@pytest.mark.parametrize(("name", "recipe"), [("best-small", -1), ("portable", "portable.yaml: no token shift")])
def test_a_recipe_equals_its_configuration(name: str, recipe: int | str):
    from ladder import RUNGS, recipes  # pyright: ignore[reportMissingImports]

    reference, best = (flat(yaml.safe_load((CONFIGS / f"{file}.yaml").read_text())) for file in ("minillm", name))
    changes = {name: value for name, value in best.items() if name != "name"}
    flags = recipes()[RUNGS[recipe][0] if isinstance(recipe, int) else recipe]
    assert {**reference, **flags} == {**reference, **changes}


def test_recorded_runs_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import ladder  # pyright: ignore[reportMissingImports]

    tiny = {"trainer.max_steps": 3, "model.embed_dim": 8, "data.batch_size": 2, "trainer.limit_val_batches": 1}
    monkeypatch.setattr(ladder, "RUNGS", [("reference", {**tiny, "trainer.log_every_n_steps": 1})])
    monkeypatch.setattr(ladder, "DETOURS", [])
    output = tmp_path / "ladder.json"
    first = ladder.climb([1], 1, output)
    assert {name: runs.keys() for name, runs in first.items()} == {"reference": {"1"}}
    run = first["reference"]["1"]
    assert 4 < run["val_loss"] < 4.4
    assert 0 < run["seconds"] < 10
    monkeypatch.setattr(ladder, "fit", None)  # any further call fails
    assert ladder.climb([1], 1, output) == first
    first["reference"]["2"] = {"val_loss": 4.0, "seconds": 1.0}
    loss, spread, _ = ladder.summary(first, "reference")
    one, other = (first["reference"][seed]["val_loss"] for seed in "12")
    assert loss == pytest.approx((one + other) / 2)
    assert spread == pytest.approx(abs(one - other) / 2**0.5)
    ladder.print_table(first)
    ladder.draw(first, tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").stat().st_size > 1000
