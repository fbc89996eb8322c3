"""im2col and col2im: unfold windows of an image into columns, and sum columns back into an image.

    columns[c, ky, kx, n, out_y, out_x] = input[n, c, y, x]      (0 outside the image)
        y = out_y * stride_h - padding_h + ky * dilation_h
        x = out_x * stride_w - padding_w + kx * dilation_w

    input[n, c, y, x] = sum of columns[c, ky, kx, n, out_y, out_x] over all (ky, kx, out_y, out_x)
    that read (y, x)

The second line is the exact adjoint of the first. Read as a matrix, `columns` has C * kernel_h *
kernel_w rows and N * out_h * out_w columns, so that one GEMM with the (C_out, C * kernel_h *
kernel_w) weight convolves the whole batch.

One iteration of im2col fills the rows of one (c, ky, kx); one iteration of col2im owns one image
plane (n, c) and gathers into it, so nothing is written twice and no order of threads can change a
bit.

Bytes moved: one read of the input (from cache kernel_h * kernel_w times), one write of the columns.
No flops in im2col; one add for each element of `columns` in col2im.

Source: Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document
Processing", 2006, section 2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import launch
from minicnn.kernels._vector import load, store

Array = NDArray
Pair = tuple[int, int]


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how many windows of extent `dilation * (kernel - 1) + 1` fit into the padded axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def im2col_reference(
    input: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """Define im2col by plain loops, in float64."""
    batch, channels, height, width = input.shape
    kernel_h, kernel_w = kernel_size
    out_h = output_size(height, kernel_h, stride[0], padding[0], dilation[0])
    out_w = output_size(width, kernel_w, stride[1], padding[1], dilation[1])
    columns = np.zeros((channels, kernel_h, kernel_w, batch, out_h, out_w))
    for c, ky, kx, n, out_y, out_x in np.ndindex(*columns.shape):
        y = out_y * stride[0] - padding[0] + ky * dilation[0]
        x = out_x * stride[1] - padding[1] + kx * dilation[1]
        if 0 <= y < height and 0 <= x < width:
            columns[c, ky, kx, n, out_y, out_x] = input[n, c, y, x]
    return columns


def col2im_reference(
    columns: Array, height: int, width: int, stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """Define col2im by plain loops, in float64: scatter each entry to its pixel."""
    channels, _, _, batch, _, _ = columns.shape
    image = np.zeros((batch, channels, height, width))
    for c, ky, kx, n, out_y, out_x in np.ndindex(*columns.shape):
        y = out_y * stride[0] - padding[0] + ky * dilation[0]
        x = out_x * stride[1] - padding[1] + kx * dilation[1]
        if 0 <= y < height and 0 <= x < width:
            image[n, c, y, x] += columns[c, ky, kx, n, out_y, out_x]
    return image


def im2col(
    input: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    out: Array | None = None,
) -> Array:
    """Unfold (N, C, H, W) into columns (C, kernel_h, kernel_w, N, out_h, out_w), `out` if given."""
    xp = array_module("im2col", input)
    batch, channels, height, width = input.shape
    out_h = output_size(height, kernel_size[0], stride[0], padding[0], dilation[0])
    out_w = output_size(width, kernel_size[1], stride[1], padding[1], dilation[1])
    input, steps = contiguous(input), (*stride, *padding, *dilation)
    shape = (channels, *kernel_size, batch, out_h, out_w)
    columns = empty(xp, shape, input.dtype) if out is None else out
    if xp is np:
        im2col_cpu(input, *steps, columns)
    else:
        sizes = (*input.shape, *kernel_size, *steps, out_h, out_w)
        launch("im2col", "im2col_cuda", columns.size, input, *sizes, columns)
    return columns


def col2im(
    columns: Array,
    height: int,
    width: int,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    out: Array | None = None,
) -> Array:
    """Sum columns (C, kernel_h, kernel_w, N, out_h, out_w) into an image (N, C, height, width)."""
    xp = array_module("col2im", columns)
    channels, kernel_h, kernel_w, batch, out_h, out_w = columns.shape
    columns, steps = contiguous(columns), (*stride, *padding, *dilation)
    image = empty(xp, (batch, channels, height, width), columns.dtype) if out is None else out
    if xp is np:
        col2im_cpu(columns, *steps, image)
    else:
        sizes = (batch, channels, kernel_h, kernel_w, out_h, out_w, *steps, height, width)
        launch("im2col", "col2im_cuda", image.size, columns, *sizes, image)
    return image


@jit
def window_run(kx, stride_w, padding_w, dilation_w, width, out_w):
    """Return x of out_x = 0, and the run [first, last) of out_x whose x lies inside the image."""
    x_start = kx * dilation_w - padding_w
    first = min(out_w, max(0, (-x_start + stride_w - 1) // stride_w))
    last = max(first, min(out_w, (width - 1 - x_start) // stride_w + 1))
    return x_start, first, last


@parallel_jit
def im2col_cpu(input, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, columns):
    channels, kernel_h, kernel_w, batch, out_h, out_w = columns.shape
    height, width = input.shape[2:]
    source, target = input.reshape(-1), columns.reshape(-1)
    zero = input.dtype.type(0)
    for row in prange(channels * kernel_h * kernel_w):
        c = row // (kernel_h * kernel_w)
        ky = row // kernel_w % kernel_h
        kx = row % kernel_w
        x_start, first, last = window_run(kx, stride_w, padding_w, dilation_w, width, out_w)
        to = row * batch * out_h * out_w
        for n in range(batch):
            for out_y in range(out_h):
                y = out_y * stride_h - padding_h + ky * dilation_h
                inside = 0 <= y < height
                begin, end = (first, last) if inside else (out_w, out_w)
                start = ((n * channels + c) * height + y) * width + x_start
                for out_x in range(begin):
                    store(target, to + out_x, zero)
                if stride_w == 1:
                    for out_x in range(begin, end):
                        store(target, to + out_x, load(source, start + out_x))
                else:
                    for out_x in range(begin, end):
                        store(target, to + out_x, load(source, start + out_x * stride_w))
                for out_x in range(end, out_w):
                    store(target, to + out_x, zero)
                to += out_w


@parallel_jit
def col2im_cpu(columns, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, image):
    channels, kernel_h, kernel_w, batch, out_h, out_w = columns.shape
    height, width = image.shape[2:]
    source, target = columns.reshape(-1), image.reshape(-1)
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        image[n, c] = 0
        for ky in range(kernel_h):
            for kx in range(kernel_w):
                x_start, first, last = window_run(kx, stride_w, padding_w, dilation_w, width, out_w)
                row = (c * kernel_h + ky) * kernel_w + kx
                for out_y in range(out_h):
                    y = out_y * stride_h - padding_h + ky * dilation_h
                    if y < 0 or y >= height:
                        continue
                    start = ((row * batch + n) * out_h + out_y) * out_w
                    to = (plane * height + y) * width + x_start
                    if stride_w == 1:
                        for out_x in range(first, last):
                            total = load(target, to + out_x) + load(source, start + out_x)
                            store(target, to + out_x, total)
                    else:
                        for out_x in range(first, last):
                            x = to + out_x * stride_w
                            store(target, x, load(target, x) + load(source, start + out_x))
