"""What every host function does before it runs a kernel: find the array module, make arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.kernels._memory import arena


def array_module(op: str, array: object) -> Any:
    """Return NumPy, CuPy or the simulator's look-alike of it, whichever `array` was made by.

    Raises:
        TypeError: naming `op`, when `array` is no array of these three.
    """
    if isinstance(array, np.ndarray):
        return np
    package = type(array).__module__
    if package.split(".")[0] == "cupy":
        import cupy

        return cupy
    if package.startswith("minicnn.cudasim"):
        from minicnn import cudasim

        return cudasim
    kind = f"{package}.{type(array).__qualname__}"
    raise TypeError(f"{op}: expected a NumPy array or one on a CUDA device, got {kind}")


def empty(xp: Any, shape: int | Sequence[int], dtype: Any) -> Any:
    """Return a new array of `xp` with values left as they are; on the CPU, in recycled memory."""
    return arena.empty(shape, dtype) if xp is np else xp.empty(shape, dtype)


def contiguous(array: Any) -> Any:
    """Return `array` in C order, itself where it lies so; a 0-d array stays 0-d."""
    return array if array.flags.c_contiguous else array.copy()
