"""Winograd's convolution on registers: tiles are transformed where they are needed, and at once.

Sixteen tiles go through one register operation together: a lane is a tile. A *strip* is `lanes`
tiles that follow one another in the list of all tiles, (n, tile_y, tile_x) in row-major order; a
*panel* is VECTORS strips, the width of the register tile. So the transformed input lies as the
register tile reads it, and no step of packing stands between:

    transformed input     V[panel][xi][c][tile of the panel]        xi: 36 places of a tile
    transformed weight    U[xi][panel of ROWS filters][c][filter]
    products              M[xi][filter][tile], of a task

What is transformed must still be in a cache when it is used. Therefore the tiles are cut into
chunks and the filters into slabs:

    for each chunk of panels:            V is written: CHUNK_BYTES, in the last-level cache
        for each slab of filters:        U is written: SLAB_BYTES, beside it
            tasks, BLOCKS of filters and some panels each:
                M = U V for all 36 xi    in the second-level cache
                output = A^T M A, and the bias

The 36 planes of V, U and M are a little more than a power of two apart, or all 36 numbers of a tile
would compete for one set of the first-level cache. Reading the image waits for memory more than it
computes: the rows of channel c + AHEAD are asked for while c is transformed.

A filter's data gradient is the same convolution with input and output channels swapped and the
taps reversed. `_winograd_weight.py` has the gradient of the weight.
"""

from __future__ import annotations

from math import lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._cook_toom import (
    TILE,
    filter_transform_3,
    filter_transform_5,
    input_transform,
    output_transform_2,
    output_transform_4,
)
from minicnn.kernels._jit import inline_jit, jit, parallel_jit, prange
from minicnn.kernels._memory import arena
from minicnn.kernels._tile import ROWS, VECTORS, tile
from minicnn.kernels._vector import (
    REGISTER_BITS,
    join_pairs,
    load,
    load_masked,
    load_vector,
    prefetch,
    split_pairs,
    store,
    store_masked,
    store_vector,
    transpose_block,
    zero_vector,
)

Array = NDArray
Pair = tuple[int, int]

XI = TILE * TILE
PAD = 16  # elements between planes
CHUNK_BYTES = 6 << 20  # of V, but at least
CHUNK_PANELS = 4  # panels, for each chunk transforms the weights anew unless one slab has all
SLAB_BYTES = 5 << 20  # of U
TASKS = 8  # into how many pieces the products of a chunk and a slab are cut, if there are as many
BLOCKS = 2  # of filters in a task
CHANNELS = 16  # of the input that a task transforms
AHEAD = 2  # channels


class Tiles(NamedTuple):
    """The list of all tiles, `step` outputs high and wide."""

    step: int
    rows: int  # of tiles in an image
    columns: int
    total: int


class Image(NamedTuple):
    """Where a tile's window lies in a batch of planes: y = tile_y * step - padding_h, x alike."""

    size: int  # elements from one image of the batch to the next
    height: int
    width: int
    padding_h: int
    padding_w: int


def make_tiles(batch: int, height: int, width: int, kernel: int) -> Tiles:
    """Return the tiles of outputs (batch, height, width)."""
    step = TILE + 1 - kernel
    rows, columns = -(-height // step), -(-width // step)
    return Tiles(step, rows, columns, batch * rows * columns)


def most_runs(tiles: Tiles, lanes: int) -> int:
    """Return in how many rows of tiles the numbers of one register may lie."""
    together = max(1, lanes // tiles.step)
    if tiles.columns % together == 0:
        return 1
    return min(together, (together - 2) // tiles.columns + 2)


def convolve(
    input: Array, weight: Array, bias: Array, padding: Pair, groups: int, swapped: bool,
    output: Array,
) -> None:  # fmt: skip
    """Write the output, or, with the weight's channel axes `swapped`, the data gradient."""
    kernel = weight.shape[2]
    batch, channels, height, width = input.shape
    _, out_channels, out_h, out_w = output.shape
    lanes = REGISTER_BITS // (8 * input.itemsize)
    tiles = make_tiles(batch, out_h, out_w, kernel)
    depth, filters = channels // groups, out_channels // groups
    panel, block = VECTORS * lanes, lcm(ROWS, lanes)
    size = XI * depth * input.itemsize  # of a transformed tile or filter
    chunk = equal_parts(
        -(-tiles.total // panel), max(CHUNK_PANELS, CHUNK_BYTES // max(1, size * panel))
    )
    slab = equal_parts(-(-filters // block), SLAB_BYTES // max(1, size * block))
    run = max(1, min(depth // panel, chunk * -(-slab // BLOCKS) // TASKS))
    transformed = arena.empty(chunk * XI * (depth * panel + PAD), input.dtype)
    weights = arena.empty(XI * (slab * depth * block + PAD), input.dtype)
    convolve_tiles(
        input.reshape(-1), weight.reshape(-1), bias, groups, depth, filters, kernel, swapped,
        tiles, most_runs(tiles, lanes),
        Image(channels * height * width, height, width, *padding),
        Image(out_channels * out_h * out_w, out_h, out_w, 0, 0),
        chunk, slab, block, run, transformed, weights, output.reshape(-1),
    )  # fmt: skip


def equal_parts(count: int, most: int) -> int:
    """Return how many of `count` things to take at once, at most `most`, for equal parts."""
    parts = max(1, -(-count // max(1, most)))
    return max(1, -(-count // parts))


@parallel_jit
def convolve_tiles(
    input, weight, bias, groups, depth, filters, kernel, swapped, tiles, runs, image, target,
    chunk, slab, block, run, transformed, weights, output,
):  # fmt: skip
    """Convolve, `chunk` panels of tiles and `slab` blocks of filters at once, `run` in a task."""
    lanes = REGISTER_BITS // (8 * input.itemsize)
    strips = (tiles.total + lanes - 1) // lanes
    panels = (strips + VECTORS - 1) // VECTORS
    filter_blocks = (filters + block - 1) // block
    plane, out_plane = image.height * image.width, target.height * target.width
    v_plane = depth * VECTORS * lanes + PAD
    u_block = depth * block
    u_plane = slab * u_block + PAD
    m_row = run * VECTORS * lanes
    m_plane = BLOCKS * block * m_row + PAD
    sets = (TILE + tiles.step - 1) // tiles.step
    in_entries = TILE * sets * tiles.step * runs
    out_entries = tiles.step * tiles.step * runs

    in_starts = np.empty(chunk * VECTORS * in_entries, np.int64)
    in_masks = np.empty(chunk * VECTORS * in_entries, np.int64)
    out_starts = np.empty(chunk * VECTORS * out_entries, np.int64)
    out_masks = np.empty(chunk * VECTORS * out_entries, np.int64)

    channel_blocks = (depth + CHANNELS - 1) // CHANNELS
    for group in range(groups):
        for first in range(0, panels, chunk):
            here = min(chunk, panels - first)
            first_strip = first * VECTORS
            strips_here = min(here * VECTORS, strips - first_strip)
            for s in prange(strips_here):
                list_runs(
                    tiles, image, (first_strip + s) * lanes, lanes, TILE, sets, runs, in_starts,
                    in_masks, s * in_entries,
                )  # fmt: skip
                list_runs(
                    tiles, target, (first_strip + s) * lanes, lanes, tiles.step, 1, runs,
                    out_starts, out_masks, s * out_entries,
                )  # fmt: skip
            for task in prange(here * channel_blocks):
                panel, part = task // channel_blocks, task % channel_blocks
                transform_panel(
                    input, group * depth * plane, plane, part * CHANNELS,
                    min(depth, (part + 1) * CHANNELS), tiles.step, in_starts, in_masks,
                    panel * VECTORS * in_entries, in_entries, runs,
                    min(VECTORS, strips_here - panel * VECTORS), lanes, transformed,
                    panel * XI * v_plane, v_plane,
                )  # fmt: skip
            for first_block in range(0, filter_blocks, slab):
                blocks_here = min(slab, filter_blocks - first_block)
                o_slab = first_block * block
                if first == 0 or slab < filter_blocks:
                    for o_block in prange(blocks_here):
                        transform_filters(
                            weight, group * filters * depth * kernel * kernel, depth, filters,
                            kernel, swapped, o_slab + o_block * block, block, lanes, weights,
                            o_block * u_block, u_plane,
                        )  # fmt: skip
                parts = (blocks_here + BLOCKS - 1) // BLOCKS
                panel_runs = (here + run - 1) // run
                for task in prange(parts * panel_runs):
                    o_block = task % parts * BLOCKS
                    o_first = o_slab + o_block * block
                    o_count = min(filters - o_first, min(blocks_here - o_block, BLOCKS) * block)
                    panel = task // parts * run
                    panel_last = min(here, panel + run)
                    products = np.empty(XI * m_plane, input.dtype)
                    multiply_panels(
                        depth, weights, o_block * u_block, o_count, block, u_plane, transformed,
                        panel, panel_last, strips_here, lanes, v_plane, products, m_row, m_plane,
                    )  # fmt: skip
                    strip = panel * VECTORS
                    write_outputs(
                        products, m_row, m_plane, tiles.step, bias, group * filters + o_first,
                        o_count, out_plane, out_starts, out_masks, strip * out_entries,
                        out_entries, runs, min(strips_here, panel_last * VECTORS) - strip, lanes,
                        output,
                    )  # fmt: skip


@jit
def list_runs(tiles, image, place, lanes, rows, sets, runs, starts, masks, entry):
    """List what a strip reads or writes: for each of `rows` rows, set and register, its runs.

    Set k is what lies k tiles to the right of the strip. A register's numbers lie in one row of
    the image, or in a few: a run of them is read from `starts` as a whole register, of which
    `masks` are its lanes inside the image. `place` is the strip's first tile.
    """
    step = tiles.step
    row_entries = sets * step * runs
    for at in range(entry, entry + rows * row_entries):
        store(starts, at, 0)
        store(masks, at, 0)
    tile_row = place // tiles.columns
    n = tile_row // tiles.rows
    tile_y = tile_row - n * tiles.rows
    in_row = (place - tile_row * tiles.columns) * step  # outputs before this one
    row_length = tiles.columns * step
    left = (tiles.total - place) * step
    for register in range(step):
        lane = 0
        run = 0
        while lane < lanes and left > 0:
            length = min(lanes - lane, row_length - in_row)
            y = tile_y * step - image.padding_h
            for k in range(sets):
                x = in_row + k * step - image.padding_w
                low, high = max(0, -x), min(length, image.width - x)
                if low < high:
                    mask = ((1 << (high - low)) - 1) << (lane + low)
                    start = n * image.size + y * image.width + x - lane
                    at = entry + (k * step + register) * runs + run
                    for row in range(max(0, -y), min(rows, image.height - y)):
                        store(starts, at + row * row_entries, start + row * image.width)
                        store(masks, at + row * row_entries, mask)
            lane += length
            run += 1
            left -= length
            in_row += length
            if in_row == row_length:
                in_row = 0
                tile_y += 1
                if tile_y == tiles.rows:
                    tile_y = 0
                    n += 1


@inline_jit
def load_runs(source, origin, starts, masks, entry, runs):
    """Return the register of one entry; lanes outside the image are zero."""
    value = load_masked(
        source, origin + load(starts, entry), load(masks, entry), zero_vector(source)
    )
    for run in range(entry + 1, entry + runs):
        value = load_masked(source, origin + load(starts, run), load(masks, run), value)
    return value


@inline_jit
def store_runs(value, target, origin, starts, masks, entry, runs):
    """Write the register of one entry; lanes outside the image are left out."""
    for run in range(entry, entry + runs):
        store_masked(target, origin + load(starts, run), load(masks, run), value)


@inline_jit
def split_fours(a, b, c, d):
    """Return each fourth number of a, b, c, d: from the first on, the second, ..."""
    even, odd = split_pairs(a, b)
    more_even, more_odd = split_pairs(c, d)
    first, third = split_pairs(even, more_even)
    second, fourth = split_pairs(odd, more_odd)
    return first, second, third, fourth


@inline_jit
def join_fours(a, b, c, d):
    """Return a0, b0, c0, d0, a1, ... as four registers: what `split_fours` took apart."""
    even, more_even = join_pairs(a, c)
    odd, more_odd = join_pairs(b, d)
    first, second = join_pairs(even, odd)
    third, fourth = join_pairs(more_even, more_odd)
    return first, second, third, fourth


@inline_jit
def load_six(source, at, pitch):
    """Return six registers, `pitch` apart."""
    return (
        load_vector(source, at),
        load_vector(source, at + pitch),
        load_vector(source, at + 2 * pitch),
        load_vector(source, at + 3 * pitch),
        load_vector(source, at + 4 * pitch),
        load_vector(source, at + 5 * pitch),
    )


@inline_jit
def store_six(registers, target, at, pitch):
    """Write six registers, `pitch` apart."""
    a, b, c, d, e, f = registers
    store_vector(target, at, a)
    store_vector(target, at + pitch, b)
    store_vector(target, at + 2 * pitch, c)
    store_vector(target, at + 3 * pitch, d)
    store_vector(target, at + 4 * pitch, e)
    store_vector(target, at + 5 * pitch, f)


@inline_jit
def load_row_4(source, origin, starts, masks, entry, runs):
    """Return the six columns of one row of tiles that are four apart."""
    d0, d1, d2, d3 = split_fours(
        load_runs(source, origin, starts, masks, entry, runs),
        load_runs(source, origin, starts, masks, entry + runs, runs),
        load_runs(source, origin, starts, masks, entry + 2 * runs, runs),
        load_runs(source, origin, starts, masks, entry + 3 * runs, runs),
    )
    d4, d5, _, _ = split_fours(
        load_runs(source, origin, starts, masks, entry + 4 * runs, runs),
        load_runs(source, origin, starts, masks, entry + 5 * runs, runs),
        load_runs(source, origin, starts, masks, entry + 6 * runs, runs),
        load_runs(source, origin, starts, masks, entry + 7 * runs, runs),
    )
    return d0, d1, d2, d3, d4, d5


@inline_jit
def load_row_2(source, origin, starts, masks, entry, runs):
    """Return the six columns of one row of tiles that are two apart."""
    d0, d1 = split_pairs(
        load_runs(source, origin, starts, masks, entry, runs),
        load_runs(source, origin, starts, masks, entry + runs, runs),
    )
    d2, d3 = split_pairs(
        load_runs(source, origin, starts, masks, entry + 2 * runs, runs),
        load_runs(source, origin, starts, masks, entry + 3 * runs, runs),
    )
    d4, d5 = split_pairs(
        load_runs(source, origin, starts, masks, entry + 4 * runs, runs),
        load_runs(source, origin, starts, masks, entry + 5 * runs, runs),
    )
    return d0, d1, d2, d3, d4, d5


@inline_jit
def transform_strip(
    source, origin, ahead, step, starts, masks, entry, runs, lanes, half, target, to, pitch
):  # fmt: skip
    """Write B^T d B of a strip of tiles d, its 36 numbers in planes `pitch` apart.

    `half` is room for 36 registers; the same pixels are asked for from `ahead` on.
    """
    row = (8 if step == 4 else 6) * runs
    for i in range(TILE):
        at = entry + i * row
        for register in range(at, at + step * runs):
            prefetch(source, ahead + load(starts, register))
        prefetch(source, ahead + load(starts, at + row - 1))
        if step == 4:
            columns = load_row_4(source, origin, starts, masks, at, runs)
        else:
            columns = load_row_2(source, origin, starts, masks, at, runs)
        store_six(input_transform(*columns), half, i * TILE * lanes, lanes)
    for j in range(TILE):
        column = input_transform(*load_six(half, j * lanes, TILE * lanes))
        store_six(column, target, to + j * pitch, TILE * pitch)


@jit
def transform_panel(
    input, origin, plane, c_first, c_last, step, starts, masks, entry, entries, runs, strips,
    lanes, target, to, pitch,
):  # fmt: skip
    """Write V of some channels of a panel: `strips` strips, with `entries` entries each."""
    half = np.empty(XI * lanes, input.dtype)
    for c in range(c_first, c_last):
        at = origin + c * plane
        ahead = at + AHEAD * plane
        for s in range(strips):
            first = entry + s * entries
            put = to + (c * strips + s) * lanes
            # A number of runs that is known when it is compiled makes no loop.
            if runs == 1:
                transform_strip(
                    input, at, ahead, step, starts, masks, first, 1, lanes, half, target, put, pitch
                )
            elif runs == 2:
                transform_strip(
                    input, at, ahead, step, starts, masks, first, 2, lanes, half, target, put, pitch
                )
            else:
                transform_strip(
                    input, at, ahead, step, starts, masks, first, runs, lanes, half, target, put,
                    pitch,
                )  # fmt: skip


@jit
def transform_filters(
    weight, origin, depth, filters, kernel, swapped, o_first, block, lanes, target, to, pitch
):  # fmt: skip
    """Write U of a block of filters from `o_first` on; those beyond the last are zero."""
    taps = kernel * kernel
    of_filter, of_channel = (taps, filters * taps) if swapped else (depth * taps, taps)
    rows = (taps + lanes - 1) // lanes * lanes
    gathered = np.zeros(rows * lanes, weight.dtype)
    half = np.empty(TILE * kernel * lanes, weight.dtype)
    turn, way = ((taps - 1) * lanes, -lanes) if swapped else (0, lanes)
    for o in range(0, block, lanes):
        valid = min(lanes, filters - o_first - o)
        for c in range(depth):
            start = origin + (o_first + o) * of_filter + c * of_channel
            if valid == lanes and start + (lanes - 1) * of_filter + rows <= weight.size:
                for tap in range(0, taps, lanes):
                    transpose_block(weight, start + tap, of_filter, gathered, tap * lanes, lanes)
            else:
                for lane in range(valid):
                    for tap in range(taps):
                        number = load(weight, start + lane * of_filter + tap)
                        store(gathered, tap * lanes + lane, number)
            transform_filter(
                kernel, gathered, turn, way, lanes, half, target, to + c * block + o, pitch
            )
        for at in range(gathered.size):
            store(gathered, at, gathered.dtype.type(0))


@inline_jit
def transform_filter(kernel, taps, at, tap_pitch, lanes, half, target, to, pitch):
    """Write G g G^T of a register of filters g, their taps `tap_pitch` apart."""
    if kernel == 3:
        for ky in range(3):
            row = at + 3 * ky * tap_pitch
            six = filter_transform_3(
                load_vector(taps, row),
                load_vector(taps, row + tap_pitch),
                load_vector(taps, row + 2 * tap_pitch),
            )
            store_six(six, half, ky * TILE * lanes, lanes)
        for j in range(TILE):
            column = j * lanes
            six = filter_transform_3(
                load_vector(half, column),
                load_vector(half, column + TILE * lanes),
                load_vector(half, column + 2 * TILE * lanes),
            )
            store_six(six, target, to + j * pitch, TILE * pitch)
    else:
        for ky in range(5):
            row = at + 5 * ky * tap_pitch
            six = filter_transform_5(
                load_vector(taps, row),
                load_vector(taps, row + tap_pitch),
                load_vector(taps, row + 2 * tap_pitch),
                load_vector(taps, row + 3 * tap_pitch),
                load_vector(taps, row + 4 * tap_pitch),
            )
            store_six(six, half, ky * TILE * lanes, lanes)
        for j in range(TILE):
            column = j * lanes
            six = filter_transform_5(
                load_vector(half, column),
                load_vector(half, column + TILE * lanes),
                load_vector(half, column + 2 * TILE * lanes),
                load_vector(half, column + 3 * TILE * lanes),
                load_vector(half, column + 4 * TILE * lanes),
            )
            store_six(six, target, to + j * pitch, TILE * pitch)


@jit
def multiply_panels(
    depth, weights, u_first, filters, block, u_plane, transformed, panel_first, panel_last,
    strips, lanes, v_plane, products, m_row, m_plane,
):  # fmt: skip
    """Write M[xi] = U[xi] V[xi] of some filters and some panels of tiles."""
    for xi in range(XI):
        for panel in range(panel_first, panel_last):
            vectors = min(VECTORS, strips - panel * VECTORS)
            column = (panel - panel_first) * VECTORS * lanes
            for row in range(0, filters, ROWS):
                in_block = row % block
                tile(
                    vectors, depth, weights,
                    xi * u_plane + u_first + (row - in_block) * depth + in_block, 1, block,
                    transformed, (panel * XI + xi) * v_plane,
                    products, xi * m_plane + row * m_row + column, m_row, False, None, 0,
                )  # fmt: skip


@jit
def write_outputs(
    products, m_row, m_plane, step, bias, o_first, o_count, plane, starts, masks, entry, entries,
    runs, strips, lanes, output,
):  # fmt: skip
    """Write A^T M A, and the bias, of `o_count` filters from `o_first` on and `strips` strips."""
    half = np.empty(4 * TILE * lanes, products.dtype)
    for o in range(o_first, o_first + o_count):
        for s in range(strips):
            at = (o - o_first) * m_row + s * lanes
            first = entry + s * entries
            shift = load(bias, o)
            if runs == 1:
                write_strip(
                    products, at, m_plane, step, shift, lanes, half, output, o * plane, starts,
                    masks, first, 1,
                )  # fmt: skip
            elif runs == 2:
                write_strip(
                    products, at, m_plane, step, shift, lanes, half, output, o * plane, starts,
                    masks, first, 2,
                )  # fmt: skip
            else:
                write_strip(
                    products, at, m_plane, step, shift, lanes, half, output, o * plane, starts,
                    masks, first, runs,
                )  # fmt: skip


@inline_jit
def write_strip(
    products, at, pitch, step, shift, lanes, half, output, origin, starts, masks, entry, runs
):  # fmt: skip
    """Write the outputs of one strip of tiles and one filter.

    The bias is added at the point 1, which counts 1 in every output.
    """
    center = at + (TILE + 1) * pitch
    store_vector(products, center, load_vector(products, center) + shift)
    if step == 4:
        for j in range(TILE):
            a, b, c, d = output_transform_4(*load_six(products, at + j * pitch, TILE * pitch))
            store_vector(half, j * lanes, a)
            store_vector(half, (TILE + j) * lanes, b)
            store_vector(half, (2 * TILE + j) * lanes, c)
            store_vector(half, (3 * TILE + j) * lanes, d)
        for i in range(4):
            row = output_transform_4(*load_six(half, i * TILE * lanes, lanes))
            a, b, c, d = join_fours(*row)
            store_runs(a, output, origin, starts, masks, entry, runs)
            store_runs(b, output, origin, starts, masks, entry + runs, runs)
            store_runs(c, output, origin, starts, masks, entry + 2 * runs, runs)
            store_runs(d, output, origin, starts, masks, entry + 3 * runs, runs)
            entry += 4 * runs
    else:
        for j in range(TILE):
            a, b = output_transform_2(*load_six(products, at + j * pitch, TILE * pitch))
            store_vector(half, j * lanes, a)
            store_vector(half, (TILE + j) * lanes, b)
        for i in range(2):
            a, b = join_pairs(*output_transform_2(*load_six(half, i * TILE * lanes, lanes)))
            store_runs(a, output, origin, starts, masks, entry, runs)
            store_runs(b, output, origin, starts, masks, entry + runs, runs)
            entry += 2 * runs
