"""The vectorised exp and expm1 against NumPy's in extended precision."""

import math

import numpy as np
import pytest

from minicnn.kernels import _exp
from minicnn.kernels._jit import jit
from minicnn.kernels._vector import lanes_of, load_vector, store_vector

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


@jit
def _exp_by_vectors(x, out, lanes):
    for i in range(0, x.size, lanes):
        store_vector(out, i, _exp.exp_vector(load_vector(x, i)))


@pytest.mark.parametrize("dtype, lowest", [(np.float32, 104.5), (np.float64, 746.5)])
def test_vectors_are_right_to_a_unit_or_two_down_to_subnormal_numbers(dtype, lowest):
    x = -np.concatenate([np.linspace(0, lowest, 24_000), np.logspace(-40, 0, 8_000)]).astype(dtype)
    result = np.empty_like(x)
    _exp_by_vectors(x, result, lanes_of(x.dtype))
    exact = np.exp(x.astype(np.longdouble))
    with np.errstate(under="ignore"):
        unit = np.spacing(exact.astype(dtype)).astype(np.longdouble)
    assert np.max(np.abs(result - exact) / unit) < 1.5
    assert result[23_999] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits_of_vectors(dtype):
    lanes = lanes_of(np.dtype(dtype))
    x = np.resize(np.array([0, -np.inf, np.nan, -1e30], dtype), max(lanes, 4))
    result = np.empty_like(x)
    _exp_by_vectors(x, result, lanes)
    np.testing.assert_array_equal(result[:4], [1, 0, np.nan, 0])
