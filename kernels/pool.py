"""Pooling: the maximum or the mean of every window of every plane (n, c), and the way back.

    max       output[n, c, out_y, out_x] = max of input[n, c, y, x] over the window
        y = out_y * stride_h - padding_h + ky * dilation_h,  0 <= ky < kernel_h      x likewise
        argmax[n, c, out_y, out_x] = y * width + x of the first maximum in row-major order
    average   output[n, c, out_y, out_x] = (sum of input[n, c, y, x] over the window) / count

    max backward      grad_input[n, c, y, x] = sum of grad_output over windows with argmax (y, x)
    max gather        output = input at argmax: the adjoint of max backward, for second derivatives
    average backward  grad_input[n, c, y, x] = sum of grad_output / count over windows with (y, x)

NaN counts as the largest number. Padding is empty space: minus infinity to a maximum (a window
without a pixel has argmax -1), zero to a sum. The count of an average is the size of its window,
cut at the border of the padding (`count_include_pad`) or of the image; what sticks out of the
padding in ceil mode never counts. PyTorch and Caffe agree on this.

One iteration owns a plane and what is written into it, so no order of threads can change a bit.

Bytes moved: the input is read once (again from cache where windows overlap) and the output written,
with 4 bytes of argmax an element for the maximum. kernel_h * kernel_w compares or adds an output.

Rungs of the maximum, slow to fast:
    plain   every tap is tested against the border
    v2      (GPU) 2x2 and 3x3 windows with stride 2, none over the border: the window is a constant
            to the compiler, which unrolls it
    rows    (CPU) 2x2 and 3x3 windows with stride 1 or 2, a register of neighbouring ones at a time
and of the average on the CPU:
    plain   every window is summed afresh
    rows    a row of windows is summed together; a window that is the whole plane, in one run
Rungs "rows" are in `_pool.py`, for float32. For 16 x 192 x 56 x 56 and windows of 3x3 with stride
2, plain takes 82 ms and rows 2.9; of 2x2, the mean, 11.4 and 2.2 for 16 x 128 x 56 x 56.

Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, section II.B
(average); Jarrett et al., "What is the best multi-stage architecture for object recognition?",
2009, section 2 (maximum); Krizhevsky et al., "ImageNet classification with deep convolutional
neural networks", 2012, section 3.4 (overlapping windows).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import launch
from minicnn.kernels._pool import (
    average_planes,
    average_planes_backward,
    avg_pool_rows,
    avg_pool_rows_backward,
    max_pool_rows,
)
from minicnn.kernels._vector import load, store

Array = NDArray
Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair, Pair]  # kernel size, stride, padding, dilation

V2_GRID = ((2, 2), (0, 0), (1, 1))  # the stride, padding and dilation that rung v2 is made for


def pool_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """Return how many windows fit; ceil mode adds one, cut, unless it begins beyond the image."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= size + padding else out


def max_pool2d_forward_reference(
    input: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Define max pooling by plain loops, in float64."""
    shape = _output_shape(input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    output = np.full(shape, -np.inf)
    argmax = np.full(shape, -1, np.int32)
    height, width = input.shape[2:]
    for n, c, out_y, out_x in np.ndindex(*shape):
        values, places = [], []
        for ky, kx in np.ndindex(*kernel_size):
            y = out_y * stride[0] - padding[0] + ky * dilation[0]
            x = out_x * stride[1] - padding[1] + kx * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                values.append(float(input[n, c, y, x]))
                places.append(y * width + x)
        if values:
            first = np.argmax(values)  # the first NaN if there is one, else the first maximum
            output[n, c, out_y, out_x] = values[first]
            argmax[n, c, out_y, out_x] = places[first]
    return output, argmax


def max_pool2d_backward_reference(
    grad_output: Array, argmax: Array, height: int, width: int, window: Window | None
) -> Array:
    """Define the gradient by plain loops, in float64: each output gives to its argmax.

    Whatever the `window`: which pixel it chose is all that matters.
    """
    grad_input = np.zeros((*grad_output.shape[:2], height, width))
    for n, c, out_y, out_x in np.ndindex(*grad_output.shape):
        y, x = divmod(int(argmax[n, c, out_y, out_x]), width)
        if y >= 0:
            grad_input[n, c, y, x] += grad_output[n, c, out_y, out_x]
    return grad_input


def max_pool2d_gather_reference(input: Array, argmax: Array) -> Array:
    """Define the gather by plain loops, in float64."""
    output = np.zeros(argmax.shape)
    for n, c, out_y, out_x in np.ndindex(*argmax.shape):
        y, x = divmod(int(argmax[n, c, out_y, out_x]), input.shape[3])
        if y >= 0:
            output[n, c, out_y, out_x] = input[n, c, y, x]
    return output


def avg_pool2d_forward_reference(
    input: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    """Define average pooling by plain loops, in float64."""
    output = np.zeros(_output_shape(input.shape, kernel_size, stride, padding, (1, 1), ceil_mode))
    for n, c, out_y, out_x in np.ndindex(*output.shape):
        pixels, count = _window_reference(
            out_y, out_x, input.shape[2:], kernel_size, stride, padding, count_include_pad
        )
        output[n, c, out_y, out_x] = sum(float(input[n, c, y, x]) for y, x in pixels) / count
    return output


def avg_pool2d_backward_reference(
    grad_output: Array,
    height: int,
    width: int,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    """Define the gradient by plain loops, in float64: each window gives to its pixels alike."""
    grad_input = np.zeros((*grad_output.shape[:2], height, width))
    for n, c, out_y, out_x in np.ndindex(*grad_output.shape):
        pixels, count = _window_reference(
            out_y, out_x, (height, width), kernel_size, stride, padding, count_include_pad
        )
        for y, x in pixels:
            grad_input[n, c, y, x] += grad_output[n, c, out_y, out_x] / count
    return grad_input


def _window_reference(
    out_y: int,
    out_x: int,
    size: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
) -> tuple[list[Pair], int]:
    """Return the pixels (y, x) of one window and what the sum over them is divided by."""
    height, width = size
    pixels, count = [], 0
    for ky, kx in np.ndindex(*kernel_size):
        y = out_y * stride[0] - padding[0] + ky
        x = out_x * stride[1] - padding[1] + kx
        if 0 <= y < height and 0 <= x < width:
            pixels.append((y, x))
            count += 1
        elif count_include_pad and y < height + padding[0] and x < width + padding[1]:
            count += 1
    return pixels, count


def max_pool2d_forward(
    input: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """Return the maximum of every window and its argmax (int32), both (N, C, out_h, out_w)."""
    xp = array_module("max_pool2d_forward", input)
    input = contiguous(input)
    shape = _output_shape(input.shape, kernel_size, stride, padding, dilation, ceil_mode)
    output = empty(xp, shape, input.dtype)
    argmax = empty(xp, shape, np.int32)
    window = *kernel_size, *stride, *padding, *dilation
    inside = shape == _output_shape(input.shape, kernel_size, stride, padding, dilation, False)
    v2 = inside and kernel_size in ((2, 2), (3, 3)) and (stride, padding, dilation) == V2_GRID
    squares = kernel_size in ((2, 2), (3, 3)) and stride[1] <= 2 and dilation == (1, 1)
    if xp is np and squares and input.dtype == np.float32:
        constants = (tuple(range(n)) for n in (*kernel_size, stride[1]))
        max_pool_rows(input, *constants, stride[0], *padding, output, argmax)
    elif xp is np:
        max_pool2d_forward_cpu(input, *window, output, argmax)
    elif v2:
        arguments = input, *input.shape[2:], *shape[2:], output, argmax
        taps = kernel_size[:1]
        launch("pool", "max_pool2d_forward_v2_cuda", output.size, *arguments, template=taps)
    else:
        arguments = input, *input.shape[2:], *window, *shape[2:], output, argmax
        launch("pool", "max_pool2d_forward_cuda", output.size, *arguments)
    return output, argmax


def max_pool2d_backward(
    grad_output: Array, argmax: Array, height: int, width: int, window: Window | None
) -> Array:
    """Return the gradient (N, C, height, width) of max pooling.

    `window` is the forward pass's (kernel_size, stride, padding, dilation), or None for adaptive
    pooling. The CPU needs only argmax; a GPU has each pixel look for the windows it lies in.
    """
    xp = array_module("max_pool2d_backward", grad_output)
    planes, sizes = grad_output.shape[:2], grad_output.shape[2:]
    grad_input = empty(xp, (*planes, height * width), grad_output.dtype)
    inputs = contiguous(grad_output), contiguous(argmax)
    if xp is np:
        max_pool2d_backward_cpu(*inputs, grad_input)
    elif window is None:
        arguments = *inputs, *sizes, height, width, grad_input
        launch("pool", "max_pool2d_backward_bins_cuda", grad_input.size, *arguments)
    else:
        geometry = (number for pair in window for number in pair)
        arguments = *inputs, *sizes, *geometry, height, width, grad_input
        launch("pool", "max_pool2d_backward_cuda", grad_input.size, *arguments)
    return grad_input.reshape(*planes, height, width)


def max_pool2d_gather(input: Array, argmax: Array) -> Array:
    """Read `input` (N, C, height, width) at `argmax` (N, C, out_h, out_w); 0 where argmax is -1."""
    xp = array_module("max_pool2d_gather", input)
    batch, channels, height, width = input.shape
    output = empty(xp, argmax.shape, input.dtype)
    planes = contiguous(input).reshape(batch, channels, height * width)
    argmax = contiguous(argmax)
    if xp is np:
        max_pool2d_gather_cpu(planes, argmax, output)
    else:
        arguments = planes, height, width, argmax, *argmax.shape[2:], output
        launch("pool", "max_pool2d_gather_cuda", output.size, *arguments)
    return output


def avg_pool2d_forward(
    input: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    """Return the mean of every window, (N, C, out_h, out_w)."""
    xp = array_module("avg_pool2d_forward", input)
    input = contiguous(input)
    shape = _output_shape(input.shape, kernel_size, stride, padding, (1, 1), ceil_mode)
    output = empty(xp, shape, input.dtype)
    window = *kernel_size, *stride, *padding, count_include_pad
    if xp is np and _whole(kernel_size, padding, input.shape, shape):
        planes = input.shape[0] * input.shape[1]
        average_planes(input.reshape(planes, input.shape[2] * input.shape[3]), output.reshape(-1))
    elif xp is np and input.dtype == np.float32:
        avg_pool_rows(input, *window, output)
    elif xp is np:
        avg_pool2d_forward_cpu(input, *window, output)
    else:
        arguments = input, *input.shape[2:], *window, *shape[2:], output
        launch("pool", "avg_pool2d_forward_cuda", output.size, *arguments)
    return output


def avg_pool2d_backward(
    grad_output: Array,
    height: int,
    width: int,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    """Return the gradient (N, C, height, width) of average pooling.

    The arguments are those of the forward pass; what `ceil_mode` decides, the size of the output,
    `grad_output` already tells.
    """
    xp = array_module("avg_pool2d_backward", grad_output)
    grad_output = contiguous(grad_output)
    grad_input = empty(xp, (*grad_output.shape[:2], height, width), grad_output.dtype)
    window = *kernel_size, *stride, *padding, count_include_pad
    if xp is np and _whole(kernel_size, padding, grad_input.shape, grad_output.shape):
        planes = grad_input.reshape(grad_output.size, height * width)
        average_planes_backward(grad_output.reshape(-1), planes)
    elif xp is np and grad_output.dtype == np.float32:
        avg_pool_rows_backward(grad_output, *window, grad_input)
    elif xp is np:
        avg_pool2d_backward_cpu(grad_output, *window, grad_input)
    else:
        sizes = grad_output.shape[2:]
        arguments = grad_output, *sizes, *window, height, width, grad_input
        launch("pool", "avg_pool2d_backward_cuda", grad_input.size, *arguments)
    return grad_input


def _output_shape(
    shape: tuple[int, ...],
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> tuple[int, int, int, int]:
    batch, channels, height, width = shape
    return (
        batch,
        channels,
        pool_output_size(height, kernel_size[0], stride[0], padding[0], dilation[0], ceil_mode),
        pool_output_size(width, kernel_size[1], stride[1], padding[1], dilation[1], ceil_mode),
    )


def _whole(kernel_size: Pair, padding: Pair, shape: tuple, output_shape: tuple) -> bool:
    """Tell whether each plane is one window."""
    return (kernel_size, padding, output_shape[2:]) == (shape[2:], (0, 0), (1, 1))


@parallel_jit
def max_pool2d_forward_cpu(
    input, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w,
    dilation_h, dilation_w, output, argmax,
):  # fmt: skip
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        for out_y in range(out_h):
            for out_x in range(out_w):
                best = input.dtype.type(-np.inf)
                index = -1
                for ky in range(kernel_h):
                    y = out_y * stride_h - padding_h + ky * dilation_h
                    if y < 0 or y >= height:
                        continue
                    for kx in range(kernel_w):
                        x = out_x * stride_w - padding_w + kx * dilation_w
                        if x < 0 or x >= width:
                            continue
                        value = input[n, c, y, x]
                        if index < 0 or value > best or (np.isnan(value) and not np.isnan(best)):
                            best = value
                            index = y * width + x
                output[n, c, out_y, out_x] = best
                argmax[n, c, out_y, out_x] = index


@parallel_jit
def max_pool2d_backward_cpu(grad_output, argmax, grad_input):
    """Scatter within a plane; `grad_input` is (N, C, height * width)."""
    batch, channels, pixels = grad_input.shape
    windows = grad_output.shape[2] * grad_output.shape[3]
    grads = grad_output.reshape(-1)
    places = argmax.reshape(-1)
    result = grad_input.reshape(-1)
    for plane in prange(batch * channels):
        start = plane * pixels
        for i in range(start, start + pixels):
            store(result, i, 0)
        for window in range(plane * windows, (plane + 1) * windows):
            index = load(places, window)
            if index >= 0:
                store(result, start + index, load(result, start + index) + load(grads, window))


@parallel_jit
def max_pool2d_gather_cpu(input, argmax, output):
    """Gather within a plane; `input` is (N, C, height * width)."""
    batch, channels, out_h, out_w = output.shape
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        for out_y in range(out_h):
            for out_x in range(out_w):
                index = argmax[n, c, out_y, out_x]
                output[n, c, out_y, out_x] = input[n, c, index] if index >= 0 else 0


@parallel_jit
def avg_pool2d_forward_cpu(
    input, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, count_include_pad, output
):  # fmt: skip
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        for out_y in range(out_h):
            top, bottom, rows = _window(
                out_y, kernel_h, stride_h, padding_h, height, count_include_pad
            )
            for out_x in range(out_w):
                left, right, columns = _window(
                    out_x, kernel_w, stride_w, padding_w, width, count_include_pad
                )
                total = input.dtype.type(0)
                for y in range(top, bottom):
                    for x in range(left, right):
                        total += input[n, c, y, x]
                output[n, c, out_y, out_x] = total / input.dtype.type(rows * columns)


@parallel_jit
def avg_pool2d_backward_cpu(
    grad_output, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w,
    count_include_pad, grad_input,
):  # fmt: skip
    batch, channels, out_h, out_w = grad_output.shape
    height, width = grad_input.shape[2:]
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        grad_input[n, c] = 0
        for out_y in range(out_h):
            top, bottom, rows = _window(
                out_y, kernel_h, stride_h, padding_h, height, count_include_pad
            )
            for out_x in range(out_w):
                left, right, columns = _window(
                    out_x, kernel_w, stride_w, padding_w, width, count_include_pad
                )
                share = grad_output[n, c, out_y, out_x] / grad_output.dtype.type(rows * columns)
                for y in range(top, bottom):
                    for x in range(left, right):
                        grad_input[n, c, y, x] += share


@jit
def _window(out, kernel, stride, padding, size, count_include_pad):
    """Return a window's first pixel and end along an axis, and how many pixels the mean counts."""
    start = out * stride - padding
    end = min(start + kernel, size + padding)
    first = max(start, 0)
    last = min(end, size)
    return first, last, end - start if count_include_pad else last - first
