"""Time several sides in turn, so that all of them meet the same weather on a shared machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Side:
    """One way to do the work, and the seconds each of its rounds took for one call."""

    name: str
    call: Callable[[], object]
    seconds: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def alternate(sides: list[Side], rounds: int, calls: int) -> None:
    """Time `rounds` rounds of `calls` calls of every side, one side after the other in each round.

    The first call of a side in a round is not counted: its caches and threads are the other side's.
    """
    for _ in range(rounds):
        for side in sides:
            side.call()
            start = time.perf_counter()
            for _ in range(calls):
                side.call()
            side.seconds.append((time.perf_counter() - start) / calls)


def machine() -> dict[str, object]:
    """Describe what the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [
                line.split(":", 1)[1].strip() for line in info if line.startswith("model name")
            ]
        cpu = names[0] if names else cpu
    except OSError:
        pass
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }
