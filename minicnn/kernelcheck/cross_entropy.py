"""Cases of `cross_entropy.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels import cross_entropy as kernels

IGNORED = -100
# (N, C, L)
SHAPES = {
    "rows": (5, 7, 1),
    "pixels": (2, 3, 7),
    "one class": (3, 1, 1),
    "no row": (0, 3, 1),
    "no pixel": (2, 4, 0),
    "large": (4, 21, 300),
}


def example(rng, shape, dtype, weighted):
    """Return log-probabilities, targets of which some are ignored, and weights or None."""
    batch, classes, pixels = shape
    log_probs = -np.abs(rng.standard_normal(shape)).astype(dtype)
    target = rng.integers(0, classes, (batch, pixels))
    target[rng.random(target.shape) < 0.3] = IGNORED
    return log_probs, target, rng.random(classes).astype(dtype) if weighted else None


def forward(shape, weighted, smoothing):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        return *example(rng, shape, dtype, weighted), IGNORED, smoothing

    return arguments


def backward(shape, weighted, smoothing):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        _, target, weight = example(rng, shape, dtype, weighted)
        grad_output = rng.standard_normal(target.shape).astype(dtype)
        return grad_output, target, weight, IGNORED, smoothing, shape[1]

    return arguments


def weights(shape):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        _, target, weight = example(rng, shape, dtype, True)
        return target, weight, IGNORED, dtype

    return arguments


def weights_of_any_dtype(target, weight, ignore_index, dtype):
    return kernels.cross_entropy_weights_reference(target, weight, ignore_index)


def impossible(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    """Log-probabilities of minus infinity and NaN count only where they are wanted."""
    log_probs = np.array([[0, -np.inf], [0, -np.inf], [np.nan, np.nan], [np.nan, 0]], dtype)
    return log_probs[..., None], np.array([[0], [1], [IGNORED], [1]]), None, IGNORED, 0.0


def infinite_gradient(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    grad_output = np.array([[np.inf], [-np.inf], [np.nan]], dtype)
    return grad_output, np.array([[0], [1], [IGNORED]]), None, IGNORED, 0.0, 3


def gradient_by_cases(grad_output, target, weight, ignore_index, smoothing, num_classes):
    """Define the gradient without smoothing where the reference would multiply infinity by 0."""
    grad = np.zeros((*target.shape[:1], num_classes, *target.shape[1:]))
    for n, i in np.ndindex(*target.shape):
        if target[n, i] != ignore_index:
            grad[n, target[n, i], i] = -grad_output[n, i]
    return grad


def _cases() -> list[Case]:
    found = []
    for label, shape in SHAPES.items():
        large = label == "large"
        for weighted in (True, False):
            for smoothing in (0.0, 0.1, 1.0):
                name = f"{label}, {'weights' if weighted else 'no weights'}, smoothing {smoothing}"
                given = shape, weighted, smoothing
                main = large and not weighted and smoothing == 0.0
                found += [
                    Case("cross_entropy_forward", name, forward(*given), main=main),
                    Case("cross_entropy_backward", name, backward(*given), main=main),
                ]
        options: Any = {"reference": weights_of_any_dtype, "exact": True, "main": large}
        found.append(Case("cross_entropy_weights", label, weights(shape), **options))
    options = {"reference": gradient_by_cases}
    return [
        *found,
        Case("cross_entropy_forward", "impossible classes", impossible),
        Case("cross_entropy_backward", "infinite gradients", infinite_gradient, **options),
    ]


CASES = _cases()
