"""Cases of `activation.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng

Maker = Callable[[Rng, np.dtype], tuple[Any, ...]]

SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 1e-5, -1e-5, 88.0, -88.0, 100.0, -100.0, np.inf, -np.inf]
SHAPES = {"one element": (1,), "a plane": (37, 29), "more than one block": (3, 5, 7, 11)}


def inputs(shape: tuple[int, ...], *rest: float, count: int = 1) -> Maker:
    """Return an argument maker: `count` normal arrays of `shape`, then `rest`."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        return (*(np.asarray(3 * rng.standard_normal(shape), dtype) for _ in range(count)), *rest)

    return arguments


def special(rng: Rng, dtype: np.dtype) -> tuple[np.ndarray]:
    return (np.array([*SPECIAL, np.nan], dtype),)


def _cases() -> list[Case]:
    found = []
    for label, shape in SHAPES.items():
        for op, rest, exact in [
            ("relu_forward", (), True),
            ("leaky_relu_forward", (0.25,), False),
            ("sigmoid_forward", (), False),
            ("tanh_forward", (), False),
        ]:
            main = shape == (3, 5, 7, 11)
            found.append(Case(op, label, inputs(shape, *rest), exact=exact, main=main))
        for op, rest, exact in [
            ("relu_backward", (), True),
            ("leaky_relu_backward", (-0.5,), False),
            ("sigmoid_backward", (), False),
            ("tanh_backward", (), False),
        ]:
            maker = inputs(shape, *rest, count=2)
            found.append(Case(op, label, maker, exact=exact, main=shape == (3, 5, 7, 11)))
    for op in ("relu_forward", "tanh_forward"):
        found.append(Case(op, "special values", special, atol=(0, 0)))
    return found


CASES = _cases()
