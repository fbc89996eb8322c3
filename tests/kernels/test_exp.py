"""The vectorised exp and expm1 against NumPy's in extended precision."""

import math

import numpy as np
import pytest

from minicnn.kernels import _exp
from minicnn.kernels._jit import jit

NEGATIVE = -np.concatenate([[0.0], np.logspace(-300, math.log10(707.9), 20_000)])


@jit
def _exp_of(x, out):
    for i in range(x.size):
        out[i] = _exp.exp(x[i])


@jit
def _expm1_of(x, out):
    for i in range(x.size):
        out[i] = _exp.expm1(x[i])


@pytest.mark.parametrize("kernel, wanted", [(_exp_of, np.exp), (_expm1_of, np.expm1)])
def test_error_is_a_unit_or_two_in_the_last_place(kernel, wanted):
    result = np.empty_like(NEGATIVE)
    kernel(NEGATIVE, result)
    exact = wanted(NEGATIVE.astype(np.longdouble))
    unit = np.spacing(np.abs(exact).astype(np.float64))
    assert np.max(np.abs(result - exact) / unit) < 2.5


@pytest.mark.parametrize("kernel, limit", [(_exp_of, 0.0), (_expm1_of, -1.0)])
def test_limits(kernel, limit):
    result = np.empty(4)
    kernel(np.array([-708.5, -1e300, -np.inf, np.nan]), result)
    np.testing.assert_array_equal(result, [limit, limit, limit, np.nan])
