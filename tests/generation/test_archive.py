import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from minillm.generation.archive import read_archive

VALUES = {
    "none": None,
    "numbers": [1, -2.5, True, 2**70],
    "state": (3, (1, 2), "ä"),
    "ordered": OrderedDict(a=1, b={}),
    "weights": {"w": torch.randn(3, 4), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 5)},
    "kinds": [torch.arange(5), torch.tensor([True, False]), torch.arange(9, dtype=torch.uint8), torch.ones(2).double()],
}


def assert_same(ours: object, theirs: object):
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert isinstance(theirs, torch.Tensor)
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert isinstance(theirs, dict)
        assert list(ours) == list(theirs)
        for name in ours:
            assert_same(ours[name], theirs[name])
    elif isinstance(ours, list | tuple):
        assert isinstance(theirs, list | tuple)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


def test_what_torch_saved_is_read_as_torch_reads_it(tmp_path: Path):
    torch.save(VALUES, tmp_path / "file")
    assert_same(read_archive(tmp_path / "file", torch.tensor), torch.load(tmp_path / "file", weights_only=True))


def test_a_checkpoint_is_read_as_torch_reads_it(in_smoke_run: Path):
    path = in_smoke_run / "checkpoints" / "last.ckpt"
    assert_same(read_archive(path, torch.tensor), torch.load(path, weights_only=True))


def test_parts_of_one_storage_are_told_apart(tmp_path: Path):
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save([whole[1], whole[2:], whole], tmp_path / "file")
    ours = read_archive(tmp_path / "file")
    assert [part.tolist() for part in ours] == [whole[1].tolist(), whole[2:].tolist(), whole.tolist()]
    assert all(type(part) is np.ndarray and part.flags.writeable for part in ours)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(3, 4).T, "do not lie one after the other"),
        (torch.ones(1).expand(10**9), "do not lie one after the other"),
        (torch.ones(2, dtype=torch.bfloat16), r"more than plain values \(torch BFloat16Storage\)"),
        (torch.nn.Parameter(torch.ones(2)), "more than plain values"),
        (Path("x"), "more than plain values"),
    ],
)
def test_other_things_are_refused(tmp_path: Path, value: object, message: str):
    torch.save(value, tmp_path / "file")
    with pytest.raises(ValueError, match=message):
        read_archive(tmp_path / "file")


def rewritten(path: Path, change: dict[str, bytes]) -> Path:
    """A copy of the file with other contents under the names that end so."""
    copy = path.with_name("copy")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            content = next((change[name] for name in change if entry.filename.endswith(name)), old.read(entry))
            new.writestr(entry.filename, content)
    return copy


def test_a_memo_that_would_take_gigabytes_is_refused(tmp_path: Path):
    torch.save([1], tmp_path / "file")
    pickled = b"\x80\x02]r\xff\xff\xff\x7f."  # put the list at place 2**31 - 1
    assert pickle.loads(b"\x80\x02]r\xff\x00\x00\x00.") == []  # the same, at a place that is near
    with pytest.raises(ValueError, match="more memory than its size"):
        read_archive(rewritten(tmp_path / "file", {"data.pkl": pickled}))


def test_values_that_are_cut_off_and_another_order_of_bytes_are_refused(tmp_path: Path):
    torch.save(torch.ones(8), tmp_path / "file")
    with pytest.raises(ValueError, match="reshape"):
        read_archive(rewritten(tmp_path / "file", {"data/0": b"\0" * 28}))
    with pytest.raises(ValueError, match="another order of bytes"):
        read_archive(rewritten(tmp_path / "file", {"byteorder": b"big"}))
