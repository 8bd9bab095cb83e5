from collections.abc import Generator

import pytest
import torch

from minillm.training import hardware
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


@pytest.fixture
def no_thread_variables(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("embed_dim", "cpus", "threads"), [(16, 8, 1), (31, 8, 1), (32, 8, 2), (128, 8, 8), (128, 3, 3), (1, 8, 1)]
)
@pytest.mark.usefixtures("no_thread_variables")
def test_a_step_uses_one_thread_for_every_16384_activations(
    embed_dim: int, cpus: int, threads: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hardware, "MAX_THREADS", 16)
    monkeypatch.setattr(hardware, "usable_cpus", lambda: cpus)
    hardware.choose_num_threads(batch_size=16, context_length=64, embed_dim=embed_dim)
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("no_thread_variables")
def test_a_variable_that_sets_the_threads_wins(monkeypatch: pytest.MonkeyPatch):
    torch.set_num_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    hardware.choose_num_threads(32, 64, 128)
    assert torch.get_num_threads() == 3
