"""Sides on a CUDA device: timed by its own events, results checked on the host, transfers apart.

A simulated device computes the same and has no time of its own, so it never takes part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from benchmarks.timing import GPU, Side

DEVICE = "cuda"


def no_gpu(device: str = "cuda") -> str | None:
    """Say why nothing can be timed on a GPU here; None if it can."""
    from minicnn.backend import check_device

    try:
        named = check_device(device)
    except ValueError as error:
        return str(error).removeprefix("device: ")
    return "a simulated GPU has no time of its own" if named.startswith("cuda:sim") else None


def timed_by_events(
    cuda: Any, call: Callable[[], Any], calls: int, samples: int = 1
) -> list[float]:
    """Return the seconds of one call between two events of a CUDA device, for each sample.

    Args:
        cuda: CuPy's module of that name.
        call: the work.
        calls: how many lie between the events.
        samples: how often that is done.
    """
    found = []
    for _ in range(samples):
        start, end = cuda.Event(), cuda.Event()
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        found.append(cuda.get_elapsed_time(start, end) / 1e3 / calls)
    return found


@dataclass
class GPUSide(Side):
    """A kernel on a CUDA device, in this process."""

    device: str = DEVICE

    def start(self) -> Any:
        from minicnn.backend import to_host

        return to_host(super().start())

    def run(self, calls: int, clock: str, samples: int = 1) -> list[float]:
        from minicnn.backend import array_module

        assert self.call is not None
        return timed_by_events(array_module(self.device).cuda, self.call, calls, samples)


def gpu_side(
    build: Callable[..., Callable[[], Any]], *arrays: NDArray[Any], device: str = DEVICE
) -> Side:
    """Return the side of a kernel on a CUDA device; missing, with the reason, where there is none.

    Args:
        build: (arrays...) -> call, of arrays on the device.
        arrays: on the host.
        device: which.
    """
    if (reason := no_gpu(device)) is not None:
        return Side(GPU, missing=reason)
    from minicnn.backend import array_module, to_device

    moved = [to_device(array, device) for array in arrays]
    side = GPUSide(GPU, build(*moved), device=device)
    cuda = array_module(device).cuda
    side.transfer = min(timed_by_events(cuda, lambda: [to_device(a, device) for a in arrays], 1, 3))
    return side
