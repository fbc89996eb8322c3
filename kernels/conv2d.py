"""2-D convolution (cross-correlation, as the field has it), its data and its weight gradient.

    output[n, o, out_y, out_x] = bias[o] + sum over c, ky, kx of
                                 input[n, c, y, x] * weight[o, c, ky, kx]
    grad_input[n, c, y, x]     = sum over o, ky, kx of
                                 grad_output[n, o, out_y, out_x] * weight[o, c, ky, kx]
    grad_weight[o, c, ky, kx]  = sum over n, out_y, out_x of
                                 grad_output[n, o, out_y, out_x] * input[n, c, y, x]
        y = out_y * stride_h - padding_h + ky * dilation_h        x likewise; outside the image: 0

With groups, output channel o sees only the input channels of its own group, and `c` counts within
it. The three are the partial derivatives of one trilinear form in input, weight and grad_output, so
that the derivative of any of them is the other two. The data gradient is also the transposed
convolution.

The rung here is the textbook's: unfold windows into columns, multiply by the weight matrix, fold
back.

    forward   output      = weight (C_out, K) @ columns (K, N * P)      K = C * kernel_h * kernel_w
    data      columns     = weight^T (K, C_out) @ grad_output (C_out, N * P), then col2im
    weight    grad_weight = grad_output (C_out, N * P) @ columns^T (N * P, K)      P = out_h * out_w

The batch is cut so that one slice of columns stays in the last-level cache: it is read by the GEMM
right after it was written, and the buffer is used again for the next slice.

Flops: 2 N C_out K P each. Columns cost a write and a read of K N P elements, kernel_h * kernel_w
times the input; avoiding them is what faster rungs are about.

Source: Chellapilla, Puri and Simard 2006, section 2; Dumoulin and Visin, "A guide to convolution
arithmetic for deep learning", 2016, sections 2 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import no_kernel
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._vector import load, store
from minicnn.kernels.gemm import gemm
from minicnn.kernels.im2col import col2im_cpu, im2col_cpu, output_size

Array = NDArray
Pair = tuple[int, int]

COLUMN_BYTES = 4 << 20


def conv2d_forward_reference(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """Define the convolution by plain loops, in float64."""
    batch, _, height, width = input.shape
    out_channels, group_channels, kernel_h, kernel_w = weight.shape
    out_h = output_size(height, kernel_h, stride[0], padding[0], dilation[0])
    out_w = output_size(width, kernel_w, stride[1], padding[1], dilation[1])
    output = np.zeros((batch, out_channels, out_h, out_w))
    for n, o, out_y, out_x in np.ndindex(*output.shape):
        first_c = o // (out_channels // groups) * group_channels
        total = 0.0 if bias is None else float(bias[o])
        for c, ky, kx in np.ndindex(group_channels, kernel_h, kernel_w):
            y = out_y * stride[0] - padding[0] + ky * dilation[0]
            x = out_x * stride[1] - padding[1] + kx * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                total += float(input[n, first_c + c, y, x]) * float(weight[o, c, ky, kx])
        output[n, o, out_y, out_x] = total
    return output


def conv2d_backward_data_reference(
    grad_output: Array,
    weight: Array,
    height: int,
    width: int,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """Define the data gradient by plain loops, in float64: scatter along every forward edge."""
    batch, out_channels, out_h, out_w = grad_output.shape
    _, group_channels, kernel_h, kernel_w = weight.shape
    grad_input = np.zeros((batch, group_channels * groups, height, width))
    for n, o, out_y, out_x in np.ndindex(batch, out_channels, out_h, out_w):
        first_c = o // (out_channels // groups) * group_channels
        for c, ky, kx in np.ndindex(group_channels, kernel_h, kernel_w):
            y = out_y * stride[0] - padding[0] + ky * dilation[0]
            x = out_x * stride[1] - padding[1] + kx * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                product = float(grad_output[n, o, out_y, out_x]) * float(weight[o, c, ky, kx])
                grad_input[n, first_c + c, y, x] += product
    return grad_input


def conv2d_backward_weight_reference(
    input: Array,
    grad_output: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """Define the weight gradient by plain loops, in float64."""
    batch, channels, height, width = input.shape
    _, out_channels, out_h, out_w = grad_output.shape
    group_channels = channels // groups
    grad_weight = np.zeros((out_channels, group_channels, *kernel_size))
    for o, c, ky, kx in np.ndindex(*grad_weight.shape):
        first_c = o // (out_channels // groups) * group_channels
        for n, out_y, out_x in np.ndindex(batch, out_h, out_w):
            y = out_y * stride[0] - padding[0] + ky * dilation[0]
            x = out_x * stride[1] - padding[1] + kx * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                product = float(grad_output[n, o, out_y, out_x]) * float(
                    input[n, first_c + c, y, x]
                )
                grad_weight[o, c, ky, kx] += product
    return grad_weight


def conv2d_forward(
    input: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """Convolve (N, C, H, W) with (C_out, C / groups, kernel_h, kernel_w)."""
    if not isinstance(input, np.ndarray):
        raise no_kernel("conv2d_forward", input)
    input = np.ascontiguousarray(input)
    batch, channels, height, width = input.shape
    out_channels, _, *kernel_size = weight.shape
    out_h = output_size(height, kernel_size[0], stride[0], padding[0], dilation[0])
    out_w = output_size(width, kernel_size[1], stride[1], padding[1], dilation[1])
    output = np.empty((batch, out_channels, out_h, out_w), input.dtype)
    bias = np.zeros(out_channels, input.dtype) if bias is None else np.ascontiguousarray(bias)
    matrices = weight.reshape(groups, out_channels // groups, -1)
    for images, columns in _slices(channels, kernel_size, batch, out_h, out_w, input.dtype):
        im2col_cpu(input[images], *stride, *padding, *dilation, columns)
        rows = np.empty((out_channels, columns[0, 0, 0].size), input.dtype)
        for group, matrix in enumerate(matrices):
            gemm(matrix, _group(columns, group, groups), out=_group(rows, group, groups))
        batch_first_cpu(rows, bias, output[images])
    return output


def conv2d_backward_data(
    grad_output: Array,
    weight: Array,
    height: int,
    width: int,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """Return the gradient (N, C, height, width) of the input; also the transposed convolution."""
    if not isinstance(grad_output, np.ndarray):
        raise no_kernel("conv2d_backward_data", grad_output)
    grad_output = np.ascontiguousarray(grad_output)
    batch, out_channels, out_h, out_w = grad_output.shape
    _, group_channels, *kernel_size = weight.shape
    channels = group_channels * groups
    grad_input = np.empty((batch, channels, height, width), grad_output.dtype)
    matrices = weight.reshape(groups, out_channels // groups, -1)
    for images, columns in _slices(channels, kernel_size, batch, out_h, out_w, grad_output.dtype):
        rows = _channels_first(grad_output[images])
        for group, matrix in enumerate(matrices):
            gemm(matrix.T, _group(rows, group, groups), out=_group(columns, group, groups))
        col2im_cpu(columns, *stride, *padding, *dilation, grad_input[images])
    return grad_input


def conv2d_backward_weight(
    input: Array,
    grad_output: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """Return the gradient (C_out, C / groups, kernel_h, kernel_w) of the weight."""
    if not isinstance(input, np.ndarray):
        raise no_kernel("conv2d_backward_weight", input)
    input, grad_output = np.ascontiguousarray(input), np.ascontiguousarray(grad_output)
    batch, channels, _, _ = input.shape
    _, out_channels, out_h, out_w = grad_output.shape
    shape = (out_channels, channels // groups, *kernel_size)
    grad_weight = np.zeros((groups, out_channels // groups, np.prod(shape[1:])), input.dtype)
    for images, columns in _slices(channels, kernel_size, batch, out_h, out_w, input.dtype):
        im2col_cpu(input[images], *stride, *padding, *dilation, columns)
        rows = _channels_first(grad_output[images])
        for group in range(groups):
            grad_weight[group] += gemm(
                _group(rows, group, groups), _group(columns, group, groups).T
            )
    return grad_weight.reshape(shape)


def _slices(
    channels: int,
    kernel_size: Pair | list[int],
    batch: int,
    out_h: int,
    out_w: int,
    dtype: np.dtype,
) -> Iterator[tuple[slice, Array]]:
    """Cut the batch into slices whose columns take about COLUMN_BYTES; all share one buffer."""
    image_size = channels * kernel_size[0] * kernel_size[1] * out_h * out_w
    step = min(batch, max(1, COLUMN_BYTES // max(1, image_size * dtype.itemsize)))
    buffer = np.empty(image_size * step, dtype)
    for start in range(0, batch, max(step, 1)):
        count = min(step, batch - start)
        shape = (channels, *kernel_size, count, out_h, out_w)
        yield slice(start, start + count), buffer[: image_size * count].reshape(shape)


def _group(array: Array, group: int, groups: int) -> Array:
    """Return one group's channels (a part of the first axis) as a matrix (rows, windows).

    `array` is a (C_out, windows) matrix or the columns (C, kernel_h, kernel_w, n, out_h, out_w).
    """
    windows = array[0].size if array.ndim == 2 else array[0, 0, 0].size
    return array.reshape(groups, -1, windows)[group]


def _channels_first(grad_output: Array) -> Array:
    """Return (n, C_out, out_h, out_w) as a matrix (C_out, n * out_h * out_w)."""
    batch, out_channels, out_h, out_w = grad_output.shape
    rows = np.empty((out_channels, batch * out_h * out_w), grad_output.dtype)
    channels_first_cpu(grad_output, rows)
    return rows


@parallel_jit
def batch_first_cpu(rows, bias, output):
    """Write (C_out, n * out_h * out_w) as (n, C_out, out_h, out_w), adding the bias on the way."""
    batch, out_channels, out_h, out_w = output.shape
    source, target = rows.reshape(-1), output.reshape(-1)
    plane_size = out_h * out_w
    for plane in prange(batch * out_channels):
        n = plane // out_channels
        o = plane % out_channels
        start = (o * batch + n) * plane_size
        for i in range(plane_size):
            store(target, plane * plane_size + i, load(source, start + i) + bias[o])


@parallel_jit
def channels_first_cpu(grad_output, rows):
    """Write (n, C_out, out_h, out_w) as (C_out, n * out_h * out_w)."""
    batch, out_channels, out_h, out_w = grad_output.shape
    source, target = grad_output.reshape(-1), rows.reshape(-1)
    plane_size = out_h * out_w
    for plane in prange(batch * out_channels):
        n = plane // out_channels
        o = plane % out_channels
        to = (o * batch + n) * plane_size
        for i in range(plane_size):
            store(target, to + i, load(source, plane * plane_size + i))
