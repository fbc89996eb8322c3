"""Sums over runs of consecutive numbers, at the speed at which memory delivers them.

A running sum waits four cycles for each addition. Here 4 registers of `lanes` sums each are under
way at once, and their sums are taken together at the end. The rounding error is that of count /
(4 * lanes) additions instead of count.

`sum_around` adds up what the gradient of a bias is: over all dimensions but some neighbouring ones.
NumPy takes 0.21 ms for 16 x 512 x 7 x 7, where runs are short, and this 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._vector import (
    lane_count,
    load_masked,
    load_vector,
    sum_lanes,
    zero_vector,
)

PIECE = 16384  # numbers of a longer run that are summed at a time


def sum_around(array: NDArray, dims: Sequence[int]) -> NDArray | None:
    """Sum over `dims`, which stay with length 1; None where NumPy's own sum is to be taken.

    That is where the dimensions kept are no neighbours or end with the last one, and for arrays
    that are not float32 or float64 in C order.
    """
    kept = [d for d in range(array.ndim) if d not in dims]
    first, end = (kept[0], kept[-1] + 1) if kept else (0, 0)
    runs = array.dtype in (np.float32, np.float64) and array.flags.c_contiguous
    if not runs or end - first != len(kept) or end == array.ndim or array.size == 0:
        return None
    sizes = [math.prod(array.shape[d:e]) for d, e in ((0, first), (first, end), (end, None))]
    output = np.empty([1 if d in dims else n for d, n in enumerate(array.shape)], array.dtype)
    _sum_around(array.reshape(sizes), output.reshape(-1))
    return output


@parallel_jit
def _sum_around(input, output):
    outer, kept, inner = input.shape
    numbers = input.reshape(-1)
    pieces = (inner + PIECE - 1) // PIECE
    parts = np.empty((outer * kept, pieces))
    if outer * kept == 1:
        for piece in prange(pieces):
            start = piece * PIECE
            parts[0, piece] = sum_run(numbers, start, min(inner - start, PIECE))
    else:
        for run in prange(outer * kept):
            for piece in range(pieces):
                start = piece * PIECE
                count = min(inner - start, PIECE)
                parts[run, piece] = sum_run(numbers, run * inner + start, count)
    # Neighbouring totals inside: one total after the other would wait for each of its additions.
    totals = np.zeros(kept)
    for o in range(outer):
        for c in range(kept):
            for piece in range(pieces):
                totals[c] += parts[o * kept + c, piece]
    for c in range(kept):
        output[c] = totals[c]


@jit
def sum_run(array, start, count):
    """Return array[start] + ... + array[start + count - 1] of a flat array."""
    lanes = lane_count(array)
    a = b = c = d = zero_vector(array)
    i = 0
    while i + 4 * lanes <= count:
        a = a + load_vector(array, start + i)
        b = b + load_vector(array, start + i + lanes)
        c = c + load_vector(array, start + i + 2 * lanes)
        d = d + load_vector(array, start + i + 3 * lanes)
        i += 4 * lanes
    while i + lanes <= count:
        a = a + load_vector(array, start + i)
        i += lanes
    rest = load_masked(array, start + i, (1 << (count - i)) - 1, zero_vector(array))
    return sum_lanes((a + b) + (c + (d + rest)))


@jit
def dot_run(a, b, start, count):
    """Return the sum of a[i] * b[i] over a run of two flat arrays, from `start` on in both."""
    lanes = lane_count(a)
    end = start + count
    v = w = x = y = zero_vector(a)
    i = start
    while i + 4 * lanes <= end:
        v = load_vector(a, i) * load_vector(b, i) + v
        w = load_vector(a, i + lanes) * load_vector(b, i + lanes) + w
        x = load_vector(a, i + 2 * lanes) * load_vector(b, i + 2 * lanes) + x
        y = load_vector(a, i + 3 * lanes) * load_vector(b, i + 3 * lanes) + y
        i += 4 * lanes
    while i + lanes <= end:
        v = load_vector(a, i) * load_vector(b, i) + v
        i += lanes
    mask = (1 << (end - i)) - 1
    zero = zero_vector(a)
    w = load_masked(a, i, mask, zero) * load_masked(b, i, mask, zero) + w
    return sum_lanes((v + w) + (x + y))
