import sys
from pathlib import Path

import pytest


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, in torch.compile
def test_smoke_mode_runs_every_measurement_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import gpu  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(sys, "argv", ["gpu.py", "--smoke"])
    gpu.main()
    out = capsys.readouterr().out
    for config in ("minillm", "gpu"):
        for training in ("MiniLLM, eager", "MiniLLM, compiled, CUDA graphs", "GPT-2 of Hugging Face, compiled"):
            assert f"| {config} | {training} | " in out
    assert "gpu.yaml: val_loss 4." in out
    assert out.count("exact resume, model.compile ") == out.count(": yes\n") == 3
    assert not list(Path().iterdir())
