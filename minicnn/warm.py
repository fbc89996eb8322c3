"""Run every Numba kernel once, so that its code is on disk before anybody waits for it.

Which kernels there are, for which arguments and in which layouts of memory, follows from the host
functions. So everything that is there to be checked is run: the cases of `kernelcheck`, which reach
every kernel that has a CUDA twin, and the operations of `opcheck`, forward and backward.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from minicnn.kernelcheck.case import cases, make_arguments, run_case
from minicnn.kernels import _cache, _launch
from minicnn.opcheck import OPS
from minicnn.tensor import Tensor

# What is told: a kernel's name and what became of it, or that one of the calls is made.
Event = _cache.Event | Literal["called"]
Tell = Callable[[str, Event], None]


def count_calls(dtypes: Sequence[np.dtype]) -> int:
    """Return how many calls `warm` makes."""
    return len(dtypes) * (sum(len(cases(stem)) for stem in _launch.stems()) + len(OPS))


def warm(dtypes: Sequence[np.dtype], tell: Tell, jobs: int = 1) -> None:
    """Compile, or load, what there is for arrays of these dtypes.

    Args:
        dtypes: float32, float64 or both.
        tell: is called with each event and the name it belongs to, in some thread of this process.
        jobs: how many processes compile at the same time; Numba compiles one kernel at a time.
    """
    # The largest files first: what is begun last should be short.
    files = sorted(_launch.stems(), key=_size, reverse=True)
    if jobs == 1:
        with _cache.watch(tell):
            for stem in files:
                _run_cases(stem, dtypes, tell)
    else:
        _share_out(files, dtypes, tell, jobs)
    with _cache.watch(tell):
        for name in OPS:
            for dtype in dtypes:
                _run_op(name, dtype)
                tell(name, "called")


def _size(stem: str) -> int:
    return (_launch.FOLDER / f"{stem}.py").stat().st_size


def _run_cases(stem: str, dtypes: Sequence[np.dtype], tell: Tell) -> None:
    for dtype in dtypes:
        for case in cases(stem):
            run_case(stem, case, make_arguments(case, dtype))
            tell(stem, "called")


def _run_op(name: str, dtype: np.dtype) -> None:
    function, inputs = OPS[name](np.random.default_rng(0))
    cast = [_cast(tensor, dtype) for tensor in inputs]
    outputs = function(*cast)
    for output in outputs if isinstance(outputs, (tuple, list)) else (outputs,):
        if output.requires_grad:
            output.sum().backward(retain_graph=True)


def _cast(tensor: Tensor | None, dtype: np.dtype) -> Tensor | None:
    if tensor is None or tensor.dtype.kind != "f":
        return tensor
    cast = tensor.detach().to(dtype)
    cast.requires_grad = tensor.requires_grad
    return cast


# Several processes: each takes the next file, and sends back what it has to tell.


def _share_out(files: Sequence[str], dtypes: Sequence[np.dtype], tell: Tell, jobs: int) -> None:
    context = multiprocessing.get_context("spawn")
    told: Any = context.SimpleQueue()

    def pass_on() -> None:
        while (message := told.get()) is not None:
            tell(*message)

    listener = threading.Thread(target=pass_on)
    listener.start()
    try:
        with context.Pool(min(jobs, len(files)), _begin, (told,)) as pool:
            for _ in pool.imap_unordered(_run_file, [(stem, dtypes) for stem in files]):
                pass
    finally:
        told.put(None)
        listener.join()


def _begin(told: Any) -> None:
    global _told
    _told = told
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of Ctrl-C and ends all


def _run_file(work: tuple[str, Sequence[np.dtype]]) -> None:
    def tell(name: str, event: Event) -> None:
        _told.put((name, event))

    with _cache.watch(tell):
        _run_cases(*work, tell)


_told: Any = None
