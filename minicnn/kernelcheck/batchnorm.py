"""Cases of `batchnorm.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels import batchnorm as kernels

Maker = Callable[[Rng, np.dtype], tuple[Any, ...]]

EPS = 1e-5
SHAPES = {
    "images": (3, 5, 7, 9),
    "two values": (2, 3),
    "rows": (37, 4),
    "one image": (1, 3, 5, 5),
    "one channel": (4, 1, 33),
    # Blocks have 256 threads: a channel that fills none, one that leaves a remainder.
    "channel longer than a block": (3, 2, 11, 13),
    "more channels than a block": (2, 300, 2),
    "ragged": (8, 6, 14, 15),
    "large": (5, 6, 16, 16),
}
LARGE = ("channel longer than a block", "ragged", "large")
# Sums in float32 of a few hundred numbers in another order than the reference's.
SUMS: dict[str, Any] = {"rtol": (2e-6, 1e-14), "atol": (1e-5, 1e-13)}
ALGORITHMS = ("plain", "block")


def example(
    rng: Rng, dtype: np.dtype, shape: tuple[int, ...], offset: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an input with `offset` in its mean, and weight and bias."""
    spread = rng.uniform(0.5, 2, (shape[1], *(1 for _ in shape[2:])))
    input = (spread * (rng.standard_normal(shape) + offset)).astype(dtype)
    weight, bias = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    return input, weight, bias


def statistics(shape: tuple[int, ...], offset: float = 1.0) -> Maker:
    return lambda rng, dtype: example(rng, dtype, shape, offset)[:1]


def forward(shape: tuple[int, ...]) -> Maker:
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input, weight, bias = example(rng, dtype, shape)
        mean, variance = rng.standard_normal(shape[1]), rng.uniform(0.2, 3, shape[1])
        return input, mean.astype(dtype), variance.astype(dtype), weight, bias, EPS

    return arguments


def sums(shape: tuple[int, ...]) -> Maker:
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input, *_ = example(rng, dtype, shape)
        grad_output = rng.standard_normal(shape).astype(dtype)
        return grad_output, input, *kernels.batch_norm_statistics(input), EPS

    return arguments


def backward(shape: tuple[int, ...]) -> Maker:
    """Return an argument maker; grad_output has a mean and a part along xhat to be taken out."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input, weight, _ = example(rng, dtype, shape)
        grad_output = (rng.standard_normal(shape) + 0.5 * input + 1).astype(dtype)
        known = kernels.batch_norm_statistics(input)
        both = kernels.batch_norm_sums(grad_output, input, *known, EPS)
        return grad_output, input, *known, weight, *both, EPS

    return arguments


def backward_by_jacobian(grad_output, input, mean, variance, weight, grad_weight, grad_bias, eps):
    """Define the gradient as `batch_norm_backward_reference` does, its loops a product of matrices.

    The loops take seconds for a channel of a thousand values.
    """
    grad_input = np.zeros(input.shape)
    for c in range(input.shape[1]):
        values, grads = (x[:, c].astype(np.float64).ravel() for x in (input, grad_output))
        deviation = np.sqrt(values.var() + eps)
        xhat = (values - values.mean()) / deviation
        slope = (np.eye(values.size) - (1 + np.outer(xhat, xhat)) / values.size) / deviation
        grad_input[:, c] = (weight[c] * (slope @ grads)).reshape(input[:, c].shape)
    return grad_input


def with_nan(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    """NaN in one channel stays there."""
    input = rng.standard_normal((2, 3, 5)).astype(dtype)
    input[1, 1, 2] = np.nan
    return (input,)


def _cases() -> list[Case]:
    found = []
    for label, shape in SHAPES.items():
        main = label == "large"
        for algorithm in ALGORITHMS:
            name = f"{label}, {algorithm}"
            options: Any = {"device_options": {"algorithm": algorithm}, "main": main}
            found += [
                Case("batch_norm_statistics", name, statistics(shape), **options, **SUMS),
                Case("batch_norm_sums", name, sums(shape), **options, **SUMS),
            ]
        found += [
            Case("batch_norm_forward", label, forward(shape), main=main),
            Case(
                "batch_norm_backward",
                label,
                backward(shape),
                main=main,
                **SUMS,
                reference=backward_by_jacobian if label in LARGE else None,
            ),
        ]
    return found + _hard_cases()


def _hard_cases() -> list[Case]:
    found = []
    for algorithm in ALGORITHMS:
        options: Any = {"device_options": {"algorithm": algorithm}}
        # The shortcut mean(x^2) - mean(x)^2 would be off by 1000 times the variance.
        far = Case(
            "batch_norm_statistics", f"mean 10,000, {algorithm}",
            statistics((4, 3, 9, 11), 1e4), rtol=(1e-5, 1e-10), atol=(0.02, 1e-8), **options,
        )  # fmt: skip
        spoilt = Case("batch_norm_statistics", f"NaN, {algorithm}", with_nan, **options, **SUMS)
        found += [far, spoilt]
    return found


CASES = _cases()
