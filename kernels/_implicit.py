"""Convolution as one product on the register tile, its columns made only as the tile needs them.

    forward   output[place, o]  = sum over k of weight[o, k] * windows[k, place]        + bias[o]
    data      the same product over windows of grad_output, a set of taps for each phase of the
              stride: input pixel (y, x) was read by the taps whose phase is its own
    weight    grad_weight[o, k] = sum over places of grad_output[o, place] * windows[k, place]

`windows` is the matrix of `_windows.py`; k = (c, ky, kx), a place is (n, out_y, out_x).

forward, data: a task owns up to PANELS panels of places, as wide as the tile. For each block of
DEPTH of k it packs the windows' panels (they stay in the second-level cache) and runs all of
the weights past them, eight rows at a time (they stay in the first). Sums over several blocks
are kept beside; the last block's go to the output, with the bias.

weight: the summed index is the place. grad_output is read by rows, as it lies; the windows'
rows become columns by transposing registers. A task owns some of the k and some of the places;
what several tasks made of the same k is added in order, so that no bit depends on the threads.

Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014, section 3.1.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._jit import inline_jit, jit, parallel_jit, prange
from minicnn.kernels._tile import ROWS, VECTORS, multiply_tile_biased, tile
from minicnn.kernels._vector import (
    REGISTER_BITS,
    join_pairs,
    lanes_of,
    load,
    load_masked,
    load_vector,
    store,
    store_masked,
    store_vector,
    transpose_block,
    zero_vector,
)
from minicnn.kernels._windows import empty_aligned, lay_out, pack_panel, pack_places, place_windows

Array = NDArray
Pair = tuple[int, int]

DEPTH = 384  # of k, packed at once: eight rows of weights are 12 KB, a third of the first cache
PANELS = 8  # of places a task: 8 x 48 x 384 floats are 590 KB, for the second-level cache
TASKS = 8  # into how many pieces the work is cut, if it is large enough
PLACES = 192  # of which windows are transposed at once for a weight gradient; a multiple of lanes
PITCH = PLACES + 16  # rows of PLACES begin in different sets of the first cache
SUMS = 1 << 20  # elements of all tasks' private sums for a weight gradient, at most


class Target(NamedTuple):
    """Where the places of a grid are written: (y * step_h + first_y, x * ...) of each plane.

    With steps of 1 the grid covers the planes exactly; else places beyond them are dropped.
    """

    image: int  # elements from one image to the next
    plane: int  # and from one channel to the next
    height: int
    width: int
    step_h: int
    step_w: int
    first_y: int
    first_x: int


def implicit_forward(
    input: Array,
    weight: Array,
    bias: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    output: Array,
) -> None:
    """Write a convolution's output (N, C_out, out_h, out_w)."""
    out_channels, out_h, out_w = output.shape[1:]
    source, grid, offsets = place_windows(
        input, weight.shape[2:], stride, padding, dilation, (out_h, out_w)
    )
    plane = out_h * out_w
    target = Target(out_channels * plane, plane, out_h, out_w, 1, 1, 0, 0)
    rows = out_channels // groups
    taps = _counted(weight[0].size)
    offsets = offsets.reshape(groups, -1)
    for group in range(groups):
        first = group * rows
        packed = pack_weights(weight.reshape(-1), first * taps.size, taps.size, taps, rows)
        shifts = padded_bias(bias[first : first + rows])
        convolve(
            source, grid, offsets[group], packed, shifts, rows, output.reshape(-1), first, target
        )


@lru_cache(maxsize=256)
def _counted(number: int) -> Array:
    """Return 0, 1, ..., number - 1."""
    return np.arange(number)


def padded_bias(bias: Array) -> Array:
    """Return a bias for whole panels of rows, and zeros for one more panel."""
    shifts = np.zeros((-(-bias.size // ROWS) + 1) * ROWS, bias.dtype)
    shifts[: bias.size] = bias
    return shifts


def implicit_backward_data(
    grad_output: Array,
    weight: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    grad_input: Array,
) -> None:
    """Write the gradient (N, C, height, width) of a convolution's input.

    Along an axis, input pixel y = m * stride + phase - padding was read by tap ky at output
    m - (ky * dilation - phase) / stride, for the taps whose `ky * dilation` has that phase.
    """
    channels, height, width = grad_input.shape[1:]
    outputs, rows, *kernel_size = weight.shape
    axes = [
        _Axis(*each)
        for each in zip(kernel_size, stride, padding, dilation, (height, width), strict=True)
    ]
    source, grid, _ = place_windows(
        grad_output,
        (axes[0].reach + 1, axes[1].reach + 1),
        (1, 1),
        (axes[0].reach - axes[0].first, axes[1].reach - axes[1].first),
        (1, 1),
        (axes[0].size, axes[1].size),
    )
    flat = grad_input.reshape(-1)
    nothing = np.zeros((-(-rows // ROWS) + 1) * ROWS, weight.dtype)
    for phase in np.ndindex(*stride):
        first_y, first_x = (axis.place(which) for axis, which in zip(axes, phase, strict=True))
        of_weight, of_source = _data_taps(*axes, phase, outputs // groups, groups, rows)
        if not of_weight.size:  # no window reads these pixels
            grad_input[:, :, first_y % stride[0] :: stride[0], first_x % stride[1] :: stride[1]] = 0
            continue
        plane = height * width
        target = Target(channels * plane, plane, height, width, *stride, first_y, first_x)
        for group in range(groups):
            first = group * outputs // groups * weight[0].size
            packed = pack_weights(weight.reshape(-1), first, weight[0, 0].size, of_weight, rows)
            convolve(
                source, grid, of_source[group], packed, nothing, rows, flat, group * rows, target
            )


class _Axis(NamedTuple):
    """One axis of a convolution whose data gradient is wanted."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    length: int  # of the input

    @property
    def first(self) -> int:
        """Return the m of the first input pixel; they are numbered as in the padded input."""
        return self.padding // self.stride

    @property
    def size(self) -> int:
        """Return how many m there are."""
        return (self.length - 1 + self.padding) // self.stride - self.first + 1

    @property
    def reach(self) -> int:
        """Return how many outputs back the last tap of a window looks."""
        return self.dilation * (self.kernel - 1) // self.stride

    def place(self, phase: int) -> int:
        """Return the input pixel of the first m and a phase; before 0 it is in the padding."""
        return self.first * self.stride + phase - self.padding

    def taps(self, phase: int) -> list[Pair]:
        """Return the taps of a phase, and how far into the window over outputs each looks."""
        found = []
        for tap in range(self.kernel):
            steps, of = divmod(tap * self.dilation, self.stride)
            if of == phase:
                found.append((tap, self.reach - steps))
        return found


@lru_cache(maxsize=1024)
def _data_taps(
    vertical: _Axis, horizontal: _Axis, phase: Pair, outputs: int, groups: int, rows: int
) -> tuple[Array, Array]:
    """Return where the factors of an input pixel of a phase are, k = (o, tap).

    The first of each product's factors, in a group's weights; the second, in the source, for each
    group a row.
    """
    taps_y, taps_x = vertical.taps(phase[0]), horizontal.taps(phase[1])
    taps = [ky * horizontal.kernel + kx for ky, _ in taps_y for kx, _ in taps_x]
    filters = np.arange(outputs) * (rows * vertical.kernel * horizontal.kernel)
    layout = lay_out(
        outputs * groups,
        (vertical.reach + 1, horizontal.reach + 1),
        (1, 1),
        (1, 1),
        (vertical.size, horizontal.size),
    )
    windows = layout.offsets.reshape(groups, outputs, vertical.reach + 1, horizontal.reach + 1)
    read = windows[:, :, [y for _, y in taps_y]][:, :, :, [x for _, x in taps_x]]
    return np.add.outer(filters, taps).reshape(-1).astype(np.int64), read.reshape(groups, -1)


def implicit_backward_weight(
    input: Array,
    grad_output: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    grad_weight: Array,
) -> None:
    """Write the gradient (C_out, C / groups, kernel_h, kernel_w) of a convolution's weight."""
    out_channels, out_h, out_w = grad_output.shape[1:]
    source, grid, offsets = place_windows(
        input, grad_weight.shape[2:], stride, padding, dilation, (out_h, out_w)
    )
    rows, depth = out_channels // groups, grad_weight[0].size
    places = grid.batch * grid.height * grid.width
    if places == 0:
        grad_weight[:] = 0
        return
    lanes = lanes_of(input.dtype)
    most = max(1, min(TASKS, places // PLACES, SUMS // (rows * depth)))
    splits = 1 << (most.bit_length() - 1)  # TASKS or a part of it, so that threads end together
    parts = max(-(-depth // DEPTH), min(TASKS // splits, depth // (VECTORS * lanes)))
    parts = _round(parts, TASKS // splits) if depth >= TASKS * lanes else max(1, parts)
    # Products and transposed elements for a place, either way; a transposed one costs about 20.
    as_rows = _round(rows, ROWS) * _round(depth, lanes) + 20 * depth
    as_columns = _round(depth, ROWS) * _round(rows, lanes) + 20 * rows * parts
    for group, of_source in enumerate(offsets.reshape(groups, -1)):
        sum_windows(
            source, grid, of_source, grad_output.reshape(-1), out_channels, group * rows, rows,
            as_columns < as_rows, splits, parts, grad_weight.reshape(-1),
        )  # fmt: skip


def _round(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def pack_weights(weight: Array, start: int, row: int, offsets: Array, rows: int) -> Array:
    """Pack a matrix (rows, K) whose element (r, k) is weight[start + r * row + offsets[k]]."""
    panels = -(-rows // ROWS)
    packed = np.empty(panels * ROWS * offsets.size, weight.dtype)
    pack_weight_panels(weight, start, row, offsets, rows, packed)
    return packed


@jit
def block_depth(depth):
    """Return the length of blocks that cut `depth` into equal parts of at most DEPTH."""
    blocks = (depth + DEPTH - 1) // DEPTH
    return (depth + blocks - 1) // blocks


@parallel_jit
def pack_weight_panels(weight, start, row, offsets, rows, packed):
    """Write packed[k block][panel of ROWS rows][k][row]; rows beyond the last are zeros."""
    depth = offsets.size
    block = block_depth(depth)
    panels = (rows + ROWS - 1) // ROWS
    in_order = offsets[depth - 1] - offsets[0] == depth - 1
    for panel in prange(panels):
        valid = min(ROWS, rows - panel * ROWS)
        first = start + panel * ROWS * row
        for k_first in range(0, depth, block):
            k_last = min(depth, k_first + block)
            to = (k_first * panels + panel * (k_last - k_first)) * ROWS
            k = k_first
            if in_order and valid == ROWS == 8:
                at = first + offsets[0]
                k = pack_eight_rows(weight, at, row, k_first, k_last, packed, to)
                to += (k - k_first) * ROWS
            for later in range(k, k_last):
                at = first + load(offsets, later)
                if row == 1:
                    for r in range(valid):
                        store(packed, to + r, load(weight, at + r))
                else:
                    for r in range(valid):
                        store(packed, to + r, load(weight, at + r * row))
                for r in range(valid, ROWS):
                    store(packed, to + r, weight.dtype.type(0))
                to += ROWS


@jit
def pack_eight_rows(weight, start, row, k, k_last, packed, to):
    """Interleave eight rows, a register of each at a time; return the first k that is left."""
    lanes = REGISTER_BITS // (8 * weight.itemsize)
    while k + lanes <= k_last:
        evens = interleave(weight, start + k, 2 * row)
        odds = interleave(weight, start + k + row, 2 * row)
        for i in range(4):
            low, high = join_pairs(evens[i], odds[i])
            store_vector(packed, to, low)
            store_vector(packed, to + lanes, high)
            to += 2 * lanes
        k += lanes
    return k


@inline_jit
def interleave(source, start, stride):
    """Return a register of each of four rows as one sequence: k of all rows, then k + 1, ..."""
    first, second = load_vector(source, start), load_vector(source, start + stride)
    third, fourth = load_vector(source, start + 2 * stride), load_vector(source, start + 3 * stride)
    a, b = join_pairs(first, third)
    c, d = join_pairs(second, fourth)
    return *join_pairs(a, c), *join_pairs(b, d)


@parallel_jit
def convolve(source, grid, offsets, packed, bias, rows, output, first_row, target):
    """Write rows [first_row, first_row + rows) of every place of the grid.

    `bias` holds a number for each row, rounded up to whole panels, and ROWS zeros behind them.
    """
    lanes = REGISTER_BITS // (8 * source.itemsize)
    width = VECTORS * lanes
    depth = offsets.size
    block = block_depth(depth)
    area = grid.height * grid.width
    places = grid.batch * area
    all_panels = (places + width - 1) // width
    row_panels = (rows + ROWS - 1) // ROWS
    # A multiple of TASKS, equal but for one panel, so that two or four threads end together. Few
    # panels are a task each, and again for the other half of the rows.
    tasks = (all_panels + PANELS * TASKS - 1) // (PANELS * TASKS) * TASKS
    halves = 1
    if all_panels < TASKS:
        tasks, halves = all_panels, min(2, row_panels)
    pitch = (all_panels + tasks - 1) // tasks * width if tasks else 0
    dense = target.step_h == 1 and target.step_w == 1
    for part in prange(tasks * halves):
        task, half = part // halves, part % halves
        first_panel, last_panel = half * row_panels // halves, (half + 1) * row_panels // halves
        first = task * all_panels // tasks * width
        count = min((task + 1) * all_panels // tasks * width, places) - first
        here = (count + width - 1) // width
        windows = empty_aligned(here * width * block, source)
        # Sums that do not go straight to the output: of all rows, where there are several blocks.
        single = block >= depth
        sums = empty_aligned((1 if single else row_panels) * ROWS * pitch, source)
        starts, masks = np.empty(lanes, np.int64), np.empty(lanes, np.int64)
        for k_first in range(0, depth, block):
            k_last = min(depth, k_first + block)
            for panel in range(here):
                vectors = min(VECTORS, (count - panel * width + lanes - 1) // lanes)
                pack_panel(
                    source, 0, offsets, k_first, k_last, grid, first + panel * width, vectors,
                    lanes, starts, masks, windows, panel * width * block,
                )  # fmt: skip
            for row_panel in range(first_panel, last_panel):
                r = row_panel * ROWS
                valid = min(ROWS, rows - r)
                weights = (k_first * row_panels + row_panel * (k_last - k_first)) * ROWS
                shift = r if k_first == 0 else row_panels * ROWS
                for panel in range(here):
                    place = first + panel * width
                    left = count - panel * width
                    vectors = min(VECTORS, (left + lanes - 1) // lanes)
                    n, rest = place // area, place % area
                    straight = dense and valid == ROWS and left >= width and rest + width <= area
                    if straight:
                        to = n * target.image + (first_row + r) * target.plane + rest
                        tile(
                            VECTORS, k_last - k_first, packed, weights, 1, ROWS, windows,
                            panel * width * block, output, to, target.plane, k_first > 0, bias,
                            shift,
                        )  # fmt: skip
                        continue
                    at = (0 if single else r * pitch) + panel * width
                    multiply_tile_biased(
                        vectors, k_last - k_first, packed, weights, windows,
                        panel * width * block, sums, at, pitch, k_first > 0, bias, shift,
                    )  # fmt: skip
                    if k_last == depth:
                        write_places(
                            sums, at, pitch, place, min(left, width), grid, valid, output,
                            first_row + r, target,
                        )  # fmt: skip


@jit
def write_places(sums, at, pitch, place, count, grid, rows, output, first_row, target):
    """Write `rows` rows of `count` places from `place` on to where they belong."""
    lanes = REGISTER_BITS // (8 * sums.itemsize)
    area = grid.height * grid.width
    dense = target.step_h == 1 and target.step_w == 1
    zero = zero_vector(sums)
    done = 0
    while done < count:
        n = (place + done) // area
        rest = place + done - n * area
        if dense:
            length = min(count - done, area - rest)
            to, first, last = n * target.image + rest, 0, length
        else:
            y, x = rest // grid.width, rest % grid.width
            length = min(count - done, grid.width - x)
            y, x = y * target.step_h + target.first_y, x * target.step_w + target.first_x
            to = n * target.image + y * target.width + x
            first = max(0, (-x + target.step_w - 1) // target.step_w)
            last = min(length, (target.width - 1 - x) // target.step_w + 1)
            if y < 0 or y >= target.height:
                last = 0
        for row in range(rows):
            start = at + row * pitch + done
            end = to + (first_row + row) * target.plane
            if target.step_w > 1:
                for i in range(first, last):
                    store(output, end + i * target.step_w, load(sums, start + i))
                continue
            for i in range(first, last, lanes):
                mask = (1 << min(lanes, last - i)) - 1
                store_masked(output, end + i, mask, load_masked(sums, start + i, mask, zero))
        done += length


@parallel_jit
def sum_windows(
    source, grid, offsets, grad_output, channels, first_row, rows, swapped, splits, parts,
    grad_weight,
):  # fmt: skip
    """Write rows [first_row, first_row + rows) of a weight's gradient.

    A task owns one of `splits` parts of the places and one of `parts` of k. The tile's rows are
    those of grad_output and its columns are the windows', or, if `swapped`, the other way round.
    """
    lanes = REGISTER_BITS // (8 * source.itemsize)
    depth = offsets.size
    area = grid.height * grid.width
    places = grid.batch * area
    unit = ROWS if swapped else lanes
    units = (depth + unit - 1) // unit
    longest = (units + parts - 1) // parts * unit  # of k, in a task
    tile_rows = longest if swapped else (rows + ROWS - 1) // ROWS * ROWS
    pitch = (rows + lanes - 1) // lanes * lanes if swapped else longest
    size = tile_rows * pitch
    sums = empty_aligned(splits * parts * size, source)
    for task in prange(splits * parts):
        split, part = task // parts, task % parts
        k_first, k_last = part * units // parts * unit, (part + 1) * units // parts * unit
        k_last = min(depth, k_last)
        here = k_last - k_first if swapped else rows
        registers = ((rows if swapped else k_last - k_first) + lanes - 1) // lanes
        panels = (registers + VECTORS - 1) // VECTORS
        columns = empty_aligned(PLACES * pitch, source)
        by_row = empty_aligned(tile_rows * PITCH, source)
        by_row[:] = 0
        block = empty_aligned(lanes * PITCH, source)
        block[:] = 0
        starts, masks = np.empty(lanes, np.int64), np.empty(lanes, np.int64)
        begin, end = split * places // splits, (split + 1) * places // splits
        stretch = (end - begin + PLACES - 1) // PLACES
        stretch = (end - begin + stretch - 1) // stretch  # as even as can be
        for place in range(begin, end, stretch):
            count = min(stretch, end - place)
            if swapped:
                copy_windows(
                    source, offsets, k_first, k_last, grid, place, count, lanes, starts, masks,
                    by_row,
                )  # fmt: skip
            else:
                copy_outputs(grad_output, channels, first_row, rows, area, place, count, by_row)
            for panel in range(panels):
                # As even as can be: 2 and 2 registers rather than 3 and 1.
                left, right = panel * registers // panels, (panel + 1) * registers // panels
                to = left * lanes * PLACES
                for register in range(left, right):
                    first = register * lanes
                    if swapped:
                        some = min(lanes, rows - first)
                        copy_outputs(
                            grad_output, channels, first_row + first, some, area, place, count,
                            block,
                        )  # fmt: skip
                    else:
                        first += k_first
                        copy_windows(
                            source, offsets, first, min(k_last, first + lanes), grid, place, count,
                            lanes, starts, masks, block,
                        )  # fmt: skip
                    step = (right - left) * lanes
                    for i in range(0, count, lanes):
                        at = to + (register - left) * lanes + i * step
                        transpose_block(block, i, PITCH, columns, at, step)
                for row in range(0, here, ROWS):
                    at = task * size + row * pitch + left * lanes
                    tile(
                        right - left, count, by_row, row * PITCH, PITCH, 1, columns, to, sums, at,
                        pitch, place > begin, None, 0,
                    )  # fmt: skip
    # Blocks of lanes x lanes; what the splits made is always added in the same order.
    k_blocks = (longest + lanes - 1) // lanes
    for task in prange(parts * k_blocks):
        part = task // k_blocks
        k_start = part * units // parts * unit
        k_end = min(depth, (part + 1) * units // parts * unit)
        k_first = k_start + task % k_blocks * lanes
        block = np.empty(lanes * lanes, source.dtype)
        for row in range(0, rows, lanes):
            across, down = (row, k_first - k_start) if swapped else (k_first - k_start, row)
            for i in range(min(lanes, tile_rows - down)):
                at = part * size + (down + i) * pitch + across
                total = load_vector(sums, at)
                for _ in range(1, splits):
                    at += parts * size
                    total = total + load_vector(sums, at)
                store_vector(block, i * lanes, total)
            to = (first_row + row) * depth + k_first
            if swapped and row + lanes <= rows and k_first + lanes <= k_end:
                transpose_block(block, 0, lanes, grad_weight, to, depth)
                continue
            along_k, along_row = (lanes, 1) if swapped else (1, lanes)
            for r in range(min(lanes, rows - row)):
                for k in range(min(lanes, k_end - k_first)):
                    value = load(block, k * along_k + r * along_row)
                    store(grad_weight, to + r * depth + k, value)


@jit
def copy_outputs(grad_output, channels, first_row, rows, area, place, count, target):
    """Copy `count` places of each row side by side: they may be those of several images."""
    lanes = REGISTER_BITS // (8 * target.itemsize)
    zero = zero_vector(target)
    done = 0
    while done < count:
        n = (place + done) // area
        rest = place + done - n * area
        length = min(count - done, area - rest)
        whole = length // lanes * lanes
        mask = (1 << (length - whole)) - 1
        for row in range(rows):
            start = (n * channels + first_row + row) * area + rest
            to = row * PITCH + done
            for i in range(0, whole, lanes):
                store_vector(target, to + i, load_vector(grad_output, start + i))
            if mask:
                value = load_masked(grad_output, start + whole, mask, zero)
                store_masked(target, to + whole, mask, value)
        done += length


@jit
def copy_windows(source, offsets, first, last, grid, place, count, lanes, starts, masks, target):
    """Copy `count` places of the windows' rows [first, last), PITCH apart."""
    for i in range(0, count, lanes):
        pack_places(
            source, 0, offsets, first, last, grid, place + i, lanes, starts, masks, target, i, PITCH
        )  # fmt: skip
