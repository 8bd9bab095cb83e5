import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

import minillm as package
from minillm.config import ModelConfig
from minillm.generation.generate import generate_ids
from minillm.generation.load import Device, load_torch
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.text_generator import Prompts, TextGenerator
from minillm.generation.torch_decoder import TorchDecoder
from minillm.model import Decoder
from minillm.model.kv_cache import KVCache
from tests.generation.test_numpy_decoder import PARTS

Run = Callable[..., tuple[int, str, str]]
V, T = 13, 11
PREDICT = ("predict", "--prompt", "ROMEO:", "--max_new_tokens", 100, "--seed", 1)


def initialized(**parts: Any) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(ModelConfig(V, T, embed_dim=12, num_layers=3, num_heads=2, dropout=0.5, **parts))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(parts) or "reference")
def test_pytorch_generates_the_ids_of_numpy_beyond_the_context(parts: dict[str, Any]):
    model, prompt = initialized(**parts), np.array([1, 2])
    settings = SamplingParams(max_new_tokens=5 * T, temperature=1.0)

    def ids(decoder: NumpyDecoder | TorchDecoder) -> list[list[int]]:
        generators = [random.Random(seed) for seed in range(5)]
        return [newest.tolist() for newest in generate_ids(decoder, prompt, generators, settings)]

    assert ids(TorchDecoder(model)) == ids(NumpyDecoder.from_model(model))
    assert model.training  # the mode is left as it was


def test_a_model_that_does_not_fill_the_cache_would_be_noticed():
    """The comparison of cached and uncached logits fails if the cache is ignored."""
    model = initialized().eval()
    ids = torch.randint(V, (1, 4))
    cache = KVCache(model.config, 1)
    model(ids[:, :3], cache)
    cache.keys_values.zero_()
    assert not torch.allclose(model(ids[:, 3:], cache)[0, -1], model(ids)[0, -1], atol=1e-3)


@pytest.mark.parametrize("parts", [PARTS[0], PARTS[-1]], ids=["reference", "everything else"])
def test_every_tensor_of_a_cached_step_is_on_the_device_of_the_model(
    parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """The meta device refuses to mix its tensors with those of the CPU; it knows no autocast."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    model = initialized(**parts).eval().to("meta")
    cache = KVCache(model.config, 2, torch.device("meta"))
    for length in (3, 1):
        assert model(torch.zeros(2, length, dtype=torch.long, device="meta"), cache).device.type == "meta"
    cache.append(cache.repeat(1))
    cache.remove(0)
    assert {layer.mask.device.type for layer in cache.layers(1)} == {"meta"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_cache_has_the_precision_of_the_weights(dtype: torch.dtype):
    model = initialized(**PARTS[-1]).eval().to(dtype)
    decoder = TorchDecoder(model)
    cache, ids = decoder.new_cache(2), np.array([[1, 2, 3], [4, 5, 6]])
    assert decoder(ids[:, :2], cache).dtype == np.float32
    logits = decoder(ids[:, 2:], cache)
    assert isinstance(cache, KVCache)
    assert cache.keys_values.dtype == dtype
    tolerance = 0.1 if dtype == torch.bfloat16 else 1e-6
    np.testing.assert_allclose(logits, model(torch.from_numpy(ids))[:, -1].detach().numpy(), atol=tolerance)


@pytest.mark.usefixtures("in_smoke_run")
@pytest.mark.parametrize("flags", [(), ("--num_samples", 3), ("--top_k", 5), ("--temperature", 0)])
def test_predict_writes_the_same_text_with_an_accelerator(flags: tuple[object, ...], minillm: Run):
    assert minillm(*PREDICT, *flags, "--accelerator", "cpu")[:2] == minillm(*PREDICT, *flags)[:2]


@pytest.mark.usefixtures("in_smoke_run")
def test_predict_writes_the_output_of_an_accelerator_in_order(minillm: Run):
    Path("prompts.txt").write_text("ROMEO:\nJULIET:\n")
    files = ("--num_samples", 2, "--seed", 3, "--max_new_tokens", 20, "--prompt_file", "prompts.txt", "--output")
    for name, flags in {"numpy.jsonl": (), "torch.jsonl": ("--accelerator", "auto")}.items():
        assert minillm("predict", *files, name, *flags)[0] == 0
    assert Path("numpy.jsonl").read_bytes() == Path("torch.jsonl").read_bytes()


@pytest.mark.usefixtures("in_smoke_run")
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_predict_generates_in_low_precision(precision: str, minillm: Run):
    code, out, _ = minillm(*PREDICT, "--accelerator", "cpu", "--precision", precision)
    assert (code, len(out)) == (0, 100)


@pytest.mark.usefixtures("in_smoke_run")
@pytest.mark.parametrize("command", [PREDICT, ("serve",)], ids=lambda command: command[0])
def test_a_device_that_is_missing_is_named(command: tuple[object, ...], minillm: Run, monkeypatch: pytest.MonkeyPatch):
    def missing(**kwargs: object) -> None:
        raise RuntimeError("No supported gpu backend found!")

    monkeypatch.setattr("lightning.fabric.Fabric", missing)
    code, out, err = minillm(*command, "--accelerator", "gpu")
    message = "minillm: error: accelerator 'gpu' is not available here: No supported gpu backend found!\n"
    assert (code, out, err) == (2, "", message)


def test_the_device_moves_weights_to_its_precision(in_smoke_run: Path):
    decoder, _, _ = load_torch(in_smoke_run / "checkpoints" / "best.ckpt", Device("cpu", "bf16-true"))
    assert {weight.dtype for weight in decoder.model.parameters()} == {torch.bfloat16}


@pytest.mark.usefixtures("in_smoke_run")
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_trainer_predict_generates_the_texts_of_predict(minillm: Run):
    model, tokenizer = package.load("best")
    generator = TextGenerator(model, tokenizer, SamplingParams(100, seed=1), num_samples=2)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    texts = trainer.predict(generator, Prompts(["ROMEO:", "JULIET:"]))
    assert texts is not None
    for prompt, pair in zip(["ROMEO:", "JULIET:"], texts, strict=True):
        for number, text in enumerate(pair):
            command = ("predict", "--prompt", prompt, "--max_new_tokens", 100, "--seed", 1 + number)
            assert minillm(*command)[1] == text


def test_a_text_generator_needs_at_least_one_sample():
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        TextGenerator(initialized(), Any, num_samples=0)  # pyright: ignore[reportArgumentType]
