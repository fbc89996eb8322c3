"""RoIAlign: the mean of a grid of bilinear samples in every bin of every region, and the way back.

    rois[k] = batch index n, x1, y1, x2, y2 in pixels of the image; nothing is rounded

    start  = y1 * spatial_scale - offset       offset = 1/2 if aligned else 0         x likewise
    length = (y2 - y1) * spatial_scale, at least 1 unless aligned
    bin    = length / out_h                    grid = sampling_ratio, or ceil(bin) if that is <= 0

    sample i of bin out_y:  y = start + out_y bin + (i + 1/2) bin / grid,  0 <= i < grid
    tap(y, p) = max(0, 1 - |y' - p|) with y' = y cut to [0, height - 1]; 0 if y < -1 or y > height

    weight_y[k, out_y, p] = sum of tap(y, p) over the samples of the bin              x likewise

    forward   output[k, c, out_y, out_x] =
                  sum_yx weight_y[k, out_y, y] weight_x[k, out_x, x] input[n, c, y, x] / grid^2
    backward  grad_input[n, c, y, x] = sum of weight_y weight_x grad_output / grid^2 over all bins
                  of image n

Pixels are points at whole coordinates; `aligned` shifts the regions by half a pixel, to where they
belong if a pixel is a square that begins there. Forward is linear in the input, backward is its
adjoint, and forward the adjoint of backward. No gradient goes to the rois.

Forward, one iteration owns the bins of one region in one channel; backward, one iteration owns a
plane (n, c) and walks the regions in their order, so no order of threads can change a bit. Where
the samples of a region fall is the same for all channels: tables hold it, by axis, for they are
the products of rows and columns.

Bytes moved: four pixels a sample, mostly from cache, and the output; 11 flops a sample.

Source: He et al., "Mask R-CNN", 2017, section 3; the choices above are torchvision's.
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


def roi_align_forward_reference(
    input: Array,
    rois: Array,
    output_size: Pair,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Array:
    """Define RoIAlign by plain loops; the geometry in the input's dtype, sums in float64."""
    height, width = input.shape[2:]
    output = np.zeros((len(rois), input.shape[1], *output_size))
    for k, (n, x1, y1, x2, y2) in enumerate(rois):
        rule = input.dtype.type(spatial_scale), sampling_ratio, aligned
        rows = _weights_reference(y1, y2, *rule, output_size[0], height)
        columns = _weights_reference(x1, x2, *rule, output_size[1], width)
        for c, out_y, out_x in np.ndindex(*output.shape[1:]):
            for y, x in np.ndindex(height, width):
                weight = rows[out_y, y] * columns[out_x, x]
                if weight:
                    output[k, c, out_y, out_x] += weight * float(input[int(n), c, y, x])
    return output


def roi_align_backward_reference(
    grad_output: Array,
    rois: Array,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    size: Size,
) -> Array:
    """Define the gradient by plain loops: each bin gives to the pixels it has read, as it read."""
    batch, height, width = size
    out_h, out_w = grad_output.shape[2:]
    grad_input = np.zeros((batch, grad_output.shape[1], height, width))
    for k, (n, x1, y1, x2, y2) in enumerate(rois):
        rule = grad_output.dtype.type(spatial_scale), sampling_ratio, aligned
        rows = _weights_reference(y1, y2, *rule, out_h, height)
        columns = _weights_reference(x1, x2, *rule, out_w, width)
        for c, out_y, out_x in np.ndindex(*grad_output.shape[1:]):
            for y, x in np.ndindex(height, width):
                weight = rows[out_y, y] * columns[out_x, x]
                grad_input[int(n), c, y, x] += weight * float(grad_output[k, c, out_y, out_x])
    return grad_input


def _weights_reference(
    first: Any, last: Any, scale: Any, sampling_ratio: int, aligned: bool, bins: int, size: int
) -> Array:
    """Return (bins, size): what share each pixel has in each bin along one axis."""
    kind = type(scale)
    start = first * scale - kind(0.5 if aligned else 0)
    length = last * scale - kind(0.5 if aligned else 0) - start
    if not aligned:
        length = max(length, kind(1))
    bin_size = length / kind(bins)
    grid = sampling_ratio if sampling_ratio > 0 else math.ceil(bin_size)
    weights = np.zeros((bins, size))
    for out, i in np.ndindex(bins, max(grid, 0)):
        place = start + kind(out) * bin_size + (kind(i) + kind(0.5)) * bin_size / kind(grid)
        if -1 <= place <= size:
            place = min(max(float(place), 0.0), size - 1.0)
            for pixel in range(size):
                weights[out, pixel] += max(0.0, 1 - abs(place - pixel)) / grid
    return weights


def roi_align_forward(
    input: Array,
    rois: Array,
    output_size: Pair,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Array:
    """Return the mean of every bin's samples, (K, C, *output_size).

    The batch indices in `rois` must be indices of the batch, and the coordinates finite.
    """
    xp = array_module("roi_align_forward", input)
    _, channels, height, width = input.shape
    output = empty(xp, (len(rois), channels, *output_size), input.dtype)
    rule = input.dtype.type(spatial_scale), sampling_ratio, aligned
    if xp is np:
        roi_align_forward_cpu(contiguous(input), contiguous(rois), *rule, output)
    else:
        launch(
            "roi_align", "roi_align_forward_cuda", output.size,
            contiguous(input), channels, height, width, contiguous(rois), *rule, *output_size,
            output,
        )  # fmt: skip
    return output


def roi_align_backward(
    grad_output: Array,
    rois: Array,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    size: Size,
) -> Array:
    """Return the gradient (batch, C, height, width), `size` being all of that but C."""
    xp = array_module("roi_align_backward", grad_output)
    batch, height, width = size
    count, channels, *output_size = grad_output.shape
    grad_input = empty(xp, (batch, channels, height, width), grad_output.dtype)
    rule = grad_output.dtype.type(spatial_scale), sampling_ratio, aligned
    if xp is np:
        roi_align_backward_cpu(contiguous(grad_output), contiguous(rois), *rule, grad_input)
    else:
        launch(
            "roi_align", "roi_align_backward_cuda", grad_input.size,
            contiguous(grad_output), contiguous(rois), count, channels, *output_size, *rule,
            height, width, grad_input,
        )  # fmt: skip
    return grad_input


@parallel_jit
def roi_align_forward_cpu(input, rois, spatial_scale, sampling_ratio, aligned, output):
    _, channels, height, width = input.shape
    count, _, out_h, out_w = output.shape
    grid_h, first_y, low_y, high_y, weight_y = _samples(
        rois[:, 2::2], spatial_scale, sampling_ratio, aligned, out_h, height
    )
    grid_w, first_x, low_x, high_x, weight_x = _samples(
        rois[:, 1::2], spatial_scale, sampling_ratio, aligned, out_w, width
    )
    for i in prange(count * channels):
        k = i // channels
        c = i % channels
        plane = input[int(rois[k, 0]), c]
        samples = input.dtype.type(max(grid_h[k] * grid_w[k], 1))
        for out_y in range(out_h):
            for out_x in range(out_w):
                row = first_y[k] + out_y * grid_h[k]
                column = first_x[k] + out_x * grid_w[k]
                total = input.dtype.type(0)
                for y in range(row, row + grid_h[k]):
                    if low_y[y] < 0:
                        continue
                    for x in range(column, column + grid_w[k]):
                        if low_x[x] < 0:
                            continue
                        upper = weight_x[x, 0] * plane[low_y[y], low_x[x]]
                        upper += weight_x[x, 1] * plane[low_y[y], high_x[x]]
                        lower = weight_x[x, 0] * plane[high_y[y], low_x[x]]
                        lower += weight_x[x, 1] * plane[high_y[y], high_x[x]]
                        total += weight_y[y, 0] * upper + weight_y[y, 1] * lower
                output[k, c, out_y, out_x] = total / samples


@parallel_jit
def roi_align_backward_cpu(grad_output, rois, spatial_scale, sampling_ratio, aligned, grad_input):
    """Scatter within a plane."""
    batch, channels, height, width = grad_input.shape
    count, _, out_h, out_w = grad_output.shape
    grid_h, first_y, low_y, high_y, weight_y = _samples(
        rois[:, 2::2], spatial_scale, sampling_ratio, aligned, out_h, height
    )
    grid_w, first_x, low_x, high_x, weight_x = _samples(
        rois[:, 1::2], spatial_scale, sampling_ratio, aligned, out_w, width
    )
    for i in prange(batch * channels):
        n = i // channels
        c = i % channels
        plane = grad_input[n, c]
        plane[:] = 0
        for k in range(count):
            if int(rois[k, 0]) != n:
                continue
            samples = grad_output.dtype.type(max(grid_h[k] * grid_w[k], 1))
            for out_y in range(out_h):
                for out_x in range(out_w):
                    row = first_y[k] + out_y * grid_h[k]
                    column = first_x[k] + out_x * grid_w[k]
                    share = grad_output[k, c, out_y, out_x] / samples
                    for y in range(row, row + grid_h[k]):
                        if low_y[y] < 0:
                            continue
                        upper = weight_y[y, 0] * share
                        lower = weight_y[y, 1] * share
                        for x in range(column, column + grid_w[k]):
                            if low_x[x] < 0:
                                continue
                            plane[low_y[y], low_x[x]] += upper * weight_x[x, 0]
                            plane[low_y[y], high_x[x]] += upper * weight_x[x, 1]
                            plane[high_y[y], low_x[x]] += lower * weight_x[x, 0]
                            plane[high_y[y], high_x[x]] += lower * weight_x[x, 1]


@jit
def _samples(ends, spatial_scale, sampling_ratio, aligned, bins, size):
    """Return where all samples fall along one axis; `ends` (K, 2) are the regions' ends.

    Samples first[k] to first[k] + bins * grid[k] are those of region k, bin after bin. Each lies
    between pixels `low` and `high` and takes the shares weight[:, 0] and weight[:, 1] of them;
    `low` is -1 for one that lies outside and counts as 0.
    """
    count = len(ends)
    kind = ends.dtype.type
    offset = kind(0.5) if aligned else kind(0)
    start = ends[:, 0] * spatial_scale - offset
    length = ends[:, 1] * spatial_scale - offset - start
    if not aligned:
        length = np.maximum(length, kind(1))
    bin_size = length / kind(bins)
    grid = np.empty(count, np.int64)
    first = np.empty(count, np.int64)
    total = 0
    for k in range(count):
        # With its ends the wrong way round an aligned region has no samples.
        grid[k] = sampling_ratio if sampling_ratio > 0 else max(int(math.ceil(bin_size[k])), 0)
        first[k] = total
        total += bins * grid[k]
    low = np.full(total, -1, np.int32)
    high = np.zeros(total, np.int32)
    weight = np.zeros((total, 2), ends.dtype)
    for k in range(count):
        for j in range(bins * grid[k]):
            place = kind(j % grid[k]) + kind(0.5)
            place = place * bin_size[k] / kind(grid[k])
            place = start[k] + kind(j // grid[k]) * bin_size[k] + place
            if place < -1 or place > size:
                continue
            place = max(place, kind(0))
            s = first[k] + j
            low[s] = min(int(place), size - 1)
            weight[s, 1] = min(place, kind(size - 1)) - low[s]
            # What has no share is not read: 0 times NaN would be NaN.
            high[s] = low[s] + 1 if weight[s, 1] > 0 else low[s]
            weight[s, 0] = kind(1) - weight[s, 1]
    return grid, first, low, high, weight
