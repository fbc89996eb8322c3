"""Adaptive pooling kernels against their references, PyTorch, and each other as adjoints."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import to_host
from minicnn.kernels import adaptive_pool
from minicnn.kernels.pool import max_pool2d_backward, max_pool2d_gather

# shape (N, C, height, width), output_size
CASES = [
    ((2, 3, 13, 10), (6, 6)),
    ((1, 2, 5, 7), (1, 1)),
    ((2, 1, 6, 9), (3, 3)),
    ((1, 1, 3, 2), (5, 3)),
    ((1, 2, 1, 1), (2, 1)),
    ((0, 2, 4, 4), (2, 3)),
]
DTYPES = [np.float32, np.float64]


def close(dtype):
    return {"rtol": 0, "atol": 2e-6 if dtype == np.float32 else 1e-14}


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return array.repeat(2, axis=-1)[..., ::2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, output_size", CASES)
def test_average_equals_its_reference_and_backward_is_its_adjoint(shape, output_size, dtype):
    rng = np.random.default_rng(0)
    input = rng.standard_normal(shape).astype(dtype)
    before = input.copy()
    output = adaptive_pool.adaptive_avg_pool2d_forward(input, output_size)
    wanted = adaptive_pool.adaptive_avg_pool2d_forward_reference(input, output_size)
    assert output.dtype == dtype
    assert_allclose(output, wanted, **close(dtype))
    assert_array_equal(input, before)
    again = adaptive_pool.adaptive_avg_pool2d_forward(strided(input), output_size)
    assert_array_equal(again, output)

    grad_output = rng.standard_normal(output.shape).astype(dtype)
    before = grad_output.copy()
    grad_input = adaptive_pool.adaptive_avg_pool2d_backward(grad_output, *shape[2:])
    wanted = adaptive_pool.adaptive_avg_pool2d_backward_reference(grad_output, *shape[2:])
    assert grad_input.dtype == dtype
    assert_allclose(grad_input, wanted, **close(dtype))
    assert_array_equal(grad_output, before)
    again = adaptive_pool.adaptive_avg_pool2d_backward(strided(grad_output), *shape[2:])
    assert_array_equal(again, grad_input)
    if dtype == np.float64:
        assert np.vdot(output, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, output_size", CASES)
def test_maximum_equals_its_reference(shape, output_size, dtype):
    # Few different values, so that bins hold their maximum more than once.
    input = np.random.default_rng(1).integers(-9, -4, shape).astype(dtype)
    before = input.copy()
    output, argmax = adaptive_pool.adaptive_max_pool2d_forward(strided(input), output_size)
    wanted, wanted_argmax = adaptive_pool.adaptive_max_pool2d_forward_reference(input, output_size)
    assert (output.dtype, argmax.dtype) == (dtype, np.int32)
    assert_array_equal(output, wanted)
    assert_array_equal(argmax, wanted_argmax)
    adaptive_pool.adaptive_max_pool2d_forward(input, output_size)
    assert_array_equal(input, before)


def test_the_backward_pass_and_gather_of_max_pooling_serve_the_adaptive_maximum():
    rng = np.random.default_rng(2)
    input = rng.standard_normal((2, 3, 5, 7))
    output, argmax = adaptive_pool.adaptive_max_pool2d_forward(input, (3, 4))
    assert_array_equal(max_pool2d_gather(input, argmax), output)
    grad_output = rng.standard_normal(output.shape)
    grad_input = max_pool2d_backward(grad_output, argmax, 5, 7, None)
    assert np.vdot(output, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-11)


def test_nan_is_the_maximum_and_the_first_one_wins():
    input = np.zeros((1, 1, 2, 4))
    input[0, 0, 0, 0] = np.inf
    input[0, 0, 0, 1] = input[0, 0, 1, 0] = np.nan
    output, argmax = adaptive_pool.adaptive_max_pool2d_forward(input, (1, 2))
    assert_array_equal(output[0, 0], [[np.nan, 0]])
    assert_array_equal(argmax[0, 0], [[1, 2]])


@pytest.mark.parametrize(
    "size, bins",
    [
        (13, [(0, 3), (2, 5), (4, 7), (6, 9), (8, 11), (10, 13)]),
        (10, [(0, 2), (1, 4), (3, 5), (5, 7), (6, 9), (8, 10)]),
    ],
)
def test_bins_of_the_spatial_pyramid(size, bins):
    # Column y of the identity is 1 in the bins that hold pixel y.
    identity = np.eye(size).reshape(1, size, size, 1)
    output, _ = adaptive_pool.adaptive_max_pool2d_forward(identity, (len(bins), 1))
    for out_y, (first, last) in enumerate(bins):
        assert_array_equal(np.flatnonzero(output[0, :, out_y, 0]), np.arange(first, last))


@pytest.mark.parametrize("axis", [2, 3])
def test_what_no_product_of_int_can_tell_is_refused_on_devices(axis, xp):
    shape, bins = [1, 1, 1, 1], [1, 1]
    shape[axis], bins[axis - 2] = 50_000, 50_000
    image = np.arange(50_000, dtype=np.float32).reshape(shape)
    for pool in (
        adaptive_pool.adaptive_avg_pool2d_forward,
        lambda *arguments: adaptive_pool.adaptive_max_pool2d_forward(*arguments)[0],
    ):
        if xp is np:
            assert_array_equal(pool(image, tuple(bins)), image)
            continue
        with pytest.raises(ValueError, match="is 50000 in 50000 bins, expected a product below"):
            pool(xp.asarray(image), tuple(bins))


def test_a_device_takes_strided_arrays(xp):
    rng = np.random.default_rng(4)
    input = rng.standard_normal((2, 3, 7, 9)).astype(np.float32)
    grad_output = rng.standard_normal((2, 3, 4, 4)).astype(np.float32)
    x, grad = (strided(xp.asarray(array)) for array in (input, grad_output))
    assert not x.flags.c_contiguous and not grad.flags.c_contiguous
    wanted, wanted_argmax = adaptive_pool.adaptive_max_pool2d_forward(input, (4, 4))
    output, argmax = adaptive_pool.adaptive_max_pool2d_forward(x, (4, 4))
    assert_array_equal(to_host(output), wanted)
    assert_array_equal(to_host(argmax), wanted_argmax)
    for result, wanted in [
        (
            adaptive_pool.adaptive_avg_pool2d_forward(x, (4, 4)),
            adaptive_pool.adaptive_avg_pool2d_forward(input, (4, 4)),
        ),
        (
            adaptive_pool.adaptive_avg_pool2d_backward(grad, 7, 9),
            adaptive_pool.adaptive_avg_pool2d_backward(grad_output, 7, 9),
        ),
        (
            max_pool2d_backward(grad, strided(argmax), 7, 9, None),
            max_pool2d_backward(grad_output, wanted_argmax, 7, 9, None),
        ),
    ]:
        assert_allclose(to_host(result), wanted, atol=1e-6)


@pytest.mark.parametrize("shape, output_size", CASES[:-1])
def test_pytorch_agrees(shape, output_size):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    input = rng.standard_normal(shape)
    tensor = torch.tensor(input, requires_grad=True)
    wanted = torch.nn.functional.adaptive_avg_pool2d(tensor, output_size)
    output = adaptive_pool.adaptive_avg_pool2d_forward(input, output_size)
    assert_allclose(output, wanted.detach(), atol=1e-14)
    grad_output = rng.standard_normal(output.shape)
    (grad,) = torch.autograd.grad(wanted, tensor, torch.tensor(grad_output))
    grad_input = adaptive_pool.adaptive_avg_pool2d_backward(grad_output, *shape[2:])
    assert_allclose(grad_input, grad, atol=1e-14)
    output, argmax = adaptive_pool.adaptive_max_pool2d_forward(input, output_size)
    wanted, wanted_argmax = torch.nn.functional.adaptive_max_pool2d(
        tensor, output_size, return_indices=True
    )
    assert_array_equal(output, wanted.detach())
    assert_array_equal(argmax, wanted_argmax)
