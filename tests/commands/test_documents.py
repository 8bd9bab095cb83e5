import itertools
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import minillm as package
from minillm.cli import main
from minillm.data.prepare import prepare
from minillm.data.text_files import TextFormat
from minillm.generation.generate import encode_prompt
from minillm.tokenizer import CharTokenizer
from tests.conftest import CONFIGS
from tests.serve.client import ask
from tests.serve.conftest import serving

Run = Callable[..., tuple[int, str, str]]
FIT = ("fit", "--config", CONFIGS / "smoke.yaml")
LINES = ("--data.documents", "line")


def names() -> list[str]:
    syllables = ("an", "be", "ra", "li", "mo", "né")
    found = ["".join(parts) for parts in itertools.product(syllables, repeat=3)]
    random.Random(0).shuffle(found)
    return found


@pytest.fixture(scope="module")
def names_run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a list of names and a run that has learned it."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "names.txt").write_text("\n".join(names()), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = ("--trainer.max_steps", 300, "--model.learning_rate", 3e-3, "--data.batch_size", 16)
        main([str(word) for word in (*FIT, "--data.corpus", "names.txt", *LINES, *settings)])
    return folder


@pytest.fixture
def in_names_run(names_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(names_run, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")


def test_samples_are_whole_documents_and_copies_are_marked(in_names_run: None, minillm: Run):
    code, out, err = minillm("predict", "--prompt", "", "--num_samples", 20, "--seed", 1, "--output", "samples.jsonl")
    assert code == 0, err
    samples = [json.loads(line) for line in Path("samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert out.splitlines() == [sample["text"] for sample in samples]
    assert all(0 < len(sample["text"]) < 20 for sample in samples)
    train = set(names()[: round(0.9 * len(names()))])
    copies = [sample["text"] in train for sample in samples]
    assert [sample["is_training_document"] for sample in samples] == copies
    assert 0 < sum(copies) < 20
    lines = err.splitlines()
    assert ["word for word" in line for line in lines[:20]] == copies
    assert lines[20:] == [f"{20 - sum(copies)} of 20 samples are new, {sum(copies)} are documents of the training text"]


def test_a_prompt_begins_a_document(in_names_run: None, minillm: Run):
    _, tokenizer = package.load("best")
    end = tokenizer.end_of_text
    assert encode_prompt(tokenizer, "an") == end + tokenizer.encode("an")
    assert encode_prompt(tokenizer, "") == end
    assert encode_prompt(tokenizer, "ne\u0301") == end + tokenizer.encode("né")
    code, out, err = minillm("predict", "--prompt", "mora", "--temperature", 0)
    assert (code, "mora" + out in names()) == (0, True), (out, err)


def test_a_resumed_run_keeps_its_documents(in_names_run: None, minillm: Run, refused: Callable[..., str]):
    error = refused("fit", "--ckpt_path", "last", "--trainer.max_steps", 310, "--data.documents", "none")
    assert "--data.documents none does not match" in error
    code, out, err = minillm("fit", "--ckpt_path", "last", "--trainer.max_steps", 310)
    assert (code, "from step 300, writing to" in out) == (0, True), err
    assert minillm("validate", "--ckpt_path", "last", "--trainer.limit_val_batches", 2)[0] == 0


def test_fine_tuning_inherits_documents(in_names_run: None, minillm: Run):
    Path("mine.txt").write_text("\n".join(f"{name}ö" for name in names()), encoding="utf-8")
    flags = ("--init_from", "best", "--data.corpus", "mine.txt", "--trainer.max_steps", 5)
    code, out, err = minillm("fit", "--config", "finetune", *flags)
    assert code == 0, err
    assert "with 1 new characters: 'ö'\n" in out
    assert "val_loss on the old text: " in out
    base, tuned = package.load("lightning_logs/smoke/version_0")[1], package.load("best")[1]
    assert tuned.end_of_text == base.end_of_text


def test_fine_tuning_adds_the_end_of_text_token(in_smoke_run: Path, minillm: Run):
    Path("mine.txt").write_text("\n".join(names()), encoding="utf-8")
    flags = ("--init_from", in_smoke_run, "--data.corpus", "mine.txt", *LINES, "--trainer.max_steps", 5)
    code, out, err = minillm("fit", "--config", "finetune", *flags)
    assert code == 0, err
    assert "with 1 new characters: 'é' and an end-of-text token" in out
    assert package.load("best")[1].end_of_text == [66]


def test_documents_need_a_tokenizer_that_ends_them(in_smoke_run: Path, refused: Callable[..., str]):
    assert "no token that ends documents" in refused("validate", "--ckpt_path", in_smoke_run, *LINES)


def test_the_server_ends_texts_with_their_document(in_names_run: None):
    with serving() as address:
        body = {"prompt": "an", "max_tokens": 100, "seed": 1, "n": 3}
        choices = json.loads(ask(address, body=body)[2])["choices"]
        assert {choice["finish_reason"] for choice in choices} == {"stop"}
        ids = {
            special: json.loads(ask(address, "/tokenize", {"prompt": "an", "add_special_tokens": special})[2])["tokens"]
            for special in (True, False)
        }
        assert ids[True][1:] == ids[False]
        info = json.loads(ask(address, "/tokenizer_info", None)[2])
        assert (info["bos_token"], info["eos_token"]) == ("<|endoftext|>", "<|endoftext|>")
        scored = {"prompt": "an", "max_tokens": 0, "echo": True, "logprobs": 1}
        logprobs = json.loads(ask(address, body=scored)[2])["choices"][0]["logprobs"]
        assert logprobs["tokens"] == ["<|endoftext|>", "a", "n"]
        assert logprobs["text_offset"] == [0, 0, 1]
        assert logprobs["token_logprobs"][0] is None


@pytest.mark.parametrize("vocab_size", [None, 260])
def test_every_document_is_followed_by_its_end_and_the_split_is_between_two(tmp_path: Path, vocab_size: int | None):
    file = tmp_path / "names.txt"
    file.write_text("\n\n".join(names()), encoding="utf-8")
    prepared = prepare(str(file), vocab_size=vocab_size, text_format=TextFormat(documents="line"))
    tokenizer = prepared.tokenizer
    expected = [token for name in names() for token in (*tokenizer.encode(name), *tokenizer.end_of_text)]
    assert prepared.whole.tokens[:].tolist() == expected
    assert tokenizer.start_of_text == tokenizer.end_of_text
    assert prepared.train.tokens[-1:].tolist() == tokenizer.end_of_text
    num_chars = len("".join(names()))
    assert abs(prepared.train.num_chars - 0.9 * num_chars) <= 6
    assert prepared.whole.num_chars == num_chars


def test_few_long_documents_are_split_at_90_percent(tmp_path: Path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name * 100)
    prepared = prepare(str(tmp_path / "*.txt"), text_format=TextFormat(documents="file"))
    assert (prepared.train.num_chars, prepared.val.num_chars) == (270, 30)
    assert prepared.tokenizer.state == CharTokenizer("abc").with_documents().state
    (tmp_path / "c.txt").write_text("c" * 25)
    assert prepare(str(tmp_path / "*.txt"), text_format=TextFormat(documents="file")).train.num_chars == 200


def test_an_older_byte_pair_tokenizer_keeps_its_prompt(tmp_path: Path):
    file = tmp_path / "text.txt"
    file.write_text("abc abc\n" * 50)
    tokenizer = prepare(str(file), vocab_size=258).tokenizer
    assert tokenizer.state.keys() == {"merges", "special_tokens"}
    assert encode_prompt(tokenizer, "") == tokenizer.encode("\n")


def test_a_text_without_documents_is_no_training_text(in_names_run: None, refused: Callable[..., str]):
    Path("blank.txt").write_text(" \n\n")
    assert "corpus 'blank.txt' is empty" in refused("predict", "--prompt", "an", "--corpus", "blank.txt")
