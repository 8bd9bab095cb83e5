import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the threads of tiny models only wait for each other

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minillm.cli import main

CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Prepared corpora go to a folder of this test run's own."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["MINILLM_CACHE"] = str(folder)
    yield folder
    del os.environ["MINILLM_CACHE"]


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which `fit --config configs/smoke.yaml` has run once."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main(["fit", "--config", str(CONFIGS / "smoke.yaml")])
    return folder


@pytest.fixture
def in_smoke_run(smoke_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder, inside the working folder that this test runs in."""
    monkeypatch.chdir(smoke_run)
    return smoke_run / "lightning_logs" / "smoke" / "version_0"


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
        before = {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in Path().rglob("*")}
        code, out, err = minillm(*args)
        assert (code, out) == (2, "")
        assert err.startswith("minillm: error: ")
        assert err.count("\n") == 1
        assert {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in Path().rglob("*")} == before
        return err

    return run
