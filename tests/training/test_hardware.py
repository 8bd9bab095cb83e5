import pytest
import torch

from minillm.training.hardware import fastest_precision


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16-mixed"),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_bf16_is_chosen_if_the_cpu_multiplies_it_natively(
    capabilities: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert fastest_precision("cpu") == precision


def test_with_a_gpu_its_bf16_support_decides(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for supported, precision in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, s=supported: s)
        assert fastest_precision("auto") == precision
