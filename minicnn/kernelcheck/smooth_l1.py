"""Cases of `smooth_l1.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng

Maker = Callable[[Rng, np.dtype], tuple[Any, ...]]

SHAPES = {"one element": (1,), "nothing": (0, 3), "a plane": (37, 29), "large": (3, 5, 7, 97)}


def inputs(op: str, shape: tuple[int, ...], beta: float) -> Maker:
    """Return an argument maker: differences on both sides of `beta`, exactly at it, and 0."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input, grad_output = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
        # Numbers whose differences no dtype rounds: steps of 1/8.
        input = np.round(8 * input) / dtype.type(8)
        target = input + (rng.integers(-12, 13, shape) / 8).astype(dtype)
        return (input, target, beta) if op == "forward" else (grad_output, input, target, beta)

    return arguments


def special(op: str, beta: float) -> Maker:
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input = np.array([0, 0, np.inf, -np.inf, np.inf, np.nan, 0, 1e-30, -1e-30], dtype)
        target = np.array([0, -0.0, 0, 0, np.inf, 0, np.nan, 0, 0], dtype)
        ones = np.ones(input.shape, dtype)
        return (input, target, beta) if op == "forward" else (ones, input, target, beta)

    return arguments


def _quiet(op: str) -> Callable[..., np.ndarray]:
    """Return the loss and slope in NumPy; infinity minus infinity is NaN without a warning."""

    def loss(input: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            distance = np.abs(input.astype(np.float64) - target)
        return np.where(distance < beta, distance**2 / 2 / (beta or 1), distance - beta / 2)

    def slope(grad_output: Any, input: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            difference = input.astype(np.float64) - target
        return np.sign(difference) if beta == 0 else np.clip(difference / beta, -1, 1)

    return loss if op == "forward" else slope


def _cases() -> list[Case]:
    found = []
    for op in ("forward", "backward"):
        name = f"smooth_l1_{op}"
        for label, shape in SHAPES.items():
            for beta in (0.0, 0.25, 1.0, 1 / 9):
                maker = inputs(op, shape, beta)
                found.append(Case(name, f"{label}, beta {beta:.3g}", maker, main=label == "large"))
        for beta in (0.0, 1.0):
            maker = special(op, beta)
            found.append(Case(name, f"special, beta {beta:g}", maker, reference=_quiet(op)))
    return found


CASES = _cases()
