"""im2col and col2im against their references, and against each other as adjoints."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.kernels.im2col import col2im, col2im_reference, im2col, im2col_reference, output_size

# shape (N, C, height, width), kernel_size, stride, padding, dilation
CASES = [
    ((2, 3, 5, 7), (3, 2), (1, 1), (0, 0), (1, 1)),
    ((1, 2, 6, 5), (3, 3), (2, 1), (1, 2), (1, 1)),
    ((2, 1, 7, 9), (2, 3), (3, 4), (1, 0), (1, 1)),
    ((1, 2, 8, 7), (3, 2), (2, 1), (2, 1), (2, 3)),
    ((1, 1, 1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 1, 1, 6), (1, 5), (1, 1), (0, 4), (1, 1)),
    ((0, 2, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, kernel_size, stride, padding, dilation", CASES)
def test_im2col_equals_its_reference(shape, kernel_size, stride, padding, dilation, dtype):
    image = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    before = image.copy()
    columns = im2col(image, kernel_size, stride, padding, dilation)
    assert columns.dtype == dtype
    assert_array_equal(columns, im2col_reference(image, kernel_size, stride, padding, dilation))
    assert_array_equal(image, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, kernel_size, stride, padding, dilation", CASES)
def test_col2im_equals_its_reference(shape, kernel_size, stride, padding, dilation, dtype):
    rng = np.random.default_rng(1)
    columns_shape = im2col_reference(np.zeros(shape), kernel_size, stride, padding, dilation).shape
    columns = rng.standard_normal(columns_shape).astype(dtype)
    before = columns.copy()
    height, width = shape[2:]
    image = col2im(columns, height, width, stride, padding, dilation)
    assert image.dtype == dtype
    wanted = col2im_reference(columns, height, width, stride, padding, dilation)
    assert_allclose(image, wanted, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-13)
    assert_array_equal(columns, before)


@pytest.mark.parametrize("shape, kernel_size, stride, padding, dilation", CASES)
def test_col2im_is_the_adjoint_of_im2col(shape, kernel_size, stride, padding, dilation):
    rng = np.random.default_rng(2)
    image = rng.standard_normal(shape)
    unfolded = im2col(image, kernel_size, stride, padding, dilation)
    columns = rng.standard_normal(unfolded.shape)
    height, width = shape[2:]
    folded = col2im(columns, height, width, stride, padding, dilation)
    assert np.vdot(unfolded, columns) == pytest.approx(np.vdot(image, folded), rel=1e-12)


def test_strided_inputs_are_read_in_their_logical_order():
    rng = np.random.default_rng(3)
    geometry = (2, 1), (1, 0), (1, 2)
    image = rng.standard_normal((7, 5, 3, 2)).T
    assert_array_equal(im2col(image, (2, 2), *geometry), im2col(image.copy(), (2, 2), *geometry))
    columns = im2col(image, (2, 2), *geometry)
    strided = np.repeat(columns, 2, axis=-1)[..., ::2]
    assert_array_equal(col2im(strided, 5, 7, *geometry), col2im(columns, 5, 7, *geometry))


def test_columns_of_a_small_image():
    image = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    columns = im2col(image, (2, 2), (1, 1), (0, 0), (1, 1)).reshape(4, 4)
    assert_array_equal(columns, [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]])
    counts = col2im(np.ones((1, 2, 2, 1, 2, 2)), 3, 3, (1, 1), (0, 0), (1, 1))[0, 0]
    assert_array_equal(counts, [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


@pytest.mark.parametrize(
    "size, kernel, stride, padding, dilation, windows",
    [
        (5, 3, 1, 0, 1, 3),
        (227, 11, 4, 0, 1, 55),
        (5, 3, 2, 1, 1, 3),
        (5, 3, 1, 1, 2, 3),
        (1, 1, 9, 0, 1, 1),
    ],
)
def test_output_size(size, kernel, stride, padding, dilation, windows):
    assert output_size(size, kernel, stride, padding, dilation) == windows


def test_foreign_arrays_are_refused():
    foreign: Any = memoryview(bytes(1)).cast("B", (1, 1, 1, 1))
    with pytest.raises(TypeError, match="im2col: expected a NumPy array or one on a CUDA"):
        im2col(foreign, (1, 1), (1, 1), (0, 0), (1, 1))
