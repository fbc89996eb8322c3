"""How every kernel is compiled: Numba, kept on disk, without the GIL, never with fastmath.

`jit` is for helpers and serial kernels, `parallel_jit` for kernels whose `prange` is spread over
threads, `inline_jit` for helpers that pass registers. OpenMP is asked for first: a parallel region
costs it about 3 microseconds, Numba's own pool about 100. Its idle threads spin for a moment and
then sleep; left to spin for long, as GNU's default is, they take the core from whatever else runs
and the next region waits for a whole time slice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numba  # noqa: E402  the setting above is read when Numba loads OpenMP
from numba import get_num_threads, njit, prange, set_num_threads  # noqa: E402

from minicnn.kernels._cache import keep_code  # noqa: E402

if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


def jit(function: Callable[..., Any]) -> Any:
    """Compile a helper or a serial kernel when it is first called."""
    return keep_code(njit(nogil=True)(function))


def inline_jit(function: Callable[..., Any]) -> Any:
    """Compile a helper into each of its callers, so that what it returns stays in registers."""
    return keep_code(njit(nogil=True, forceinline=True)(function))


def parallel_jit(function: Callable[..., Any]) -> Any:
    """Compile a kernel with a `prange` when it is first called."""
    return keep_code(njit(parallel=True, nogil=True)(function))


def max_num_threads() -> int:
    """Return the size of the thread pool, fixed when Numba loads."""
    return int(numba.config.NUMBA_NUM_THREADS)


__all__ = [
    "get_num_threads", "inline_jit", "jit", "max_num_threads", "parallel_jit", "prange",
    "set_num_threads",
]  # fmt: skip
