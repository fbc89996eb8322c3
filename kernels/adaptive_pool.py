"""Adaptive pooling: the maximum or the mean of out_h x out_w bins that share out a plane (n, c).

    bin i of `bins` on an axis of `size` pixels:  [floor(i size / bins), ceil((i + 1) size / bins))

    max       output[n, c, out_y, out_x] = max of input[n, c, y, x] over bin out_y x bin out_x
        argmax[n, c, out_y, out_x] = y * width + x of the first maximum in row-major order
    average   output[n, c, out_y, out_x] = (sum of input[n, c, y, x] over the bin) / (pixels in it)
    backward  grad_input[n, c, y, x] = sum of grad_output / (pixels in it) over all bins with (y, x)

Bins are never empty, overlap by a pixel where `bins` does not divide `size`, and repeat pixels
where it is larger. NaN counts as the largest number. The maximum's backward pass and its second
derivative need the argmax alone: they are `max_pool2d_backward` and `max_pool2d_gather` of `pool`.

One iteration owns a plane and what is written into it, so no order of threads can change a bit.

Bytes moved: the input is read once and the output written, with 4 bytes of argmax an element for
the maximum; one compare or add for each pixel of a bin. Where the mean's one bin is the whole plane
the CPU sums a run of memory (`_pool.py`).

Source: He et al., "Spatial pyramid pooling in deep convolutional networks for visual recognition",
2014, section 2.2; the bins are Torch's, which unlike the paper's stride and window fit every size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import launch
from minicnn.kernels._pool import average_planes, average_planes_backward

Array = NDArray
Pair = tuple[int, int]


def adaptive_avg_pool2d_forward_reference(input: Array, output_size: Pair) -> Array:
    """Define adaptive average pooling by plain loops, in float64."""
    output = np.zeros((*input.shape[:2], *output_size))
    for n, c, out_y, out_x in np.ndindex(*output.shape):
        pixels = _bin_reference(out_y, out_x, output_size, input.shape[2:])
        output[n, c, out_y, out_x] = sum(float(input[n, c, y, x]) for y, x in pixels) / len(pixels)
    return output


def adaptive_avg_pool2d_backward_reference(grad_output: Array, height: int, width: int) -> Array:
    """Define the gradient by plain loops, in float64: each bin gives to its pixels alike."""
    grad_input = np.zeros((*grad_output.shape[:2], height, width))
    for n, c, out_y, out_x in np.ndindex(*grad_output.shape):
        pixels = _bin_reference(out_y, out_x, grad_output.shape[2:], (height, width))
        for y, x in pixels:
            grad_input[n, c, y, x] += grad_output[n, c, out_y, out_x] / len(pixels)
    return grad_input


def adaptive_max_pool2d_forward_reference(input: Array, output_size: Pair) -> tuple[Array, Array]:
    """Define adaptive max pooling by plain loops, in float64."""
    output = np.zeros((*input.shape[:2], *output_size))
    argmax = np.zeros(output.shape, np.int32)
    for n, c, out_y, out_x in np.ndindex(*output.shape):
        pixels = _bin_reference(out_y, out_x, output_size, input.shape[2:])
        y, x = pixels[np.argmax([float(input[n, c, y, x]) for y, x in pixels])]
        output[n, c, out_y, out_x] = input[n, c, y, x]
        argmax[n, c, out_y, out_x] = y * input.shape[3] + x
    return output, argmax


def _bin_reference(
    out_y: int, out_x: int, output_size: tuple[int, ...], size: tuple[int, ...]
) -> list[Pair]:
    """Return the pixels (y, x) of one bin, row by row."""
    (out_h, out_w), (height, width) = output_size, size
    rows = range(math.floor(out_y * height / out_h), math.ceil((out_y + 1) * height / out_h))
    columns = range(math.floor(out_x * width / out_w), math.ceil((out_x + 1) * width / out_w))
    return [(y, x) for y in rows for x in columns]


def adaptive_avg_pool2d_forward(input: Array, output_size: Pair) -> Array:
    """Return the mean of every bin, (N, C, *output_size)."""
    xp = array_module("adaptive_avg_pool2d_forward", input)
    input = contiguous(input)
    output = empty(xp, (*input.shape[:2], *output_size), input.dtype)
    if xp is np and output_size == (1, 1):
        average_planes(input.reshape(output.size, math.prod(input.shape[2:])), output.reshape(-1))
    elif xp is np:
        adaptive_avg_pool2d_forward_cpu(input, output)
    else:
        (height, width), (out_h, out_w) = input.shape[2:], output_size
        _check_products("adaptive_avg_pool2d_forward", input.shape[2:], output_size)
        arguments = input, height, width, out_h, out_w, output
        if (height // out_h) * (width // out_w) >= 32:
            kernel, per_block = "adaptive_avg_pool2d_forward_warp_cuda", 256 // 32
        else:
            kernel, per_block = "adaptive_avg_pool2d_forward_cuda", 256
        launch("adaptive_pool", kernel, output.size, *arguments, block=256, per_block=per_block)
    return output


def adaptive_avg_pool2d_backward(grad_output: Array, height: int, width: int) -> Array:
    """Return the gradient (N, C, height, width) of adaptive average pooling."""
    xp = array_module("adaptive_avg_pool2d_backward", grad_output)
    grad_output = contiguous(grad_output)
    grad_input = empty(xp, (*grad_output.shape[:2], height, width), grad_output.dtype)
    if xp is np and grad_output.shape[2:] == (1, 1):
        planes = grad_input.reshape(grad_output.size, height * width)
        average_planes_backward(grad_output.reshape(-1), planes)
    elif xp is np:
        adaptive_avg_pool2d_backward_cpu(grad_output, grad_input)
    else:
        arguments = grad_output, *grad_output.shape[2:], height, width, grad_input
        launch("adaptive_pool", "adaptive_avg_pool2d_backward_cuda", grad_input.size, *arguments)
    return grad_input


def adaptive_max_pool2d_forward(input: Array, output_size: Pair) -> tuple[Array, Array]:
    """Return the maximum of every bin and its argmax (int32), both (N, C, *output_size)."""
    xp = array_module("adaptive_max_pool2d_forward", input)
    input = contiguous(input)
    output = empty(xp, (*input.shape[:2], *output_size), input.dtype)
    argmax = empty(xp, output.shape, np.int32)
    if xp is np:
        adaptive_max_pool2d_forward_cpu(input, output, argmax)
    else:
        _check_products("adaptive_max_pool2d_forward", input.shape[2:], output_size)
        arguments = input, *input.shape[2:], *output_size, output, argmax
        launch("adaptive_pool", "adaptive_max_pool2d_forward_cuda", output.size, *arguments)
    return output, argmax


def _check_products(op: str, sizes: Pair, bins: Pair) -> None:
    """Raise ValueError where the bins' ends, quotients of products of int, are out of reach."""
    for axis, size, count in zip(("height", "width"), sizes, bins, strict=True):
        if size * count + max(size, count) >= 2**31:
            raise ValueError(
                f"{op}: {axis} is {size} in {count} bins, expected a product below 2^31 "
                "on CUDA devices"
            )


@parallel_jit
def adaptive_avg_pool2d_forward_cpu(input, output):
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        for out_y in range(out_h):
            top, bottom = _bin(out_y, out_h, height)
            for out_x in range(out_w):
                left, right = _bin(out_x, out_w, width)
                total = input.dtype.type(0)
                for y in range(top, bottom):
                    for x in range(left, right):
                        total += input[n, c, y, x]
                count = (bottom - top) * (right - left)
                output[n, c, out_y, out_x] = total / input.dtype.type(count)


@parallel_jit
def adaptive_avg_pool2d_backward_cpu(grad_output, grad_input):
    batch, channels, out_h, out_w = grad_output.shape
    height, width = grad_input.shape[2:]
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        grad_input[n, c] = 0
        for out_y in range(out_h):
            top, bottom = _bin(out_y, out_h, height)
            for out_x in range(out_w):
                left, right = _bin(out_x, out_w, width)
                count = (bottom - top) * (right - left)
                share = grad_output[n, c, out_y, out_x] / grad_output.dtype.type(count)
                for y in range(top, bottom):
                    for x in range(left, right):
                        grad_input[n, c, y, x] += share


@parallel_jit
def adaptive_max_pool2d_forward_cpu(input, output, argmax):
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        for out_y in range(out_h):
            top, bottom = _bin(out_y, out_h, height)
            for out_x in range(out_w):
                left, right = _bin(out_x, out_w, width)
                best = input[n, c, top, left]
                index = top * width + left
                for y in range(top, bottom):
                    for x in range(left, right):
                        value = input[n, c, y, x]
                        if value > best or (np.isnan(value) and not np.isnan(best)):
                            best = value
                            index = y * width + x
                output[n, c, out_y, out_x] = best
                argmax[n, c, out_y, out_x] = index


@jit
def _bin(out, bins, size):
    """Return a bin's first pixel and end along an axis."""
    return out * size // bins, ((out + 1) * size + bins - 1) // bins
