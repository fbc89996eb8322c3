"""Sides that are processes: how they are started, asked, and kept from disturbing each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.networks import Job
from benchmarks.timing import Side, WrongResult

PATIENCE = 2.0  # seconds for a worker's threads to fall asleep
BLIND_PAUSE = 0.05  # where the system does not tell whether they have


class WorkerFailed(WrongResult):
    """A worker ended before it had answered; holds its last line."""


class Worker:
    """A process that answers requests; see `benchmarks.worker`."""

    def __init__(self, side: str, environment: Mapping[str, str]):
        self.side = side
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", side],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            env=dict(environment), text=True,
        )  # fmt: skip

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the answer, once the worker is asleep again.

        Raises:
            WorkerFailed: there was none.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or ["no word"])[-1]
            raise WorkerFailed(f"the process ended with {code}: {last}")
        wait_asleep(self.process.pid)
        return json.loads(line)

    def close(self) -> None:
        """Let the process end, and wait until it has."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def wait_asleep(process: int) -> bool:
    """Wait until no thread of a process runs: idle ones spin for a while, in hope of more work.

    Returns:
        Whether all are known to sleep.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        states = _states(process)
        if states is None:
            time.sleep(BLIND_PAUSE)
            return False
        if "R" not in states:
            return True
        time.sleep(0.001)
    return False


def _states(process: int) -> set[str] | None:
    """Return the states of a process's threads, None where the system has no such list."""
    folder = f"/proc/{process}/task"
    try:
        found = set()
        for thread in os.listdir(folder):
            with open(f"{folder}/{thread}/stat") as stat:
                found.add(stat.read().rpartition(")")[2].split()[0])
        return found
    except OSError:
        return None


@dataclass
class WorkerSide(Side):
    """A side in a process of its own; `first` and the checked results come from there."""

    job: Job | None = None
    environment: Mapping[str, str] | None = None
    worker: Worker | None = None

    def start(self) -> dict[str, Any]:
        assert self.job is not None and self.environment is not None
        self.worker = Worker(self.name, self.environment)
        self.worker.ask("open", job=asdict(self.job))
        answer = self.worker.ask("check")
        self.first = answer["first"]
        return answer

    def run(self, calls: int, clock: str, samples: int = 1) -> list[float]:
        assert self.worker is not None
        return self.worker.ask("run", calls=calls, clock=clock, samples=samples)["seconds"]

    def finish(self) -> None:
        if self.worker is None:
            return
        if self.seconds and not self.wrong:
            self.peak_bytes = self.worker.ask("memory")["bytes"]
            self.transfer = self.worker.ask("transfer")["seconds"]
        self.worker.close()
        self.worker = None
