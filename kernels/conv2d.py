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

Rungs, with the idea each adds:
    direct     the definition: a loop over every product, each output on its own
    im2col     unfold windows into columns, multiply by the weight matrix, fold back: one product of
               two matrices has all the sums, and the GEMM's register tile makes them
    implicit   the same product, but columns exist only as the panel that the register tile, or a
               block in its shared memory, works on: `_implicit.py` and `conv2d.cu` tell how
    winograd   a third or a quarter of the multiplications, for 3 x 3 and 5 x 5 kernels with stride
               1: `winograd.py` and `winograd.cu`
`choose` picks the fastest that fits.

    forward   output      = weight (C_out, K) @ columns (K, N * P)      K = C * kernel_h * kernel_w
    data      columns     = weight^T (K, C_out) @ grad_output (C_out, N * P), then col2im
    weight    grad_weight = grad_output (C_out, N * P) @ columns^T (N * P, K)      P = out_h * out_w

For im2col the batch is cut so that one slice of columns stays in the last-level cache: it is read
by the GEMM right after it was written, and the buffer is used again for the next slice.

Flops: 2 N C_out K P each. Columns cost a write and a read of K N P elements, kernel_h * kernel_w
times the input; avoiding them is what the implicit rung is about.

Source: Chellapilla, Puri and Simard 2006, section 2; Dumoulin and Visin, "A guide to convolution
arithmetic for deep learning", 2016, sections 2 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._implicit import (
    implicit_backward_data,
    implicit_backward_weight,
    implicit_forward,
)
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch
from minicnn.kernels._vector import load, store
from minicnn.kernels.gemm import add_parts, gemm, pack_width, splits_for, tiles_for
from minicnn.kernels.im2col import col2im, im2col, output_size
from minicnn.kernels.winograd import (
    winograd_backward_data,
    winograd_backward_weight,
    winograd_forward,
)

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
    *,
    algorithm: str | None = None,
) -> Array:
    """Convolve (N, C, H, W) with (C_out, C / groups, kernel_h, kernel_w).

    `algorithm` is a rung: "direct", "im2col", "implicit" or "winograd"; None leaves it to `choose`.
    """
    xp = array_module("conv2d_forward", input)
    input, weight = contiguous(input), contiguous(weight)
    batch, channels, height, width = input.shape
    out_channels, _, kernel_h, kernel_w = weight.shape
    out_h = output_size(height, kernel_h, stride[0], padding[0], dilation[0])
    out_w = output_size(width, kernel_w, stride[1], padding[1], dilation[1])
    shape, windows = (batch, out_channels, out_h, out_w), (stride, padding, dilation)
    rung = choose("forward", xp, input.dtype, weight.shape, shape, *windows, algorithm)
    if rung == "winograd":
        return winograd_forward(input, weight, bias, padding, groups)
    output = empty(xp, shape, input.dtype)
    bias = xp.zeros(out_channels, input.dtype) if bias is None else contiguous(bias)
    steps = (*stride, *padding, *dilation, groups)
    if rung == "im2col":
        _forward_by_columns(xp, input, weight, bias, stride, padding, dilation, groups, output)
        return output
    if xp is np and rung == "implicit":
        implicit_forward(input, weight, bias, stride, padding, dilation, groups, output)
        return output
    if xp is np:
        conv2d_forward_cpu(input, weight, bias, *steps, output)
        return output
    arrays = input, weight, bias
    sizes = (channels, height, width, out_channels, kernel_h, kernel_w, *steps, out_h, out_w)
    if rung == "direct":
        launch("conv2d", "conv2d_forward_cuda", output.size, *arrays, *sizes, output)
        return output
    thread_rows, tiles = tiles_for(out_channels // groups, batch * out_h * out_w, input.dtype)
    launch(
        "conv2d", "conv2d_forward_tiled_cuda", groups * tiles, *arrays, batch, *sizes, output,
        per_block=1, template=(thread_rows, pack_width(output, out_h * out_w)),
    )  # fmt: skip
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
    *,
    algorithm: str | None = None,
) -> Array:
    """Return the gradient (N, C, height, width) of the input; also the transposed convolution.

    `algorithm` as in `conv2d_forward`.
    """
    xp = array_module("conv2d_backward_data", grad_output)
    grad_output, weight = contiguous(grad_output), contiguous(weight)
    shape, windows = grad_output.shape, (stride, padding, dilation)
    rung = choose("data", xp, grad_output.dtype, weight.shape, shape, *windows, algorithm)
    if rung == "winograd":
        return winograd_backward_data(grad_output, weight, height, width, padding, groups)
    batch, out_channels, out_h, out_w = grad_output.shape
    _, group_channels, kernel_h, kernel_w = weight.shape
    channels = group_channels * groups
    grad_input = empty(xp, (batch, channels, height, width), grad_output.dtype)
    steps = (*stride, *padding, *dilation, groups)
    if rung == "im2col":
        _data_by_columns(xp, grad_output, weight, stride, padding, dilation, groups, grad_input)
        return grad_input
    if xp is np and rung == "implicit":
        implicit_backward_data(grad_output, weight, stride, padding, dilation, groups, grad_input)
        return grad_input
    if xp is np:
        conv2d_backward_data_cpu(grad_output, weight, *steps, grad_input)
        return grad_input
    arrays = grad_output, weight
    sizes = (channels, height, width, out_channels, kernel_h, kernel_w, *steps, out_h, out_w)
    if rung == "direct":
        launch("conv2d", "conv2d_backward_data_cuda", grad_input.size, *arrays, *sizes, grad_input)
        return grad_input
    phases = min(stride[0], height) * min(stride[1], width)
    pixels = -(-height // stride[0]) * -(-width // stride[1])
    thread_rows, tiles = tiles_for(group_channels, batch * pixels, grad_input.dtype)
    tap_steps = (s // gcd(s, d) for s, d in zip(stride, dilation, strict=True))
    wide = pack_width(grad_input, height * width) if stride == (1, 1) else 1
    launch(
        "conv2d", "conv2d_backward_data_tiled_cuda", groups * phases * tiles, *arrays, batch,
        *sizes, *tap_steps, grad_input, per_block=1, template=(thread_rows, wide),
    )  # fmt: skip
    return grad_input


def conv2d_backward_weight(
    input: Array,
    grad_output: Array,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    *,
    algorithm: str | None = None,
) -> Array:
    """Return the gradient (C_out, C / groups, kernel_h, kernel_w) of the weight.

    `algorithm` as in `conv2d_forward`.
    """
    xp = array_module("conv2d_backward_weight", input)
    input, grad_output = contiguous(input), contiguous(grad_output)
    batch, channels, height, width = input.shape
    _, out_channels, out_h, out_w = grad_output.shape
    shape = out_channels, channels // groups, *kernel_size
    windows = stride, padding, dilation
    rung = choose("weight", xp, input.dtype, shape, grad_output.shape, *windows, algorithm)
    if rung == "winograd":
        return winograd_backward_weight(input, grad_output, kernel_size, padding, groups)
    grad_weight = xp.zeros(shape, input.dtype)
    steps = (*stride, *padding, *dilation, groups)
    if rung == "im2col":
        _weight_by_columns(xp, input, grad_output, stride, padding, dilation, groups, grad_weight)
        return grad_weight
    if xp is np and rung == "implicit":
        implicit_backward_weight(input, grad_output, stride, padding, dilation, groups, grad_weight)
        return grad_weight
    if xp is np:
        conv2d_backward_weight_cpu(input, grad_output, *steps, grad_weight)
        return grad_weight
    arrays = input, grad_output
    sizes = (*input.shape, out_channels, *kernel_size, *steps, out_h, out_w)
    if rung == "direct":
        launch(
            "conv2d", "conv2d_backward_weight_cuda", grad_weight.size, *arrays, *sizes, grad_weight
        )
        return grad_weight
    filters = grad_weight.reshape(out_channels, -1)
    thread_rows, tiles = tiles_for(out_channels // groups, filters.shape[1], input.dtype)
    splits = splits_for(groups * tiles, batch * out_h * out_w)
    parts = filters if splits == 1 else empty(xp, (splits, *filters.shape), filters.dtype)
    launch(
        "conv2d", "conv2d_backward_weight_tiled_cuda", groups * tiles * splits, *arrays, *sizes,
        splits, parts, per_block=1, template=(thread_rows, pack_width(parts, parts.shape[-1])),
    )  # fmt: skip
    add_parts(parts, filters)
    return grad_weight


ALGORITHMS = ("direct", "im2col", "implicit", "winograd")
_excluded: ContextVar[frozenset[str]] = ContextVar("excluded", default=frozenset())


@contextmanager
def without(*algorithms: str) -> Iterator[None]:
    """Leave rungs out of what `choose` chooses from: a layer then takes the next one that fits.

    Winograd's rounding errors are ten times those of the others, which all but never matters; this
    is how to find out.

    Raises:
        ValueError: when there is no such rung, or it is "direct", which any convolution can take.
    """
    for name in algorithms:
        if name not in ALGORITHMS[1:]:
            raise ValueError(f"without: got {name!r}, expected some of {ALGORITHMS[1:]}")
    token = _excluded.set(_excluded.get() | set(algorithms))
    try:
        yield
    finally:
        _excluded.reset(token)


def choose(
    op: str,
    xp: Any,
    dtype: np.dtype,
    weight: tuple[int, ...],
    output: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    algorithm: str | None = None,
) -> str:
    """Return the rung to take: the fastest that fits, unless one is forced.

    Args:
        op: "forward", "data" or "weight".
        xp: the arrays' module.
        dtype: of the arrays.
        weight, output: shapes (C_out, C / groups, kernel_h, kernel_w) and (N, C_out, out_h, out_w).
        stride, padding, dilation: the convolution's.
        algorithm: the rung that is forced, or None.

    Raises:
        ValueError: when there is no such rung, or it does not fit.
    """
    fits = _fits_winograd(weight, stride, padding, dilation)
    if algorithm is not None:
        if algorithm not in ALGORITHMS:
            expected = ", ".join(map(repr, ALGORITHMS[:-1])) + f" or {ALGORITHMS[-1]!r}"
            raise ValueError(f"algorithm: got {algorithm!r}, expected {expected}")
        if algorithm == "winograd" and not fits:
            raise ValueError(
                "algorithm: 'winograd' is for 3 x 3 and 5 x 5 kernels with stride and dilation 1 "
                f"and less padding, got a kernel of {weight[2:]}, stride {stride}, "
                f"padding {padding}, dilation {dilation}"
            )
        return algorithm
    excluded = _excluded.get()
    if xp is not np:
        ranking = ["implicit", "im2col"]
    elif dtype == np.float64:
        ranking = ["im2col", "implicit"]
    elif fits and _pays_winograd(op, weight, output):
        ranking = ["winograd", "implicit", "im2col"]
    else:
        ranking = ["implicit", "im2col"]
    return next((rung for rung in ranking if rung not in excluded), "direct")


def _fits_winograd(weight: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair) -> bool:
    kernel = weight[2]
    return (
        kernel in (3, 5)
        and weight[3] == kernel
        and max(padding) < kernel
        and stride == dilation == (1, 1)
    )


def _pays_winograd(op: str, weight: tuple[int, ...], output: tuple[int, ...]) -> bool:
    """Tell whether Winograd is faster: transforms need some channels to be worth their while."""
    if min(weight[:2]) < 8 or output[0] == 0:
        return False
    if op != "weight":
        return True
    # The gradient of many filters is 36 large matrices, which few tiles do not fill with work.
    step = 4 if weight[2] == 3 else 2
    tiles = output[0] * -(-output[2] // step) * -(-output[3] // step)
    return tiles >= 32 or weight[0] * weight[1] <= 1 << 16


def _forward_by_columns(
    xp: Any,
    input: Array,
    weight: Array,
    bias: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    output: Array,
) -> None:
    out_channels = weight.shape[0]
    matrices = weight.reshape(groups, out_channels // groups, -1)
    for images, columns in _slices(xp, input, weight.shape[2:], output):
        im2col(input[images], weight.shape[2:], stride, padding, dilation, columns)
        rows = empty(xp, (out_channels, columns[0, 0, 0].size), input.dtype)
        for group, matrix in enumerate(matrices):
            gemm(matrix, _group(columns, group, groups), _group(rows, group, groups))
        _batch_first(xp, rows, bias, output[images])


def _data_by_columns(
    xp: Any,
    grad_output: Array,
    weight: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    grad_input: Array,
) -> None:
    height, width = grad_input.shape[2:]
    matrices = weight.reshape(groups, weight.shape[0] // groups, -1)
    for images, columns in _slices(xp, grad_input, weight.shape[2:], grad_output):
        rows = _channels_first(xp, grad_output[images])
        for group, matrix in enumerate(matrices):
            gemm(matrix.T, _group(rows, group, groups), _group(columns, group, groups))
        col2im(columns, height, width, stride, padding, dilation, grad_input[images])


def _weight_by_columns(
    xp: Any,
    input: Array,
    grad_output: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    grad_weight: Array,
) -> None:
    kernel_size = grad_weight.shape[2:]
    matrices = grad_weight.reshape(groups, grad_weight.shape[0] // groups, -1)
    for images, columns in _slices(xp, input, kernel_size, grad_output):
        im2col(input[images], kernel_size, stride, padding, dilation, columns)
        rows = _channels_first(xp, grad_output[images])
        for group in range(groups):
            matrices[group] += gemm(_group(rows, group, groups), _group(columns, group, groups).T)


def _slices(
    xp: Any, input: Array, kernel_size: tuple[int, ...], output: Array
) -> Iterator[tuple[slice, Array]]:
    """Cut the batch into slices whose columns take about COLUMN_BYTES; all share one buffer."""
    batch, channels = input.shape[:2]
    windows = output.shape[2:]
    image_size = channels * kernel_size[0] * kernel_size[1] * windows[0] * windows[1]
    step = min(batch, max(1, COLUMN_BYTES // max(1, image_size * input.itemsize)))
    buffer = empty(xp, image_size * step, input.dtype)
    for start in range(0, batch, max(step, 1)):
        count = min(step, batch - start)
        shape = (channels, *kernel_size, count, *windows)
        yield slice(start, start + count), buffer[: image_size * count].reshape(shape)


def _group(array: Array, group: int, groups: int) -> Array:
    """Return one group's channels (a part of the first axis) as a matrix (rows, windows).

    `array` is a (C_out, windows) matrix or the columns (C, kernel_h, kernel_w, n, out_h, out_w).
    """
    windows = array[0].size if array.ndim == 2 else array[0, 0, 0].size
    return array.reshape(groups, -1, windows)[group]


def _batch_first(xp: Any, rows: Array, bias: Array, output: Array) -> None:
    """Write a matrix (C_out, n * out_h * out_w) as (n, C_out, out_h, out_w), adding the bias."""
    if xp is np:
        batch_first_cpu(rows, bias, output)
    else:
        sizes = (*output.shape[:2], output.shape[2] * output.shape[3])
        launch("conv2d", "batch_first_cuda", output.size, rows, bias, *sizes, output)


def _channels_first(xp: Any, grad_output: Array) -> Array:
    """Return (n, C_out, out_h, out_w) as a matrix (C_out, n * out_h * out_w)."""
    batch, out_channels, out_h, out_w = grad_output.shape
    rows = empty(xp, (out_channels, batch * out_h * out_w), grad_output.dtype)
    if xp is np:
        channels_first_cpu(grad_output, rows)
    else:
        sizes = (batch, out_channels, out_h * out_w)
        launch("conv2d", "channels_first_cuda", rows.size, grad_output, *sizes, rows)
    return rows


@parallel_jit
def conv2d_forward_cpu(
    input, weight, bias, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups,
    output,
):  # fmt: skip
    batch, out_channels, out_h, out_w = output.shape
    height, width = input.shape[2:]
    _, group_channels, kernel_h, kernel_w = weight.shape
    for plane in prange(batch * out_channels):
        n = plane // out_channels
        o = plane % out_channels
        first_c = o // (out_channels // groups) * group_channels
        for out_y in range(out_h):
            for out_x in range(out_w):
                total = bias[o]
                for c in range(group_channels):
                    for ky in range(kernel_h):
                        y = out_y * stride_h - padding_h + ky * dilation_h
                        for kx in range(kernel_w):
                            x = out_x * stride_w - padding_w + kx * dilation_w
                            if 0 <= y < height and 0 <= x < width:
                                total += input[n, first_c + c, y, x] * weight[o, c, ky, kx]
                output[n, o, out_y, out_x] = total


@parallel_jit
def conv2d_backward_data_cpu(
    grad_output, weight, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups,
    grad_input,
):  # fmt: skip
    """Scatter within a plane."""
    batch, channels, height, width = grad_input.shape
    out_channels, out_h, out_w = grad_output.shape[1:]
    _, group_channels, kernel_h, kernel_w = weight.shape
    group_outputs = out_channels // groups
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % group_channels
        first_o = plane % channels // group_channels * group_outputs
        target = grad_input[n, plane % channels]
        target[:] = 0
        for o in range(first_o, first_o + group_outputs):
            for out_y in range(out_h):
                for out_x in range(out_w):
                    grad = grad_output[n, o, out_y, out_x]
                    for ky in range(kernel_h):
                        y = out_y * stride_h - padding_h + ky * dilation_h
                        for kx in range(kernel_w):
                            x = out_x * stride_w - padding_w + kx * dilation_w
                            if 0 <= y < height and 0 <= x < width:
                                target[y, x] += grad * weight[o, c, ky, kx]


@parallel_jit
def conv2d_backward_weight_cpu(
    input, grad_output, stride_h, stride_w, padding_h, padding_w, dilation_h, dilation_w, groups,
    grad_weight,
):  # fmt: skip
    out_channels, group_channels, kernel_h, kernel_w = grad_weight.shape
    batch, _, height, width = input.shape
    out_h, out_w = grad_output.shape[2:]
    for plane in prange(out_channels * group_channels):
        o = plane // group_channels
        c = plane % group_channels
        first_c = o // (out_channels // groups) * group_channels
        for ky in range(kernel_h):
            for kx in range(kernel_w):
                total = input.dtype.type(0)
                for n in range(batch):
                    for out_y in range(out_h):
                        y = out_y * stride_h - padding_h + ky * dilation_h
                        for out_x in range(out_w):
                            x = out_x * stride_w - padding_w + kx * dilation_w
                            if 0 <= y < height and 0 <= x < width:
                                grad = grad_output[n, o, out_y, out_x]
                                total += grad * input[n, first_c + c, y, x]
                grad_weight[o, c, ky, kx] = total


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
