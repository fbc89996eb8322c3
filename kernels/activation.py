"""Activations: element by element, on arrays of any shape.

    relu        output = max(input, 0)                           NaN stays NaN
    leaky_relu  output = input if input > 0 else negative_slope * input
    sigmoid     output = 1 / (1 + e^-input)
    tanh        output = (e^input - e^-input) / (e^input + e^-input)

    relu        grad_input = grad_output if output > 0 else 0
    leaky_relu  grad_input = grad_output if input > 0 else negative_slope * grad_output
    sigmoid     grad_input = grad_output * output * (1 - output)
    tanh        grad_input = grad_output * (1 - output^2)

Where the gradient can be read off the output, the output is what is kept: the next layer keeps it
anyway. The slopes at the kink of relu and leaky_relu are those of the left side, as in PyTorch.

Arrays are read flat; one iteration computes one element `i`. Sigmoid and tanh raise e to negative
numbers only, so that nothing overflows however large the input:

    e = exp(-|x|):       sigmoid(x) = (1 if x >= 0 else e) / (1 + e)
    m = expm1(-2 |x|):   tanh(|x|)  = -m / (2 + m)

Bytes moved: one read and one write forward, two reads and one write backward. One flop or two,
about 40 for an exponential: all but sigmoid and tanh are bound by memory. The sigmoid has a rung
of vectors on the CPU (`_sigmoid.py`), which for float32 takes a third of the time.

Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012,
section 3.1 (relu); Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic
models", 2013, section 2 (leaky); LeCun et al., "Efficient BackProp", 1998, section 4.4 (sigmoids).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._exp import exp, expm1
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch
from minicnn.kernels._sigmoid import sigmoid_forward_vectors

Array = NDArray


def relu_forward_reference(input: Array) -> Array:
    """Define relu by a plain loop, in float64."""
    output = np.zeros(input.shape)
    for i in np.ndindex(*input.shape):
        output[i] = 0.0 if input[i] <= 0 else input[i]
    return output


def relu_backward_reference(grad_output: Array, output: Array) -> Array:
    """Define relu's gradient by a plain loop, in float64."""
    grad_input = np.zeros(output.shape)
    for i in np.ndindex(*output.shape):
        grad_input[i] = 0.0 if output[i] <= 0 else grad_output[i]
    return grad_input


def leaky_relu_forward_reference(input: Array, negative_slope: float) -> Array:
    """Define leaky relu by a plain loop, in float64."""
    output = np.zeros(input.shape)
    for i in np.ndindex(*input.shape):
        output[i] = input[i] if input[i] > 0 else negative_slope * float(input[i])
    return output


def leaky_relu_backward_reference(grad_output: Array, input: Array, negative_slope: float) -> Array:
    """Define leaky relu's gradient by a plain loop, in float64."""
    grad_input = np.zeros(input.shape)
    for i in np.ndindex(*input.shape):
        grad_input[i] = grad_output[i] if input[i] > 0 else negative_slope * float(grad_output[i])
    return grad_input


def sigmoid_forward_reference(input: Array) -> Array:
    """Define the sigmoid by a plain loop, in float64."""
    output = np.zeros(input.shape)
    for i in np.ndindex(*input.shape):
        x = float(input[i])
        output[i] = math.exp(x) / (1 + math.exp(x)) if x < 0 else 1 / (1 + math.exp(-x))
    return output


def sigmoid_backward_reference(grad_output: Array, output: Array) -> Array:
    """Define the sigmoid's gradient by a plain loop, in float64."""
    grad_input = np.zeros(output.shape)
    for i in np.ndindex(*output.shape):
        grad_input[i] = float(grad_output[i]) * float(output[i]) * (1 - float(output[i]))
    return grad_input


def tanh_forward_reference(input: Array) -> Array:
    """Define tanh by a plain loop, in float64."""
    output = np.zeros(input.shape)
    for i in np.ndindex(*input.shape):
        output[i] = math.tanh(input[i])
    return output


def tanh_backward_reference(grad_output: Array, output: Array) -> Array:
    """Define tanh's gradient by a plain loop, in float64."""
    grad_input = np.zeros(output.shape)
    for i in np.ndindex(*output.shape):
        grad_input[i] = float(grad_output[i]) * (1 - float(output[i]) ** 2)
    return grad_input


def relu_forward(input: Array) -> Array:
    """Return max(input, 0)."""
    xp = array_module("relu_forward", input)
    output = empty(xp, input.shape, input.dtype)
    arrays = _flat(input), output.reshape(-1)
    if xp is np:
        relu_forward_cpu(*arrays)
    else:
        launch("activation", "relu_forward_cuda", output.size, *arrays)
    return output


def relu_backward(grad_output: Array, output: Array) -> Array:
    """Return relu's gradient, from its output."""
    xp = array_module("relu_backward", grad_output)
    grad_input = empty(xp, output.shape, grad_output.dtype)
    arrays = _flat(grad_output), _flat(output), grad_input.reshape(-1)
    if xp is np:
        relu_backward_cpu(*arrays)
    else:
        launch("activation", "relu_backward_cuda", output.size, *arrays)
    return grad_input


def leaky_relu_forward(input: Array, negative_slope: float) -> Array:
    """Return the input, its negative part multiplied by `negative_slope`."""
    xp = array_module("leaky_relu_forward", input)
    output = empty(xp, input.shape, input.dtype)
    arguments = _flat(input), input.dtype.type(negative_slope), output.reshape(-1)
    if xp is np:
        leaky_relu_forward_cpu(*arguments)
    else:
        launch("activation", "leaky_relu_forward_cuda", output.size, *arguments)
    return output


def leaky_relu_backward(grad_output: Array, input: Array, negative_slope: float) -> Array:
    """Return leaky relu's gradient, from its input: a negative slope may turn the sign."""
    xp = array_module("leaky_relu_backward", grad_output)
    slope = grad_output.dtype.type(negative_slope)
    grad_input = empty(xp, input.shape, grad_output.dtype)
    arguments = _flat(grad_output), _flat(input), slope, grad_input.reshape(-1)
    if xp is np:
        leaky_relu_backward_cpu(*arguments)
    else:
        launch("activation", "leaky_relu_backward_cuda", input.size, *arguments)
    return grad_input


def sigmoid_forward(input: Array) -> Array:
    """Return 1 / (1 + e^-input)."""
    xp = array_module("sigmoid_forward", input)
    output = empty(xp, input.shape, input.dtype)
    arrays = _flat(input), output.reshape(-1)
    if xp is np and input.dtype == np.float32:
        sigmoid_forward_vectors(*arrays)
    elif xp is np:
        sigmoid_forward_cpu(*arrays)
    else:
        launch("activation", "sigmoid_forward_cuda", output.size, *arrays)
    return output


def sigmoid_backward(grad_output: Array, output: Array) -> Array:
    """Return the sigmoid's gradient, from its output."""
    xp = array_module("sigmoid_backward", grad_output)
    grad_input = empty(xp, output.shape, grad_output.dtype)
    arrays = _flat(grad_output), _flat(output), grad_input.reshape(-1)
    if xp is np:
        sigmoid_backward_cpu(*arrays)
    else:
        launch("activation", "sigmoid_backward_cuda", output.size, *arrays)
    return grad_input


def tanh_forward(input: Array) -> Array:
    """Return the hyperbolic tangent."""
    xp = array_module("tanh_forward", input)
    output = empty(xp, input.shape, input.dtype)
    arrays = _flat(input), output.reshape(-1)
    if xp is np:
        tanh_forward_cpu(*arrays)
    else:
        launch("activation", "tanh_forward_cuda", output.size, *arrays)
    return output


def tanh_backward(grad_output: Array, output: Array) -> Array:
    """Return the gradient of tanh, from its output."""
    xp = array_module("tanh_backward", grad_output)
    grad_input = empty(xp, output.shape, grad_output.dtype)
    arrays = _flat(grad_output), _flat(output), grad_input.reshape(-1)
    if xp is np:
        tanh_backward_cpu(*arrays)
    else:
        launch("activation", "tanh_backward_cuda", output.size, *arrays)
    return grad_input


def _flat(array: Array) -> Array:
    """Return the elements in C order, without a copy where they lie so."""
    return contiguous(array).reshape(-1)


@parallel_jit
def relu_forward_cpu(input, output):
    zero = input.dtype.type(0)
    for i in prange(input.size):
        output[i] = zero if input[i] <= zero else input[i]


@parallel_jit
def relu_backward_cpu(grad_output, output, grad_input):
    zero = grad_output.dtype.type(0)
    for i in prange(output.size):
        grad_input[i] = zero if output[i] <= zero else grad_output[i]


@parallel_jit
def leaky_relu_forward_cpu(input, negative_slope, output):
    zero = input.dtype.type(0)
    for i in prange(input.size):
        output[i] = input[i] if input[i] > zero else negative_slope * input[i]


@parallel_jit
def leaky_relu_backward_cpu(grad_output, input, negative_slope, grad_input):
    zero = input.dtype.type(0)
    for i in prange(input.size):
        grad_input[i] = grad_output[i] if input[i] > zero else negative_slope * grad_output[i]


@parallel_jit
def sigmoid_forward_cpu(input, output):
    for i in prange(input.size):
        x = np.float64(input[i])
        e = exp(-abs(x))
        output[i] = (1.0 if x >= 0 else e) / (1.0 + e)


@parallel_jit
def sigmoid_backward_cpu(grad_output, output, grad_input):
    one = output.dtype.type(1)
    for i in prange(output.size):
        grad_input[i] = grad_output[i] * output[i] * (one - output[i])


@parallel_jit
def tanh_forward_cpu(input, output):
    for i in prange(input.size):
        x = np.float64(input[i])
        m = expm1(-2.0 * abs(x))
        output[i] = math.copysign(m / (2.0 + m), x)


@parallel_jit
def tanh_backward_cpu(grad_output, output, grad_input):
    one = output.dtype.type(1)
    for i in prange(output.size):
        grad_input[i] = grad_output[i] * (one - output[i] * output[i])
