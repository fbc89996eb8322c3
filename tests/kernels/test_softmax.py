"""Softmax kernels against their references and PyTorch."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import array_module, to_host
from minicnn.kernels import _launch, softmax

CASES = [
    ((4, 10), 1),
    ((4, 10), 0),
    ((7,), 0),
    ((2, 3, 5, 4), 1),
    ((2, 3, 5, 4), -1),
    ((2, 1, 3), 1),
    ((2, 37), 1),
    ((1, 3, 261), 1),
    ((0, 3), 1),
    ((3, 0), 0),
]
DTYPES = [np.float32, np.float64]


def close(dtype):
    return {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-14}


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return array.repeat(2, axis=-1)[..., ::2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape, dim", CASES)
def test_kernels_equal_their_references(name, shape, dim, dtype):
    forward = getattr(softmax, f"{name}_forward")
    backward = getattr(softmax, f"{name}_backward")
    rng = np.random.default_rng(0)
    input = (5 * rng.standard_normal(shape)).astype(dtype)
    grad_output = rng.standard_normal(shape).astype(dtype)
    kept = input.copy(), grad_output.copy()
    output = forward(input, dim)
    assert (output.dtype, output.shape) == (dtype, shape)
    wanted = getattr(softmax, f"{name}_forward_reference")(input, dim)
    assert_allclose(output, wanted, **close(dtype))
    assert_array_equal(forward(strided(input), dim), output)

    grad_input = backward(grad_output, output, dim)
    assert (grad_input.dtype, grad_input.shape) == (dtype, shape)
    wanted = getattr(softmax, f"{name}_backward_reference")(grad_output, output, dim)
    assert_allclose(grad_input, wanted, **close(dtype))
    assert_array_equal(backward(strided(grad_output), strided(output), dim), grad_input)
    assert_array_equal(input, kept[0])
    assert_array_equal(grad_output, kept[1])


def test_large_inputs_do_not_overflow():
    input = np.array([[1000.0, 999.0, -1000.0], [1e30, 0.0, -1e30]])
    p = 1 / (1 + np.exp(-1))
    assert_allclose(softmax.softmax_forward(input, 1), [[p, 1 - p, 0], [1, 0, 0]], rtol=1e-15)
    wanted = [[np.log(p), np.log(p) - 1, np.log(p) - 2000], [0, -1e30, -2e30]]
    assert_allclose(softmax.log_softmax_forward(input, 1), wanted, rtol=1e-15)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_nan_and_infinities_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    inf, nan = np.inf, np.nan
    input = np.array([[nan, 1, 2], [1, nan, 0], [inf, 1, 2], [-inf, 1, 2], [-inf, -inf, -inf]])
    output = getattr(softmax, f"{name}_forward")(input, 1)
    wanted = getattr(torch, name)(torch.tensor(input), 1)
    assert_allclose(output, wanted, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, axis", [((3, 41), 0), ((41, 3), 1)])
def test_vectors_keep_nan_and_infinities_in_their_rows_as_the_plain_rung(shape, axis, dtype):
    """Along the last axis and across it; each row or column has one such number, or is fine."""
    rng = np.random.default_rng(0)
    input = rng.standard_normal(shape).astype(dtype)
    for place in range(0, 41, 2):
        index = (1, place) if axis == 0 else (place, 1)
        input[index] = rng.choice([np.nan, np.inf, -np.inf, 300, -300])
    outer, inner = (1, 41) if axis == 0 else (41, 1)
    rows = input.reshape(outer, 3, inner)
    for name in ("softmax", "log_softmax"):
        plain, plain_grad = np.empty_like(rows), np.empty_like(rows)
        getattr(softmax, f"{name}_forward_cpu")(rows, plain)
        output = getattr(softmax, f"{name}_forward")(input, axis)
        assert_allclose(output, plain.reshape(shape), **close(dtype))
        getattr(softmax, f"{name}_backward_cpu")(rows, plain, plain_grad)
        grad_input = getattr(softmax, f"{name}_backward")(input, plain.reshape(shape), axis)
        wanted = plain_grad.reshape(shape)
        assert_allclose(grad_input, wanted, rtol=1e-5, atol=300 * close(dtype)["atol"])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape, dim", [*CASES, ((3, 0), 1)])
def test_pytorch_agrees(name, shape, dim):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    input = 3 * rng.standard_normal(shape)
    tensor = torch.tensor(input, requires_grad=True)
    wanted = getattr(torch, name)(tensor, dim)
    output = getattr(softmax, f"{name}_forward")(input, dim)
    assert_allclose(output, wanted.detach(), rtol=1e-12)
    grad_output = rng.standard_normal(shape)
    (grad,) = torch.autograd.grad(wanted, tensor, torch.tensor(grad_output))
    grad_input = getattr(softmax, f"{name}_backward")(grad_output, output, dim)
    assert_allclose(grad_input, grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape, dim", [((4, 6), 1), ((4, 6), 0), ((3, 0), 1)])
def test_a_device_takes_strided_arrays(name, shape, dim, xp):
    forward = getattr(softmax, f"{name}_forward")
    backward = getattr(softmax, f"{name}_backward")
    input, grad_output = np.random.default_rng(2).standard_normal((2, *shape))
    output = forward(input, dim)
    x, grad, y = (strided(xp.asarray(array)) for array in (input, grad_output, output))
    assert_allclose(to_host(forward(x, dim)), output, rtol=1e-13)
    wanted = backward(grad_output, output, dim)
    assert_allclose(to_host(backward(grad, y, dim)), wanted, rtol=1e-12, atol=1e-14)


def test_rows_in_one_piece_are_given_to_warps(gpu):
    device = array_module(gpu)
    with _launch.record() as launches:
        softmax.softmax_forward(device.ones((9, 10), np.float32), 1)
        softmax.softmax_forward(device.ones((2, 10, 3), np.float64), 1)
    kernels = [launch.kernel for launch in launches]
    assert kernels == ["softmax_forward_warp_cuda<float>", "softmax_forward_cuda<double>"]
    assert launches[0].blocks == 3  # of four warps each


def test_foreign_arrays_are_refused():
    foreign: Any = [[1.0]]
    with pytest.raises(TypeError, match="softmax_forward: expected a NumPy array or one on a CUDA"):
        softmax.softmax_forward(foreign, 1)
