"""Local response normalisation against its reference, PyTorch, and values worked out elsewhere."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import array_module
from minicnn.kernels import _launch, lrn

# A factor near 1: with the customary 1e-4 a channel that is missing, or one too many, would change
# the output by less than any tolerance allows.
ALPHA = 0.9
SHAPES = [(2, 7, 3, 5), (1, 1, 4), (2, 3, 2), (1, 5, 300), (1, 2, 2, 3, 2), (0, 3, 4), (2, 3, 0)]
SIZES = [1, 2, 3, 4, 5, 8]
DTYPES = [np.float32, np.float64]


def close(dtype):
    return {"rtol": 3e-6, "atol": 3e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-13}


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [0.75, 0.5])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_their_references(shape, size, beta, dtype):
    rng = np.random.default_rng(0)
    input, grad_output = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    kept = input.copy(), grad_output.copy()
    settings = size, ALPHA, beta, 1.5
    both = lrn.lrn_forward(input, *settings)
    for got, wanted in zip(both, lrn.lrn_forward_reference(input, *settings), strict=True):
        assert (got.dtype, got.shape) == (dtype, shape)
        assert_allclose(got, wanted, **close(dtype))
    for got, wanted in zip(lrn.lrn_forward(strided(input), *settings), both, strict=True):
        assert_array_equal(got, wanted)

    arguments = grad_output, input, *both, *settings[:3]
    grad_input = lrn.lrn_backward(*arguments)
    assert (grad_input.dtype, grad_input.shape) == (dtype, shape)
    assert_allclose(grad_input, lrn.lrn_backward_reference(*arguments), **close(dtype))
    arrays = map(strided, (grad_output, input, *both))
    assert_array_equal(lrn.lrn_backward(*arrays, *settings[:3]), grad_input)
    assert_array_equal(input, kept[0])
    assert_array_equal(grad_output, kept[1])


def test_golden_values():
    input = np.arange(1.0, 7).reshape(1, 6, 1)
    paper = 5, 0.1, 0.75, 2.0
    output, scale = lrn.lrn_forward(input, *paper)
    wanted = [0.3993841, 0.5981395, 0.6619502, 0.6622401, 0.8511196, 1.0916224]
    assert_allclose(output.ravel(), wanted, atol=5e-8)
    grad_output = np.array([1, -1, 2, 0, 0.5, 3]).reshape(1, 6, 1)
    grad_input = lrn.lrn_backward(grad_output, input, output, scale, *paper[:3])
    wanted = [0.3732304, -0.3513772, 0.3447728, -0.2607927, -0.3305998, 0.2058251]
    assert_allclose(grad_input.ravel(), wanted, atol=5e-8)
    divided, _ = lrn.lrn_forward(input, 5, 0.5 / 5, 0.75, 1.0)
    wanted = [0.5186108, 0.7071068, 0.7369469, 0.7113118, 0.9167830, 1.1844366]
    assert_allclose(divided.ravel(), wanted, atol=5e-8)


@pytest.mark.parametrize("size, reach", [(1, (0, 0)), (2, (1, 0)), (3, (1, 1)), (4, (2, 1))])
def test_every_channel_of_the_window_counts_and_no_other(size, reach):
    channels = 6
    before, after = reach
    for c in range(channels):
        input = np.zeros((1, channels, 1))
        input[0, c] = 1
        _, scale = lrn.lrn_forward(input, size, 1.0, 0.75, 1.0)
        wanted = [2.0 if j - before <= c <= j + after else 1.0 for j in range(channels)]
        assert_array_equal(scale.ravel(), wanted)


@pytest.mark.parametrize("shape", [(2, 7, 3, 5), (1, 1, 4, 4), (2, 3, 2, 2)])
@pytest.mark.parametrize("size", SIZES)
def test_pytorch_agrees(shape, size):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    input, grad_output = rng.standard_normal(shape), rng.standard_normal(shape)
    tensor = torch.tensor(input, requires_grad=True)
    wanted = torch.nn.functional.local_response_norm(tensor, size, ALPHA * size, 0.75, 2.0)
    both = lrn.lrn_forward(input, size, ALPHA, 0.75, 2.0)
    assert_allclose(both[0], wanted.detach(), rtol=1e-12, atol=1e-13)
    (grad,) = torch.autograd.grad(wanted, tensor, torch.tensor(grad_output))
    grad_input = lrn.lrn_backward(grad_output, input, *both, size, ALPHA, 0.75)
    assert_allclose(grad_input, grad, rtol=1e-10, atol=1e-12)


def test_large_and_infinite_values_stay_within_their_windows():
    input = np.random.default_rng(0).standard_normal((1, 9, 4)).astype(np.float32)
    wanted, _ = lrn.lrn_forward(input, 3, ALPHA, 0.75, 1.0)
    input[0, 3] = 1e15, np.inf, np.nan, -1e10
    output, _ = lrn.lrn_forward(input, 3, ALPHA, 0.75, 1.0)
    untouched = [0, 1, 5, 6, 7, 8]
    assert_array_equal(output[0, untouched], wanted[0, untouched])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1.0, 0.0])
def test_vectors_equal_the_plain_rung(k, dtype):
    """With every kind of number in some window, and with windows of zeros where k is 0."""
    rng = np.random.default_rng(0)
    values, grads = rng.standard_normal((2, 2, 9, 261)).astype(dtype)
    special = [np.nan, np.inf, -np.inf, 1e15, 1e-15, 0, -0.0]
    for place in range(0, 261, 3):
        values[0, place % 9, place] = special[place % 7]
        values[1, :, place] = 0
        grads[1, place % 9, place + 1] = special[place % 7]
    size, alpha, beta, base = 5, dtype(ALPHA), dtype(0.75), dtype(k)
    plain, vectors = np.empty((2, 3, *values.shape), dtype)
    lrn.lrn_forward_cpu(values, size, alpha, beta, base, plain[0], plain[1])
    lrn.lrn_forward_vectors(values, size, alpha, base, vectors[0], vectors[1])
    lrn.lrn_backward_cpu(grads, values, plain[0], plain[1], size, alpha, beta, plain[2])
    lrn.lrn_backward_vectors(grads, values, plain[0], plain[1], size, alpha, vectors[2])
    assert_allclose(vectors, plain, rtol=close(dtype)["rtol"] * 10, atol=close(dtype)["atol"])


def test_the_window_slides_unless_told_otherwise(gpu):
    input = array_module(gpu).ones((2, 4, 9), np.float32)
    with _launch.record() as launches:
        lrn.lrn_forward(input, 3, ALPHA, 0.75, 1.0)
        lrn.lrn_forward(input, 3, ALPHA, 0.75, 1.0, algorithm="plain")
    assert [launch.kernel for launch in launches] == [
        "lrn_forward_window_cuda<float>", "lrn_forward_cuda<float>",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="algorithm: got 'fast', expected 'plain' or 'window'"):
        lrn.lrn_forward(input, 3, ALPHA, 0.75, 1.0, algorithm="fast")


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_sliding_window_leaves_large_and_infinite_values_behind(size, gpu):
    device = array_module(gpu)
    input = np.random.default_rng(0).standard_normal((1, 14, 5)).astype(np.float32)
    settings = size, ALPHA, 0.75, 1.0
    wanted, _ = lrn.lrn_forward(input, *settings)
    input[0, 4] = 1e15, np.inf, np.nan, -1e10, 3e3
    output, _ = lrn.lrn_forward(device.asarray(input), *settings)
    untouched = [*range(2), *range(4 + size, 14)]
    assert_allclose(device.asnumpy(output)[0, untouched], wanted[0, untouched], 3e-6, 1e-6)


def test_foreign_arrays_are_refused():
    foreign: Any = [[[1.0]]]
    with pytest.raises(TypeError, match="lrn_forward: expected a NumPy array"):
        lrn.lrn_forward(foreign, 5, 1.0, 0.75, 1.0)
