"""Cases of `adaptive_pool.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernelcheck.pool import few_values, with_nan

PYRAMID, PLANE = "the pyramid of SPPNet", "a whole plane"
# shape (N, C, height, width), output size
BINS = {
    "bins that overlap": ((2, 3, 13, 10), (6, 6)),
    "bins that divide": ((2, 1, 6, 9), (3, 3)),
    "more bins than pixels": ((1, 2, 3, 2), (5, 3)),
    "one bin": ((1, 2, 5, 7), (1, 1)),
    "one pixel": ((1, 2, 1, 1), (2, 1)),
    "no plane": ((0, 2, 4, 4), (2, 3)),
    "bins of a warp": ((2, 3, 17, 15), (2, 3)),
    "bins with few pixels": ((2, 3, 13, 9), (3, 2)),
    PYRAMID: ((2, 64, 13, 13), (6, 6)),
    PLANE: ((4, 64, 14, 14), (1, 1)),
}


def avg_forward(shape, output_size):
    return lambda rng, dtype: (rng.standard_normal(shape).astype(dtype), output_size)


def avg_backward(shape, output_size):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        return rng.standard_normal((*shape[:2], *output_size)).astype(dtype), *shape[2:]

    return arguments


def max_forward(values, shape, output_size):
    return lambda rng, dtype: (values(rng, shape, dtype), output_size)


def _cases() -> list[Case]:
    found = []
    for label, sizes in BINS.items():
        main = label in (PYRAMID, PLANE)
        largest = max_forward(few_values, *sizes)
        found += [
            Case("adaptive_avg_pool2d_forward", label, avg_forward(*sizes), main=main),
            Case("adaptive_avg_pool2d_backward", label, avg_backward(*sizes), main=main),
            Case("adaptive_max_pool2d_forward", label, largest, exact=True, main=label == PYRAMID),
        ]
    maker = max_forward(with_nan, *BINS["bins that overlap"])
    found.append(Case("adaptive_max_pool2d_forward", "NaN and infinities", maker, exact=True))
    return found


CASES = _cases()
