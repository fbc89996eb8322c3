"""How every kernel is compiled: Numba, cached on disk, without the GIL, never with fastmath.

`jit` is for helpers and serial kernels, `parallel_jit` for kernels whose `prange` is spread over
threads. OpenMP is asked for first: a parallel region costs it about 3 microseconds, Numba's own
pool about 100. Its idle threads spin for a moment and then sleep; left to spin for long, as GNU's
default is, they take the core from whatever else runs and the next region waits for a whole time
slice.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numba  # noqa: E402  the setting above is read when Numba loads OpenMP
from numba import get_num_threads, njit, prange, set_num_threads  # noqa: E402

from minicnn.kernels._memory import keep_freed_memory  # noqa: E402

if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

keep_freed_memory()

jit = njit(cache=True, nogil=True)
parallel_jit = njit(parallel=True, cache=True, nogil=True)


def max_num_threads() -> int:
    """Return the size of the thread pool, fixed when Numba loads."""
    return int(numba.config.NUMBA_NUM_THREADS)


__all__ = ["get_num_threads", "jit", "max_num_threads", "parallel_jit", "prange", "set_num_threads"]
