"""The vector type against the same arithmetic in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels._jit import jit
from minicnn.kernels._tile import ROWS, VECTORS, multiply_rows, multiply_tile, multiply_tile_biased
from minicnn.kernels._vector import (
    join_pairs,
    lanes_of,
    load_masked,
    load_vector,
    maximum,
    prefetch,
    split_pairs,
    store_masked,
    store_vector,
    transpose_block,
    zero_vector,
)

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def numbers(rng, size, dtype):
    return rng.standard_normal(size).astype(dtype)


@jit
def combine(a, b, out):
    x, y = load_vector(a, 1), load_vector(b, 2)
    store_vector(out, 3, 2.0 * x + y - x * y * 0.5)


@both_dtypes
def test_arithmetic_and_unaligned_memory(rng, dtype):
    lanes = lanes_of(np.dtype(dtype))
    a, b = numbers(rng, lanes + 1, dtype), numbers(rng, lanes + 2, dtype)
    out = np.zeros(lanes + 5, dtype)
    combine(a, b, out)
    x, y = a[1:].astype(np.float64), b[2:].astype(np.float64)
    np.testing.assert_allclose(out[3:-2], 2 * x + y - x * y / 2, rtol=4 * np.finfo(dtype).eps * 4)
    assert not out[:3].any() and not out[-2:].any()


@jit
def larger(a, b, out):
    store_vector(out, 0, maximum(load_vector(a, 0), load_vector(b, 0)))


@both_dtypes
def test_maximum_takes_the_second_where_a_lane_is_nan(dtype):
    lanes = lanes_of(np.dtype(dtype))
    a, b, out = np.zeros(lanes, dtype), np.arange(lanes, dtype=dtype) - 1, np.empty(lanes, dtype)
    b[1] = np.nan
    larger(a, b, out)
    np.testing.assert_array_equal(out, np.where(np.isnan(b), b, np.maximum(b, 0)))


@jit
def copy_masked(a, i, mask, out, to):
    x = load_masked(a, i, mask, zero_vector(a))
    store_masked(out, to, mask, x + 1.0)


@both_dtypes
def test_masks_leave_lanes_and_their_memory_alone(rng, dtype):
    """The lanes before the first element would be read at a negative index."""
    lanes = lanes_of(np.dtype(dtype))
    a, out = numbers(rng, lanes, dtype), np.zeros(lanes, dtype)
    mask = sum(1 << lane for lane in range(1, lanes, 2))
    copy_masked(a, 0, mask, out, 0)
    expected = np.where(np.arange(lanes) % 2, a + 1, 0).astype(dtype)
    np.testing.assert_array_equal(out, expected)
    out[:] = 0
    copy_masked(a, -(lanes - 1), 1 << (lanes - 1), out, -(lanes - 1))
    assert out[0] == a[0] + dtype(1) and not out[1:].any()


@jit
def shuffle_pairs(a, split, joined):
    lanes = a.size // 2
    even, odd = split_pairs(load_vector(a, 0), load_vector(a, lanes))
    store_vector(split, 0, even)
    store_vector(split, lanes, odd)
    low, high = join_pairs(even, odd)
    store_vector(joined, 0, low)
    store_vector(joined, lanes, high)


@both_dtypes
def test_pairs_are_split_and_joined(rng, dtype):
    a = numbers(rng, 2 * lanes_of(np.dtype(dtype)), dtype)
    split, joined = np.empty_like(a), np.empty_like(a)
    shuffle_pairs(a, split, joined)
    np.testing.assert_array_equal(split, np.concatenate([a[::2], a[1::2]]))
    np.testing.assert_array_equal(joined, a)


@jit
def transpose(a, start, stride, out, to, to_stride):
    prefetch(a, start + 1_000_000)
    transpose_block(a, start, stride, out, to, to_stride)


@both_dtypes
def test_block_is_transposed(rng, dtype):
    lanes = lanes_of(np.dtype(dtype))
    a, out = numbers(rng, 3 + lanes * (lanes + 2), dtype), np.zeros(5 + lanes * (lanes + 1), dtype)
    transpose(a, 3, lanes + 2, out, 5, lanes + 1)
    block = a[3:].reshape(lanes, lanes + 2)[:, :lanes]
    np.testing.assert_array_equal(out[5:].reshape(lanes, lanes + 1)[:, :lanes], block.T)


@both_dtypes
@pytest.mark.parametrize("vectors", range(1, VECTORS + 1))
@pytest.mark.parametrize("depth", [1, 2, 37])
@pytest.mark.parametrize("accumulate", [False, True])
def test_tile(rng, dtype, vectors, depth, accumulate):
    """From packed and from unpacked rows of A, into a C with rows further apart than the tile."""
    columns = vectors * lanes_of(np.dtype(dtype))
    a, b = numbers(rng, (ROWS, depth), dtype), numbers(rng, (depth, columns), dtype)
    before = numbers(rng, (ROWS, columns + 3), dtype)
    expected = before.copy()
    expected[:, :columns] = (before[:, :columns] if accumulate else 0) + a @ b
    for multiply, start, panel in (
        (multiply_tile, (), a.T.copy()),
        (multiply_rows, (depth,), a.copy()),
    ):
        c = before.copy()
        multiply(
            vectors, depth, panel.reshape(-1), 0, *start, b.reshape(-1), 0, c.reshape(-1), 0,
            columns + 3, accumulate,
        )  # fmt: skip
        np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)
    if not accumulate:
        bias = numbers(rng, ROWS + 2, dtype)
        expected[:, :columns] += bias[2:, None]
        multiply_tile_biased(
            vectors, depth, a.T.reshape(-1), 0, b.reshape(-1), 0, c.reshape(-1), 0, columns + 3,
            False, bias, 2,
        )  # fmt: skip
        np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)
