import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minillm.data.windows import ConsecutiveWindows, RandomWindows, ShuffledWindows, SlidingWindows, StepPartition


def starts(windows: RandomWindows, n: int) -> list[int]:
    """Start positions of the windows of batch n, in a text whose token i is i."""
    return windows[n][:, 0].tolist()


def test_a_batch_is_a_pure_function_of_seed_and_index():
    tokens = torch.arange(1000)
    first = RandomWindows(tokens, 7, StepPartition(5), seed=11)
    second = RandomWindows(tokens, 7, StepPartition(5), seed=11)
    forwards = [first[n] for n in range(13)]
    backwards = [second[n] for n in reversed(range(13))]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_different_seeds_ranks_and_indices_give_different_batches():
    tokens = torch.arange(100_000)
    seen = {
        tuple(starts(RandomWindows(tokens, 7, StepPartition(15, 3, 1, rank), seed), n))
        for seed in (0, 1, 2**63, 2**64 - 1)
        for rank in range(3)
        for n in (0, 1, 2, 10**6)
    }
    assert len(seen) == 4 * 3 * 4


@pytest.mark.parametrize("kind", [RandomWindows, ShuffledWindows])
@given(
    num_processes=st.integers(1, 5), num_batches=st.integers(1, 4), part_size=st.integers(1, 5), step=st.integers(0, 99)
)
def test_processes_and_accumulated_batches_partition_the_windows_of_a_step(
    kind: type[RandomWindows] | type[ShuffledWindows], num_processes: int, num_batches: int, part_size: int, step: int
):
    size = num_processes * num_batches * part_size
    whole = kind(torch.arange(2000), 7, StepPartition(size), seed=5)[step]
    parts = [
        kind(torch.arange(2000), 7, StepPartition(size, num_processes, num_batches, rank), seed=5)[
            step * num_batches + batch
        ]
        for batch in range(num_batches)
        for rank in range(num_processes)
    ]
    assert {len(part) for part in parts} == {part_size}
    assert torch.equal(torch.cat(parts), whole)


@given(batch_size=st.integers(1, 500), num_processes=st.integers(1, 9), num_batches=st.integers(1, 9))
def test_a_size_that_does_not_divide_is_refused_with_the_next_ones_that_do(
    batch_size: int, num_processes: int, num_batches: int
):
    if batch_size % (num_processes * num_batches) == 0:
        assert StepPartition(batch_size, num_processes, num_batches).part_size >= 1
        return
    with pytest.raises(ValueError, match="must be divisible by") as error:
        StepPartition(batch_size, num_processes, num_batches)
    sizes = [int(size) for size in str(error.value).partition("such as ")[2].split(" or ")]
    for size in sizes:
        StepPartition(size, num_processes, num_batches)
    assert min(abs(size - batch_size) for size in sizes) <= num_processes * num_batches
    assert any(size > batch_size for size in sizes)


@pytest.mark.parametrize("kind", [RandomWindows, ShuffledWindows])
def test_all_of_the_lowest_64_bits_of_a_seed_are_used_and_no_others(kind: type[RandomWindows] | type[ShuffledWindows]):
    def batch(seed: int) -> tuple[int, ...]:
        return tuple(kind(torch.arange(10_000), 7, StepPartition(50), seed)[0][:, 0].tolist())

    assert (batch(-1), batch(2**64 + 5)) == (batch(2**64 - 1), batch(5))
    assert len({batch(seed) for seed in (5, 5 + 2**7, 5 + 2**32, 5 + 2**63)}) == 4


@given(
    length=st.integers(2, 60),
    context_length=st.integers(1, 59),
    seed=st.integers(0, 2**64 - 1),
    n=st.integers(0, 2**40),
)
def test_random_windows_are_contiguous_and_stay_inside_the_text(length: int, context_length: int, seed: int, n: int):
    context_length = min(context_length, length - 1)
    batch = RandomWindows(torch.arange(length), context_length, StepPartition(17), seed)[n]
    assert batch.shape == (17, context_length + 1)
    assert torch.equal(batch, batch[:, :1] + torch.arange(context_length + 1))
    assert 0 <= batch.min() <= batch.max() < length


@given(num_starts=st.integers(1, 20), context_length=st.integers(1, 9), seed=st.integers(0, 2**64 - 1))
def test_every_start_position_is_reached(num_starts: int, context_length: int, seed: int):
    windows = RandomWindows(torch.arange(num_starts + context_length), context_length, StepPartition(50), seed)
    assert {start for n in range(20) for start in starts(windows, n)} == set(range(num_starts))


def test_every_start_position_is_equally_likely():
    num_starts, batches, batch_size = 13, 500, 26
    windows = RandomWindows(torch.arange(num_starts + 7), 7, StepPartition(batch_size), seed=5)
    counts = torch.stack([windows[n][:, 0] for n in range(batches)]).flatten().bincount(minlength=num_starts)
    assert len(counts) == num_starts
    expected = batches * batch_size / num_starts
    chi_squared = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_squared < 32.9  # 12 degrees of freedom: exceeded with probability 0.001


@given(length=st.integers(2, 200), context_length=st.integers(1, 60), batch_size=st.integers(1, 9))
def test_consecutive_windows_predict_every_token_but_the_first_once(length: int, context_length: int, batch_size: int):
    windows = ConsecutiveWindows(torch.arange(length), context_length, batch_size)
    batches = [windows[index] for index in range(len(windows))]
    assert torch.cat([batch[:, 1:].flatten() for batch in batches]).tolist() == list(range(1, length))
    for batch in batches:
        assert torch.equal(batch[:, 1:], batch[:, :-1] + 1)
        assert len(batch) <= batch_size
        assert batch.shape[1] <= context_length + 1


def test_a_text_of_one_window_gives_one_batch():
    (only,) = [ConsecutiveWindows(torch.arange(8), 7, 3)[0]]
    assert only.tolist() == [list(range(8))]
    assert len(ConsecutiveWindows(torch.arange(8), 7, 3)) == 1


@pytest.mark.parametrize("n", [0, 3])
def test_random_windows_use_the_philox_stream(n: int):
    """Draw from Philox 4x64 directly: the windows of a seed must not change between versions."""
    generator = np.random.Philox(key=np.array([7, 0], dtype=np.uint64), counter=np.array([0, n, 0, 0], dtype=np.uint64))
    expected = [int(draw) % 93 for draw in generator.random_raw(5)]
    assert starts(RandomWindows(torch.arange(100), 7, StepPartition(5), seed=7), n) == expected


@given(
    length=st.integers(2, 200),
    context_length=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    stride=st.integers(1, 60),
)
def test_sliding_windows_score_every_token_but_the_first_once_with_nearly_full_context(
    length: int, context_length: int, batch_size: int, stride: int
):
    stride = min(stride, context_length)
    windows = SlidingWindows(torch.arange(length), context_length, batch_size, stride)
    targets = []
    for batch, num_scored in (windows[index] for index in range(len(windows))):
        assert len(batch) <= batch_size
        assert torch.equal(batch[:, 1:], batch[:, :-1] + 1)
        for row in batch.tolist():
            targets += row[1:][-num_scored:]
            for position, target in list(enumerate(row))[1:][-num_scored:]:
                assert (
                    position == target or position > context_length - stride
                )  # position tokens precede it in the window
    assert targets == list(range(1, length))


@given(length=st.integers(4, 300), context_length=st.integers(1, 30), seed=st.integers(0, 2**64 - 1))
def test_an_epoch_of_shuffled_windows_has_nearly_every_token_as_a_target_once(
    length: int, context_length: int, seed: int
):
    context_length = min(context_length, length - 1)
    whole = ShuffledWindows(torch.arange(length), context_length, StepPartition(1), seed)
    for epoch in (0, 3):
        batches = [whole[epoch * whole.windows_per_epoch + n] for n in range(whole.windows_per_epoch)]
        targets = sorted(torch.cat([batch[0, 1:] for batch in batches]).tolist())
        assert targets == list(range(targets[0], targets[0] + len(targets)))  # no duplicates, no gaps
        assert targets[0] <= context_length
        assert targets[-1] >= length - 2 * context_length
        assert all(torch.equal(batch[:, 1:], batch[:, :-1] + 1) for batch in batches)


def test_order_and_offset_of_shuffled_windows_differ_between_epochs():
    windows = ShuffledWindows(torch.arange(7 * 40), 7, StepPartition(39), seed=5)
    first, second = (windows[n][:, 0].tolist() for n in (0, 1))
    assert len(first) == windows.windows_per_epoch
    assert sorted(first) != first
    assert {start % 7 for start in first} != {start % 7 for start in second}
    assert windows[0].tolist() == ShuffledWindows(torch.arange(7 * 40), 7, StepPartition(39), seed=5)[0].tolist()
    assert windows[0].tolist() != ShuffledWindows(torch.arange(7 * 40), 7, StepPartition(39), seed=6)[0].tolist()


@pytest.mark.parametrize("epoch", [0, 3])
def test_shuffled_windows_use_the_philox_stream(epoch: int):
    """Draw from Philox directly: offset and order of an epoch must not change between versions."""
    key, counter = np.array([5, 2**63], dtype=np.uint64), np.array([0, epoch, 0, 0], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key, counter=counter))
    offset, order = generator.integers(7), generator.permutation(13)  # 100 tokens are 13 windows of 7, and 9 more
    windows = ShuffledWindows(torch.arange(100), 7, StepPartition(13), seed=5)
    assert windows[epoch][:, 0].tolist() == [offset + 7 * index for index in order]


@pytest.mark.parametrize(
    "windows", [ConsecutiveWindows(torch.arange(20), 7, 2), SlidingWindows(torch.arange(20), 7, 2, 3)]
)
def test_an_index_outside_the_batches_raises_index_error(windows: ConsecutiveWindows | SlidingWindows):
    for index in (-1, len(windows)):
        with pytest.raises(IndexError):
            windows[index]


def test_num_scored_of_the_last_sliding_window_is_the_number_of_remaining_targets():
    windows = SlidingWindows(torch.arange(21), 7, 2, 3)
    assert [(len(batch), num_scored) for batch, num_scored in map(windows.__getitem__, range(len(windows)))] == [
        (1, 7),  # tokens 1 to 7
        (2, 3),
        (2, 3),
        (1, 1),  # token 20
    ]
