"""Cases of `softmax.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels import softmax

SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "a few classes": ((9, 10), 1),
    "as many classes as lanes": ((5, 32), -1),
    "more classes than lanes": ((7, 77), 1),
    "one class": ((4, 1), 1),
    "one row": ((33,), 0),
    "columns": ((5, 7), 0),
    "pixels": ((2, 21, 5, 7), 1),
    "no row": ((0, 3), 1),
    "no column": ((3, 0), 0),
}
MAIN: dict[str, tuple[tuple[int, ...], int]] = {
    "long rows": ((9, 200), 1),
    "a map": ((2, 21, 16, 16), 1),
}
OPS = ("softmax", "log_softmax")


def forward(shape, dim):
    return lambda rng, dtype: ((5 * rng.standard_normal(shape)).astype(dtype), dim)


def backward(op, shape, dim):
    """Return an argument maker with an output that the forward pass has computed."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input = (5 * rng.standard_normal(shape)).astype(dtype)
        output = getattr(softmax, f"{op}_forward")(input, dim)
        return rng.standard_normal(shape).astype(dtype), output, dim

    return arguments


def extremes(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    """Rows that no shift by their maximum saves, and rows that nothing else would save."""
    inf, nan = np.inf, np.nan
    rows = [
        [nan, 1, 2], [1, 2, nan], [inf, 1, 2], [-inf, 1, 2], [-inf, -inf, -inf],
        [1e3, 999, -1e3], [1e30, 0, -1e30],
    ]  # fmt: skip
    return np.array(rows, dtype), 1


def extreme_pixels(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    rows, _ = extremes(rng, dtype)
    return rows.T.copy(), 0


def wide_extremes(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    """NaN and infinities in the last lane's part of a row."""
    input = rng.standard_normal((3, 64)).astype(dtype)
    input[0, 63], input[1, 63], input[2, :63] = np.nan, np.inf, -np.inf
    return input, 1


def _cases() -> list[Case]:
    found = []
    for op in OPS:
        for label, (shape, dim) in (SHAPES | MAIN).items():
            main = label in MAIN
            found += [
                Case(f"{op}_forward", label, forward(shape, dim), main=main),
                Case(f"{op}_backward", label, backward(op, shape, dim), main=main),
            ]
    return found + _extreme_cases()


def _extreme_cases() -> list[Case]:
    return [
        Case(f"{op}_forward", label, maker, reference=reference)
        for op in OPS
        for label, maker in [
            ("extremes", extremes),
            ("extreme pixels", extreme_pixels),
            ("extremes in the last lane", wide_extremes),
        ]
        for reference in [_quiet(op)]
    ]


def _quiet(op: str) -> Callable[..., np.ndarray]:
    """Return the op's reference in NumPy, which Python's own exp and log would not survive."""

    def reference(input: np.ndarray, dim: int) -> np.ndarray:
        with np.errstate(all="ignore"):
            shifted = input.astype(np.float64)
            shifted = shifted - shifted.max(dim, keepdims=True)
            total = np.exp(shifted).sum(dim, keepdims=True)
            return np.exp(shifted) / total if op == "softmax" else shifted - np.log(total)

    return reference


CASES = _cases()
