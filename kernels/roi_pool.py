"""RoI pooling: the maximum of every bin of every region of interest, and the way back.

    rois[k] = batch index n, x1, y1, x2, y2 in pixels of the image, both ends inclusive

    first = round(y1 * spatial_scale)      last = round(y2 * spatial_scale)      x likewise
    bin   = max(last - first + 1, 1) / out_h
    rows of bin out_y:  [first + floor(out_y bin), first + ceil((out_y + 1) bin)), cut at the border

    forward   output[k, c, out_y, out_x] = max of input[n, c, y, x] over the bin, 0 without a pixel
        argmax[k, c, out_y, out_x] = y * width + x of the first maximum in row-major order, or -1
    backward  grad_input[n, c, y, x] = sum of grad_output over bins of image n with argmax (y, x)
    gather    output = input[n, c] at argmax, 0 where argmax is -1: the adjoint of backward

Halves are rounded away from zero, as C's round() does. All this geometry is computed in the dtype
of the input, which decides what happens on an edge; Caffe and torchvision do the same. Bins overlap
by a pixel where their size is no whole number. A region whose ends are the wrong way round counts
as one pixel, its first. Unlike there, NaN counts as the largest number, as in all pooling here, and
minus infinity is a number like others. No gradient goes to the rois.

Forward, one iteration owns the bins of one region in one channel; backward, one iteration owns a
plane (n, c) and walks the regions in their order, so no order of threads can change a bit.

Bytes moved: each region's part of the input is read once (again from cache where bins overlap) and
the output is written, with 4 bytes of argmax an element; one compare a pixel. Backward reads that
much and writes the whole input's size.

Source: Girshick, "Fast R-CNN", 2015, section 2.1 and equation 4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray
Pair = tuple[int, int]
Size = tuple[int, int, int]  # batch, height, width


def roi_pool_forward_reference(
    input: Array, rois: Array, output_size: Pair, spatial_scale: float
) -> tuple[Array, Array]:
    """Define RoI pooling by plain loops; the geometry in the input's dtype, values in float64."""
    height, width = input.shape[2:]
    output = np.zeros((len(rois), input.shape[1], *output_size))
    argmax = np.full(output.shape, -1, np.int32)
    for k, (n, x1, y1, x2, y2) in enumerate(rois):
        rows = _bins_reference(y1, y2, input.dtype.type(spatial_scale), output_size[0], height)
        columns = _bins_reference(x1, x2, input.dtype.type(spatial_scale), output_size[1], width)
        for c, out_y, out_x in np.ndindex(*output.shape[1:]):
            places = [(y, x) for y in rows[out_y] for x in columns[out_x]]
            if places:
                # The first NaN if there is one, else the first maximum.
                y, x = places[np.argmax([float(input[int(n), c, y, x]) for y, x in places])]
                output[k, c, out_y, out_x] = input[int(n), c, y, x]
                argmax[k, c, out_y, out_x] = y * width + x
    return output, argmax


def _bins_reference(start: Any, end: Any, scale: Any, bins: int, size: int) -> list[list[int]]:
    """Return the rows (or columns) of every bin; the first four arguments have one dtype."""

    def away_from_zero(value: Any) -> int:
        whole, rest = int(value), abs(float(value)) % 1
        return whole + (0 if rest < 0.5 else 1 if value > 0 else -1)

    first, last = away_from_zero(start * scale), away_from_zero(end * scale)
    kind = type(scale)
    bin_size = kind(max(last - first + 1, 1)) / kind(bins)
    edges = [
        (math.floor(kind(i) * bin_size), math.ceil(kind(i + 1) * bin_size)) for i in range(bins)
    ]
    return [[first + j for j in range(*edge) if 0 <= first + j < size] for edge in edges]


def roi_pool_backward_reference(
    grad_output: Array, rois: Array, argmax: Array, spatial_scale: float, size: Size
) -> Array:
    """Define the gradient by plain loops, in float64: each bin gives to its argmax."""
    batch, height, width = size
    grad_input = np.zeros((batch, grad_output.shape[1], height, width))
    for k, c, out_y, out_x in np.ndindex(*grad_output.shape):
        y, x = divmod(int(argmax[k, c, out_y, out_x]), width)
        if y >= 0:
            grad_input[int(rois[k, 0]), c, y, x] += grad_output[k, c, out_y, out_x]
    return grad_input


def roi_pool_gather_reference(input: Array, rois: Array, argmax: Array) -> Array:
    """Define the gather by plain loops, in float64."""
    output = np.zeros(argmax.shape)
    for k, c, out_y, out_x in np.ndindex(*argmax.shape):
        y, x = divmod(int(argmax[k, c, out_y, out_x]), input.shape[3])
        if y >= 0:
            output[k, c, out_y, out_x] = input[int(rois[k, 0]), c, y, x]
    return output


def roi_pool_forward(
    input: Array, rois: Array, output_size: Pair, spatial_scale: float
) -> tuple[Array, Array]:
    """Return the maximum of every bin and its argmax (int32), both (K, C, *output_size).

    The batch indices in `rois` must be indices of the batch, the coordinates, also once scaled,
    less than 2^29 from zero.
    """
    xp = array_module("roi_pool_forward", input)
    _, channels, height, width = input.shape
    output = empty(xp, (len(rois), channels, *output_size), input.dtype)
    argmax = empty(xp, output.shape, np.int32)
    input, rois, scale = contiguous(input), contiguous(rois), input.dtype.type(spatial_scale)
    if xp is np:
        roi_pool_forward_cpu(input, rois, scale, output, argmax)
    else:
        launch(
            "roi_pool", "roi_pool_forward_cuda", output.size,
            input, channels, height, width, rois, scale, *output_size, output, argmax,
        )  # fmt: skip
    return output, argmax


def roi_pool_backward(
    grad_output: Array, rois: Array, argmax: Array, spatial_scale: float, size: Size
) -> Array:
    """Return the gradient (batch, C, height, width), `size` being all of that but C.

    The argmax says it all; `spatial_scale` serves to find soon which bins a pixel may lie in.
    """
    xp = array_module("roi_pool_backward", grad_output)
    batch, height, width = size
    count, channels, *output_size = grad_output.shape
    grad_input = empty(xp, (batch, channels, height, width), grad_output.dtype)
    arrays = contiguous(grad_output), contiguous(rois), contiguous(argmax)
    if xp is np:
        roi_pool_backward_cpu(*arrays, grad_input.reshape(batch, channels, height * width))
    else:
        launch(
            "roi_pool", "roi_pool_backward_cuda", grad_input.size,
            *arrays, count, channels, *output_size, spatial_scale, height, width, grad_input,
        )  # fmt: skip
    return grad_input


def roi_pool_gather(input: Array, rois: Array, argmax: Array) -> Array:
    """Read `input` (N, C, height, width) at `argmax` (K, C, out_h, out_w); 0 where it is -1."""
    xp = array_module("roi_pool_gather", input)
    batch, channels, height, width = input.shape
    out_h, out_w = argmax.shape[2:]
    output = empty(xp, argmax.shape, input.dtype)
    planes = contiguous(input).reshape(batch, channels, height * width)
    rois, argmax = contiguous(rois), contiguous(argmax)
    if xp is np:
        roi_pool_gather_cpu(planes, rois, argmax, output)
    else:
        launch(
            "roi_pool", "roi_pool_gather_cuda", output.size,
            planes, channels, height * width, rois, argmax, out_h * out_w, output,
        )  # fmt: skip
    return output


@parallel_jit
def roi_pool_forward_cpu(input, rois, spatial_scale, output, argmax):
    _, channels, height, width = input.shape
    count, _, out_h, out_w = output.shape
    kind = input.dtype.type
    for i in prange(count * channels):
        k = i // channels
        c = i % channels
        n = int(rois[k, 0])
        first_y, rows = _extent(rois[k, 2], rois[k, 4], spatial_scale)
        first_x, columns = _extent(rois[k, 1], rois[k, 3], spatial_scale)
        bin_h = kind(rows) / kind(out_h)
        bin_w = kind(columns) / kind(out_w)
        for out_y in range(out_h):
            top, bottom = _bin(kind(out_y) * bin_h, kind(out_y + 1) * bin_h, first_y, height)
            for out_x in range(out_w):
                left, right = _bin(kind(out_x) * bin_w, kind(out_x + 1) * bin_w, first_x, width)
                best = kind(0)
                index = -1
                if top < bottom and left < right:
                    best = input[n, c, top, left]
                    index = top * width + left
                for y in range(top, bottom):
                    for x in range(left, right):
                        value = input[n, c, y, x]
                        # One comparison for nearly every pixel; true for NaN on either side.
                        if not value <= best and not np.isnan(best):
                            best = value
                            index = y * width + x
                output[k, c, out_y, out_x] = best
                argmax[k, c, out_y, out_x] = index


@parallel_jit
def roi_pool_backward_cpu(grad_output, rois, argmax, grad_input):
    """Scatter within a plane; `grad_input` is (N, C, height * width)."""
    batch, channels, _ = grad_input.shape
    count, _, out_h, out_w = grad_output.shape
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        grad_input[n, c] = 0
        for k in range(count):
            if int(rois[k, 0]) != n:
                continue
            for out_y in range(out_h):
                for out_x in range(out_w):
                    index = argmax[k, c, out_y, out_x]
                    if index >= 0:
                        grad_input[n, c, index] += grad_output[k, c, out_y, out_x]


@parallel_jit
def roi_pool_gather_cpu(input, rois, argmax, output):
    """Gather within a plane; `input` is (N, C, height * width)."""
    count, channels, out_h, out_w = output.shape
    for i in prange(count * channels):
        k = i // channels
        c = i % channels
        n = int(rois[k, 0])
        for out_y in range(out_h):
            for out_x in range(out_w):
                index = argmax[k, c, out_y, out_x]
                output[k, c, out_y, out_x] = input[n, c, index] if index >= 0 else 0


@jit
def _extent(start, end, scale):
    """Return a region's first pixel along an axis and how many it has, at least 1."""
    first = _round(start * scale)
    return first, max(_round(end * scale) - first + 1, 1)


@jit
def _round(value):
    """Round halves away from zero; Python and NumPy round them to the even neighbour."""
    whole = int(value)
    rest = value - whole
    if rest >= 0.5:
        return whole + 1
    return whole - 1 if rest <= -0.5 else whole


@jit
def _bin(start, end, first, size):
    """Return the first pixel and the end, inside the image, of a bin `start` behind `first`."""
    start = first + int(math.floor(start))
    end = first + int(math.ceil(end))
    return min(max(start, 0), size), min(max(end, 0), size)
