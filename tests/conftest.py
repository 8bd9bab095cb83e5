import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the threads of tiny models only wait for each other

import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from minillm.cli import main

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
Files = dict[Path, tuple[int, int]]


def pytest_configure() -> None:
    """Take Ctrl-C even where the shell ignores it for its background jobs; give tests the time that they need."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is not a defect
    hypothesis.settings.load_profile("no deadline")


@contextmanager
def isolated(folder: Path, home: Path) -> Generator[None]:
    """Work in a folder, with a home that nothing else uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of prepared corpora, which the tests of this process share, and a home for the fixtures they share."""
    folder = tmp_path_factory.mktemp("cache")
    with (
        isolated(tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("home")),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MINILLM_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_folder(cache: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of every test: its own `tmp_path`, which is empty."""
    with isolated(tmp_path, tmp_path_factory.mktemp("home")):
        yield tmp_path


@pytest.fixture(scope="session")
def smoke_run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which `fit --config configs/smoke.yaml` has run once; tests only read it."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(CONFIGS / "smoke.yaml")])
    return folder


@pytest.fixture
def in_smoke_run(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder, inside a copy of that working folder, in which this test runs."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(smoke_run, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    return folder / "lightning_logs" / "smoke" / "version_0"


@pytest.fixture
def minillm(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; returns its exit code, stdout and stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            main([str(arg) for arg in args])
            code = 0
        except SystemExit as exit:
            assert isinstance(exit.code, int)
            code = exit.code
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(minillm: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Run a command that has to be refused: exit code 2, one line on stderr, nothing written or lost."""

    def run(*args: object) -> str:
        assert Path.cwd() != ROOT  # in a folder that others write to, nothing could be said
        before = files_in(Path())
        code, out, err = minillm(*args)
        assert (code, out) == (2, "")
        assert err.startswith("minillm: error: ")
        assert err.count("\n") == 1
        assert files_in(Path()) == before
        return err

    return run


def files_in(folder: Path) -> Files:
    """The size and time of everything in a folder."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found}
