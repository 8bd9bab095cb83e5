import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # set before importing torch: more threads slow down tiny models

import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest

from minillm.cli import main
from tests.processes import ForkedCommand

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
Files = dict[Path, tuple[int, int]]


def pytest_configure() -> None:
    """Handle SIGINT even in background jobs, for which the shell ignores it; register profiles of hypothesis."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("no deadline", deadline=None)  # a slow machine is not a failure
    hypothesis.settings.register_profile("many", deadline=None, max_examples=10_000)  # --hypothesis-profile many
    hypothesis.settings.load_profile("no deadline")


@contextmanager
def isolated(folder: Path, home: Path) -> Generator[None]:
    """Change the working folder and the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of prepared corpora, shared by all tests of this process; also isolates session-scoped fixtures."""
    folder = tmp_path_factory.mktemp("cache")
    with (
        isolated(tmp_path_factory.mktemp("shared"), tmp_path_factory.mktemp("home")),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MINILLM_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_folder(cache: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of every test: its empty `tmp_path`."""
    with isolated(tmp_path, tmp_path_factory.mktemp("home")):
        yield tmp_path


@pytest.fixture(scope="session")
def smoke_run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which `fit --config configs/smoke.yaml` has run once, to be used read-only."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(CONFIGS / "smoke.yaml")])
    return folder


@pytest.fixture
def in_smoke_run(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder in a copy of the `smoke_run` folder, which is the working folder of this test."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(smoke_run, folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    return folder / "lightning_logs" / "smoke" / "version_0"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and unpack a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    zipfile.ZipFile(file).extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture
def minillm(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a command in this process and returns its exit code, stdout and stderr."""

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
    """A function that runs a command, checks that it exits with code 2 and changes no file, and returns its error."""

    def run(*args: object) -> str:
        assert Path.cwd() != ROOT  # other processes may write to the checkout
        before = files_in(Path())
        code, out, err = minillm(*args)
        assert (code, out) == (2, "")
        assert err.startswith("minillm: error: ")
        assert err.count("\n") == 1
        assert files_in(Path()) == before
        return err

    return run


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ForkedCommand]:
    """A function that starts a command in a forked process, with environment variables as keyword arguments."""
    folder = tmp_path_factory.mktemp("output")

    def start_command(*args: object, **variables: str) -> ForkedCommand:
        return ForkedCommand([str(arg) for arg in args], folder, variables)

    return start_command


def files_in(folder: Path) -> Files:
    """Return the size and modification time of every path in a folder."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {path: (status.st_size, status.st_mtime_ns) for path, status in found}
