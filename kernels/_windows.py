"""Windows of images, read as the rows of a matrix that is never written.

A convolution multiplies its weights by the matrix whose row k = (c, ky, kx) holds, for every place
(n, out_y, out_x) of the output, the pixel that the tap reads there. Its rows overlap so much that
they need not be written: row k is the image itself, read from an offset. For that to be true at the
borders and for any stride, the image is first copied once, unless it lies right already:

    padded by zeros, and split into the stride's phases, so that a step of the window is one pixel:
        phases[n, c, a, b, i, j] = input[n, c, i * stride_h + a - padding_h, j * stride_w + b - ...]
    row k of place (n, y, x) = phases.flat[n * image + y * row + x + offsets[k]]

`Grid` says how places lie in such a source. Places are counted through: (n, y, x) in row-major
order. The register tile wants `lanes` of them in a register; those lie in one row of the source, or
in a few: a run for each row, read with a mask that leaves the other lanes alone. The runs are the
same for all k.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._tile import VECTORS
from minicnn.kernels._vector import (
    REGISTER_BITS,
    load,
    load_masked,
    load_vector,
    prefetch,
    split_pairs,
    store,
    store_masked,
    store_vector,
    zero_vector,
)

Array = NDArray
Pair = tuple[int, int]

AHEAD = 4  # how many rows of the matrix ahead the next panel's memory is asked for


class Grid(NamedTuple):
    """Where the places of a grid, height x width in each image, lie in a flat source."""

    batch: int
    height: int
    width: int
    image: int  # elements of the source from one image to the next
    row: int  # and from one row of places to the next


class Layout(NamedTuple):
    """How a source is laid out for windows of one kind, and where in it their taps are."""

    phases_y: Array
    phases_x: Array
    rows: int  # of a phase
    columns: int
    channel: int  # elements of one channel in all phases
    offsets: Array  # (C, kernel_h * kernel_w), int64


@lru_cache(maxsize=1024)
def lay_out(channels: int, kernel_size: Pair, stride: Pair, dilation: Pair, size: Pair) -> Layout:
    """Lay out a source for `size` places of windows over `channels` channels."""
    taps_y, phases_y, rows = _taps(kernel_size[0], stride[0], dilation[0], size[0])
    taps_x, phases_x, columns = _taps(kernel_size[1], stride[1], dilation[1], size[1])
    plane = rows * columns
    of_y = [
        phases_y.index(phase) * len(phases_x) * plane + step * columns for phase, step in taps_y
    ]
    of_x = [phases_x.index(phase) * plane + step for phase, step in taps_x]
    channel = len(phases_y) * len(phases_x) * plane
    taps = np.add.outer(of_y, of_x).reshape(-1)
    offsets = np.add.outer(np.arange(channels) * channel, taps)
    return Layout(np.array(phases_y), np.array(phases_x), rows, columns, channel, offsets)


def _taps(kernel: int, stride: int, dilation: int, size: int) -> tuple[list[Pair], list[int], int]:
    """Return, along one axis, each tap's (phase, steps), the phases in use, and their length."""
    taps = [(tap * dilation % stride, tap * dilation // stride) for tap in range(kernel)]
    return taps, sorted({phase for phase, _ in taps}), size + taps[-1][1]


def place_windows(
    input: Array, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair, size: Pair
) -> tuple[Array, Grid, Array]:
    """Return a flat source, the grid of the `size` output places in it and each tap's offset.

    The offsets are (C, kernel_h * kernel_w), int64; they are shared: not to be written.
    """
    batch, channels, height, width = input.shape
    layout = lay_out(channels, kernel_size, stride, dilation, size)
    phases_y, phases_x, rows, columns, channel, offsets = layout
    if stride == (1, 1) and padding == (0, 0) and (rows, columns) == (height, width):
        source = input.reshape(-1)
    else:
        source = np.empty(batch * channels * channel, input.dtype)
        split_phases(input, phases_y, phases_x, *stride, *padding, rows, columns, source)
    return source, Grid(batch, *size, channels * channel, columns), offsets


@parallel_jit
def split_phases(
    input, phases_y, phases_x, stride_h, stride_w, padding_h, padding_w, rows, columns, source
):  # fmt: skip
    """Copy every plane into its phases (a, b), each rows x columns, zero outside the image."""
    batch, channels, height, width = input.shape
    flat, zero = input.reshape(-1), input.dtype.type(0)
    size = rows * columns
    for plane in prange(batch * channels):
        for index_y in range(phases_y.size):
            first = (plane * phases_y.size + index_y) * phases_x.size * size
            for i in range(rows):
                y = i * stride_h + phases_y[index_y] - padding_h
                inside = 0 <= y < height
                start = (plane * height + y) * width - padding_w if inside else 0
                to = first + i * columns
                if stride_w == 2 or stride_w == 4:
                    # No pixel of a row outside the image: as if it had no width.
                    split_row(
                        flat, start, padding_w, width if inside else 0, stride_w, phases_x, source,
                        to, size, columns,
                    )  # fmt: skip
                    continue
                for index_x in range(phases_x.size):
                    b = phases_x[index_x]
                    begin = min(columns, max(0, (padding_w - b + stride_w - 1) // stride_w))
                    end = max(begin, min(columns, (width - 1 + padding_w - b) // stride_w + 1))
                    if not inside:
                        begin, end = columns, columns
                    for j in range(begin):
                        store(source, to + j, zero)
                    if stride_w == 1:
                        for j in range(begin, end):
                            store(source, to + j, load(flat, start + j))
                    else:
                        for j in range(begin, end):
                            store(source, to + j, load(flat, start + j * stride_w + b))
                    for j in range(end, columns):
                        store(source, to + j, zero)
                    to += size


@jit
def split_row(flat, start, padding, width, stride, phases, source, to, size, columns):
    """Take a row apart into its 2 or 4 phases, `size` apart, keeping those of `phases`."""
    lanes = REGISTER_BITS // (8 * flat.itemsize)
    for j in range(0, columns, lanes):
        x = j * stride
        some = (1 << min(lanes, columns - j)) - 1
        even, odd = split_pairs(
            load_inside(flat, start, x, padding, width, lanes),
            load_inside(flat, start, x + lanes, padding, width, lanes),
        )
        if stride == 2:
            for index in range(phases.size):
                part = even if phases[index] == 0 else odd
                store_masked(source, to + index * size + j, some, part)
            continue
        more_even, more_odd = split_pairs(
            load_inside(flat, start, x + 2 * lanes, padding, width, lanes),
            load_inside(flat, start, x + 3 * lanes, padding, width, lanes),
        )
        zeroth, second = split_pairs(even, more_even)
        first, third = split_pairs(odd, more_odd)
        for index in range(phases.size):
            phase = phases[index]
            low, high = (zeroth, first) if phase < 2 else (second, third)
            part = low if phase % 2 == 0 else high
            store_masked(source, to + index * size + j, some, part)


@jit
def load_inside(flat, start, x, padding, width, lanes):
    """Return pixels x, x + 1, ... of a padded row that begins at `start`; 0 in the padding."""
    first = max(0, padding - x)
    last = min(lanes, padding + width - x)
    mask = ((1 << (last - first)) - 1) << first if last > first else 0
    return load_masked(flat, start + x, mask, zero_vector(flat))


@jit
def empty_aligned(size, like):
    """Return a flat array of `like`'s dtype that begins with a cache line.

    A register is as wide as a line; one that lies across two takes twice the accesses.
    """
    line = 64 // like.itemsize
    room = np.empty(size + line, like.dtype)
    first = (64 - room.ctypes.data % 64) % 64 // like.itemsize
    return room[first : first + size]


@jit
def row_length(grid):
    """Return how many places lie in one piece: all of an image's, if its rows have no gap."""
    return grid.height * grid.width if grid.row == grid.width else grid.width


@jit
def find_runs(grid, place, lanes, starts, masks):
    """Find the runs of `lanes` places from `place` on, at most one a lane; return how many.

    A run is read from `starts` on as a whole register, of which `masks` are its lanes. Places
    beyond the last belong to no run.
    """
    area, length_of_row = grid.height * grid.width, row_length(grid)
    places = min(lanes, grid.batch * area - place)
    runs = 0
    lane = 0
    while lane < places:
        n = (place + lane) // area
        rest = place + lane - n * area
        y = rest // length_of_row
        x = rest - y * length_of_row
        length = min(places - lane, length_of_row - x)
        starts[runs] = n * grid.image + y * grid.row + x - lane
        masks[runs] = ((1 << length) - 1) << lane
        runs += 1
        lane += length
    return runs


@jit
def pack_panel(
    source, origin, offsets, first, last, grid, place, vectors, lanes, starts, masks, target, to
):  # fmt: skip
    """Write rows [first, last) of the matrix for `vectors` registers of places from `place` on.

    `origin` is added to every offset; `starts` and `masks` are room for the runs of a register.
    """
    step = vectors * lanes
    area = grid.height * grid.width
    rest, length = place % area, row_length(grid)
    if vectors == VECTORS and rest % length + step <= length:
        start = origin + place // area * grid.image + rest // length * grid.row + rest % length
        for k in range(first, last):
            at = start + load(offsets, k)
            ahead = start + step + load(offsets, min(k + AHEAD, last - 1))
            for v in range(VECTORS):
                prefetch(source, ahead + v * lanes)
                store_vector(target, to + v * lanes, load_vector(source, at + v * lanes))
            to += step
        return
    for v in range(vectors):
        pack_places(
            source, origin, offsets, first, last, grid, place + v * lanes, lanes, starts, masks,
            target, to + v * lanes, step,
        )  # fmt: skip


@jit
def pack_places(
    source, origin, offsets, first, last, grid, place, lanes, starts, masks, target, to, step
):  # fmt: skip
    """Write rows [first, last) of the matrix for one register of places, `step` apart."""
    runs = find_runs(grid, place, lanes, starts, masks)
    zero = zero_vector(source)
    start, mask = origin + starts[0], masks[0]
    if runs == 1 and mask == (1 << lanes) - 1:
        for k in range(first, last):
            store_vector(target, to, load_vector(source, start + load(offsets, k)))
            to += step
    elif runs == 2:
        second, rest = origin + starts[1], masks[1]
        for k in range(first, last):
            offset = load(offsets, k)
            value = load_masked(source, start + offset, mask, zero)
            store_vector(target, to, load_masked(source, second + offset, rest, value))
            to += step
    else:
        for k in range(first, last):
            offset = load(offsets, k)
            value = load_masked(source, start + offset, mask, zero)
            for run in range(1, runs):
                at = origin + load(starts, run) + offset
                value = load_masked(source, at, load(masks, run), value)
            store_vector(target, to, value)
            to += step
