"""Matrix products: every rung against the triple loop, over edges of tiles and blocks."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels._thin import THIN, THIN_DEPTH
from minicnn.kernels._tile import ROWS, tile_columns
from minicnn.kernels.gemm import DEPTH, gemm, gemm_reference, matmul

WIDTH = tile_columns(np.dtype(np.float32))
SMALL = [(1, 1, 1), (ROWS, 3, 2), (ROWS + 1, 5, 3), (2, 7, WIDTH), (3, 2, WIDTH + 1), (5, 0, 4)]
LARGE = [
    (2 * ROWS + 3, DEPTH, 2 * WIDTH + 5),
    (ROWS - 1, DEPTH + 1, WIDTH - 1),
    (5, 2 * DEPTH + 7, 10 * WIDTH),
    (3, 20 * DEPTH + 1, 7),  # narrow and deep: the depth is split between tasks
    (40, 9, 40 * WIDTH + 1),
    (17, DEPTH + 3, 800),  # a small batch: C^T is made, and turned
    (47, 383, 49),
    (385, 48, 47),
]
THIN_ONES = [
    (1, 385, 383),
    (THIN - 1, 49, 47),
    (THIN, 7, 9),
    (2, 8 * 5000 + 7, 48),  # the depth is shared out
    (385, 383, 1),
    (48, 2 * DEPTH, THIN),
    (384, THIN_DEPTH, 385),
    (49, 1, 1),
    (9, 0, 5),
    (0, 9, 5),
]


SHAPES = LARGE + THIN_ONES
BOTH = [(False, True), (True, False)]


def matrices(shape, dtype, transposed, seed=0):
    rows, depth, columns = shape
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((depth, rows) if transposed[0] else (rows, depth)).astype(dtype)
    b = rng.standard_normal((columns, depth) if transposed[1] else (depth, columns)).astype(dtype)
    return a.T if transposed[0] else a, b.T if transposed[1] else b


@pytest.mark.parametrize("algorithm", ["plain", "tiled", "thin"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SMALL)
def test_small_products_equal_the_loops(shape, dtype, algorithm):
    a, b = matrices(shape, dtype, (False, False))
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    c = gemm(a, b, algorithm=algorithm)
    assert c.dtype == dtype
    np.testing.assert_allclose(c, gemm_reference(a, b), tolerance, tolerance)


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "algorithm"), [(s, "tiled") for s in LARGE] + [(s, "thin") for s in THIN_ONES]
)
def test_large_products_equal_numpys_in_float64(shape, algorithm, dtype, transposed):
    a, b = matrices(shape, dtype, transposed)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    tolerance = (2e-6 if dtype == np.float32 else 1e-14) * np.sqrt(shape[1] + 1) * 4
    out = np.full((shape[0] + 1, shape[2]), 7, dtype)
    assert gemm(a, b, out[:-1], algorithm=algorithm).base is out
    np.testing.assert_allclose(out[:-1], exact, 0, tolerance)
    assert (out[-1] == 7).all()


@pytest.mark.parametrize("shape", [(THIN, 50, 60), (60, 50, THIN), (60, THIN_DEPTH, 60)])
def test_thin_matrices_take_the_thin_rung_by_themselves(shape):
    a, b = matrices(shape, np.float32, (False, True))
    assert gemm(a, b).tobytes() == gemm(a, b, algorithm="thin").tobytes()
    a, b = matrices([n + 9 for n in shape], np.float32, (False, True))
    assert gemm(a, b).tobytes() == gemm(a, b, algorithm="tiled").tobytes()


def test_strided_inputs_are_copied_and_left_alone():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((6, 10))[:, ::2], rng.standard_normal((10, 8))[::2]
    before = a.copy(), b.copy()
    np.testing.assert_allclose(gemm(a, b), a @ b, 1e-13)
    assert (a == before[0]).all() and (b == before[1]).all()


def test_out_is_written_whole_whatever_it_held():
    a, b = matrices((ROWS + 3, DEPTH + 5, WIDTH + 9), np.float32, (False, False))
    out = np.full((ROWS + 3, WIDTH + 9), np.nan, np.float32)
    assert gemm(a, b, out) is out
    np.testing.assert_allclose(out, gemm(a, b))


def test_nothing_is_written_beyond_the_edge():
    buffer = np.full((ROWS + 4, WIDTH + 1), 7, np.float32)
    a, b = matrices((ROWS + 2, 3, WIDTH + 1), np.float32, (False, False))
    gemm(a, b, buffer[: ROWS + 2])
    assert (buffer[ROWS + 2 :] == 7).all()


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(ROWS + 1, 9, WIDTH + 2), (THIN + 1, 9, 40), (3, 20, 70), (70, 20, 7), (20, THIN_DEPTH, 70)],
)
def test_nan_and_infinity_stay_in_their_row_and_column(rows, depth, columns, transposed):
    a = np.ones((depth, rows) if transposed[0] else (rows, depth), np.float32)
    b = np.ones((columns, depth) if transposed[1] else (depth, columns), np.float32)
    a, b = a.T if transposed[0] else a, b.T if transposed[1] else b
    a[2, 1], b[3, 5] = np.nan, np.inf
    for algorithm in ("tiled", "thin"):
        c = gemm(a, b, algorithm=algorithm)
        assert np.isnan(c[2]).all() and np.isinf(np.delete(c[:, 5], 2)).all()
        assert (np.delete(np.delete(c, 2, 0), 5, 1) == depth).all()


def test_bits_do_not_depend_on_the_number_of_threads():
    import numba

    results = []
    threads = numba.get_num_threads()
    try:
        for count in {1, threads}:
            numba.set_num_threads(count)
            results.append(
                [
                    gemm(*matrices(shape, np.float32, (False, True))).tobytes()
                    for shape in LARGE + THIN_ONES
                ]
            )
    finally:
        numba.set_num_threads(threads)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize(
    "shapes", [((2, 3, 4), (4, 5)), ((3, 1, 2, 4), (5, 4, 3)), ((0, 2, 3), (3, 4))]
)
def test_stacks_broadcast(shapes):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s) for s in shapes)
    np.testing.assert_allclose(matmul(a, b), a @ b, 1e-13)


def test_integers_and_mixed_dtypes_are_numpys():
    a, b = np.arange(6).reshape(2, 3), np.arange(6.0, dtype=np.float32).reshape(3, 2)
    assert matmul(a, a.T).dtype == a.dtype and matmul(a, b).dtype == np.float64
    np.testing.assert_array_equal(matmul(a, a.T), a @ a.T)


def test_unknown_rung_and_foreign_array():
    rungs = "algorithm: got 'fast', expected 'plain', 'tiled' or 'thin'"
    with pytest.raises(ValueError, match=rungs):
        gemm(np.ones((1, 1)), np.ones((1, 1)), algorithm="fast")
    with pytest.raises(TypeError, match="gemm: expected a NumPy array or one on a CUDA"):
        gemm([[1.0]], [[1.0]])
