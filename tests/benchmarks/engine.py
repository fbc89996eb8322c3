"""An engine for `benchmarks.worker` that only tells what its process sees."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np

from benchmarks.engines import Engine

SPIN = 0.1  # seconds


class Told(Engine):
    """Its "scores" are what is in the environment; it prints where only answers may be."""

    def step(self):
        sys.stdout.write("not an answer\n")
        sys.stdout.flush()
        known = ("MALLOC_MMAP_MAX_", "OPENBLAS_CORETYPE")
        return np.array([[float(name in os.environ) for name in known]])


class Restless(Engine):
    """A thread of its goes on for a while after each step."""

    def step(self):
        def spin() -> None:
            end = time.monotonic() + SPIN
            while time.monotonic() < end:
                pass

        threading.Thread(target=spin, daemon=True).start()
        return np.zeros((1, 1))


class Failing(Engine):
    def step(self):
        raise MemoryError("no room for this")


class Dying(Engine):
    """Ends its process in the fifth step."""

    steps = 0

    def step(self):
        self.steps += 1
        if self.steps == 5:
            os._exit(3)
        return np.zeros((1, 1))
