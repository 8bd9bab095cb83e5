"""Crash test of two machines: kill one of two torchrun agents repeatedly, and compare with an uninterrupted run.

    python benchmarks/machines.py [--kills 8] [--seed 1]

Each "machine" is a shell on this computer that starts torchrun again whenever it fails, as Kubernetes does. At random
steps, SIGKILL ends every process of a machine, or its torchrun agent alone; two kills of machine 1 are followed by two
of machine 0. Weights, optimizer, random states, metrics and samples must equal those of the uninterrupted run.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kill import CONFIG, compare, logged_step
from processes import free_port

NUM_STEPS = 2000
FIT = [
    *("-m", "minillm", "fit", "--config", str(CONFIG), "--ckpt_path", "auto", "--trainer.max_steps", str(NUM_STEPS)),
    *("--model.embed_dim", "64", "--model.num_layers", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.val_check_interval", "100", "--checkpoints.every_n_train_steps", "20"),
    *("--trainer.strategy", "ddp", "--trainer.num_nodes", "2", "--trainer.accelerator", "cpu"),
]
RESUMED = "resuming from step "
RESTART_LOOP = 'until "$@"; do sleep 1; done'
TIMEOUT_SECONDS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill one of two torchrun agents; compare with an uninterrupted run.")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        uninterrupted, killed = Path(folder, "uninterrupted"), Path(folder, "killed")
        for workdir in (uninterrupted, killed):
            workdir.mkdir()
        for machine in start_machines(uninterrupted):
            machine.wait(TIMEOUT_SECONDS)
        print("| kill | machine | killed | last step | resumed from step | training again after |")
        print("|---|---|---|---|---|---|")
        machines = start_machines(killed)
        for number in range(1, options.kills + 1):
            kill(killed, machines, number, generator)
        for machine in machines:
            assert machine.wait(TIMEOUT_SECONDS) == 0, (killed / "machine_0.log").read_text()
        (run,) = (killed / "lightning_logs" / "smoke").iterdir()
        passed = compare(uninterrupted / "lightning_logs" / "smoke" / run.name, run)
    sys.exit(0 if passed else 1)


def start_machines(workdir: Path) -> list[subprocess.Popen[bytes]]:
    """Start two machines, and return their shells."""
    port = free_port()
    agent = ["torchrun", "--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1"]
    machines: list[subprocess.Popen[bytes]] = []
    for number in range(2):
        command = [*agent, "--master_port", str(port), "--node_rank", str(number), *FIT]
        with (workdir / f"machine_{number}.log").open("wb") as log:
            shell = ["bash", "-c", RESTART_LOOP, "bash", *command]
            machines.append(subprocess.Popen(shell, cwd=workdir, stdout=log, stderr=log))
    return machines


def kill(workdir: Path, machines: list[subprocess.Popen[bytes]], number: int, generator: random.Random) -> None:
    """Kill the agent of a machine, and with it its worker every other time; wait until training has resumed."""
    machine = 0 if number % 4 in (3, 0) else 1
    log, start = workdir / "machine_0.log", logged_step(workdir) + generator.randint(20, 200)
    wait_until(lambda: logged_step(workdir) >= start, log)
    resumptions = log.read_text().count(RESUMED)
    (agent,) = children(machines[machine].pid)
    with_worker = number % 2 == 1
    for pid in [agent, *(children(agent) if with_worker else [])]:
        os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    wait_until(lambda: log.read_text().count(RESUMED) > resumptions, log)
    before, _, after = log.read_text().rpartition(RESUMED)
    wait_until(lambda: "\nstep " in log.read_text().rpartition(RESUMED)[2], log)
    seconds = time.monotonic() - killed_at
    logged, saved = int(re.findall("step ([0-9]+)/", before)[-1]), int(after.partition(",")[0])
    victim = "agent and worker" if with_worker else "agent"
    print(f"| {number} | {machine} | {victim} | {logged} | {saved} | {seconds:.1f} s |", flush=True)


def children(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until(condition: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


if __name__ == "__main__":
    main()
