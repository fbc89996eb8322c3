"""The gradient of a weight by Winograd's transforms, on registers: the forward pass backwards.

    dU[xi] (C, C_out) = V[xi] (C, tiles) @ dM[xi]^T (tiles, C_out)         then G^T dU G

Tiles are transformed as in `_winograd.py`, a lane for each. But here the sum runs over the tiles,
so the register tile reads V by rows, as they lie, and wants dM with the filters side by side:
`lanes` filters' strips are transformed and then transposed, register by register.

    transformed input        V[xi][c][tile of the chunk]
    transformed gradient     dM[xi][panel of filters][tile of the chunk][filter]
    sums                     dU[xi][c][filter], added to by one chunk after the other

A task of the product owns one xi, so the bits do not depend on the number of threads. A chunk has
enough tiles for dU not to be read and written too often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._cook_toom import (
    TILE,
    filter_adjoint_3,
    filter_adjoint_5,
    output_adjoint_2,
    output_adjoint_4,
)
from minicnn.kernels._jit import inline_jit, jit, parallel_jit, prange
from minicnn.kernels._memory import arena
from minicnn.kernels._tile import ROWS, VECTORS, multiply_rows
from minicnn.kernels._vector import (
    REGISTER_BITS,
    load_vector,
    split_pairs,
    store,
    store_masked,
    store_vector,
    transpose_block,
)
from minicnn.kernels._winograd import (
    CHANNELS,
    PAD,
    XI,
    Image,
    equal_parts,
    list_runs,
    load_runs,
    load_six,
    make_tiles,
    most_runs,
    split_fours,
    store_six,
    transform_panel,
)

Array = NDArray
Pair = tuple[int, int]

# A chunk has more tiles than channels and filters, or dU would be read and written too often; V and
# dM have at most MOST_BYTES, and at least LEAST_BYTES.
CHUNK_TILES = 208  # at least
LEAST_BYTES, MOST_BYTES = 4 << 20, 32 << 20
FILTERS = 4  # registers of filters, side by side, in a task of the last step


def weight_gradient(
    input: Array, grad_output: Array, padding: Pair, groups: int, grad_weight: Array
) -> None:
    """Write the gradient of the weight, which is zero before."""
    if not grad_output.size:
        return
    batch, channels, height, width = input.shape
    _, out_channels, out_h, out_w = grad_output.shape
    lanes = REGISTER_BITS // (8 * input.itemsize)
    tiles = make_tiles(batch, out_h, out_w, grad_weight.shape[2])
    depth, filters = channels // groups, out_channels // groups
    strip = XI * lanes * (depth + filters) * input.itemsize
    wanted = max(CHUNK_TILES, depth + filters) // lanes
    most = max(LEAST_BYTES // strip, min(wanted, MOST_BYTES // strip))
    chunk = equal_parts(-(-tiles.total // lanes), most)
    rows, columns = -(-depth // ROWS) * ROWS, -(-filters // lanes) * lanes
    sum_weight_gradient(
        input.reshape(-1), grad_output.reshape(-1), groups, depth, filters, grad_weight.shape[2],
        tiles, most_runs(tiles, lanes),
        Image(channels * height * width, height, width, *padding),
        Image(out_channels * out_h * out_w, out_h, out_w, 0, 0),
        chunk, rows, columns,
        arena.empty(XI * (rows * chunk * lanes + PAD), input.dtype),
        arena.empty(XI * (columns * chunk * lanes + PAD), input.dtype),
        arena.empty(XI * (rows * columns + PAD), input.dtype),
        grad_weight.reshape(-1),
    )  # fmt: skip


@parallel_jit
def sum_weight_gradient(
    input, grad_output, groups, depth, filters, kernel, tiles, runs, image, target, chunk,
    rows, columns, transformed, grads, sums, grad_weight,
):  # fmt: skip
    """Sum the gradient, `chunk` strips of tiles at once, in room for `rows` x `columns` sums."""
    lanes = REGISTER_BITS // (8 * input.itemsize)
    strips = (tiles.total + lanes - 1) // lanes
    plane, out_plane = image.height * image.width, target.height * target.width
    sets = (TILE + tiles.step - 1) // tiles.step
    in_entries = TILE * sets * tiles.step * runs
    out_entries = tiles.step * tiles.step * runs
    v_plane = rows * chunk * lanes + PAD
    d_plane = columns * chunk * lanes + PAD
    u_plane = rows * columns + PAD

    in_starts = np.empty(chunk * in_entries, np.int64)
    in_masks = np.empty(chunk * in_entries, np.int64)
    out_starts = np.empty(chunk * out_entries, np.int64)
    out_masks = np.empty(chunk * out_entries, np.int64)

    channel_parts = (rows + CHANNELS - 1) // CHANNELS
    filter_parts = columns // lanes
    for group in range(groups):
        for first in range(0, strips, chunk):
            here = min(chunk, strips - first)
            for s in prange(here):
                list_runs(
                    tiles, image, (first + s) * lanes, lanes, TILE, sets, runs, in_starts,
                    in_masks, s * in_entries,
                )  # fmt: skip
                list_runs(
                    tiles, target, (first + s) * lanes, lanes, tiles.step, 1, runs, out_starts,
                    out_masks, s * out_entries,
                )  # fmt: skip
            for task in prange(channel_parts + filter_parts):
                if task < channel_parts:
                    c_last = min(rows, (task + 1) * CHANNELS)
                    transform_panel(
                        input, group * depth * plane, plane, task * CHANNELS, min(depth, c_last),
                        tiles.step, in_starts, in_masks, 0, in_entries, runs, here, lanes,
                        transformed, 0, v_plane,
                    )  # fmt: skip
                    clear_rows(transformed, depth, c_last, here * lanes, v_plane)
                else:
                    o_first = (task - channel_parts) * lanes
                    transform_grads(
                        grad_output, (group * filters + o_first) * out_plane, out_plane,
                        o_first, min(lanes, filters - o_first), columns, tiles.step, out_starts,
                        out_masks, out_entries, runs, here, lanes, grads, d_plane,
                    )  # fmt: skip
            for xi in prange(XI):
                multiply_planes(
                    transformed, xi * v_plane, rows, grads, xi * d_plane, columns, here * lanes,
                    lanes, sums, xi * u_plane, first > 0,
                )  # fmt: skip
        for part in prange((columns + FILTERS * lanes - 1) // (FILTERS * lanes)):
            o_start = part * FILTERS * lanes
            write_filters(
                sums, u_plane, o_start, min(filters, o_start + FILTERS * lanes), columns, depth,
                kernel, lanes, grad_weight, group * filters * depth * kernel * kernel,
            )  # fmt: skip


@jit
def clear_rows(transformed, first, last, row, pitch):
    """Set rows [first, last) of every plane to zero: they fill up the register tile's rows."""
    for xi in range(XI):
        for at in range(xi * pitch + first * row, xi * pitch + last * row):
            store(transformed, at, transformed.dtype.type(0))


@inline_jit
def adjoint_strip(source, origin, step, starts, masks, entry, runs, lanes, half, target, to, pitch):
    """Write A y A^T of a strip of output tiles y, its 36 numbers in planes `pitch` apart."""
    if step == 4:
        for i in range(4):
            at = entry + i * 4 * runs
            row = split_fours(
                load_runs(source, origin, starts, masks, at, runs),
                load_runs(source, origin, starts, masks, at + runs, runs),
                load_runs(source, origin, starts, masks, at + 2 * runs, runs),
                load_runs(source, origin, starts, masks, at + 3 * runs, runs),
            )
            store_six(output_adjoint_4(*row), half, i * TILE * lanes, lanes)
        for j in range(TILE):
            at = j * lanes
            column = output_adjoint_4(
                load_vector(half, at),
                load_vector(half, at + TILE * lanes),
                load_vector(half, at + 2 * TILE * lanes),
                load_vector(half, at + 3 * TILE * lanes),
            )
            store_six(column, target, to + j * pitch, TILE * pitch)
    else:
        for i in range(2):
            at = entry + i * 2 * runs
            row = split_pairs(
                load_runs(source, origin, starts, masks, at, runs),
                load_runs(source, origin, starts, masks, at + runs, runs),
            )
            store_six(output_adjoint_2(*row), half, i * TILE * lanes, lanes)
        for j in range(TILE):
            at = j * lanes
            column = output_adjoint_2(load_vector(half, at), load_vector(half, at + TILE * lanes))
            store_six(column, target, to + j * pitch, TILE * pitch)


@jit
def transform_grads(
    grad_output, origin, plane, o_first, count, columns, step, starts, masks, entries, runs,
    strips, lanes, target, pitch,
):  # fmt: skip
    """Write dM of `count` filters, side by side; `lanes` of them, those beyond the last zero."""
    half = np.empty(4 * TILE * lanes, grad_output.dtype)
    square = lanes * lanes + PAD
    by_filter = np.zeros(XI * square, grad_output.dtype)
    width = VECTORS * lanes
    panel = o_first // width
    panel_width = min(width, columns - panel * width)
    for s in range(strips):
        for o in range(count):
            at, entry, put = origin + o * plane, s * entries, o * lanes
            if runs == 1:
                adjoint_strip(
                    grad_output, at, step, starts, masks, entry, 1, lanes, half, by_filter, put,
                    square,
                )  # fmt: skip
            else:
                adjoint_strip(
                    grad_output, at, step, starts, masks, entry, runs, lanes, half, by_filter, put,
                    square,
                )  # fmt: skip
        to = panel * width * strips * lanes + s * lanes * panel_width + o_first - panel * width
        for xi in range(XI):
            transpose_block(by_filter, xi * square, lanes, target, xi * pitch + to, panel_width)


@jit
def multiply_planes(
    transformed, v_first, rows, grads, d_first, columns, tiles, lanes, sums, u_first, accumulate
):  # fmt: skip
    """Write, or add to, dU of one xi: V, `tiles` long rows, times dM."""
    width = VECTORS * lanes
    for column in range(0, columns, width):
        vectors = min(VECTORS, (columns - column) // lanes)
        for row in range(0, rows, ROWS):
            multiply_rows(
                vectors, tiles, transformed, v_first + row * tiles, tiles, grads,
                d_first + column * tiles, sums, u_first + row * columns + column, columns,
                accumulate,
            )  # fmt: skip


@jit
def write_filters(
    sums, pitch, o_first, o_last, columns, depth, kernel, lanes, grad_weight, origin
):  # fmt: skip
    """Write G^T dU G of filters [o_first, o_last)."""
    taps = kernel * kernel
    rows = (taps + lanes - 1) // lanes * lanes
    half = np.empty(TILE * kernel * lanes, sums.dtype)
    by_tap = np.zeros(rows * lanes, sums.dtype)
    by_filter = np.empty(lanes * rows, sums.dtype)
    for c in range(depth):
        for first in range(o_first, o_last, lanes):
            transform_sums(kernel, sums, c * columns + first, pitch, lanes, half, by_tap)
            for tap in range(0, taps, lanes):
                transpose_block(by_tap, tap * lanes, lanes, by_filter, tap, rows)
            for o in range(min(lanes, o_last - first)):
                to = origin + ((first + o) * depth + c) * taps
                for tap in range(0, taps, lanes):
                    mask = (1 << min(lanes, taps - tap)) - 1
                    value = load_vector(by_filter, o * rows + tap)
                    store_masked(grad_weight, to + tap, mask, value)


@inline_jit
def transform_sums(kernel, sums, at, pitch, lanes, half, by_tap):
    """Write G^T u G of a register of filters' sums u, tap by tap."""
    if kernel == 3:
        for j in range(TILE):
            a, b, c = filter_adjoint_3(*load_six(sums, at + j * pitch, TILE * pitch))
            store_vector(half, j * lanes, a)
            store_vector(half, (TILE + j) * lanes, b)
            store_vector(half, (2 * TILE + j) * lanes, c)
        for ky in range(3):
            a, b, c = filter_adjoint_3(*load_six(half, ky * TILE * lanes, lanes))
            store_vector(by_tap, 3 * ky * lanes, a)
            store_vector(by_tap, (3 * ky + 1) * lanes, b)
            store_vector(by_tap, (3 * ky + 2) * lanes, c)
    else:
        for j in range(TILE):
            a, b, c, d, e = filter_adjoint_5(*load_six(sums, at + j * pitch, TILE * pitch))
            store_vector(half, j * lanes, a)
            store_vector(half, (TILE + j) * lanes, b)
            store_vector(half, (2 * TILE + j) * lanes, c)
            store_vector(half, (3 * TILE + j) * lanes, d)
            store_vector(half, (4 * TILE + j) * lanes, e)
        for ky in range(5):
            a, b, c, d, e = filter_adjoint_5(*load_six(half, ky * TILE * lanes, lanes))
            store_vector(by_tap, 5 * ky * lanes, a)
            store_vector(by_tap, (5 * ky + 1) * lanes, b)
            store_vector(by_tap, (5 * ky + 2) * lanes, c)
            store_vector(by_tap, (5 * ky + 3) * lanes, d)
            store_vector(by_tap, (5 * ky + 4) * lanes, e)
