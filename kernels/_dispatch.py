"""Which array module an array belongs to: the one question a host function asks before it runs."""

from __future__ import annotations

from typing import Any

import numpy as np


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


def contiguous(array: Any) -> Any:
    """Return `array` in C order, itself where it lies so; a 0-d array stays 0-d."""
    return array if array.flags.c_contiguous else array.copy()
