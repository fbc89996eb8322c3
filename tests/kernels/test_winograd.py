"""Winograd's convolutions: the matrices exactly, then all passes against the definition."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numba
import numpy as np
import pytest

from minicnn.kernels import _cook_toom
from minicnn.kernels import winograd as kernels
from minicnn.kernels._winograd import make_tiles, most_runs
from minicnn.kernels.conv2d import (
    conv2d_backward_data,
    conv2d_backward_data_reference,
    conv2d_backward_weight,
    conv2d_backward_weight_reference,
    conv2d_forward,
    conv2d_forward_reference,
)
from minicnn.kernels.winograd import (
    winograd_backward_data,
    winograd_backward_data_reference,
    winograd_backward_weight,
    winograd_backward_weight_reference,
    winograd_forward,
    winograd_forward_reference,
)

BOUND = 1e-4  # of the largest output: what float32 is held to
UNIT = (1, 1)

# batch, channels, height, width, out_channels, kernel, padding, groups
SMALL = [
    (1, 1, 1, 1, 1, 3, (1, 1), 1),
    (2, 3, 3, 3, 2, 3, (0, 0), 1),
    (3, 5, 9, 10, 7, 3, (1, 1), 1),
    (1, 4, 7, 12, 6, 3, (2, 0), 2),
    (1, 2, 1, 1, 3, 5, (2, 2), 1),
    (2, 3, 5, 6, 4, 5, (1, 3), 1),
    (2, 4, 8, 5, 6, 5, (4, 2), 2),
]
# More than one block of filters, part of a channel, wide images, images of less than a tile.
LARGE = [
    (7, 20, 13, 13, 50, 3, (1, 1), 1),
    (1, 33, 30, 30, 70, 3, (1, 1), 1),
    (40, 17, 2, 3, 9, 3, (1, 1), 1),
    (1, 6, 5, 130, 18, 3, (0, 1), 3),
    (5, 10, 12, 12, 20, 5, (0, 0), 1),
    (20, 9, 3, 3, 8, 5, (2, 2), 1),
    (2, 12, 11, 28, 34, 5, (2, 2), 2),
]


def values(shape, dtype, seed=0):
    batch, channels, height, width, out_channels, kernel, padding, groups = shape
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((out_channels, channels // groups, kernel, kernel))
    size = (height + 2 * padding[0] - kernel + 1, width + 2 * padding[1] - kernel + 1)
    arrays = (
        rng.standard_normal((batch, channels, height, width)),
        weight / np.sqrt(weight[0].size),
        rng.standard_normal(out_channels),
        rng.standard_normal((batch, out_channels, *size)),
    )
    return [array.astype(dtype) for array in arrays]


def passes(shape, arrays, algorithm=None):
    """Return the results of the three passes."""
    _, _, height, width, _, kernel, padding, groups = shape
    input, weight, bias, grad = arrays
    rung = {"algorithm": algorithm}
    return (
        winograd_forward(input, weight, bias, padding, groups, **rung),
        winograd_backward_data(grad, weight, height, width, padding, groups, **rung),
        winograd_backward_weight(input, grad, (kernel, kernel), padding, groups, **rung),
    )


def exact(shape, arrays, by_loops=False):
    """Return the same by the definition, in float64: by its loops, or by columns."""
    _, _, height, width, _, kernel, padding, groups = shape
    input, weight, bias, grad = (array.astype(np.float64) for array in arrays)
    steps = (UNIT, padding, UNIT, groups)
    forward, data, gradient = (
        (
            conv2d_forward_reference,
            conv2d_backward_data_reference,
            conv2d_backward_weight_reference,
        )
        if by_loops
        else (conv2d_forward, conv2d_backward_data, conv2d_backward_weight)
    )
    return (
        forward(input, weight, bias, *steps),
        data(grad, weight, height, width, *steps),
        gradient(input, grad, (kernel, kernel), *steps),
    )


def assert_within(results, wanted, bound):
    for result, right in zip(results, wanted, strict=True):
        scale = np.abs(right).max()
        np.testing.assert_allclose(result / scale, right / scale, 0, bound)


def fractions(matrix):
    return [[Fraction(float(number)) for number in row] for row in matrix]


@pytest.mark.parametrize("kernel", [3, 5])
def test_matrices_make_a_convolution_exactly(kernel):
    """The trilinear form that they define is 1 where d[y + tap] meets g[tap], and else 0."""
    b, a = (fractions(m) for m in (_cook_toom.INPUT_MATRIX, _cook_toom.OUTPUT_MATRICES[kernel]))
    divisors = _cook_toom.FILTER_DIVISORS
    g = [
        [number / Fraction(float(divisor)) for number in row]
        for row, divisor in zip(
            fractions(_cook_toom.FILTER_MATRICES[kernel]), divisors, strict=True
        )
    ]
    assert len(a) == 7 - kernel
    for y, d, tap in product(range(len(a)), range(6), range(kernel)):
        total = sum(a[y][point] * g[point][tap] * b[point][d] for point in range(6))
        assert total == (d == y + tap)


@pytest.mark.parametrize("kernel", [3, 5])
def test_rows_are_powers_of_the_points(kernel):
    points = [Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2)]
    a = fractions(_cook_toom.OUTPUT_MATRICES[kernel])
    g = fractions(_cook_toom.FILTER_MATRICES[kernel])
    for i, point in enumerate(points):
        assert [row[i] for row in a] == [point**power for power in range(len(a))]
        assert g[i] == [g[i][0] * point**power for power in range(kernel)]
    assert [row[5] for row in a] == [0] * (len(a) - 1) + [1]
    assert g[5] == [0] * (kernel - 1) + [1]


@pytest.mark.parametrize(
    ("function", "matrix"),
    [
        ("input_transform", _cook_toom.INPUT_MATRIX),
        *((f"filter_transform_{k}", kernels._matrices(k)[0]) for k in (3, 5)),
        *((f"filter_adjoint_{k}", kernels._matrices(k)[0].T) for k in (3, 5)),
        *((f"output_transform_{7 - k}", kernels._matrices(k)[1]) for k in (3, 5)),
        *((f"output_adjoint_{7 - k}", kernels._matrices(k)[1].T) for k in (3, 5)),
    ],
)
def test_arithmetic_is_the_matrix(function, matrix):
    apply = getattr(_cook_toom, function).py_func
    columns = [apply(*map(float, unit)) for unit in np.eye(matrix.shape[1])]
    np.testing.assert_allclose(np.transpose(columns), matrix, 1e-15, 1e-15)


@pytest.mark.parametrize("shape", SMALL)
def test_reference_equals_the_definition(shape):
    _, _, height, width, _, kernel, padding, groups = shape
    arrays = input, weight, bias, grad = values(shape, np.float64)
    results = (
        winograd_forward_reference(input, weight, bias, padding, groups),
        winograd_backward_data_reference(grad, weight, height, width, padding, groups),
        winograd_backward_weight_reference(input, grad, (kernel, kernel), padding, groups),
    )
    assert_within(results, exact(shape, arrays, by_loops=True), 1e-13)


@pytest.mark.parametrize(
    ("algorithm", "dtype"),
    [
        ("staged", np.float32),
        ("staged", np.float64),
        ("fused", np.float32),
        # Not what float64 takes by itself, and long to compile.
        pytest.param("fused", np.float64, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("shape", [*SMALL, *LARGE])
def test_passes_equal_the_definition(shape, algorithm, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "SLICE", 36 * 200)  # several slices of the batch
    arrays = values(shape, dtype)
    before = [array.copy() for array in arrays]
    results = passes(shape, arrays, algorithm)
    assert all(result.dtype == dtype for result in results)
    assert_within(results, exact(shape, arrays), 1e-5 if dtype == np.float32 else 1e-13)
    assert all((a == b).all() for a, b in zip(arrays, before, strict=True))


@pytest.mark.parametrize("kernel", [3, 5])
def test_error_with_many_channels_is_within_the_bound(kernel):
    """Inputs as after a ReLU do not cancel, and 512 channels are the most that networks sum."""
    shape = (2, 512, 14, 14, 64, kernel, (kernel // 2, kernel // 2), 1)
    arrays = values(shape, np.float32)
    arrays[0] = np.maximum(arrays[0], 0)
    assert_within(passes(shape, arrays), exact(shape, arrays), BOUND)


def test_chunks_slabs_and_tasks_join(monkeypatch):
    from minicnn.kernels import _winograd, _winograd_weight

    for name, size in (("CHUNK_BYTES", 1), ("CHUNK_PANELS", 2), ("SLAB_BYTES", 1)):
        monkeypatch.setattr(_winograd, name, size)
    monkeypatch.setattr(_winograd_weight, "LEAST_BYTES", 1)
    monkeypatch.setattr(_winograd_weight, "CHUNK_TILES", 32)
    for shape in LARGE:
        arrays = values(shape, np.float32)
        assert_within(passes(shape, arrays, "fused"), exact(shape, arrays), 1e-5)


@pytest.mark.parametrize("kernel", [3, 5])
def test_bits_depend_on_neither_run_nor_threads(kernel):
    shape = (3, 70, 17, 19, 50, kernel, (1, 1), 1)
    arrays, results = values(shape, np.float32), []
    threads = numba.get_num_threads()
    try:
        for count in (threads, threads, 1):
            numba.set_num_threads(count)
            results.append([result.tobytes() for result in passes(shape, arrays)])
    finally:
        numba.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("algorithm", ["staged", "fused"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", [3, 5])
def test_nan_and_infinity_reach_every_output_that_they_should(kernel, number, algorithm):
    """They may spread to the tile around, but never get lost nor reach another image."""
    shape = (3, 4, 10, 10, 5, kernel, (1, 1), 1)
    arrays = values(shape, np.float32)
    arrays[0][1, 2, 6, 3] = number
    arrays[3][1, 2, 6, 3] = number
    for result, right in zip(passes(shape, arrays, algorithm), exact(shape, arrays), strict=True):
        lost = np.isfinite(result) & ~np.isfinite(right)
        assert not lost.any() and not np.isfinite(result).all()
    output, grad_input, _ = passes(shape, arrays, algorithm)
    assert np.isfinite(output[[0, 2]]).all() and np.isfinite(grad_input[[0, 2]]).all()
    assert np.isfinite(output[1, :, :2]).all()


def test_bias_may_be_missing_or_infinite():
    shape = (1, 3, 6, 6, 2, 3, (1, 1), 1)
    input, weight, _, _ = values(shape, np.float32)
    output = winograd_forward(input, weight, None, (1, 1), 1)
    bias = np.array([np.inf, 2], np.float32)
    shifted = winograd_forward(input, weight, bias, (1, 1), 1)
    assert (shifted[:, 0] == np.inf).all()
    np.testing.assert_allclose(shifted[:, 1], output[:, 1] + 2, 1e-5, 1e-5)


@pytest.mark.parametrize("algorithm", ["staged", "fused"])
def test_no_image(algorithm):
    shape = (0, 3, 6, 6, 2, 3, (1, 1), 1)
    output, grad_input, grad_weight = passes(shape, values(shape, np.float32), algorithm)
    assert output.shape == (0, 2, 6, 6) and grad_input.shape == (0, 3, 6, 6)
    assert grad_weight.shape == (2, 3, 3, 3) and not grad_weight.any()


def test_runs_are_never_more_than_said():
    """A register's tiles lie in so many rows of tiles, wherever it begins."""
    for columns, lanes, step in product(range(1, 9), (2, 4, 8, 16), (2, 4)):
        tiles = make_tiles(1, 40 * step, columns * step, 7 - step)
        together = max(1, lanes // step)
        rows = [
            len({tile // columns for tile in range(first, first + together)})
            for first in range(0, 10 * columns * together, together)
        ]
        assert max(rows) <= most_runs(tiles, lanes) <= together


def test_unknown_rungs_and_foreign_arrays_are_refused():
    image, weight = np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3))
    message = "algorithm: got 'direct', expected 'staged' or 'fused'"
    with pytest.raises(ValueError, match=message):
        winograd_forward(image, weight, None, (1, 1), 1, algorithm="direct")
    with pytest.raises(TypeError, match="winograd_forward: expected a NumPy array"):
        winograd_forward([], weight, None, (1, 1), 1)
