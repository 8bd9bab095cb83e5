from pathlib import Path

import pytest

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch: pytest.MonkeyPatch):
    """The benchmark's files import each other by their names alone."""
    monkeypatch.syspath_prepend(str(SPEED))


def tiny():
    from sizes import Sizes  # pyright: ignore[reportMissingImports]

    return Sizes(batch_size=2, context_length=8, embed_dim=16, num_layers=1, num_heads=2)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        ("bare_loop", {}),
        ("huggingface", {"bf16": False}),
        ("huggingface", {"bf16": True}),
        ("torch_encoder", {"bf16": False}),
        ("floor", {}),
    ],
)
def test_everyone_who_trains_can(make: str, settings: dict[str, bool]):
    import training  # pyright: ignore[reportMissingImports]

    assert getattr(training, make)(tiny(), **settings)(2) > 0


@pytest.mark.parametrize("make", ["ours", "huggingface"])
@pytest.mark.parametrize("texts", [1, 2])
def test_everyone_who_writes_can(make: str, texts: int):
    import generation  # pyright: ignore[reportMissingImports]

    assert getattr(generation, make)(tiny(), texts)(1) > 0


def test_the_count_of_parameters_is_that_of_the_model():
    import growth  # pyright: ignore[reportMissingImports]

    from minillm.config import ModelConfig
    from minillm.model import Decoder

    sizes = tiny()
    shape = (sizes.vocab_size, sizes.context_length, sizes.embed_dim, sizes.num_layers, sizes.num_heads)
    model = Decoder(ModelConfig(*shape, 0.0))
    assert growth.parameters(sizes) == sum(parameter.numel() for parameter in model.parameters())


def test_contestants_take_turns_and_the_first_turn_does_not_count():
    from workers import Entry, race  # pyright: ignore[reportMissingImports]

    entries = {"quick": Entry(pretend, 2, {"seconds": 3.0}), "slow": Entry(pretend, 1, {"seconds": 5.0})}
    results = race(entries, rounds=3)
    assert [result.seconds for result in results.values()] == [[1.5] * 3, [5.0] * 3]
    assert all(result.peak_mb > 1 for result in results.values())


def pretend(seconds: float):
    return lambda n: seconds
