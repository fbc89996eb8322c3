"""Cases of `roi_pool.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels import roi_pool

# Rows are n, x1, y1, x2, y2; images are unordered on purpose.
EDGES = [
    [1, 2, 1, 9, 7],
    [0, 0, 0, 11, 8],
    [1, 4, 4, 4, 4],  # one pixel
    [0, 9, 7, 3, 2],  # the ends the wrong way round
    [1, -7, -5, 2, 3],  # over the upper left border
    [0, 8, 6, 40, 30],  # over the lower right border
    [1, 50, 50, 60, 70],  # outside
    [0, -30, -30, -20, -20],
    [0, 2.5, 1.5, 6.5, 4.5],  # halves, to be rounded away from zero
    [0, -2.5, -1.5, 6.5, 4.5],
    [1, 2, 1, 9, 7],  # the first once more: gradients add up
]
# rois, output size, spatial scale
REGIONS: dict[str, Any] = {
    "edges": (EDGES, (3, 2), 1.0),
    "more bins than pixels": (EDGES, (7, 9), 0.5),
    "one bin": (EDGES, (1, 1), 0.7),
    "bins of no whole number": (EDGES, (5, 3), 0.9),
    "no region": (np.zeros((0, 5)), (2, 2), 1.0),
}


def few_values(rng: Rng, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return integers from a small range: bins hold their maximum more than once."""
    return rng.integers(-9, -4, shape).astype(dtype)


def with_nan(rng: Rng, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return rng.choice(np.array([np.nan, np.inf, -np.inf, -np.inf, 1, 2], dtype), shape)


def random_regions(rng: Rng, count: int, batch: int, size: float) -> np.ndarray:
    """Return regions with ends in order, some beyond the border of `size` pixels."""
    first = rng.uniform(-0.2 * size, 0.8 * size, (count, 2))
    last = first + rng.uniform(0, 0.6 * size, (count, 2))
    return np.concatenate([rng.integers(0, batch, (count, 1)), first, last], 1)


def forward(values, shape, rois, *rule):
    return lambda rng, dtype: (values(rng, shape, dtype), np.array(rois, dtype), *rule)


def backward(shape, rois, output_size, scale):
    """Return an argument maker with an argmax that the forward pass has found."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        placed = np.array(rois, dtype)
        _, argmax = roi_pool.roi_pool_forward(
            few_values(rng, shape, dtype), placed, output_size, scale
        )
        grad_output = np.asarray(rng.standard_normal(argmax.shape), dtype)
        return grad_output, placed, argmax, scale, (shape[0], *shape[2:])

    return arguments


def gather(shape, rois, *rule):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input, placed = few_values(rng, shape, dtype), np.array(rois, dtype)
        _, argmax = roi_pool.roi_pool_forward(input, placed, *rule)
        return np.asarray(rng.standard_normal(shape), dtype), placed, argmax

    return arguments


def _cases() -> list[Case]:
    shape, found = (2, 3, 9, 12), []
    for label, rule in REGIONS.items():
        found += [
            Case("roi_pool_forward", label, forward(few_values, shape, *rule), exact=True),
            Case("roi_pool_backward", label, backward(shape, *rule), exact=True),
            Case("roi_pool_gather", label, gather(shape, *rule), exact=True),
        ]
    one = ((1, 1, 1, 1), [[0, 0, 0, 0, 0], [0, -1, -1, 3, 3]], (2, 2), 1.0)
    rois = random_regions(np.random.default_rng(0), 12, 2, 400)
    many = ((2, 8, 19, 26), rois, (7, 7), 1 / 16)
    return [
        *found,
        Case("roi_pool_forward", "NaN", forward(with_nan, shape, EDGES, (3, 2), 1.0), exact=True),
        Case("roi_pool_forward", "one pixel", forward(few_values, *one), exact=True),
        Case("roi_pool_backward", "one pixel", backward(*one), exact=True),
        Case("roi_pool_forward", "7x7", forward(few_values, *many), exact=True, main=True),
        Case("roi_pool_backward", "7x7", backward(*many), exact=True, main=True),
        Case("roi_pool_gather", "7x7", gather(*many), exact=True, main=True),
    ]


CASES = _cases()
