import pytest
import torch

from minillm.training.hardware import fastest_precision, multiplies_bf16
from minillm.training.optimizer import orthogonalize


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


@pytest.mark.parametrize("native", [True, False])
def test_muon_computes_in_bf16_only_where_it_is_native(native: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    torch.manual_seed(0)
    found = orthogonalize(torch.randn(1, 5, 7))
    assert torch.equal(found, found.bfloat16().float()) == native


@pytest.mark.parametrize("device_type", ["mps", "xpu"])
def test_other_devices_are_not_known_to_multiply_bf16(device_type: str):
    assert not multiplies_bf16(device_type)
