"""Sides on a CUDA device, as far as they can be tried without one: nothing here is a time."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gpu, kernels
from benchmarks.gpu import GPUSide, gpu_side, no_gpu, timed_by_events
from benchmarks.layers import Layer
from benchmarks.report import break_even
from benchmarks.timing import GPU, OURS
from tests.needs import needs_compiler


def test_the_simulator_is_never_timed():
    assert no_gpu("cuda:sim") is not None
    assert no_gpu("cpu:1") is not None


def test_a_gpu_is_timed_between_its_events():
    class Event:
        now = 0.0

        def record(self):
            self.time = Event.now

        def synchronize(self):
            self.waited = True

    class Cuda:
        def __init__(self):
            self.Event = Event

        def get_elapsed_time(self, start, end):
            assert end.waited
            return end.time - start.time

    def work():
        Event.now += 4.0

    assert timed_by_events(Cuda(), work, 3, samples=2) == pytest.approx([0.004, 0.004])


@needs_compiler
@pytest.mark.parametrize("direction", kernels.DIRECTIONS)
def test_results_of_the_device_are_checked_on_the_host(direction, monkeypatch):
    monkeypatch.setattr(gpu, "no_gpu", lambda device: None)

    def simulated(build, *arrays):
        return gpu_side(build, *arrays, device="cuda:sim")

    monkeypatch.setattr(kernels, "gpu_side", simulated)
    case = kernels.convolution_case(Layer("small", 1, 2, 6, 3, 3, padding=1), direction)
    side = case.sides[-1]
    assert isinstance(side, GPUSide) and side.name == GPU and side.transfer is not None
    results = {GPU: side.start()}
    assert isinstance(results[GPU], np.ndarray)
    case.check(GPU, results)
    assert len(side.run(1, "wall")) == 1


def test_without_a_device_the_side_says_why():
    side = gpu_side(lambda: None, device="cuda:sim")
    assert side.missing == "a simulated GPU has no time of its own"


def case(batch, cpu, gpu_seconds, transfer):
    sides = [
        {"name": OURS, "best": cpu},
        {"name": GPU, "best": gpu_seconds, "transfer": transfer},
    ]
    return {"name": f"lenet, {batch}", "images": batch, "sides": sides}


@pytest.mark.parametrize(
    ("launch", "expected"),
    [(0.0, 1), (0.5, 8), (100.0, None)],
)
def test_the_batch_from_which_on_a_gpu_is_faster(launch, expected):
    batches = [64, 1, 2, 4, 8, 16, 32]
    cases = [case(n, 0.1 * n, launch + 0.005 * n, 0.005 * n) for n in batches]
    assert break_even({"cases": cases}) == {"lenet": expected}


def test_a_gpu_that_loses_at_the_largest_batch_has_no_such_batch():
    cases = [case(1, 0.2, 0.1, 0.0), case(2, 0.2, 0.3, 0.0)]
    assert break_even({"cases": cases}) == {"lenet": None}
