import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from minillm.generation import batch_generator, threads
from minillm.generation.batch_generator import Batch, BatchGenerator
from minillm.generation.load import load_numpy
from minillm.generation.processes import ProcessPoolGenerator
from minillm.generation.sampling_params import SamplingParams
from tests.processes import ForkedCommand
from tests.serve.client import until

Run = Callable[..., tuple[int, str, str]]
Start = Callable[..., ForkedCommand]
SETTINGS = SamplingParams(max_new_tokens=30)
BATCHES = [Batch("ROMEO:", range(3)), Batch("ROMEO:", range(3, 5)), Batch("A", range(1))]

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork")  # pytest has threads, predict has none


@pytest.fixture
def checkpoint(in_smoke_run: Path) -> Path:
    return in_smoke_run / "checkpoints" / "best.ckpt"


def texts(generator: BatchGenerator, settings: SamplingParams = SETTINGS) -> list[list[str]]:
    found: list[list[str]] = []
    for batch, chunks in zip(BATCHES, generator.generate(BATCHES, settings), strict=True):
        found.append([""] * len(batch.seeds))
        for index, chunk in chunks:
            found[-1][index] += chunk
    return found


def exists(pid: int) -> bool:
    """Whether a process exists, also one that has ended and whose exit code has not been read."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def new_processes(before: set[BaseProcess]) -> list[int]:
    """The ids of the child processes that have started since then; a server of other tests has some, too."""
    return [process.pid or 0 for process in multiprocessing.active_children() if process not in before]


def test_a_process_pool_generates_the_texts_of_one_process(checkpoint: Path):
    decoder, tokenizer, _ = load_numpy(checkpoint)
    before = set(multiprocessing.active_children())
    with ProcessPoolGenerator(decoder, tokenizer, 3) as pool:
        assert texts(pool) == texts(BatchGenerator(decoder, tokenizer))
        workers = new_processes(before)
    assert len(workers) == 2
    until(lambda: not any(map(exists, workers)))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_texts_of_a_process_that_ends_are_generated_by_this_one(signum: int, checkpoint: Path):
    decoder, tokenizer, _ = load_numpy(checkpoint)
    expected = texts(BatchGenerator(decoder, tokenizer))
    before = set(multiprocessing.active_children())
    with ProcessPoolGenerator(decoder, tokenizer, 2) as pool:
        texts(pool)  # starts the process
        (worker,) = new_processes(before)
        os.kill(worker, signum)
        assert [texts(pool), texts(pool)] == [expected, expected]


def test_the_end_of_the_context_does_not_wait_for_texts(checkpoint: Path):
    decoder, tokenizer, _ = load_numpy(checkpoint)
    before = set(multiprocessing.active_children())
    with ProcessPoolGenerator(decoder, tokenizer, 2) as pool:
        next(next(pool.generate(BATCHES, SamplingParams(max_new_tokens=10**9))))
        (worker,) = new_processes(before)
    until(lambda: not exists(worker))


def test_workers_end_with_a_killed_parent(checkpoint: Path):
    """All processes inherit the end of a pipe, which is closed when the last of them ends."""
    reading, writing = os.pipe()
    decoder, tokenizer, _ = load_numpy(checkpoint)

    def generate() -> None:
        with ProcessPoolGenerator(decoder, tokenizer, 3) as pool:
            for chunks in pool.generate(BATCHES, SamplingParams(max_new_tokens=10**9)):
                for _ in chunks:
                    os.write(writing, b".")

    parent = multiprocessing.get_context("fork").Process(target=generate)
    parent.start()
    os.close(writing)
    assert os.read(reading, 1) == b"."
    time.sleep(0.2)  # both workers are at work
    parent.kill()
    os.set_blocking(reading, False)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if not os.read(reading, 10**6):
                break
        except BlockingIOError:
            time.sleep(0.05)
    else:
        pytest.fail("a worker is still alive")
    os.close(reading)
    parent.join()


@pytest.mark.usefixtures("in_smoke_run")
@pytest.mark.parametrize("flags", [("--prompt", "A"), ("--prompt_file", "prompts.txt", "--stop", "e")])
def test_predict_writes_the_same_with_several_processes(
    flags: tuple[str, ...], minillm: Run, monkeypatch: pytest.MonkeyPatch
):
    Path("prompts.txt").write_text("ROMEO:\nA\nA\nB\n")
    command = ("predict", *flags, "--num_samples", 5, "--max_new_tokens", 40, "--seed", 3, "--output")
    one = minillm(*command, "one.jsonl")
    monkeypatch.setattr(batch_generator, "useful_processes", lambda *args: 3)
    assert minillm(*command, "three.jsonl") == one
    assert Path("three.jsonl").read_bytes() == Path("one.jsonl").read_bytes()
    assert one[0] == 0


def test_processes_are_used_for_much_text_only(checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    config = load_numpy(checkpoint)[0].config
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cpus", lambda: 4)
    many = 10**9
    assert threads.useful_processes(config, 64, 500 * many) == 4
    assert threads.useful_processes(config, 3, 500 * many) == 3
    assert threads.useful_processes(config, 1, 500 * many) == 1
    assert threads.useful_processes(config, 0, 500 * many) == 1
    assert threads.useful_processes(config, 2, 1) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.useful_processes(config, 64, 500 * many) == 1
