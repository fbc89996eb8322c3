"""`cudasim.linalg`: the one function of CuPy's that needs no matrix library."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.cudasim.array import call, ndarray


def norm(x: ndarray, ord: Any = None, axis: Any = None, keepdims: bool = False) -> ndarray:
    """Return a norm of vectors or of matrices, by default the root of the sum of squares."""
    return call(np.linalg.norm, x, ord=ord, axis=axis, keepdims=keepdims)
