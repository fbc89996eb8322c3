"""exp and expm1 for x <= 0, as plain arithmetic: of a number, and exp of a vector.

    x = k * ln 2 + r,   k = round(x / ln 2),   |r| <= ln 2 / 2
    exp(x)   = 2^k * (1 + expm1(r))
    expm1(x) = 2^k * expm1(r) + (2^k - 1)           (no cancellation: for small x, k = 0)
    expm1(r) = r + r^2 / 2! + r^3 / 3! + ...        (13 terms: the rest is below 5e-18)

Numba calls the C library for `math.exp`, once for each element; with it a sigmoid takes 1.6 times
and a tanh 8 times as long. Both functions compute in float64 whatever the arrays hold, are right to
one unit in the last place of float64 or two, and flush results below 1e-307 to zero. Nothing here
needs a positive exponent: sigmoid and tanh, written stably, raise e to negative numbers only.

Source: Cody and Waite, "Software Manual for the Elementary Functions", 1980, chapter 6.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from minicnn.kernels._jit import inline_jit, jit
from minicnn.kernels._vector import Vector, full_vector, maximum, power_of_two

LOWEST = -708.0  # below it, exp(x) is no normal float64
LOG2_E = 1.0 / math.log(2.0)
# ln 2 in two parts. The first has trailing zeros enough that k * LN2_HIGH is exact.
LN2_HIGH = 0.693147180369123816490
LN2_LOW = 1.90821492927058770002e-10
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13 = (1.0 / math.factorial(n) for n in range(2, 14))


@jit
def exp(x):
    """Return e^x for x <= 0 as float64; NaN stays NaN."""
    scale, remainder = _reduce(x)
    if x > LOWEST:
        return scale * remainder + scale
    return 0.0 if x <= LOWEST else math.nan


@jit
def expm1(x):
    """Return e^x - 1 for x <= 0 as float64; NaN stays NaN."""
    scale, remainder = _reduce(x)
    if x > LOWEST:
        return scale * remainder + (scale - 1.0)
    return -1.0 if x <= LOWEST else math.nan


@jit
def _reduce(x):
    """Return 2^k and expm1(r)."""
    bounded = x if x > LOWEST else LOWEST
    k = np.floor(bounded * LOG2_E + 0.5)
    r = bounded - k * LN2_HIGH - k * LN2_LOW
    high = C8 + r * (C9 + r * (C10 + r * (C11 + r * (C12 + r * C13))))
    series = C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * (C7 + r * high)))))
    # 2^k is the float64 whose exponent bits are k + 1023 and whose other bits are zero.
    bits = np.int64(np.int64(np.int32(k)) + np.int64(1023)) << np.int64(52)
    return np.int64(bits).view(np.float64), r + r * r * series


def exp_vector(x):
    """Return e^x for each lane of a Vector, x <= 0, in kernels; NaN stays NaN."""
    raise NotImplementedError("exp_vector: expected to be called in a kernel")


@overload(exp_vector, inline="never", jit_options={"nogil": True, "forceinline": True})
def _exp_vector(x):
    if not isinstance(x, Vector):
        return None
    function = _exp_single if x.dtype is types.float32 else _exp_double
    return lambda x: function(x)


ROUND_SINGLE = 1.5 * 2**23
LN2_HIGH_SINGLE = 0.693359375  # 9 bits
LN2_LOW_SINGLE = -2.12194440054690583e-4
ROUND_DOUBLE = 1.5 * 2**52


@inline_jit
def _exp_single(x):
    bounded = maximum(full_vector(x, -104.0), x)
    shifted = bounded * LOG2_E + ROUND_SINGLE
    k = shifted - ROUND_SINGLE
    r = bounded - k * LN2_HIGH_SINGLE - k * LN2_LOW_SINGLE
    series = C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * C7))))
    # In two steps, of which the second may round to a subnormal number.
    scale = power_of_two(shifted + 64.0)
    return (scale * (r + r * r * series) + scale) * 2.0**-64


@inline_jit
def _exp_double(x):
    bounded = maximum(full_vector(x, -746.0), x)
    shifted = bounded * LOG2_E + ROUND_DOUBLE
    k = shifted - ROUND_DOUBLE
    r = bounded - k * LN2_HIGH - k * LN2_LOW
    high = C8 + r * (C9 + r * (C10 + r * (C11 + r * (C12 + r * C13))))
    series = C2 + r * (C3 + r * (C4 + r * (C5 + r * (C6 + r * (C7 + r * high)))))
    scale = power_of_two(shifted + 512.0)
    return (scale * (r + r * r * series) + scale) * 2.0**-512
