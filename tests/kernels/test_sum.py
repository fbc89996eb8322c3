"""Sums of runs against Python's exact ones."""

import math

import numpy as np
import pytest

from minicnn.kernels._jit import jit
from minicnn.kernels._sum import dot_run, sum_around, sum_run


@jit
def sum_of(array, start, count, out):
    out[0] = sum_run(array, start, count)


@jit
def dot_of(a, b, start, count, out):
    out[0] = dot_run(a, b, start, count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 7, 16, 63, 64, 65, 1000])
def test_runs_of_every_length(count, dtype):
    """What is around the run is NaN: none of it may be read into the sum."""
    array = np.full(count + 9, np.nan, dtype)
    array[4 : 4 + count] = np.random.default_rng(0).standard_normal(count)
    out = np.empty(1, dtype)
    sum_of(array, 4, count, out)
    run = array[4 : 4 + count].astype(np.float64)
    close = 4 * np.finfo(dtype).eps * np.abs(run).sum()
    np.testing.assert_allclose(out[0], math.fsum(run), rtol=0, atol=close)
    other = np.random.default_rng(1).standard_normal(array.size).astype(dtype)
    dot_of(array, other, 4, count, out)
    products = run * other[4 : 4 + count]
    close = 4 * np.finfo(dtype).eps * np.abs(products).sum()
    np.testing.assert_allclose(out[0], math.fsum(products), rtol=0, atol=close)


def test_nan_and_infinities_stay():
    array = np.ones(70, np.float32)
    out = np.empty(1, np.float32)
    for place in range(70):
        for value in (np.nan, np.inf, -np.inf):
            array[place] = value
            sum_of(array, 0, 70, out)
            np.testing.assert_array_equal(out[0], value)
        array[place] = 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape, dims",
    [
        ((3, 5, 4, 7), (0, 2, 3)),
        ((3, 5, 4, 7), (3,)),
        ((3, 5, 4, 7), (0, 1, 2, 3)),
        ((2, 3, 40_000), (0, 2)),
        ((50_000,), (0,)),
        ((1, 1, 1), (0, 2)),
    ],
)
def test_sums_around_dimensions(shape, dims, dtype):
    array = (np.random.default_rng(0).standard_normal(shape) + 1).astype(dtype)
    before = array.copy()
    total = sum_around(array, dims)
    assert total is not None and total.dtype == dtype
    wanted = array.astype(np.float64).sum(axis=dims, keepdims=True)
    assert total.shape == wanted.shape
    np.testing.assert_allclose(total, wanted, rtol=1e-6 if dtype == np.float32 else 1e-14)
    np.testing.assert_array_equal(array, before)


def test_what_is_left_to_numpy():
    array = np.ones((2, 3, 4), np.float32)
    assert sum_around(array, (0,)) is None
    assert sum_around(array, (1,)) is None
    assert sum_around(array, ()) is None
    assert sum_around(array.swapaxes(0, 2), (2,)) is None
    assert sum_around(array.astype(np.int64), (2,)) is None
    assert sum_around(array[:0], (2,)) is None
