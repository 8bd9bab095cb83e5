from pathlib import Path

import pytest

SPEED = Path(__file__).parents[2] / "benchmarks" / "speed"


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch):
    """Put the benchmark's folder on the import path, because its files are top-level modules."""
    monkeypatch.syspath_prepend(str(SPEED))


def tiny():
    from sizes import Sizes  # pyright: ignore[reportMissingImports]

    return Sizes(batch_size=2, context_length=8, embed_dim=16, num_layers=1, num_heads=2)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        ("bare_loop", {}),
        ("huggingface", {"bf16": False}),
        ("huggingface", {"bf16": True}),
        ("torch_encoder", {"bf16": False}),
        ("floor", {}),
    ],
)
def test_training_workload_runs(build: str, arguments: dict[str, bool]):
    import training  # pyright: ignore[reportMissingImports]

    assert getattr(training, build)(tiny(), **arguments)(2) > 0


@pytest.mark.parametrize("build", ["ours", "ours_torch", "huggingface"])
@pytest.mark.parametrize("num_texts", [1, 2])
def test_generation_workload_runs(build: str, num_texts: int):
    import generation  # pyright: ignore[reportMissingImports]

    assert getattr(generation, build)(tiny(), num_texts)(1) > 0


def test_number_of_parameters_matches_the_model():
    import growth  # pyright: ignore[reportMissingImports]

    from minillm.config import ModelConfig
    from minillm.model import Decoder

    sizes = tiny()
    shape = (sizes.vocab_size, sizes.context_length, sizes.embed_dim, sizes.num_layers, sizes.num_heads)
    model = Decoder(ModelConfig(*shape, 0.0))
    assert growth.num_parameters(sizes) == sum(parameter.numel() for parameter in model.parameters())


def test_interleaved_rounds_are_recorded_per_iteration_without_the_warm_up():
    from workers import WorkloadSpec, run_interleaved  # pyright: ignore[reportMissingImports]

    specs = {
        "quick": WorkloadSpec(constant_time, 2, {"seconds": 3.0}),
        "slow": WorkloadSpec(constant_time, 1, {"seconds": 5.0}),
    }
    results = run_interleaved(specs, rounds=3)
    assert [result.seconds for result in results.values()] == [[1.5] * 3, [5.0] * 3]
    assert all(result.peak_mb > 1 for result in results.values())


def constant_time(seconds: float):
    return lambda n: seconds
