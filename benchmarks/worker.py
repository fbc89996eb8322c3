"""A side in a process of its own, which works only when it is asked.

    python -m benchmarks.worker SIDE        (started by `benchmarks.workers`)

One request a line in, one answer a line out, both JSON. Between requests the process waits for the
next line and uses no processor, so that sides whose environments differ can take turns as if they
were in one process.

    {"do": "open", "job": {...}}         build; {"held": bytes}
    {"do": "check"}                      the first steps, without dropout; their results
    {"do": "run", "calls", "clock", "samples"}     {"seconds": [...]}
    {"do": "memory"}                     {"bytes"}: the most that the steps held
    {"do": "transfer"}                   {"seconds"}: to bring the batch to the device, or null
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.networks import TRAINING, Job

CHECKED_STEPS = 3

# Where each engine is, and the arguments that make it this side.
ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "minicnn": ("benchmarks.engines:Ours", {}),
    "minicnn on a GPU": ("benchmarks.engines:OursOnGPU", {}),
    "PyTorch as installed": ("benchmarks.pytorch:PyTorch", {}),
    "PyTorch tuned": ("benchmarks.pytorch:PyTorch", {}),
    "PyTorch channels_last": ("benchmarks.pytorch:PyTorch", {"channels_last": True}),
    "JAX": ("benchmarks.others:JAX", {}),
    "tinygrad": ("benchmarks.others:Tinygrad", {}),
    "ONNX Runtime": ("benchmarks.others:ONNXRuntime", {}),
}


class Server:
    """Answers requests about one engine, a key of `ENGINES` or any "module:Class"."""

    def __init__(self, side: str):
        place, self.options = ENGINES.get(side, (side, {}))
        module, _, name = place.partition(":")
        self.build: Callable[..., Any] = getattr(importlib.import_module(module), name)
        self.engine: Any = None
        self.base = 0

    def open(self, job: dict[str, Any]) -> dict[str, Any]:
        """Build the engine; memory counts from before."""
        self.base = held()
        self.engine = self.build(Job(**job), **self.options)
        return {"held": held() - self.base}

    def check(self) -> dict[str, Any]:
        """Make the first steps, the very first of which compiles, and return their results.

        The peak of memory then begins anew, so that it is not the compiler's.
        """
        results, gradients = [], {}
        with self.engine.without_dropout():
            start = time.perf_counter()
            results.append(self.engine.step())
            first = time.perf_counter() - start
            if self.engine.job.mode == TRAINING:
                gradients = self.engine.gradients()
                results += [self.engine.step() for _ in range(CHECKED_STEPS - 1)]
        forget_peak()
        if self.engine.job.mode == TRAINING:
            return {"first": first, "losses": results, "gradients": gradients}
        return {"first": first, "scores": results[0].tolist()}

    def run(self, calls: int, clock: str, samples: int) -> dict[str, Any]:
        """Make `samples` times `calls` steps."""
        return {"seconds": self.engine.run(calls, clock, samples)}

    def memory(self) -> dict[str, Any]:
        """Return the most bytes held since `open`, less what was held before it."""
        return {"bytes": max(0, peak() - self.base)}

    def transfer(self) -> dict[str, Any]:
        """Return the seconds that bringing a batch to the device takes, None for the CPU."""
        return {"seconds": self.engine.transfer()}


def held() -> int:
    """Return the bytes of memory that this process has now; its peak where that is unknown."""
    return _status("VmRSS") or peak()


def peak() -> int:
    """Return the most bytes it has had, since `forget_peak` where that works."""
    unit = 1 if sys.platform == "darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> None:
    """Let the peak begin anew; Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _status(entry: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith(f"{entry}:")), None)


def main(side: str) -> None:
    """Answer until the other end is closed."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(side)
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(server, request.pop("do"))(**request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
