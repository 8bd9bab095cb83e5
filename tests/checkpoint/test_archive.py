import os
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from minillm.checkpoint.archive import read_archive

VALUES = {
    "none": None,
    "numbers": [1, -2.5, True, 2**70],
    "state": (3, (1, 2), "ä"),
    "ordered": OrderedDict(a=1, b={}),
    "weights": {"w": torch.randn(3, 4), "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 5)},
    "kinds": [
        torch.arange(5),
        torch.arange(5, dtype=torch.int32),
        torch.ones(2).half(),
        torch.tensor([True, False]),
        torch.arange(9, dtype=torch.uint8),
        torch.ones(2).double(),
    ],
}


def assert_same(ours: object, theirs: object):
    assert type(ours) is (dict if isinstance(theirs, dict) else type(theirs))
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


def test_saved_values_load_as_torch_loads_them(tmp_path: Path):
    torch.save(VALUES, tmp_path / "file")
    assert_same(read_archive(tmp_path / "file", torch.tensor), torch.load(tmp_path / "file", weights_only=True))


def test_checkpoint_loads_as_torch_loads_it(in_smoke_run: Path):
    path = in_smoke_run / "checkpoints" / "last.ckpt"
    assert_same(read_archive(path, torch.tensor), torch.load(path, weights_only=True))


def test_views_of_one_storage_keep_their_values(tmp_path: Path):
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save([whole[1], whole[2:], whole], tmp_path / "file")
    ours = read_archive(tmp_path / "file")
    assert [part.tolist() for part in ours] == [whole[1].tolist(), whole[2:].tolist(), whole.tolist()]
    assert all(type(part) is np.ndarray and part.flags.writeable for part in ours)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(3, 4).T, "a tensor is not contiguous"),
        (torch.ones(1).expand(10**9), "a tensor is not contiguous"),
        (torch.ones(2, dtype=torch.bfloat16), r"more than plain values and tensors \(torch BFloat16Storage\)"),
        (torch.nn.Parameter(torch.ones(2)), "more than plain values"),
        (Path("x"), "more than plain values"),
    ],
)
def test_other_objects_are_refused(tmp_path: Path, value: object, message: str):
    torch.save(value, tmp_path / "file")
    with pytest.raises(ValueError, match=message):
        read_archive(tmp_path / "file")


def copy_with(path: Path, contents: dict[str, bytes]) -> Path:
    """Copy a zip archive with new contents for the entries whose names have these suffixes."""
    copy = path.with_name("copy")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            content = next((contents[end] for end in contents if entry.filename.endswith(end)), old.read(entry))
            new.writestr(entry.filename, content)
    return copy


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQ"  # of 8 elements
)


def tensor(shape: bytes, strides: bytes) -> bytes:
    return TENSOR + b"(" + STORAGE + b"K\x00" + shape + strides + b"\x89}tR"


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        (b"}(" + b")2\x86" * 40 + b"Ns", "more than plain values"),  # the opcode DUP
        (b"})q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"Ns", "neither a string nor an integer"),  # 2**40 nested pairs
        (b"})" + b"\x85" * 100_000 + b"Ns", "neither a string nor an integer"),  # so deep that hashing it would crash
        (tensor(b"(" + b"K\x01" * 50_000 + b"t", b"(" + b"K\x01" * 50_000 + b"t"), "a tensor has 50000 dimensions"),
        (b"](" + STORAGE + b"q\x000" + b"e", "more than plain values"),
        (b"](" + tensor(b"M\xd0\x07\x85", b"K\x01\x85") * 1000 + b"e", "more memory than twice the size of the file"),
        (tensor(b"K\x08\x85", b"K\x01\x85") + b"(K\x01tb", "more than plain values"),  # BUILD of a tensor
        (b"ccollections\nOrderedDict\n}\x85R", "more than plain values"),  # OrderedDict with arguments
        (tensor(b"K\x02K\x04\x86", b"K\x04\x85"), "is shorter"),  # a dimension without a stride
        (b"cos\nmkdir\nX\x01\x00\x00\x00x\x85R", "more than plain values and tensors .os mkdir"),
        (b"\x8c\x02os\x8c\x05mkdir\x93", "more than plain values"),
    ],
)
def test_malicious_pickle_is_refused(tmp_path: Path, instructions: bytes, message: str):
    torch.save(torch.ones(2000), tmp_path / "file")
    with pytest.raises(ValueError, match=message):
        read_archive(copy_with(tmp_path / "file", {"data.pkl": b"\x80\x02" + instructions + b"."}))


def test_handwritten_pickle_loads_like_that_of_torch(tmp_path: Path):
    torch.save(torch.arange(8.0), tmp_path / "file")
    copy = copy_with(tmp_path / "file", {"data.pkl": b"\x80\x02" + tensor(b"K\x08\x85", b"K\x01\x85") + b"."})
    assert read_archive(copy).tolist() == list(range(8))


def test_truncated_storage_and_big_endian_file_are_refused(tmp_path: Path):
    torch.save(torch.ones(8), tmp_path / "file")
    with pytest.raises(ValueError, match="reshape"):
        read_archive(copy_with(tmp_path / "file", {"data/0": b"\0" * 28}))
    with pytest.raises(ValueError, match="not little-endian"):
        read_archive(copy_with(tmp_path / "file", {"byteorder": b"big"}))


def test_dimension_of_size_one_may_have_any_stride(tmp_path: Path):
    values = torch.arange(4.0).reshape(4, 1).T
    assert values.stride() == (1, 1)
    torch.save(values, tmp_path / "file")
    assert read_archive(tmp_path / "file").tolist() == [[0, 1, 2, 3]]


def test_compressed_archive_and_archive_with_duplicate_entries_are_refused(tmp_path: Path):
    torch.save(torch.ones(2000), tmp_path / "file")
    with (
        zipfile.ZipFile(tmp_path / "file") as old,
        zipfile.ZipFile(tmp_path / "compressed", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry) + os.urandom(10**5))  # incompressible
    with zipfile.ZipFile(tmp_path / "file", "a") as file:
        file.filelist += file.filelist
        file.writestr("more", b"")
    for name in ("compressed", "file"):
        with pytest.raises(ValueError, match="compressed or larger than the file"):
            read_archive(tmp_path / name)


@pytest.mark.parametrize("names", [[], ["a/data.pkl", "b/data.pkl"]])
def test_archive_without_exactly_one_pickle_is_refused(tmp_path: Path, names: list[str]):
    with zipfile.ZipFile(tmp_path / "file", "w") as file:
        for name in ["hello.txt", *names]:
            file.writestr(name, b"\x80\x02N.")
    with pytest.raises(ValueError, match="does not contain exactly one pickle"):
        read_archive(tmp_path / "file")
