"""Run folders and their locks: one process per run folder."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from minillm.checkpoint.claim import create_run_folder, lock_run
from minillm.checkpoint.run_folder import RunFolder
from minillm.checkpoint.sessions import read_sessions, record_session

PARENT = Path("lightning_logs/smoke")


def test_runs_that_start_at_the_same_time_get_different_folders():
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create_run_folder(PARENT, None), range(40)))
    assert sorted(run.path.name for run in runs) == sorted(f"version_{number}" for number in range(40))


def test_new_version_is_the_number_after_the_highest():
    for name in ("version_3", "version_12", "version_x", "mine"):
        (PARENT / name).mkdir(parents=True)
    assert create_run_folder(PARENT, None).path == PARENT / "version_13"
    assert create_run_folder(PARENT, 5).path == PARENT / "version_5"
    assert create_run_folder(PARENT, "first").path == create_run_folder(PARENT, "first").path == PARENT / "first"


@pytest.mark.parametrize("name", ["this process", "another process"])
def test_run_folder_in_use_is_refused_with_the_process_that_uses_it(name: str):
    run = create_run_folder(PARENT, None)
    with lock_run(run):
        if name == "this process":
            with record_session(run, os.getpid()):
                pass
            name = f"process {os.getpid()}"
        with pytest.raises(ValueError, match=f"^{run.path} is in use by {name}: wait"), lock_run(run):
            pass
    with lock_run(run):  # it has been released
        pass


def test_killed_process_leaves_no_lock():
    run = create_run_folder(PARENT, None)
    code = "import sys, time; from pathlib import Path; from minillm.checkpoint.claim import *\n"
    code += "with lock_run(RunFolder(Path(sys.argv[1]))):\n print('locked', flush=True); time.sleep(100)"
    process = subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(ValueError, match="is in use by another process"), lock_run(run):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with lock_run(run):
        pass


def test_sessions_are_appended_with_their_duration():
    run = RunFolder(Path())
    for number in range(2):
        with record_session(run, 10 + number, command=f"command {number}"):
            assert read_sessions(run)[-1]["seconds"] is None
    first, second = read_sessions(run)
    assert (first["pid"], first["command"], second["pid"], second["command"]) == (10, "command 0", 11, "command 1")
    assert first["started"] < second["started"]
    assert 0 <= second["seconds"] < 10
    assert second["folder"] == str(Path.cwd())


def test_session_is_recorded_even_if_it_ends_with_an_error():
    run = RunFolder(Path())
    with pytest.raises(KeyboardInterrupt), record_session(run, 1):
        raise KeyboardInterrupt
    assert read_sessions(run)[0]["seconds"] is not None
