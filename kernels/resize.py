"""Resize images: nearest pixel or bilinear interpolation, and the way back.

    nearest    output[n, c, out_y, out_x] = input[n, c, source(out_y), source(out_x)]
        source(out_y) = min(floor((out_y + offset) scale), height - 1)
        offset = 0, or 1/2 for "nearest-exact", which takes the pixel whose centre is nearest

    bilinear   output[n, c, out_y, out_x] = the sum of the four pixels about the place (y, x), each
                   with the share (1 - |y - its row|) (1 - |x - its column|)
        y = out_y scale                              with align_corners: the outer pixels stay put
        y = max((out_y + 1/2) scale - 1/2, 0)        without: pixels are squares, centres inside

    backward   grad_input[n, c, y, x] = sum of grad_output times the share it has read of (y, x)

    scale = height / out_h, or 1 / scale_factor where one was given; with align_corners
            (height - 1) / (out_h - 1)

All are linear: backward is forward's adjoint, and forward that of backward. Which pixel is nearest
is computed in float32 whatever the dtype, bilinear places in the dtype of the input. PyTorch does
the same (but may choose another neighbour in float64, where a scale factor hits a border).

One iteration owns a plane (n, c), and tables hold the sources of rows and columns, so no order of
threads can change a bit.

Bytes moved: the output is written once and the input read, mostly from cache; bilinear takes 9
flops an output.

Source: Press et al., "Numerical recipes in C", 1992, section 3.6 (bilinear); the rules are
PyTorch's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray
Pair = tuple[int, int]
Factor = tuple[float, float] | None


def resize_nearest_forward_reference(
    input: Array, output_size: Pair, scale_factor: Factor, exact: bool
) -> Array:
    """Define nearest resizing by plain loops; sources in float32."""
    output = np.zeros((*input.shape[:2], *output_size))
    rows, columns = _nearest_reference(input.shape[2:], output_size, scale_factor, exact)
    for n, c, out_y, out_x in np.ndindex(*output.shape):
        output[n, c, out_y, out_x] = input[n, c, rows[out_y], columns[out_x]]
    return output


def resize_nearest_backward_reference(
    grad_output: Array, input_size: Pair, scale_factor: Factor, exact: bool
) -> Array:
    """Define the gradient by plain loops, in float64: each output gives to its source."""
    grad_input = np.zeros((*grad_output.shape[:2], *input_size))
    rows, columns = _nearest_reference(input_size, grad_output.shape[2:], scale_factor, exact)
    for n, c, out_y, out_x in np.ndindex(*grad_output.shape):
        grad_input[n, c, rows[out_y], columns[out_x]] += grad_output[n, c, out_y, out_x]
    return grad_input


def _nearest_reference(
    input_size: tuple[int, ...], output_size: tuple[int, ...], factor: Factor, exact: bool
) -> list[list[int]]:
    sources = []
    for axis, (size, out) in enumerate(zip(input_size, output_size, strict=True)):
        step = np.float32(1 / factor[axis]) if factor else np.float32(size) / np.float32(out)
        start = np.float32(0.5 if exact else 0)
        places = [math.floor((np.float32(i) + start) * step) for i in range(out)]
        copied = size == out and not exact
        sources.append(list(range(out)) if copied else [min(p, size - 1) for p in places])
    return sources


def resize_bilinear_forward_reference(
    input: Array, output_size: Pair, scale_factor: Factor, align_corners: bool
) -> Array:
    """Define bilinear resizing by plain loops; places in the input's dtype, sums in float64."""
    output = np.zeros((*input.shape[:2], *output_size))
    rows, columns = _bilinear_reference(
        input.dtype, input.shape[2:], output_size, scale_factor, align_corners
    )
    for n, c, out_y, out_x in np.ndindex(*output.shape):
        for y, share_y in rows[out_y]:
            for x, share_x in columns[out_x]:
                output[n, c, out_y, out_x] += share_y * share_x * float(input[n, c, y, x])
    return output


def resize_bilinear_backward_reference(
    grad_output: Array, input_size: Pair, scale_factor: Factor, align_corners: bool
) -> Array:
    """Define the gradient by plain loops: each output gives to the pixels it has read."""
    grad_input = np.zeros((*grad_output.shape[:2], *input_size))
    rows, columns = _bilinear_reference(
        grad_output.dtype, input_size, grad_output.shape[2:], scale_factor, align_corners
    )
    for n, c, out_y, out_x in np.ndindex(*grad_output.shape):
        for y, share_y in rows[out_y]:
            for x, share_x in columns[out_x]:
                grad_input[n, c, y, x] += share_y * share_x * float(grad_output[n, c, out_y, out_x])
    return grad_input


def _bilinear_reference(
    dtype: np.dtype,
    input_size: tuple[int, ...],
    output_size: tuple[int, ...],
    factor: Factor,
    align_corners: bool,
) -> list[list[list[tuple[int, float]]]]:
    """Return for both axes, for every output: the pixels it reads, each with its share."""
    taps: list[list[list[tuple[int, float]]]] = []
    for axis, (size, out) in enumerate(zip(input_size, output_size, strict=True)):
        kind, axis_taps = dtype.type, []
        for i in range(out):
            if align_corners:
                place = kind(i) * (kind(size - 1) / kind(max(out - 1, 1)))
            else:
                step = kind(1 / factor[axis]) if factor else kind(size) / kind(out)
                step = kind(1) if size == out else step
                place = (kind(i) + kind(0.5)) * step - kind(0.5)
            place = min(max(float(place), 0.0), size - 1.0)
            pixels = [(p, 1 - abs(place - p)) for p in range(size)]
            axis_taps.append([(p, share) for p, share in pixels if share > 0])
        taps.append(axis_taps)
    return taps


def resize_nearest_forward(
    input: Array, output_size: Pair, scale_factor: Factor, exact: bool
) -> Array:
    """Return each output's nearest pixel, (N, C, *output_size).

    `scale_factor` (vertical, horizontal) is what the user asked for instead of a size, or None.
    """
    xp = array_module("resize_nearest_forward", input)
    height, width = input.shape[2:]
    output = empty(xp, (*input.shape[:2], *output_size), input.dtype)
    rule = _nearest_rule((height, width), output_size, scale_factor, exact)
    if xp is np:
        resize_nearest_forward_cpu(contiguous(input), *rule, output)
    else:
        launch(
            "resize", "resize_nearest_forward_cuda", output.size,
            contiguous(input), height, width, *rule, *output_size, output,
        )  # fmt: skip
    return output


def resize_nearest_backward(
    grad_output: Array, input_size: Pair, scale_factor: Factor, exact: bool
) -> Array:
    """Return the gradient (N, C, *input_size) of nearest resizing."""
    xp = array_module("resize_nearest_backward", grad_output)
    out_h, out_w = grad_output.shape[2:]
    grad_input = empty(xp, (*grad_output.shape[:2], *input_size), grad_output.dtype)
    rule = _nearest_rule(input_size, (out_h, out_w), scale_factor, exact)
    if xp is np:
        resize_nearest_backward_cpu(contiguous(grad_output), *rule, grad_input)
    else:
        launch(
            "resize", "resize_nearest_backward_cuda", grad_input.size,
            contiguous(grad_output), out_h, out_w, *rule, *input_size, grad_input,
        )  # fmt: skip
    return grad_input


def resize_bilinear_forward(
    input: Array, output_size: Pair, scale_factor: Factor, align_corners: bool
) -> Array:
    """Return the image interpolated, (N, C, *output_size); arguments as for the nearest pixel."""
    xp = array_module("resize_bilinear_forward", input)
    height, width = input.shape[2:]
    output = empty(xp, (*input.shape[:2], *output_size), input.dtype)
    rule = _bilinear_rule(input.dtype, (height, width), output_size, scale_factor, align_corners)
    if xp is np:
        resize_bilinear_forward_cpu(contiguous(input), *rule, output)
    else:
        launch(
            "resize", "resize_bilinear_forward_cuda", output.size,
            contiguous(input), height, width, *rule, *output_size, output,
        )  # fmt: skip
    return output


def resize_bilinear_backward(
    grad_output: Array, input_size: Pair, scale_factor: Factor, align_corners: bool
) -> Array:
    """Return the gradient (N, C, *input_size) of bilinear resizing."""
    xp = array_module("resize_bilinear_backward", grad_output)
    out_h, out_w = grad_output.shape[2:]
    grad_input = empty(xp, (*grad_output.shape[:2], *input_size), grad_output.dtype)
    rule = _bilinear_rule(
        grad_output.dtype, input_size, (out_h, out_w), scale_factor, align_corners
    )
    if xp is np:
        resize_bilinear_backward_cpu(contiguous(grad_output), *rule, grad_input)
    else:
        launch(
            "resize", "resize_bilinear_backward_cuda", grad_input.size,
            contiguous(grad_output), out_h, out_w, *rule, *input_size, grad_input,
        )  # fmt: skip
    return grad_input


def _nearest_rule(
    input_size: Pair, output_size: Pair, factor: Factor, exact: bool
) -> tuple[np.float32, np.float32, np.float32]:
    """Return the scales of both axes and the offset."""
    sizes = zip(input_size, output_size, factor or (None, None), strict=True)
    # Without the offset an axis that keeps its size is copied, whatever the factor.
    scale_h, scale_w = (
        np.float32(1 / f) if f and (exact or size != out) else np.float32(size) / np.float32(out)
        for size, out, f in sizes
    )
    return scale_h, scale_w, np.float32(0.5 if exact else 0)


def _bilinear_rule(
    dtype: np.dtype, input_size: Pair, output_size: Pair, factor: Factor, align_corners: bool
) -> tuple[np.floating, np.floating, bool]:
    """Return the scales of both axes in `dtype`, and `align_corners`."""
    kind = dtype.type
    sizes = zip(input_size, output_size, factor or (None, None), strict=True)
    if align_corners:
        scales = [kind(size - 1) / kind(out - 1) if out > 1 else kind(0) for size, out, _ in sizes]
    else:
        # An axis that keeps its size is copied, whatever the factor.
        scales = [
            kind(1 / f) if f and size != out else kind(size) / kind(out) for size, out, f in sizes
        ]
    return scales[0], scales[1], align_corners


@parallel_jit
def resize_nearest_forward_cpu(input, scale_h, scale_w, offset, output):
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    rows = _sources(out_h, scale_h, offset, height)
    columns = _sources(out_w, scale_w, offset, width)
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        for out_y in range(out_h):
            for out_x in range(out_w):
                output[n, c, out_y, out_x] = input[n, c, rows[out_y], columns[out_x]]


@parallel_jit
def resize_nearest_backward_cpu(grad_output, scale_h, scale_w, offset, grad_input):
    """Scatter within a plane."""
    batch, channels, out_h, out_w = grad_output.shape
    height, width = grad_input.shape[2:]
    rows = _sources(out_h, scale_h, offset, height)
    columns = _sources(out_w, scale_w, offset, width)
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        grad_input[n, c] = 0
        for out_y in range(out_h):
            for out_x in range(out_w):
                grad_input[n, c, rows[out_y], columns[out_x]] += grad_output[n, c, out_y, out_x]


@parallel_jit
def resize_bilinear_forward_cpu(input, scale_h, scale_w, align_corners, output):
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    upper, lower, share_y = _taps(np.empty(out_h, input.dtype), scale_h, align_corners, height)
    left, right, share_x = _taps(np.empty(out_w, input.dtype), scale_w, align_corners, width)
    one = input.dtype.type(1)
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        for out_y in range(out_h):
            above = input[n, c, upper[out_y]]
            below = input[n, c, lower[out_y]]
            down = share_y[out_y]
            for out_x in range(out_w):
                first = left[out_x]
                last = right[out_x]
                aside = share_x[out_x]
                high = (one - aside) * above[first] + aside * above[last]
                low = (one - aside) * below[first] + aside * below[last]
                output[n, c, out_y, out_x] = (one - down) * high + down * low


@parallel_jit
def resize_bilinear_backward_cpu(grad_output, scale_h, scale_w, align_corners, grad_input):
    """Scatter within a plane."""
    batch, channels, out_h, out_w = grad_output.shape
    height, width = grad_input.shape[2:]
    upper, lower, share_y = _taps(
        np.empty(out_h, grad_output.dtype), scale_h, align_corners, height
    )
    left, right, share_x = _taps(np.empty(out_w, grad_output.dtype), scale_w, align_corners, width)
    one = grad_output.dtype.type(1)
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        grad_input[n, c] = 0
        for out_y in range(out_h):
            above = grad_input[n, c, upper[out_y]]
            below = grad_input[n, c, lower[out_y]]
            down = share_y[out_y]
            for out_x in range(out_w):
                high = (one - down) * grad_output[n, c, out_y, out_x]
                low = down * grad_output[n, c, out_y, out_x]
                aside = share_x[out_x]
                above[left[out_x]] += (one - aside) * high
                above[right[out_x]] += aside * high
                below[left[out_x]] += (one - aside) * low
                below[right[out_x]] += aside * low


@jit
def _sources(outputs, scale, offset, size):
    """Return the nearest pixel of every output along an axis."""
    sources = np.empty(outputs, np.int32)
    for out in range(outputs):
        sources[out] = min(int(math.floor((np.float32(out) + offset) * scale)), size - 1)
    return sources


@jit
def _taps(share, scale, align_corners, size):
    """Return the two pixels about the place of every output along an axis, and the second's share.

    `share` is filled; its dtype is the one to compute in.
    """
    kind = share.dtype.type
    first = np.empty(len(share), np.int32)
    second = np.empty(len(share), np.int32)
    for out in range(len(share)):
        if align_corners:
            place = kind(out) * scale
        else:
            place = max((kind(out) + kind(0.5)) * scale - kind(0.5), kind(0))
        first[out] = min(int(place), size - 1)
        share[out] = min(place, kind(size - 1)) - first[out]
        # What has no share is not read: 0 times NaN would be NaN.
        second[out] = first[out] + 1 if share[out] > 0 else first[out]
    return first, second, share
