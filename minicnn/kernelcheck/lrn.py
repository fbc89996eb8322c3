"""Cases of `lrn.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels import lrn as kernels

Maker = Callable[[Rng, np.dtype], tuple[Any, ...]]

# A factor near 1: with the customary 1e-4 a missing channel would drown in the tolerance.
ALPHA = 0.9
SHAPES = {
    "images": (2, 7, 3, 5),
    "one channel": (2, 1, 9),
    "fewer channels than the window": (1, 3, 5),
    "as many channels as the window": (1, 5, 7),
    "more pixels than a block": (1, 6, 17, 19),
    "ragged": (3, 16, 13, 13),
    "no image": (0, 3, 4),
}
LARGE = (3, 16, 16, 16)
SIZES = (1, 2, 3, 4, 5, 8)
POWER: dict[str, Any] = {"rtol": (4e-6, 1e-13), "atol": (4e-6, 1e-13)}
ALGORITHMS = ("plain", "window")


def forward(shape: tuple[int, ...], size: int, beta: float) -> Maker:
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        return rng.standard_normal(shape).astype(dtype), size, ALPHA, beta, 1.0

    return arguments


def backward(shape: tuple[int, ...], size: int, beta: float) -> Maker:
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input, grad_output = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        both = kernels.lrn_forward(input, size, ALPHA, beta, 1.0)
        return grad_output, input, *both, size, ALPHA, beta

    return arguments


def outlier(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    """A square so large that a window that slid over it would keep its rounding error."""
    input = rng.standard_normal((1, 11, 33)).astype(dtype)
    input[0, 3] *= 1e4
    input[0, 7, ::2] *= 1e3
    input[0, 4:6, ::3] = 0
    return input, 3, ALPHA, 0.75, 1.0


def sparse(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    """Mostly zeros, as after a ReLU."""
    input = rng.standard_normal((2, 19, 23)).astype(dtype)
    return np.maximum(input - 1, 0), 5, ALPHA, 0.75, 1.0


def infinite(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    """NaN and infinities reach the windows that hold them, and no further."""
    input = rng.standard_normal((1, 12, 5)).astype(dtype)
    input[0, 2, 0], input[0, 0, 1], input[0, 5, 2], input[0, 11, 3] = (
        np.nan,
        np.inf,
        -np.inf,
        np.nan,
    )
    return input, 3, ALPHA, 0.75, 1.0


def defined(input: np.ndarray, size: int, alpha: float, beta: float, k: float) -> Any:
    """The reference, silent where infinity is divided by infinity."""
    with np.errstate(invalid="ignore"):
        output, scale = kernels.lrn_forward_reference(input, size, alpha, beta, k)
    return output, scale


def _cases() -> list[Case]:
    found = []
    for label, shape in {**SHAPES, "large": LARGE}.items():
        for size in SIZES if label != "large" else (5,):
            beta = 0.75 if size != 3 else 0.5
            name, main = f"{label}, size {size}", label == "large"
            for algorithm in ALGORITHMS:
                options: Any = {"device_options": {"algorithm": algorithm}, "main": main, **POWER}
                full = f"{name}, {algorithm}"
                found.append(Case("lrn_forward", full, forward(shape, size, beta), **options))
            maker = backward(shape, size, beta)
            found.append(Case("lrn_backward", name, maker, main=main, **POWER))
    for label, maker in [("outlier", outlier), ("sparse", sparse), ("infinite", infinite)]:
        for algorithm in ALGORITHMS:
            options = {"device_options": {"algorithm": algorithm}, "reference": defined}
            # Relative: the outlier's own scale is 1e8.
            tolerance: Any = {"rtol": (4e-6, 1e-13), "atol": (1e-6, 1e-13)}
            full = f"{label}, {algorithm}"
            found.append(Case("lrn_forward", full, maker, **options, **tolerance))
    return found


CASES = _cases()
