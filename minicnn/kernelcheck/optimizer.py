"""Cases of `optimizer.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng

SHAPES: dict[str, tuple[int, ...]] = {
    "a scalar": (),
    "nothing": (0,),
    "a matrix": (9, 37),
    "large": (30, 1000),
}
# momentum (None: no velocity), dampening, weight decay, Nesterov
SGD: dict[str, Any] = {
    "plain": (None, 0.0, 0.0, False),
    "plain with decay": (None, 0.0, 0.1, False),
    "momentum": (0.9, 0.0, 0.0, False),
    "damped": (0.9, 0.3, 0.1, False),
    "Nesterov": (0.9, 0.2, 0.1, True),
}
# weight decay, decoupled
ADAM: dict[str, Any] = {"Adam": (0.0, False), "with decay": (0.1, False), "AdamW": (0.1, True)}


def normal(rng: Rng, shape: tuple[int, ...], dtype: np.dtype, count: int) -> list[np.ndarray]:
    return [np.asarray(rng.standard_normal(shape), dtype) for _ in range(count)]


def sgd(shape, first, momentum, dampening, weight_decay, nesterov):
    """Return an argument maker; before the first step the velocity holds NaN."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        parameter, gradient, velocity = normal(rng, shape, dtype, 3)
        if first:
            velocity = np.full(shape, np.nan, dtype)
        options = 0.1, momentum or 0.0, dampening, weight_decay, nesterov, first
        return parameter, gradient, None if momentum is None else velocity, *options

    return arguments


def adam(shape, step, weight_decay, decoupled):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        parameter, gradient, exp_avg = normal(rng, shape, dtype, 3)
        exp_avg_sq = np.asarray(rng.random(shape), dtype)
        options = step, 0.1, 0.9, 0.99, 1e-3, weight_decay, decoupled
        return parameter, gradient, exp_avg, exp_avg_sq, *options

    return arguments


def _cases() -> list[Case]:
    found = []
    for place, shape in SHAPES.items():
        large = place == "large"
        for label, rule in SGD.items():
            for first in (True, False):
                name = f"{label}, {place}, {'first step' if first else 'later step'}"
                changed = (0,) if rule[0] is None else (0, 2)
                maker = sgd(shape, first, *rule)
                main = large and label == "momentum" and not first
                found.append(Case("sgd_step", name, maker, in_place=changed, main=main))
        for label, rule in ADAM.items():
            for step in (1, 10):
                name = f"{label}, {place}, step {step}"
                maker = adam(shape, step, *rule)
                main = large and label == "Adam" and step > 1
                found.append(Case("adam_step", name, maker, in_place=(0, 2, 3), main=main))
    return found


CASES = _cases()
