"""Activation kernels against their references and PyTorch."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.kernels import _sigmoid, activation

# operator, further arguments, whether backward reads the output (else the input)
OPERATORS = [
    ("relu", (), True),
    ("leaky_relu", (0.1,), False),
    ("leaky_relu", (-0.5,), False),
    ("sigmoid", (), True),
    ("tanh", (), True),
]
SHAPES = [(), (0,), (1,), (7,), (2, 0, 3), (3, 5), (2, 3, 5, 7)]
DTYPES = [np.float32, np.float64]
SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 40.0, -40.0, 100.0, -100.0, 700.0, -700.0, 1e30, -1e30]


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return np.repeat(array[..., None], 2, axis=-1)[..., 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name, arguments, from_output", OPERATORS)
def test_kernels_equal_their_references(name, arguments, from_output, shape, dtype):
    forward = getattr(activation, f"{name}_forward")
    backward = getattr(activation, f"{name}_backward")
    forward_reference = getattr(activation, f"{name}_forward_reference")
    backward_reference = getattr(activation, f"{name}_backward_reference")
    close: Any = {"rtol": 3e-7 if dtype == np.float32 else 1e-15, "atol": 0}

    rng = np.random.default_rng(0)
    input, grad_output = (np.asarray(3 * rng.standard_normal(shape), dtype) for _ in range(2))
    kept = input.copy(), grad_output.copy()
    output = forward(input, *arguments)
    assert (output.dtype, output.shape) == (dtype, shape)
    assert_allclose(output, forward_reference(input, *arguments), **close)
    assert_array_equal(forward(strided(input), *arguments), output)

    saved = output if from_output else input
    grad_input = backward(grad_output, saved, *arguments)
    assert (grad_input.dtype, grad_input.shape) == (dtype, shape)
    # 1 - output and 1 - output^2 lose what output rounded away: an error absolute, not relative.
    close["atol"] = 2e-6 if dtype == np.float32 else 4e-15
    assert_allclose(grad_input, backward_reference(grad_output, saved, *arguments), **close)
    assert_array_equal(backward(strided(grad_output), strided(saved), *arguments), grad_input)
    assert_array_equal(input, kept[0])
    assert_array_equal(grad_output, kept[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, arguments, from_output", OPERATORS)
def test_extreme_values(name, arguments, from_output, dtype):
    input = np.array([value for value in SPECIAL if abs(value) < 1e5 or name != "sigmoid"], dtype)
    output = getattr(activation, f"{name}_forward")(input, *arguments)
    wanted = getattr(activation, f"{name}_forward_reference")(input, *arguments)
    rtol = 3e-7 if dtype == np.float32 else 1e-15
    with np.errstate(under="ignore"):  # e^-700 is below every float32
        assert_allclose(output, wanted.astype(dtype), rtol=rtol, atol=1e-44)


@pytest.mark.parametrize("name, limits", [
    ("relu", [0, np.inf]),
    ("leaky_relu", [-np.inf, np.inf]),
    ("sigmoid", [0, 1]),
    ("tanh", [-1, 1]),
])  # fmt: skip
def test_infinities_and_nan(name, limits):
    input = np.array([-np.inf, np.inf, np.nan])
    arguments = (0.1,) if name == "leaky_relu" else ()
    output = getattr(activation, f"{name}_forward")(input, *arguments)
    assert_array_equal(output, [*limits, np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [15, 64, _sigmoid.PIECE + 17])
def test_sigmoid_by_vectors_equals_the_plain_rung(size, dtype):
    """In whole registers, in tails and in the next piece, each number by itself."""
    input = np.linspace(-120, 120, size).astype(dtype)
    input[::5], input[1::7], input[2::11] = np.nan, np.inf, -np.inf
    plain, around = np.empty_like(input), np.full(size + 16, 7, dtype)
    activation.sigmoid_forward_cpu(input, plain)
    _sigmoid.sigmoid_forward_vectors(input, around[:size])
    eps = 4 * np.finfo(dtype).eps
    assert_allclose(around[:size], plain, rtol=eps, atol=2e-45)
    assert_array_equal(around[size:], 7)
    wanted = plain if dtype == np.float64 else around[:size]
    assert_array_equal(activation.sigmoid_forward(input), wanted)


def test_tanh_is_exact_near_zero_and_keeps_its_sign():
    input = np.array([0.0, -0.0, 1e-300, -1e-20])
    output = activation.tanh_forward(input)
    assert_array_equal(output, input)
    assert_array_equal(np.signbit(output), np.signbit(input))


def test_gradient_at_the_kink_is_that_of_the_left_side():
    ones, zeros = np.ones(1), np.zeros(1)
    assert activation.relu_backward(ones, zeros) == 0
    assert activation.leaky_relu_backward(ones, zeros, 0.25) == 0.25


@pytest.mark.parametrize("name, arguments, from_output", OPERATORS)
def test_pytorch_agrees(name, arguments, from_output):
    torch = pytest.importorskip("torch")
    operator = {"leaky_relu": torch.nn.functional.leaky_relu}.get(name) or getattr(torch, name)
    rng = np.random.default_rng(1)
    input, grad_output = rng.standard_normal((2, 3, 50))
    input[0, :3] = 0.0, np.nan, -50.0
    tensor = torch.tensor(input, requires_grad=True)
    wanted = operator(tensor, *arguments)
    output = getattr(activation, f"{name}_forward")(input, *arguments)
    assert_allclose(output, wanted.detach(), rtol=1e-14)
    (grad,) = torch.autograd.grad(wanted, tensor, torch.tensor(grad_output))
    saved = output if from_output else input
    grad_input = getattr(activation, f"{name}_backward")(grad_output, saved, *arguments)
    assert_allclose(grad_input, grad, rtol=1e-12)


def test_foreign_arrays_are_refused():
    foreign: Any = [1.0]
    with pytest.raises(TypeError, match="relu_forward: expected a NumPy array or one on a CUDA"):
        activation.relu_forward(foreign)
