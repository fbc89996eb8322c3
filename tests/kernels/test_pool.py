"""Pooling kernels against their references, PyTorch's golden values, and each other as adjoints."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import to_host
from minicnn.kernels import pool

# shape (N, C, height, width), kernel_size, stride, padding, ceil_mode
CASES = [
    ((2, 3, 5, 7), (2, 2), (2, 2), (0, 0), False),
    ((2, 3, 5, 7), (2, 2), (2, 2), (0, 0), True),
    ((1, 2, 9, 8), (3, 3), (2, 2), (0, 0), False),
    ((1, 2, 9, 8), (3, 3), (2, 2), (0, 0), True),
    ((2, 1, 6, 9), (3, 3), (2, 2), (1, 1), False),
    ((1, 2, 7, 5), (3, 2), (1, 1), (1, 0), True),
    ((1, 1, 8, 9), (2, 3), (3, 4), (0, 1), False),
    ((1, 1, 8, 10), (2, 3), (3, 4), (1, 0), True),
    ((1, 2, 1, 1), (1, 1), (1, 1), (0, 0), False),
    ((2, 1, 1, 1), (2, 2), (2, 2), (1, 1), True),
    ((0, 3, 4, 4), (2, 2), (2, 2), (0, 0), False),
]
DTYPES = [np.float32, np.float64]
MAP = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)


def close(dtype):
    return {"rtol": 0, "atol": 2e-6 if dtype == np.float32 else 1e-14}


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return array.repeat(2, axis=-1)[..., ::2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("shape, kernel_size, stride, padding, ceil_mode", CASES)
def test_max_forward_equals_its_reference(
    shape, kernel_size, stride, padding, ceil_mode, dilation, dtype
):
    if shape[2] <= kernel_size[0] or shape[3] <= kernel_size[1] + 1:
        dilation = (1, 1)
    # Few different values, so that windows hold their maximum more than once.
    input = np.random.default_rng(0).integers(-9, -4, shape).astype(dtype)
    before = input.copy()
    window = kernel_size, stride, padding, dilation, ceil_mode
    output, argmax = pool.max_pool2d_forward(strided(input), *window)
    wanted, wanted_argmax = pool.max_pool2d_forward_reference(input, *window)
    assert (output.dtype, argmax.dtype) == (dtype, np.int32)
    assert_array_equal(output, wanted)
    assert_array_equal(argmax, wanted_argmax)
    pool.max_pool2d_forward(input, *window)
    assert_array_equal(input, before)


@pytest.mark.parametrize("size, stride, padding", [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
@pytest.mark.parametrize("width", [3, 16, 31, 34, 67])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_rung_rows_equals_the_plain_rung(size, stride, padding, width, ceil_mode):
    """With infinities, NaN and equal numbers in all places of a window and of a register."""
    rng = np.random.default_rng(1)
    input = rng.integers(0, 5, (2, 3, 11, width)).astype(np.float32)
    input[rng.random(input.shape) < 0.3] = -np.inf
    input[0][rng.random(input[0].shape) < 0.1] = np.nan
    input[1, 0][rng.random(input[1, 0].shape) < 0.1] = np.inf
    input[1, 1] = -np.inf
    window = (size, size), (stride, stride), (padding, padding), (1, 1), ceil_mode
    output, argmax = pool.max_pool2d_forward(input, *window)
    plain, plain_argmax = np.empty_like(output), np.empty_like(argmax)
    pool.max_pool2d_forward_cpu(
        input, size, size, stride, stride, padding, padding, 1, 1, plain, plain_argmax
    )
    assert_array_equal(output, plain)
    assert_array_equal(argmax, plain_argmax)


@pytest.mark.parametrize(
    "kernel, stride, padding", [((2, 2), 2, 0), ((5, 3), 3, 1), ((9, 20), 1, 0)]
)
def test_means_by_rows_equal_the_plain_rung_and_keep_nan_in_its_windows(kernel, stride, padding):
    rng = np.random.default_rng(2)
    input = rng.standard_normal((2, 3, 9, 20)).astype(np.float32)
    input[0, 1, 4, 7], input[1, 2, 8, 19] = np.nan, -np.inf
    window: Any = kernel, (stride, stride), (padding, padding), False, False
    output = pool.avg_pool2d_forward(input, *window)
    plain = np.empty_like(output)
    numbers = *kernel, stride, stride, padding, padding, False
    pool.avg_pool2d_forward_cpu(input, *numbers, plain)
    assert_allclose(output, plain, rtol=1e-5, atol=1e-6)
    grad_output = output.copy()
    grad_input = pool.avg_pool2d_backward(grad_output, 9, 20, *window)
    plain_grad = np.empty_like(grad_input)
    pool.avg_pool2d_backward_cpu(grad_output, *numbers, plain_grad)
    assert_allclose(grad_input, plain_grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding", [0, 1])
def test_nan_is_the_maximum_and_the_first_one_wins(padding):
    input = np.zeros((1, 1, 4, 4))
    input[0, 0, 1, 1] = np.inf
    input[0, 0, 1, 0] = input[0, 0, 2, 3] = input[0, 0, 3, 2] = np.nan
    window = (2, 2), (2, 2), (padding, padding), (1, 1), False
    output, argmax = pool.max_pool2d_forward(input, *window)
    wanted, wanted_argmax = pool.max_pool2d_forward_reference(input, *window)
    assert_array_equal(output, wanted)
    assert_array_equal(argmax, wanted_argmax)
    if padding == 0:
        assert_array_equal(output[0, 0], [[np.nan, 0], [0, np.nan]])
        assert_array_equal(argmax[0, 0], [[4, 2], [8, 11]])


def test_padding_is_minus_infinity():
    output, _ = pool.max_pool2d_forward(-MAP, (3, 3), (2, 2), (1, 1), (1, 1), False)
    assert_array_equal(output[0, 0], [[-1, -2], [-5, -6]])
    lowest = np.full((1, 1, 2, 2), -np.inf)
    output, argmax = pool.max_pool2d_forward(lowest, (2, 2), (2, 2), (1, 1), (1, 1), False)
    assert_array_equal(output, lowest)
    assert_array_equal(argmax[0, 0], [[0, 1], [2, 3]])


def test_window_without_a_pixel_has_no_argmax():
    input = np.full((1, 1, 1, 3), 5.0)
    output, argmax = pool.max_pool2d_forward(input, (2, 1), (1, 1), (1, 0), (2, 1), False)
    assert_array_equal(output, np.full((1, 1, 1, 3), -np.inf))
    assert_array_equal(argmax, np.full((1, 1, 1, 3), -1))
    assert_array_equal(pool.max_pool2d_gather(input, argmax), np.zeros((1, 1, 1, 3)))
    window = (2, 1), (1, 1), (1, 0), (2, 1)
    grad_input = pool.max_pool2d_backward(output, argmax, 1, 3, window)
    assert_array_equal(grad_input, np.zeros((1, 1, 1, 3)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, kernel_size, stride, padding, ceil_mode", CASES)
def test_max_backward_and_gather_equal_their_references(
    shape, kernel_size, stride, padding, ceil_mode, dtype
):
    rng = np.random.default_rng(2)
    input = rng.standard_normal(shape).astype(dtype)
    window = kernel_size, stride, padding, (1, 1)
    _, argmax = pool.max_pool2d_forward(input, *window, ceil_mode)
    grad_output = rng.standard_normal(argmax.shape).astype(dtype)
    before = grad_output.copy()
    grad_input = pool.max_pool2d_backward(strided(grad_output), strided(argmax), *shape[2:], window)
    wanted = pool.max_pool2d_backward_reference(grad_output, argmax, *shape[2:], window)
    assert grad_input.dtype == dtype
    assert_allclose(grad_input, wanted, **close(dtype))
    pool.max_pool2d_backward(grad_output, argmax, *shape[2:], window)
    assert_array_equal(grad_output, before)
    gathered = pool.max_pool2d_gather(strided(input), strided(argmax))
    assert gathered.dtype == dtype
    assert_array_equal(gathered, pool.max_pool2d_gather_reference(input, argmax))
    assert np.vdot(gathered, grad_output) == pytest.approx(
        np.vdot(input, grad_input), rel=1e-4 if dtype == np.float32 else 1e-11
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("shape, kernel_size, stride, padding, ceil_mode", CASES)
def test_average_equals_its_reference_and_backward_is_its_adjoint(
    shape, kernel_size, stride, padding, ceil_mode, count_include_pad, dtype
):
    rng = np.random.default_rng(3)
    input = rng.standard_normal(shape).astype(dtype)
    before = input.copy()
    window: Any = kernel_size, stride, padding, ceil_mode, count_include_pad
    height, width = shape[2:]
    output = pool.avg_pool2d_forward(input, *window)
    assert output.dtype == dtype
    assert_allclose(output, pool.avg_pool2d_forward_reference(input, *window), **close(dtype))
    assert_array_equal(input, before)
    assert_array_equal(pool.avg_pool2d_forward(strided(input), *window), output)

    grad_output = rng.standard_normal(output.shape).astype(dtype)
    before = grad_output.copy()
    grad_input = pool.avg_pool2d_backward(grad_output, height, width, *window)
    wanted = pool.avg_pool2d_backward_reference(grad_output, height, width, *window)
    assert grad_input.dtype == dtype
    assert_allclose(grad_input, wanted, **close(dtype))
    assert_array_equal(grad_output, before)
    again = pool.avg_pool2d_backward(strided(grad_output), height, width, *window)
    assert_array_equal(again, grad_input)
    if dtype == np.float64:
        assert np.vdot(output, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-11)


def test_golden_values():
    output, argmax = pool.max_pool2d_forward(MAP, (3, 3), (2, 2), (0, 0), (1, 1), True)
    assert_array_equal(output.ravel(), [11, 12, 15, 16])
    assert_array_equal(argmax.ravel(), [10, 11, 14, 15])
    output = pool.avg_pool2d_forward(MAP, (3, 3), (2, 2), (0, 0), True, True)
    assert_allclose(output.ravel(), [6, 7.5, 12, 13.5])
    output = pool.avg_pool2d_forward(MAP, (3, 3), (2, 2), (1, 1), False, True)
    assert_allclose(output.ravel(), [1.5556, 3.3333, 6.3333, 11], atol=5e-5)
    output = pool.avg_pool2d_forward(MAP, (3, 3), (2, 2), (1, 1), False, False)
    assert_allclose(output.ravel(), [3.5, 5, 9.5, 11])


@pytest.mark.parametrize(
    "size, kernel, stride, padding, ceil_mode, windows",
    [
        (55, 3, 2, 0, False, 27),
        (112, 3, 2, 0, False, 55),
        (112, 3, 2, 0, True, 56),
        (112, 3, 2, 1, False, 56),
        (4, 3, 2, 0, True, 2),
        (3, 2, 2, 1, True, 2),  # a third window would begin in the end padding
        (7, 2, 3, 0, True, 3),
        (6, 2, 4, 0, True, 2),
        (6, 1, 5, 0, True, 2),
        (4, 1, 4, 0, True, 1),  # a second window would begin beyond the image
    ],
)
def test_output_size(size, kernel, stride, padding, ceil_mode, windows):
    assert pool.pool_output_size(size, kernel, stride, padding, 1, ceil_mode) == windows


@pytest.mark.parametrize("shape, kernel_size, stride, padding, ceil_mode", CASES[:-1])
def test_pytorch_agrees(shape, kernel_size, stride, padding, ceil_mode):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    input = rng.standard_normal(shape)
    tensor = torch.tensor(input, requires_grad=True)
    height, width = shape[2:]
    window: Any = kernel_size, stride, padding, (1, 1), ceil_mode
    output, argmax = pool.max_pool2d_forward(input, *window)
    wanted, wanted_argmax = torch.nn.functional.max_pool2d(tensor, *window, return_indices=True)
    assert_array_equal(output, wanted.detach())
    assert_array_equal(argmax, wanted_argmax)
    grad_output = rng.standard_normal(output.shape)
    (grad,) = torch.autograd.grad(wanted, tensor, torch.tensor(grad_output))
    grad_input = pool.max_pool2d_backward(grad_output, argmax, height, width, window[:4])
    assert_allclose(grad_input, grad, atol=1e-14)
    for count_include_pad in (True, False):
        window = kernel_size, stride, padding, ceil_mode, count_include_pad
        wanted = torch.nn.functional.avg_pool2d(tensor, *window)
        assert_allclose(pool.avg_pool2d_forward(input, *window), wanted.detach(), atol=1e-14)
        (grad,) = torch.autograd.grad(wanted, tensor, torch.tensor(grad_output))
        grad_input = pool.avg_pool2d_backward(grad_output, height, width, *window)
        assert_allclose(grad_input, grad, atol=1e-14)


def test_a_device_takes_strided_arrays(xp):
    rng = np.random.default_rng(5)
    input = rng.integers(0, 5, (2, 3, 7, 9)).astype(np.float32)
    window: Any = (3, 3), (2, 2), (1, 1), (1, 1)
    output, argmax = pool.max_pool2d_forward(input, *window, False)
    grad_output = rng.standard_normal(output.shape).astype(np.float32)

    on_device = [strided(xp.asarray(a)) for a in (input, grad_output, argmax)]
    assert not any(array.flags.c_contiguous for array in on_device)
    x, grad, index = on_device
    results = pool.max_pool2d_forward(x, *window, False)
    assert_array_equal(to_host(results[0]), output)
    assert_array_equal(to_host(results[1]), argmax)
    grad_input = pool.max_pool2d_backward(grad, index, 7, 9, window)
    wanted = pool.max_pool2d_backward(grad_output, argmax, 7, 9, window)
    assert_array_equal(to_host(grad_input), wanted)
    assert_array_equal(to_host(pool.max_pool2d_gather(x, index)), output)
    average = window[:3]
    result = pool.avg_pool2d_forward(x, *average, False, True)
    wanted = pool.avg_pool2d_forward(input, *average, False, True)
    assert_allclose(to_host(result), wanted, rtol=1e-6)
    result = pool.avg_pool2d_backward(grad, 7, 9, *average, False, True)
    wanted = pool.avg_pool2d_backward(grad_output, 7, 9, *average, False, True)
    assert_allclose(to_host(result), wanted, atol=1e-6)


def test_foreign_arrays_are_refused():
    foreign: Any = [[[[1.0]]]]
    with pytest.raises(
        TypeError, match="max_pool2d_gather: expected a NumPy array or one on a CUDA"
    ):
        pool.max_pool2d_gather(foreign, np.zeros((1, 1, 1, 1), np.int32))
