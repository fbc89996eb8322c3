"""The vector type against the same arithmetic in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels._jit import jit
from minicnn.kernels._tile import ROWS, VECTORS, multiply_rows, multiply_tile, multiply_tile_biased
from minicnn.kernels._vector import (
    absolute,
    equal,
    exceeds,
    full_vector,
    greater,
    join_pairs,
    lane_numbers,
    lanes_of,
    largest_lane,
    load_masked,
    load_vector,
    maximum,
    power_of_two,
    prefetch,
    select,
    split_pairs,
    square_root,
    store_masked,
    store_vector,
    sum_lanes,
    transpose_block,
    unordered,
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
def ask(a, b, larger, same, above, unknown):
    x, y, ten = load_vector(a, 0), load_vector(b, 0), full_vector(a, 10)
    store_vector(larger, 0, select(exceeds(x, y), ten, zero_vector(a)))
    store_vector(same, 0, select(equal(x, y), ten, zero_vector(a)))
    store_vector(above, 0, select(greater(x, y), ten, zero_vector(a)))
    store_vector(unknown, 0, select(unordered(x, y), ten, zero_vector(a)))


@both_dtypes
def test_questions_know_nan_and_zeros(dtype):
    lanes = lanes_of(np.dtype(dtype))
    pairs = [(np.nan, np.inf), (np.inf, np.nan), (np.nan, np.nan), (0, -0.0), (2, 1), (-1, 1)]
    a, b = (np.array([pairs[i % 6][k] for i in range(lanes)], dtype) for k in (0, 1))
    for first, second in ((a, b), (b, a)):
        larger, same, above, unknown = (np.empty(lanes, dtype) for _ in range(4))
        ask(first, second, larger, same, above, unknown)
        nan = np.isnan(first) & ~np.isnan(second)
        np.testing.assert_array_equal(larger, np.where(nan | (first > second), 10, 0))
        np.testing.assert_array_equal(same, np.where(first == second, 10, 0))
        np.testing.assert_array_equal(above, np.where(first > second, 10, 0))
        either = np.isnan(first) | np.isnan(second)
        np.testing.assert_array_equal(unknown, np.where(either, 10, 0))


@jit
def measure(a, out, total):
    x = load_vector(a, 0)
    store_vector(out, 0, square_root(absolute(x)) / (2.0 - x))
    total[0] = sum_lanes(x)
    total[1] = largest_lane(x)


@both_dtypes
def test_roots_quotients_and_the_sum_of_all_lanes(rng, dtype):
    a = numbers(rng, lanes_of(np.dtype(dtype)), dtype)
    out, total = np.empty_like(a), np.empty(2, dtype)
    measure(a, out, total)
    exact = a.astype(np.float64)
    close = 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(out, np.sqrt(np.abs(exact)) / (2 - exact), rtol=close)
    np.testing.assert_allclose(total[0], exact.sum(), rtol=0, atol=close * np.abs(a).sum())
    assert total[1] == a.max()
    for place in range(a.size):
        some = a.copy()
        some[place] = np.nan
        measure(some, out, total)
        assert np.isnan(total[0]) and total[1] == np.nanmax(some)


@jit
def raise_two(a, out):
    store_vector(out, 0, power_of_two(load_vector(a, 0)))


@pytest.mark.parametrize("dtype, round", [(np.float32, 1.5 * 2**23), (np.float64, 1.5 * 2**52)])
def test_powers_of_two(dtype, round):
    lanes = lanes_of(np.dtype(dtype))
    exponents = np.linspace(-126, 127, lanes).round()
    a, out = (exponents + round).astype(dtype), np.empty(lanes, dtype)
    raise_two(a, out)
    np.testing.assert_array_equal(out, 2.0**exponents)


@jit
def number_lanes(a, wide, narrow, mask):
    places = lane_numbers(a) * 3 + 5
    store_vector(wide, 0, maximum(places - lane_numbers(a), places * 0 + 8))
    store_masked(narrow, 0, mask, places)


@both_dtypes
def test_integers_are_as_wide_as_the_numbers_and_cut_when_stored(dtype):
    lanes = lanes_of(np.dtype(dtype))
    wide = np.zeros(lanes, f"i{np.dtype(dtype).itemsize}")
    narrow = np.zeros(lanes, np.int32)
    number_lanes(np.zeros(1, dtype), wide, narrow, 0b1011)
    np.testing.assert_array_equal(wide, np.maximum(2 * np.arange(lanes) + 5, 8))
    mask = 0b1011 >> np.arange(lanes) & 1
    np.testing.assert_array_equal(narrow, (3 * np.arange(lanes) + 5) * mask)


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
