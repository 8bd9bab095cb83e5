"""A model class of one's own: it trains, resumes and generates in PyTorch, and other implementations refuse it."""

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

import minillm as package
from minillm.checkpoint.format import UnsupportedFileError
from minillm.checkpoint.validation import read_checkpoint
from minillm.config import ModelConfig
from minillm.data.datamodule import TextDataModule
from minillm.generation.generate import generate_ids
from minillm.generation.numpy_decoder import NumpyDecoder
from minillm.generation.sampling_params import SamplingParams
from minillm.generation.torch_decoder import TorchDecoder
from minillm.model import Decoder
from minillm.model.custom import custom_parts
from minillm.training.module import LanguageModel

SHORT = {"max_steps": 6, "val_check_interval": 3, "limit_val_batches": 2, "enable_progress_bar": False}


class GELUDecoder(Decoder):
    """The decoder with another feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        C = config.embed_dim
        for block in self.blocks:
            block.feed_forward = nn.Sequential(nn.Linear(C, 2 * C), nn.GELU(), nn.Linear(2 * C, C))


class Bigram(nn.Module):
    """A model without blocks: the next character depends on the current one only."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids)


def fit(name: str = "own", model_class: type[nn.Module] | None = GELUDecoder, **settings: Any) -> Any:
    settings = {"trainer": SHORT, **settings}
    return package.fit("smoke", name=name, model_class=model_class, **settings)


CONFIG = ModelConfig(vocab_size=5, context_length=7, embed_dim=6, num_layers=2, num_heads=3, dropout=0.0)


def test_decoder_has_no_custom_parts():
    config = replace(CONFIG, embed_dim=12, position="rotary", norm="rms", token_shift=True, query_key_norm=True)
    assert custom_parts(Decoder(CONFIG)) == custom_parts(Decoder(config)) == {}


def test_custom_parts_are_named_by_module_and_class():
    name = f"{__name__}.GELUDecoder"
    sequential = "torch.nn.modules.container.Sequential"
    assert custom_parts(GELUDecoder(CONFIG)) == {
        "model": name,
        "blocks.0.feed_forward": sequential,
        "blocks.1.feed_forward": sequential,
    }
    model = Decoder(CONFIG)
    model.final_norm = nn.Identity()
    assert custom_parts(model) == {"final_norm": "torch.nn.modules.linear.Identity"}


def test_custom_parts_draw_no_random_numbers():
    model = Decoder(CONFIG)
    state = torch.get_rng_state()
    custom_parts(model)
    assert torch.equal(torch.get_rng_state(), state)


def test_model_class_without_a_config_is_refused():
    class NoConfig(nn.Module):
        def __init__(self, config: ModelConfig) -> None:
            super().__init__()

    with pytest.raises(ValueError, match="NoConfig must have its ModelConfig as attribute `config`, got None"):
        LanguageModel(vocab_size=5, context_length=7, model_class=NoConfig)


class UnusedWeight(Bigram):
    """A model with a weight that never gets a gradient, and a buffer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.unused = nn.Linear(3, 3)
        self.register_buffer("count", torch.tensor(7))


@pytest.mark.parametrize("model_class", [GELUDecoder, Bigram, UnusedWeight])
def test_own_model_trains_resumes_exactly_and_generates(model_class: type[nn.Module]):
    checkpoints = {"keep_every_n_steps": 3}
    whole = fit("whole", model_class, checkpoints=checkpoints)
    path = whole.run_folder / "checkpoints" / "step_3.ckpt"
    resumed = fit("resumed", model_class, ckpt_path=path)
    torch.testing.assert_close(whole.model.state_dict(), resumed.model.state_dict(), rtol=0, atol=0)
    model, tokenizer = package.load(whole.last_checkpoint, model_class=model_class)
    assert type(model) is model_class
    texts = ["".join(package.generate(m, tokenizer, "A", 20, seed=1)) for m in (model, whole.model)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 20
    assert "## Step 6" in (whole.run_folder / "samples.md").read_text()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_both_optimizers_train_a_model_with_blocks(optimizer: str):
    assert fit(model={"optimizer": optimizer}).num_steps == 6


def test_frozen_blocks_of_a_model_without_blocks_are_refused():
    with pytest.raises(ValueError, match="frozen_blocks must be from 0 to 0, got 1"):
        fit(model_class=Bigram, model={"frozen_blocks": 1})


def test_fine_tuning_needs_the_weights_of_the_model():
    base = fit()
    assert fit("tuned", init_from=base.last_checkpoint).num_steps == 6
    with pytest.raises(ValueError, match=r"last\.ckpt has no weight table\.weight, which Bigram needs"):
        fit("tuned", Bigram, init_from=base.last_checkpoint)


def test_other_implementations_refuse_the_checkpoint_by_the_name_of_the_part(refused: Callable[..., str]):
    path = fit().last_checkpoint
    for command in (
        ("predict", "--prompt", "A", "--ckpt_path", path),
        ("predict", "--prompt", "A", "--ckpt_path", "last"),
        ("serve", "--ckpt_path", path),
        ("validate", "--ckpt_path", path),
        ("fit", "--ckpt_path", path),
        ("fit", "--ckpt_path", "last", "--name", "own"),
        ("fit", "--init_from", path),
    ):
        error = refused(*command)
        assert f"was trained with the model class {__name__}.GELUDecoder (with blocks.0.feed_forward torch.nn" in error
        assert f"--model.model_class {__name__}.GELUDecoder" in error
    with pytest.raises(UnsupportedFileError, match="GELUDecoder"):
        package.load(path)


def test_commands_accept_the_class_by_its_name(minillm: Callable[..., Any]):
    flag = ("--model.model_class", f"{__name__}.GELUDecoder")
    limits = ("--trainer.limit_val_batches", 2, "--trainer.max_steps", 3)
    assert minillm("fit", "--config", "smoke", "--name", "cli", *flag, *limits)[0] == 0
    assert minillm("fit", "--config", "lightning_logs/cli/version_0/config.yaml", *limits)[0] == 0
    assert minillm("validate", "--ckpt_path", "last", *flag, *limits[:2])[0] == 0
    assert minillm("fit", "--ckpt_path", "last", "--name", "cli", *flag, *limits[:3], 5)[0] == 0


class HalfBigram(Bigram):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.to(torch.bfloat16)


class Int8Buffer(Bigram):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.register_buffer("small", torch.zeros(3, dtype=torch.int8))


class DoubleBigram(Bigram):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.double()


class TupleBigram(Bigram):
    def forward(self, ids: Tensor) -> Any:
        return (super().forward(ids),)


class LastPosition(Bigram):
    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids)[:, -1:]


UNUSABLE = {
    HalfBigram: r"table\.weight of .*HalfBigram is of type torch\.bfloat16, which checkpoints cannot hold",
    Int8Buffer: r"small of .*Int8Buffer is of type torch\.int8, which checkpoints cannot hold",
    DoubleBigram: r"table\.weight of .*DoubleBigram is torch\.float64, but weights are float32",
    TupleBigram: r"expected \(1, 2, 65\) for \(1, 2\), got tuple",
    LastPosition: r"expected \(1, 2, 65\) for \(1, 2\), got \(1, 1, 65\)",
}


@pytest.mark.parametrize(("model_class", "message"), UNUSABLE.items())
def test_model_class_that_could_not_be_saved_or_trained_is_refused_at_the_start(
    model_class: type[nn.Module], message: str
):
    with pytest.raises(ValueError, match=message):
        fit(model_class=model_class)
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{__name__}.Nothing", "has no attribute 'Nothing'. Got value: "),
        ("no_module.Model", "No module named 'no_module'. Got value: no_module.Model"),
    ],
)
def test_class_that_cannot_be_imported_is_named(name: str, message: str, refused: Callable[..., str]):
    assert message in refused("fit", "--config", "smoke", "--model.model_class", name)


def test_validating_with_a_wrong_class_names_a_weight(refused: Callable[..., str]):
    path = fit().last_checkpoint
    error = refused("validate", "--ckpt_path", path, "--model.model_class", f"{__name__}.Bigram")
    assert "not those of Bigram: missing or unexpected weight" in error


def test_wrong_class_is_refused_by_the_missing_weight():
    path = fit().last_checkpoint
    with pytest.raises(ValueError, match=r"(?s)does not match Bigram.*table\.weight"):
        package.load(path, model_class=Bigram)
    with pytest.raises(ValueError, match=r"cannot be resumed: .*not those of Bigram: missing or unexpected weight"):
        fit(model_class=Bigram, ckpt_path=path, trainer={**SHORT, "max_steps": 9})


class OwnLanguageModel(LanguageModel):
    """A part changed in the LightningModule."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.model.final_norm = nn.Identity()


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*logging interval")
def test_plain_trainer_records_the_parts_too():
    data = TextDataModule(context_length=16, batch_size=4)
    module = OwnLanguageModel(vocab_size=data.vocab_size, context_length=16, embed_dim=8, num_layers=1, num_heads=2)
    trainer = Trainer(max_steps=2, limit_val_batches=1, accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.fit(module, data)
    trainer.save_checkpoint("own.ckpt")
    with pytest.raises(UnsupportedFileError, match=r"final_norm torch\.nn\.modules\.linear\.Identity"):
        read_checkpoint(Path("own.ckpt"))
    loaded = OwnLanguageModel.load_from_checkpoint("own.ckpt")
    texts = ["".join(package.generate(m, data.tokenizer, "A", 20, seed=1)) for m in (module, loaded)]
    assert texts[0] == texts[1]


def test_pytorch_generation_is_that_of_numpy():
    torch.manual_seed(3)
    model = Decoder(CONFIG)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    settings, prompt = SamplingParams(max_new_tokens=30, temperature=1.0), np.array([1, 2])

    def ids(decoder: NumpyDecoder | TorchDecoder) -> list[list[int]]:
        generators = [random.Random(seed) for seed in (5, 6, 7)]
        return [newest.tolist() for newest in generate_ids(decoder, prompt, generators, settings)]

    assert ids(TorchDecoder(model)) == ids(NumpyDecoder.from_model(model))


def test_pytorch_generation_leaves_the_mode_of_the_model():
    model = GELUDecoder(replace(CONFIG, dropout=0.5))
    decoder, cache_ids = TorchDecoder(model), np.array([[1, 2]])
    logits = [decoder(cache_ids, decoder.new_cache(1)) for _ in range(2)]
    assert np.array_equal(logits[0], logits[1])  # without dropout
    assert model.training


def test_custom_model_in_float64_or_bf16_gives_float32_logits():
    model = copy.deepcopy(Bigram(CONFIG)).double()
    decoder = TorchDecoder(model)
    assert decoder(np.array([[1, 2]]), decoder.new_cache(1)).dtype == np.float32
