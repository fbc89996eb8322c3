"""Packing: copies of matrices in the order in which the register tile reads them.

    rows      packed[panel][k][ROWS]                  what the tile broadcasts, number by number
    columns   packed[panel][k][vectors * lanes]       what it loads, register by register

A panel of columns has up to VECTORS registers; `first_vector` cuts any number of them into panels
that differ by one at most: 4 into 2 + 2, for a tile of one register's width wastes half of its
loads. Beyond the matrix a panel holds zeros.

What lies in memory as the panel wants it is copied a register at a time. What lies across is turned
a block of lanes x lanes at a time, in registers.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels._jit import jit
from minicnn.kernels._tile import ROWS, VECTORS
from minicnn.kernels._vector import (
    REGISTER_BITS,
    load,
    load_masked,
    load_vector,
    prefetch,
    store,
    store_masked,
    store_vector,
    transpose_block,
    zero_vector,
)

AHEAD = 4  # rows: what lies in rows of another page no hardware fetches by itself


@jit
def first_vector(panel, panels, vectors):
    """Return where a panel begins if `panels` share `vectors` registers of columns evenly."""
    return panel * vectors // panels


@jit
def pack_rows(source, stride, transposed, m, valid, depth, packed, to):
    """Copy `valid` rows, at most ROWS, from row `m` on, for all k."""
    for k in range(depth):
        for i in range(valid):
            place = k * stride + m + i if transposed else (m + i) * stride + k
            store(packed, to + k * ROWS + i, load(source, place))
        for i in range(valid, ROWS):
            store(packed, to + k * ROWS + i, packed.dtype.type(0))


@jit
def pack_columns(source, stride, n_first, n_last, k_first, steps, packed):
    """Copy columns [n_first, n_last) for `steps` of k; a row of `source` is a k."""
    lanes = REGISTER_BITS // (8 * packed.itemsize)
    vectors = (n_last - n_first + lanes - 1) // lanes
    whole = (n_last - n_first) // lanes
    panels = (vectors + VECTORS - 1) // VECTORS
    mask = (1 << (n_last - n_first - whole * lanes)) - 1
    for k in range(steps):
        row = (k_first + k) * stride + n_first
        for panel in range(panels):
            first = first_vector(panel, panels, vectors)
            last = first_vector(panel + 1, panels, vectors)
            to = (first * steps + k * (last - first)) * lanes
            for v in range(first, last):
                place = row + v * lanes
                prefetch(source, place + AHEAD * stride)
                if v < whole:
                    numbers = load_vector(source, place)
                else:
                    numbers = load_masked(source, place, mask, zero_vector(packed))
                store_vector(packed, to + (v - first) * lanes, numbers)


@jit
def pack_columns_across(source, stride, n_first, n_last, k_first, steps, packed):
    """Copy columns [n_first, n_last) for `steps` of k; a row of `source` is a column."""
    lanes = REGISTER_BITS // (8 * packed.itemsize)
    vectors = (n_last - n_first + lanes - 1) // lanes
    panels = (vectors + VECTORS - 1) // VECTORS
    for panel in range(panels):
        first = first_vector(panel, panels, vectors)
        width = (first_vector(panel + 1, panels, vectors) - first) * lanes
        for j in range(0, width, lanes):
            n = n_first + first * lanes + j
            for k in range(0, steps, lanes):
                transpose(
                    source, n * stride + k_first + k, stride, n_last - n, steps - k, packed,
                    first * lanes * steps + k * width + j, width, lanes,
                )  # fmt: skip


@jit
def transpose(source, start, stride, rows, columns, target, to, to_stride, width):
    """Turn a block of at most lanes x lanes that begins at `start`; what is over is left.

    `rows` and `columns` say how much there is. Each row that is written is `width` numbers long,
    zeros where the source has no more rows.
    """
    lanes = REGISTER_BITS // (8 * source.itemsize)
    if rows >= lanes and columns >= lanes:
        transpose_block(source, start, stride, target, to, to_stride)
        return
    block = np.empty(lanes * lanes, source.dtype)
    columns = min(columns, lanes)
    for i in range(lanes):
        # A mask of no bits touches no memory.
        mask = (1 << columns) - 1 if i < rows else 0
        numbers = load_masked(source, start + i * stride, mask, zero_vector(source))
        store_vector(block, i * lanes, numbers)
    transpose_block(block, 0, lanes, block, 0, lanes)
    mask = (1 << min(width, lanes)) - 1
    for j in range(columns):
        store_masked(target, to + j * to_stride, mask, load_vector(block, j * lanes))
