"""Local response normalisation: each value divided by a power of the energy of nearby channels.

    scale[n, c, x]  = k + alpha * sum over j in window(c) of input[n, j, x]^2
    output[n, c, x] = input[n, c, x] * scale[n, c, x]^-beta
        window(c) = c - size // 2 ... c + (size - 1) // 2, as far as there are channels

    grad_input[n, c, x] = grad_output[n, c, x] * scale[n, c, x]^-beta
        - 2 alpha beta * input[n, c, x] * sum over j in mirror(c) of
            grad_output[n, j, x] * output[n, j, x] / scale[n, j, x]
        mirror(c) = c - (size - 1) // 2 ... c + size // 2: the channels in whose window c lies

`alpha` is the paper's, a factor of the sum. PyTorch and Caffe divide theirs by `size` first;
`minicnn.functional` does that before it calls. A window of even size has one channel more before
than after, as in PyTorch. The gradient of an output keeps the output, so that no power is computed
twice: j runs over ready quotients.

Arrays of any number of dimensions are read as (N, C, spatial): `n` the example, `c` the channel,
`x` the pixel. On the CPU one iteration takes LANES neighbouring pixels through all channels, on the
GPU a thread computes one element, or takes one pixel through all channels.

Bytes moved: one read and two writes forward, four reads and one write backward; the channels of a
window are found in cache. About 2 size flops an element, and a power, which takes longer than all
else: scale^-0.75 is two roots and a division, 4 to 6 times as fast as `pow`.

Rungs, slow to fast:
    plain   every window is summed afresh
    vectors (CPU, beta 0.75) sums in registers, and both powers from one division and two roots
            (`_lrn.py`): 4.7 ms forward and 7.7 backward for 16 x 96 x 55 x 55, not 8.4 and 22.6
    window  (GPU, forward) the window slides: one square comes in, one goes out, whatever the size.
            A sum that fell below a quarter of its peak is taken afresh, because what is left of it
            may be rounding error; so is NaN, which subtracting an infinity leaves behind. On the
            CPU, where LANES sums slide together, one of them would restart nearly every time.

Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012,
section 3.3.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import launch
from minicnn.kernels._lrn import lrn_backward_vectors, lrn_forward_vectors

Array = NDArray

LANES = 256  # pixels that one iteration takes along: few enough for their channels to stay in cache


def lrn_forward_reference(
    input: Array, size: int, alpha: float, beta: float, k: float
) -> tuple[Array, Array]:
    """Define the normalisation by plain loops, in float64."""
    channels = input.shape[1]
    output, scale = np.zeros(input.shape), np.zeros(input.shape)
    for index in np.ndindex(*input.shape):
        n, c, *place = index
        energy = 0.0
        for j in range(channels):
            if c - size // 2 <= j <= c + (size - 1) // 2:
                energy += float(input[(n, j, *place)]) ** 2
        scale[index] = k + alpha * energy
        output[index] = float(input[index]) / scale[index] ** beta
    return output, scale


def lrn_backward_reference(
    grad_output: Array,
    input: Array,
    output: Array,
    scale: Array,
    size: int,
    alpha: float,
    beta: float,
) -> Array:
    """Define the gradient by plain loops, in float64: each output's derivative in each input."""
    channels = input.shape[1]
    grad_input = np.zeros(input.shape)
    for index in np.ndindex(*input.shape):
        n, c, *place = index
        for j in range(channels):
            at = (n, j, *place)
            base = float(scale[at])
            slope = base**-beta if j == c else 0.0
            if j - size // 2 <= c <= j + (size - 1) // 2:
                power = float(input[at]) * base ** (-beta - 1)
                slope -= 2 * alpha * beta * float(input[index]) * power
            grad_input[index] += float(grad_output[at]) * slope
    return grad_input


def lrn_forward(
    input: Array,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    *,
    algorithm: str = "window",
) -> tuple[Array, Array]:
    """Return the output and the scale of (N, C, *), both of the input's shape.

    `algorithm` is a rung of the GPU's, "plain" or "window".
    """
    xp = array_module("lrn_forward", input)
    output, scale = (empty(xp, input.shape, input.dtype) for _ in range(2))
    values = _planes(input)
    settings = size, *(input.dtype.type(number) for number in (alpha, beta, k))
    if xp is np:
        results = output.reshape(values.shape), scale.reshape(values.shape)
        if beta == 0.75:
            size, alpha, _, k = settings
            lrn_forward_vectors(values, size, alpha, k, *results)
        else:
            lrn_forward_cpu(values, *settings, *results)
        return output, scale
    sizes = values.shape[1:]
    if algorithm == "plain":
        launch("lrn", "lrn_forward_cuda", values.size, values, *settings, *sizes, output, scale)
    elif algorithm == "window":
        name, pixels = "lrn_forward_window_cuda", values.shape[0] * values.shape[2]
        launch("lrn", name, pixels, values, *settings, *sizes, output, scale)
    else:
        raise ValueError(f"algorithm: got {algorithm!r}, expected 'plain' or 'window'")
    return output, scale


def lrn_backward(
    grad_output: Array,
    input: Array,
    output: Array,
    scale: Array,
    size: int,
    alpha: float,
    beta: float,
) -> Array:
    """Return the gradient of the input, from both results of the forward pass."""
    xp = array_module("lrn_backward", grad_output)
    grad_input = empty(xp, input.shape, input.dtype)
    arrays = [_planes(array) for array in (grad_output, input, output, scale)]
    settings = size, input.dtype.type(alpha), input.dtype.type(beta)
    if xp is np and beta == 0.75:
        lrn_backward_vectors(*arrays, *settings[:2], grad_input.reshape(arrays[1].shape))
    elif xp is np:
        lrn_backward_cpu(*arrays, *settings, grad_input.reshape(arrays[1].shape))
    else:
        sizes = arrays[1].shape[1:]
        launch("lrn", "lrn_backward_cuda", input.size, *arrays, *settings, *sizes, grad_input)
    return grad_input


def _planes(array: Array) -> Array:
    """Return (N, C, *) as (N, C, spatial), without a copy where it lies so."""
    batch, channels = array.shape[:2]
    return contiguous(array).reshape(batch, channels, math.prod(array.shape[2:]))


@parallel_jit
def lrn_forward_cpu(input, size, alpha, beta, k, output, scale):
    batch, channels, spatial = input.shape
    chunks = (spatial + LANES - 1) // LANES
    before = size // 2
    after = (size - 1) // 2
    for task in prange(batch * chunks):
        n = task // chunks
        start = task % chunks * LANES
        end = min(start + LANES, spatial)
        for c in range(channels):
            base = scale[n, c, start:end]
            base[:] = 0
            for j in range(max(c - before, 0), min(c + after + 1, channels)):
                values = input[n, j, start:end]
                for x in range(base.size):
                    base[x] += values[x] * values[x]
            for x in range(base.size):
                base[x] = k + alpha * base[x]
            _divide_by_power(input[n, c, start:end], base, beta, output[n, c, start:end])


@parallel_jit
def lrn_backward_cpu(grad_output, input, output, scale, size, alpha, beta, grad_input):
    batch, channels, spatial = input.shape
    chunks = (spatial + LANES - 1) // LANES
    before = (size - 1) // 2
    after = size // 2
    factor = input.dtype.type(2) * alpha * beta
    for task in prange(batch * chunks):
        n = task // chunks
        start = task % chunks * LANES
        end = min(start + LANES, spatial)
        quotients = np.empty((channels, end - start), input.dtype)
        for c in range(channels):
            for x in range(end - start):
                product = grad_output[n, c, start + x] * output[n, c, start + x]
                quotients[c, x] = np.divide(product, scale[n, c, start + x])
        sums = np.empty(end - start, input.dtype)
        for c in range(channels):
            sums[:] = 0
            for j in range(max(c - before, 0), min(c + after + 1, channels)):
                for x in range(sums.size):
                    sums[x] += quotients[j, x]
            values = input[n, c, start:end]
            result = grad_input[n, c, start:end]
            _divide_by_power(grad_output[n, c, start:end], scale[n, c, start:end], beta, result)
            for x in range(sums.size):
                result[x] -= factor * values[x] * sums[x]


@jit
def _divide_by_power(values, base, beta, result):
    """Fill `result` with values / base^beta."""
    if beta == 0.75:
        for x in range(values.size):
            root = math.sqrt(base[x])
            # np.divide, not /: Numba's operator tests the divisor for 0, and the loop stays scalar.
            result[x] = np.divide(values[x], root * math.sqrt(root))
    else:
        for x in range(values.size):
            result[x] = values[x] * base[x] ** -beta
