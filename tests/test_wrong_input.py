"""Wrong input of every kind: exit code 2, a one-line error that says what, where and what to do, no file written.

It is one long table on purpose: a reader sees at a glance which kinds of wrong input are covered.
"""

import io
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CONFIGS
from tests.wrong_checkpoints import write_checkpoints


@pytest.fixture(scope="module")
def folder(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a working folder with a trained model and invalid files of every kind."""
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(smoke_run / "lightning_logs" / "smoke" / "version_0", folder / "lightning_logs/smoke/version_0")
    for name, content in {
        "smoke.yaml": (CONFIGS / "smoke.yaml").read_bytes(),
        "unknown.yaml": b"model:\n  embed_dimm: 3\n",
        "broken.yaml": b"model: [\n",
        "list.yaml": b"- model\n",
        "section.yaml": b"trainer: [1]\n",
        "null.yaml": b"model:\n  beta2:\ndata:\n  batch_size: null\n",
        "init_args.yaml": b"trainer:\n  logger: {class_path: TensorBoardLogger, init_args: 5}\n",
        "no_name.yaml": b"name:\nversion: 1\n",
        "newer.yaml": b"format: 4\nmodel:\n  future: 1\n",
        "two_names.yaml": b"name: a\ntrainer:\n  logger: {class_path: TensorBoardLogger, init_args: {name: b}}\n",
        "latin1.yaml": b"# caf\xe9\n",
        "type.yaml": b"model:\n  num_layers: two\n",
        "class.yaml": b"trainer:\n  callbacks:\n    class_path: no.such.Thing\n",
        "latin1.txt": b"caf\xe9",
        "empty.txt": b"",
        "blank.txt": b"\n\n",
        "short.txt": b"x" * 10,
        "accent.txt": "naïve ".encode() * 100,
        "docs/a.txt": b"fine",
        "docs/b.txt": b"caf\xe9",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "nothing").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_checkpoints(folder / "lightning_logs/smoke/version_0/checkpoints/best.ckpt")
    return folder


RUN = "lightning_logs/smoke/version_0"
FIT = "fit --config smoke.yaml"
CASES = [
    # commands
    ("", "missing command; choose from fit"),
    ("train", "unknown command 'train'; choose from fit"),
    (f"{FIT} more", "unrecognized arguments: more"),
    # configurations
    ("fit --config missing.yaml", "missing.yaml"),
    ("fit --config nothing", "nothing"),
    ("fit --config unknown.yaml", "unknown.yaml: .*embed_dimm"),
    ("fit --config broken.yaml", "broken.yaml"),
    ("fit --config list.yaml", r"list.yaml must contain a mapping of settings, got \['model'\]"),
    ("fit --config section.yaml", r"section.yaml: trainer must be a mapping of settings, got \[1\]"),
    ("fit --config null.yaml", r'null.yaml: Parser key "(model.beta2|data.batch_size)": Expected a .*Got value: None'),
    ("fit --config init_args.yaml", "init_args.yaml: trainer.logger.init_args must be a mapping of settings, got 5"),
    ("fit --config no_name.yaml", "(name must be a relative path below lightning_logs, got|name.*Got value:) None"),
    ("fit --config latin1.yaml", "latin1.yaml: not UTF-8 text"),
    ("fit --config type.yaml", "type.yaml: .*num_layers"),
    ("fit --config class.yaml", "no.such.Thing"),
    ("fit --config two_names.yaml", "two_names.yaml: name is 'a', but trainer.logger has name 'b': remove the logger"),
    ("fit --config best-tiny", "unknown configuration 'best-tiny'; choose from best-small, .*, or pass the path"),
    ("configs best-tiny", "unknown configuration 'best-tiny'; choose from best-small"),
    ("configs best-small more", "unrecognized arguments: more"),
    # flags of fit
    (f"{FIT} --name ../elsewhere", "name must be a relative path below lightning_logs, got '../elsewhere'"),
    (f"{FIT} --name /elsewhere", "name must be a relative path below lightning_logs, got '/elsewhere'"),
    (f"{FIT} --name ''", "name must be a relative path below lightning_logs, got ''"),
    (f"{FIT} --version ..", "version must be a relative path below lightning_logs, got '..'"),
    (f"{FIT} --trainer.no_such_flag 1", "unrecognized flag --trainer.no_such_flag"),
    (f"{FIT} --trainer.max_step 1", "unrecognized flag --trainer.max_step.*did you mean --trainer.max_steps"),
    (f"{FIT} --no_such_flag 1", "unrecognized flag --no_such_flag"),
    (f"{FIT} --model.num_head 2", "model.num_head"),
    (f"{FIT} --model.embed_dim", "expected one argument"),
    (f"{FIT} --model.vocab_size 70", "vocab_size"),
    (f"{FIT} --model.num_heads 3", "embed_dim 16 must be divisible by num_heads 3"),
    (f"{FIT} --model.activation gelu", "activation"),
    (f"{FIT} --model.position rotary --model.num_heads 16", "requires an even embed_dim / num_heads, got 1"),
    (f"{FIT} --model.warmup_steps -1", "warmup_steps must be at least 0, got -1"),
    (f"{FIT} --model.decay_fraction 0", "decay_fraction must be more than 0 and at most 1, got 0"),
    (f"{FIT} --model.beta2 1", "beta2 must be at least 0 and less than 1, got 1"),
    (f"{FIT} --model.muon_learning_rate -1 --model.optimizer muon", "muon_learning_rate must be at least 0"),
    (
        f"{FIT} --model.schedule linear --trainer.max_steps -1",
        "model.schedule linear decays to 0 at the end of the run",
    ),
    (f"{FIT} --data.stride 17", "stride must be from 1 to 16, got 17"),
    (f"{FIT} --data.sampling sorted", "sampling"),
    (f"{FIT} --data.val_corpus missing.txt", "no corpus 'missing.txt'"),
    (f"{FIT} --data.val_corpus accent.txt", "'ï'"),
    (f"{FIT} --model.num_layers 0", "num_layers must be at least 1, got 0"),
    (f"{FIT} --model.num_layers 1000000000", "model.num_layers 1000000000, .* GB"),
    (f"{FIT} --model.embed_dim 1000000000", "model.embed_dim 1000000000, .* GB"),
    (f"{FIT} --model.dropout 1", "dropout must be at least 0 and less than 1, got 1.0"),
    (f"{FIT} --model.dropout nan", "model.dropout.: Expected a <class 'float'>. Got value: nan"),
    (f"{FIT} --model.learning_rate=-1", "learning_rate must be .*-1.0"),
    (f"{FIT} --model.learning_rate .inf", "learning_rate must be .*inf"),
    (f"{FIT} --model.weight_decay=-1", "weight_decay must be .*-1.0"),
    (f"{FIT} --data.batch_size many", 'data.batch_size": Expected a <class .int.>. Got value: many'),
    (f"{FIT} --data.batch_size 0", "batch_size must be at least 1, got 0"),
    (f"{FIT} --data.batch_size 1000000000000", "data.batch_size 1000000000000 .* GB"),
    (f"{FIT} --data.context_length 0", "context_length must be at least 1, got 0"),
    (
        f"{FIT} --data.corpus accent.txt --data.context_length 600",
        "corpus 'accent.txt' is too short: .*context_length 600",
    ),
    (f"{FIT} --data.num_workers=-1", "num_workers must be at least 0, got -1"),
    (f"{FIT} --data.vocab_size 256", "vocab_size must be at least 257, one per byte and special token, got 256"),
    (f"{FIT} --data.vocab_size 20000000", "vocab_size 20000000 is too large for this text: after [0-9]+ tokens"),
    (
        f"{FIT} --ckpt_path last --data.vocab_size 300",
        "--data.vocab_size 300 does not match .*last.ckpt, trained with character tokens",
    ),
    (f"{FIT} --data.tokenizer.alphabet aa", "error: alphabet must be .* not repeat a character, got 'aa'$"),
    (f"{FIT} --data.tokenizer.alphabet abc", r"character 'F' \(U\+0046\) at position 0"),
    (f"{FIT} --seed_everything=-1", "seed_everything"),
    (f"{FIT} --seed_everything one", "seed_everything"),
    (f"{FIT} --trainer.max_steps 0", "trainer.max_steps must be at least 1"),
    (f"{FIT} --trainer.max_steps=-5", "max_steps"),
    (f"{FIT} --trainer.val_check_interval 0", "trainer.val_check_interval must be"),
    (f"{FIT} --trainer.log_every_n_steps=-1", "trainer.log_every_n_steps must be"),
    (f"{FIT} --trainer.accumulate_grad_batches 0", "accumulate_grad_batches"),
    (
        f"{FIT} --trainer.accumulate_grad_batches 3 --trainer.limit_train_batches 0.5",
        "limit_train_batches must be a number of steps with accumulate_grad_batches, got 0.5",
    ),
    (
        f"{FIT} --trainer.accumulate_grad_batches 2 --trainer.val_check_interval 00:00:01:00",
        "val_check_interval must be a number of steps with accumulate_grad_batches, not a time",
    ),
    (
        f"{FIT} --trainer.callbacks+=GradientAccumulationScheduler --trainer.callbacks.scheduling='{{0: 2}}'",
        "GradientAccumulationScheduler is not supported: pass --trainer.accumulate_grad_batches",
    ),
    (f"{FIT} --trainer.max_epochs 0", "trainer.max_epochs must be at least 1, or -1 for no limit, got 0"),
    (f"{FIT} --trainer.enable_checkpointing false", "trainer.enable_checkpointing false is not supported"),
    (f"{FIT} --trainer.barebones true", "trainer.barebones is not supported, because it disables checkpoints"),
    (f"{FIT} --ckpt_path last --trainer.fast_dev_run true", "fast_dev_run .* cannot resume one: leave out --ckpt_path"),
    (
        f"{FIT} --ckpt_path last --trainer.max_steps 30 --data.corpus accent.txt --data.context_length 16",
        "the text of data.corpus 'accent.txt' is not the one that .*last.ckpt was trained with: restore it, or",
    ),
    (
        f"{FIT} --ckpt_path last --trainer.max_steps 30 --data.val_corpus docs/a.txt",
        "the text of data.val_corpus 'docs/a.txt' is not the one that .*last.ckpt was trained with",
    ),
    (f"{FIT} --ckpt_path last --name other", "no 'last' checkpoint of a run named 'other' .*: the newest run is"),
    (f"{FIT} --trainer.limit_val_batches=-1", "limit_val_batches"),
    (f"{FIT} --trainer.precision 7", "trainer.precision"),
    (f"{FIT} --trainer.precision 64-true", "trainer.precision must be 32-true, bf16-mixed or 16-mixed"),
    (f"{FIT} --trainer.overfit_batches 1", "trainer.overfit_batches is not supported"),
    (f"{FIT} --trainer.check_val_every_n_epoch 0", "trainer.check_val_every_n_epoch must be at least 1"),
    (f"{FIT} --data.context_length 500000", "data.context_length 500000 need .* GB"),
    (f"{FIT} --data.corpus ~nobody_of_that_name/a", "no corpus '~nobody_of_that_name/a'"),
    (f"{FIT} --trainer.accelerator quantum", "quantum"),
    (f"{FIT} --trainer.devices 0", "devices"),
    (f"{FIT} --trainer.strategy telepathy", "telepathy"),
    (f"{FIT} --trainer.callbacks no.such.Thing", "no.such.Thing"),
    (f"{FIT} --checkpoints.every_n_train_steps 0", "every_n_train_steps must be at least 1, got 0"),
    (f"{FIT} --checkpoints.keep_every_n_steps 0", "keep_every_n_steps must be at least 1, got 0"),
    (f"{FIT} --samples.prompt é", r"'é' \(U\+00E9\) at position 0"),
    (f"{FIT} --samples.temperature=-1", "temperature must be 0"),
    (f"{FIT} --samples.max_new_tokens 0", "max_new_tokens must be at least 1"),
    (f"{FIT} --attention_maps.sentence ''", "sentence must have at least one character"),
    (f"{FIT} --attention_maps.sentence naïve", r"'ï' \(U\+00EF\) at position 2"),
    # corpora
    (
        f"{FIT} --data.corpus missing.txt",
        "no corpus 'missing.txt': pass tinyshakespeare, shakespeare, other_plays, or an existing",
    ),
    (f"{FIT} --data.corpus ''", "corpus name is empty: pass tinyshakespeare"),
    (f"{FIT} --data.corpus latin1.txt", "latin1.txt is not UTF-8 text: byte 0xe9 at offset 3"),
    (f"{FIT} --data.corpus docs", "docs/b.txt is not UTF-8 text: byte 0xe9 at offset 3"),
    (f"{FIT} --data.corpus empty.txt", "corpus 'empty.txt' is empty"),
    (f"{FIT} --data.corpus nothing", "corpus 'nothing' is empty"),
    (f"{FIT} --data.corpus short.txt", "corpus 'short.txt' is too short: 9 training tokens"),
    ("validate --data.corpus accent.txt", r"'ï' \(U\+00EF\) at position 2"),
    # checkpoints
    (f"{FIT} --ckpt_path missing.ckpt", "no checkpoint at 'missing.ckpt': pass a checkpoint file, a run folder"),
    ("validate --ckpt_path ''", "no checkpoint at '': pass"),
    ("validate --ckpt_path nothing", "no checkpoint at 'nothing/checkpoints/best.ckpt'"),
    ("validate --ckpt_path https://example.com/a.ckpt", "'https://example.com/a.ckpt' is a URL: download"),
    ("predict --prompt A --ckpt_path s3://bucket/a.ckpt", "'s3://bucket/a.ckpt' is a URL"),
    (f"{FIT} --ckpt_path empty.txt", "empty.txt is not a valid MiniLLM checkpoint: it is empty"),
    (f"{FIT} --ckpt_path latin1.txt", "latin1.txt is not a valid MiniLLM checkpoint: it is not a zip archive"),
    ("validate --ckpt_path half.ckpt", "half.ckpt is not a valid MiniLLM checkpoint: .* truncated"),
    ("validate --ckpt_path without_end.ckpt", "without_end.ckpt is not a valid MiniLLM checkpoint: .* truncated"),
    ("validate --ckpt_path pickle.ckpt", "pickle.ckpt is not a valid MiniLLM checkpoint: it is not a zip archive"),
    ("validate --ckpt_path inflating.ckpt", "inflating.ckpt .*: its content is compressed or larger than the file"),
    ("validate --ckpt_path other.ckpt", "other.ckpt .*: it does not contain exactly one pickle"),
    ("validate --ckpt_path no_state_dict.ckpt", "no_state_dict.ckpt .*: its state_dict is missing or not of type dict"),
    ("predict --prompt A --ckpt_path bomb.ckpt", "bomb.ckpt .*contains more than plain values and tensors .*mkdir"),
    (
        "predict --prompt A --ckpt_path allocation.ckpt",
        "allocation.ckpt .*contains more than plain values and tensors .*bytearray",
    ),
    ("predict --prompt A --ckpt_path no_alphabet.ckpt", "no_alphabet.ckpt .*neither an alphabet nor merges"),
    (
        "predict --prompt A --ckpt_path repeated_character.ckpt",
        "repeated_character.ckpt .*tokenizer and weights do not match .*not repeat a character, got 'aa'",
    ),
    ("predict --prompt A --ckpt_path short_alphabet.ckpt", "vocab_size is 65, but the tokenizer has 2 tokens"),
    ("predict --prompt A --ckpt_path huge_embed_dim.ckpt", "huge_embed_dim.ckpt .*tokenizer and weights do not match"),
    (
        "predict --prompt A --ckpt_path huge_num_layers.ckpt",
        "huge_num_layers.ckpt .*: .*num_layers is 1000000000, but there are 10 weights",
    ),
    (
        "predict --prompt A --ckpt_path astronomical_embed_dim.ckpt",
        "astronomical_embed_dim.ckpt .*tokenizer and weights do not match",
    ),
    (
        "predict --prompt A --ckpt_path huge_context_length.ckpt",
        "huge_context_length.ckpt .*context_length 1000000000 is more than",
    ),
    (
        "predict --prompt A --ckpt_path unknown_activation.ckpt",
        "unknown_activation.ckpt .*activation must be one of .*, got 'gelu'",
    ),
    (
        "predict --prompt A --ckpt_path int_for_bool.ckpt",
        "int_for_bool.ckpt .*token_shift must be true or false, got 1",
    ),
    (
        "predict --prompt A --ckpt_path missing_weight.ckpt",
        "missing_weight.ckpt .*: .*missing or unexpected weight model.blocks.0.attention.scale",
    ),
    ("predict --prompt A --ckpt_path newer.ckpt", "newer.ckpt has format 4, but this version supports formats up to 3"),
    (f"{FIT} --ckpt_path newer.ckpt", "newer.ckpt has format 4, .* formats up to 3: upgrade MiniLLM"),
    ("validate --ckpt_path format.ckpt", "format.ckpt: format must be an integer from 1 to 3, got 'two'"),
    ("fit --config newer.yaml", "newer.yaml has format 4, but this version supports formats up to 3: upgrade MiniLLM"),
    (
        "predict --prompt A --ckpt_path string_num_heads.ckpt",
        "string_num_heads.ckpt .*num_heads must be an integer, got 'two'",
    ),
    ("predict --prompt A --ckpt_path no_settings.ckpt", "no_settings.ckpt .*: its hyper_parameters have no vocab_size"),
    ("predict --prompt A --ckpt_path nan.ckpt", "nan.ckpt .*: .*contains NaN or infinite values"),
    ("predict --prompt A --ckpt_path huge.ckpt", "huge.ckpt .*: a tensor is not contiguous"),
    ("predict --prompt A --ckpt_path no_weight.ckpt", "no_weight.ckpt .*tokenizer and weights do not match"),
    ("predict --prompt A --ckpt_path float_weight.ckpt", "float_weight.ckpt .*: .*is not a tensor"),
    (f"{FIT} --ckpt_path {RUN} --model.optimizer muon", "--model.optimizer muon does not match .* trained with adamw"),
    (f"{FIT} --ckpt_path {RUN} --model.token_shift true", "--model.token_shift True does not match .* with False"),
    (
        f"{FIT} --ckpt_path nan_setting.ckpt",
        "nan_setting.ckpt .*: its learning_rate is not a string, a bool or a finite number",
    ),
    (f"{FIT} --ckpt_path nested.ckpt", "nested.ckpt .*: its learning_rate is not a string, a bool or a finite number"),
    (f"{FIT} --ckpt_path negative.ckpt", "negative.ckpt .*: its global_step must be an integer from 0 to"),
    (
        "predict --prompt A --ckpt_path forward_merge.ckpt",
        r"forward_merge.ckpt .*token 256 must merge two ids from 0 to 255, got 0 and 999",
    ),
    ("predict --prompt A --ckpt_path string_merges.ckpt", "string_merges.ckpt is not a valid MiniLLM checkpoint"),
    ("predict --prompt A --ckpt_path long_token.ckpt", "long_token.ckpt .*is longer than 516 bytes"),
    ("predict --prompt A --ckpt_path integer_alphabet.ckpt", "integer_alphabet.ckpt .*neither an alphabet nor merges"),
    ("predict --prompt A --ckpt_path two_directories.ckpt", "two_directories.ckpt is not a valid MiniLLM checkpoint"),
    ("validate --ckpt_path seed.ckpt", "seed.ckpt .*: its seed must be an integer from 0 to 4294967295"),
    ("validate --ckpt_path bool_seed.ckpt", "bool_seed.ckpt .*: its seed must be an integer from 0 to 4294967295"),
    ("validate --ckpt_path corpus.ckpt", "corpus.ckpt .*: its corpus must be of type str, got 7"),
    (
        "validate --ckpt_path nested_tuples.ckpt",
        "nested_tuples.ckpt .*: a dictionary key is neither a string nor an integer",
    ),
    ("validate --ckpt_path batch.ckpt", "batch_size must be at least 1, got 0"),
    ("validate --model.embed_dim 32", "--model.embed_dim 32 does not match .*best.ckpt, trained with 16: leave it out"),
    ("validate --model.num_heads 4", "--model.num_heads 4 does not match .*, trained with 2: leave it out"),
    ("validate --data.context_length 8", "--data.context_length 8 does not match .*, trained with 16: leave it out"),
    (
        f"{FIT} --ckpt_path last --trainer.max_steps 30 --seed_everything 5",
        "--seed_everything 5 does not match .*1337: leave",
    ),
    (
        f"{FIT} --ckpt_path last --data.tokenizer.alphabet ab",
        "--data.tokenizer is not allowed, because .*last.ckpt contains its tokenizer",
    ),
    # flags and prompts of predict
    ("predict --prompt A --seed 9223372036854775807 --num_samples 2", r"seed must be .* less than 2\*\*63"),
    ("predict --prompt A --no_such_flag 1", "unrecognized flag --no_such_flag"),
    ("predict --prompt A --temp 1", "unrecognized flag --temp"),
    ("predict --promt A", "unrecognized flag --promt A; did you mean --prompt\\?"),
    ("predict --prompt A --temperature=-1", "temperature must be 0"),
    ("predict --prompt A --temperature warm", "argument --temperature: invalid float value: 'warm'"),
    ("predict --prompt A --temperature nan", "temperature must be 0"),
    ("predict --prompt A --top_k 0", "top_k must be at least 1"),
    ("predict --prompt A --top_p 2", "top_p must be above 0 and at most 1"),
    ("predict --prompt A --max_new_tokens 0", "max_new_tokens must be at least 1"),
    ("predict --prompt A --num_samples 0", "num_samples must be at least 1"),
    ("predict --interactive", "--interactive reads prompts from a terminal, but stdin is not one"),
    ("predict --interactive --prompt A", "not allowed with argument"),
    ("predict --prompt A --seed=-5", "seed must be at least 0"),
    ("predict --prompt A --stop ''", "stop strings must not be empty"),
    (
        "predict --prompt Juliét",
        r"'é' \(U\+00E9\) at position 4 of 'Juliét' is not in the vocabulary of 65 .* nearest is 'e'",
    ),
    ("predict --prompt_file missing.txt", "missing.txt: No such file or directory"),
    ("predict --prompt_file nothing", "nothing: Is a directory"),
    ("predict --prompt_file blank.txt", "blank.txt contains no prompt: write one prompt per line"),
    ("predict --prompt_file latin1.txt", "latin1.txt is not UTF-8 text: byte 0xe9 at offset 3"),
    ("predict --prompt A --prompt_file b", "not allowed with argument --prompt"),
    ("predict < latin1", "stdin is not UTF-8 text: byte 0xe9 at offset 3"),
    # outputs
    ("predict --prompt A --output /no/such/folder/a.jsonl", "/no/such/folder/a.jsonl: No such file or directory"),
    (f"predict --prompt A --output {RUN}/config.yaml", "config.yaml: File exists"),
    ("predict --prompt A --output nothing", "nothing: (File exists|Is a directory)"),
    (f"{FIT} --trainer.default_root_dir empty.txt", "empty.txt/lightning_logs/smoke: Not a directory"),
    (
        f"{FIT} --version 0",
        f"{RUN} already has a run: resume it with --ckpt_path {RUN}, or pass another --version or --name",
    ),
]


def test_cases_are_numerous_and_distinct():
    assert len({command for command, _ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command for command, _ in CASES])
def test_wrong_input_is_rejected_with_a_one_line_error(
    command: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
):
    monkeypatch.chdir(folder)
    arguments = shlex.split(command)
    if arguments[-2:] == ["<", "latin1"]:
        arguments = arguments[:-2]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9")))
    line = refused(*arguments)
    assert re.search(message, line), line


@pytest.mark.parametrize("name", ["optimizer.ckpt", "loops.ckpt", "states.ckpt", "windows.ckpt"])
def test_resuming_from_a_malformed_training_state_is_an_error(name: str, folder: Path, tmp_path: Path, minillm: Any):
    more = ("--ckpt_path", folder / name, "--trainer.max_steps", 40)
    code, _, err = minillm("fit", "--config", CONFIGS / "smoke.yaml", *more)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name} cannot be resumed" in err
