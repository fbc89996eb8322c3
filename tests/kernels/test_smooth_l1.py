"""Smooth L1 kernels against their references, PyTorch, and values worked out elsewhere."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.kernels import smooth_l1

SHAPES = [(), (0,), (1,), (7,), (2, 0, 3), (3, 5), (2, 3, 5, 7)]
BETAS = [0.0, 0.25, 1.0, 1 / 9]
DTYPES = [np.float32, np.float64]


def close(dtype):
    return {"rtol": 5e-7, "atol": 1e-7} if dtype == np.float32 else {"rtol": 1e-14, "atol": 1e-15}


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return np.repeat(array[..., None], 2, axis=-1)[..., 0]


def example(shape, dtype, seed=0):
    """Return input, target and grad_output; differences are multiples of 1/8, also 0 and beta."""
    rng = np.random.default_rng(seed)
    input = np.asarray(rng.integers(-20, 21, shape) / 8, dtype)
    target = np.asarray(rng.integers(-20, 21, shape) / 8, dtype)
    return input, target, np.asarray(rng.standard_normal(shape), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_their_references(shape, beta, dtype):
    input, target, grad_output = given = example(shape, dtype)
    kept = [array.copy() for array in given]
    loss = smooth_l1.smooth_l1_forward(input, target, beta)
    assert (loss.dtype, loss.shape) == (dtype, shape)
    wanted = smooth_l1.smooth_l1_forward_reference(input, target, beta)
    assert_allclose(loss, wanted, **close(dtype))
    again = smooth_l1.smooth_l1_forward(strided(input), strided(target), beta)
    assert_array_equal(again, loss)

    grad_input = smooth_l1.smooth_l1_backward(grad_output, input, target, beta)
    assert (grad_input.dtype, grad_input.shape) == (dtype, shape)
    wanted = smooth_l1.smooth_l1_backward_reference(grad_output, input, target, beta)
    assert_allclose(grad_input, wanted, **close(dtype))
    again = smooth_l1.smooth_l1_backward(*map(strided, (grad_output, input, target)), beta)
    assert_array_equal(again, grad_input)
    for array, before in zip(given, kept, strict=True):
        assert_array_equal(array, before)


def test_golden_values():
    input, target = np.array([0.05, 0.2, 0.5, 1, 2]), np.zeros(5)
    loss = smooth_l1.smooth_l1_forward(input, target, 1.0)
    assert_allclose(loss, [0.00125, 0.02, 0.125, 0.5, 1.5])
    loss = smooth_l1.smooth_l1_forward(-input, target, 1 / 9)  # sigma 3
    assert_allclose(loss, [0.01125, 0.144444, 0.444444, 0.944444, 1.944444], atol=5e-7)


@pytest.mark.parametrize("beta", BETAS)
def test_pytorch_agrees(beta):
    torch = pytest.importorskip("torch")
    input, target, grad_output = example((9, 11), np.float64, seed=1)
    inf, nan = np.inf, np.nan
    input[0, :7] = 0, inf, -inf, nan, 0, 1e300, -1e300
    target[0, :7] = 0, 0, 0, 0, nan, 0, 0
    tensor = torch.tensor(input, requires_grad=True)
    options = {"reduction": "none", "beta": beta}
    wanted = torch.nn.functional.smooth_l1_loss(tensor, torch.tensor(target), **options)
    assert_allclose(smooth_l1.smooth_l1_forward(input, target, beta), wanted.detach(), rtol=1e-14)
    (grad,) = torch.autograd.grad(wanted, tensor, torch.tensor(grad_output))
    got = smooth_l1.smooth_l1_backward(grad_output, input, target, beta)
    # Of |NaN| PyTorch's slope is 0; that of the squares below beta is NaN in both.
    some = np.isfinite(input - target) if beta == 0 else slice(None)
    assert_allclose(got[some], grad.numpy()[some], rtol=1e-14)


def test_foreign_arrays_are_refused():
    foreign: Any = [1.0]
    with pytest.raises(TypeError, match="smooth_l1_forward: expected a NumPy array"):
        smooth_l1.smooth_l1_forward(foreign, foreign, 1.0)
