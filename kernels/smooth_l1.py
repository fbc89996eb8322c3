"""Smooth L1 loss: squares near zero, absolute values beyond, element by element.

    loss[i] = d^2 / (2 beta)      if |d| < beta        d = input[i] - target[i]
              |d| - beta / 2      otherwise

    grad_input[i] = grad_output[i] * (d / beta if |d| < beta else sign(d))

The gradient of the target is minus that of the input. With beta = 0 the loss is |d| and its slope
at 0 is 0. Fast R-CNN's code writes sigma, beta = 1 / sigma^2: its loss of the boxes has sigma 1,
Faster R-CNN's of the proposals sigma 3.

Arrays are read flat; one iteration computes one element `i`.

Bytes moved: two reads and one write forward, three reads and one write backward. Four flops or five
an element: bound by memory.

Source: Girshick, "Fast R-CNN", 2015, section 2.3, equations 2 and 3 (beta 1); Ren et al., "Faster
R-CNN: towards real-time object detection with region proposal networks", 2015, section 3.1.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray


def smooth_l1_forward_reference(input: Array, target: Array, beta: float) -> Array:
    """Define the loss by a plain loop, in float64."""
    loss = np.zeros(input.shape)
    for i in np.ndindex(*input.shape):
        distance = abs(float(input[i]) - float(target[i]))
        loss[i] = distance**2 / 2 / beta if distance < beta else distance - beta / 2
    return loss


def smooth_l1_backward_reference(
    grad_output: Array, input: Array, target: Array, beta: float
) -> Array:
    """Define the gradient of the input by a plain loop, in float64."""
    grad_input = np.zeros(input.shape)
    for i in np.ndindex(*input.shape):
        difference = float(input[i]) - float(target[i])
        slope = difference / beta if abs(difference) < beta else np.sign(difference)
        grad_input[i] = float(grad_output[i]) * slope
    return grad_input


def smooth_l1_forward(input: Array, target: Array, beta: float) -> Array:
    """Return the loss of every element."""
    xp = array_module("smooth_l1_forward", input)
    loss = empty(xp, input.shape, input.dtype)
    arguments = _flat(input), _flat(target), input.dtype.type(beta), loss.reshape(-1)
    if xp is np:
        smooth_l1_forward_cpu(*arguments)
    else:
        launch("smooth_l1", "smooth_l1_forward_cuda", loss.size, *arguments)
    return loss


def smooth_l1_backward(grad_output: Array, input: Array, target: Array, beta: float) -> Array:
    """Return the gradient of the input; that of the target is its negative."""
    xp = array_module("smooth_l1_backward", grad_output)
    grad_input = empty(xp, input.shape, input.dtype)
    arrays = _flat(grad_output), _flat(input), _flat(target)
    arguments = *arrays, input.dtype.type(beta), grad_input.reshape(-1)
    if xp is np:
        smooth_l1_backward_cpu(*arguments)
    else:
        launch("smooth_l1", "smooth_l1_backward_cuda", input.size, *arguments)
    return grad_input


def _flat(array: Array) -> Array:
    """Return the elements in C order, without a copy where they lie so."""
    return contiguous(array).reshape(-1)


@parallel_jit
def smooth_l1_forward_cpu(input, target, beta, loss):
    half = input.dtype.type(0.5)
    for i in prange(input.size):
        distance = abs(input[i] - target[i])
        # np.divide, not /: Numba's operator tests the divisor for 0, and the loop stays scalar.
        square = np.divide(half * distance * distance, beta)
        loss[i] = square if distance < beta else distance - half * beta


@parallel_jit
def smooth_l1_backward_cpu(grad_output, input, target, beta, grad_input):
    zero = input.dtype.type(0)
    one = input.dtype.type(1)
    for i in prange(input.size):
        difference = input[i] - target[i]
        # What is neither positive nor negative is its own sign: 0, or NaN.
        sign = one if difference > zero else (-one if difference < zero else difference)
        slope = np.divide(difference, beta) if abs(difference) < beta else sign
        grad_input[i] = grad_output[i] * slope
