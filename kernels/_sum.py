"""Sums over runs of consecutive numbers, at the speed at which memory delivers them.

A running sum waits four cycles for each addition. Here 4 registers of `lanes` sums each are under
way at once, and their sums are taken together at the end. The rounding error is that of count /
(4 * lanes) additions instead of count.
"""

from __future__ import annotations

from minicnn.kernels._jit import jit
from minicnn.kernels._vector import (
    lane_count,
    load_masked,
    load_vector,
    sum_lanes,
    zero_vector,
)


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
