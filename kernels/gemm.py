"""General matrix multiplication: C[m, n] = sum over k of A[m, k] * B[k, n].

Letters: `m` rows of A and C, `n` columns of B and C, `k` the summed index ("depth"). C is
row-major; A and B may each be a transposed view. 2 M N K flops over M K + K N + M N elements: the
larger the matrices, the more arithmetic each byte carries, which is why convolutions are turned
into one large product.

Rungs, with the idea each adds:
    plain   one iteration owns a row of C and adds to it one row of B after the other; every access
            is contiguous, but each element of C is loaded and stored K times
    tiled   a tile of C lives in registers while k runs, so C is touched once in DEPTH steps; why
            the tile has the size it has is told in `_tile.py`. What the tile cannot read well as it
            lies is first copied ("packed") in the order in which it is read: `_panels.py`
    thin    where M, N or K is small there is nothing to keep in registers, and memory is what takes
            time: the large matrix is read once, as it lies, in long runs: `_thin.py`
By default thin matrices take the last, all others the tile. On CUDA devices a rung stands between
plain and tiled, plain_shared, and there is no thin; `gemm.cu` tells what each adds there.

The tile broadcasts single numbers of A and loads registers of B:

    B   packed for DEPTH steps of k at a time, [panel][k][column]; the second-level cache holds it
        while all tiles of a task run past it
    A   a row that lies in memory as a row is read there, eight streams side by side: a weight of
        151 MB is read once and copied never. A that lies across is packed, [panel][k][row]
    C   C^T = B^T A^T. The roles can be exchanged, and are where B lies across and is the larger
        one: x @ W.T with a small batch streams through W's rows and packs x. Sums of C^T are kept
        beside, and turned when they are complete

A task owns some rows and some columns of C and, where C is small, a part of the depth. Tasks follow
from the shapes alone and share nothing they write, so the bits do not depend on the threads.

Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, sections 4
to 6.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import constants, launch
from minicnn.kernels._panels import (
    first_vector,
    pack_columns,
    pack_columns_across,
    pack_rows,
    transpose,
)
from minicnn.kernels._thin import THIN, THIN_DEPTH, multiply_dots, multiply_rows_of_b
from minicnn.kernels._tile import ROWS, VECTORS, multiply_rows, multiply_tile
from minicnn.kernels._vector import REGISTER_BITS, load_masked, load_vector, store_masked

Array = NDArray


DEPTH = 384  # eight rows of A are 12 KB of floats, a quarter of the first-level cache
PACKED = 256 * DEPTH  # numbers of B at a time: 384 KB of floats, for the second-level cache
TASKS = 8  # into how many pieces the work is cut, if it is large enough
TASK_PRODUCTS = 1 << 18  # fewer multiply-adds are not worth a task
TASK_ROWS = 64  # a task packs its own B; with fewer rows of A that would take too long
SWAPPED_ROWS = 256  # of C^T, at most: a task's sums stay in the second-level cache
STRIP = 8  # panels of A packed at a time: eight by eight columns are four cache lines

BLOCKS = 128  # about as many as a large GPU has multiprocessors
BLOCK_DEPTH = 256  # a shorter part of the depth is not worth a block of its own


def gemm_reference(a: Array, b: Array) -> Array:
    """Define the product by three loops, in float64."""
    rows, depth = a.shape
    c = np.zeros((rows, b.shape[1]))
    for m, n in np.ndindex(*c.shape):
        for k in range(depth):
            c[m, n] += float(a[m, k]) * float(b[k, n])
    return c


def gemm(a: Array, b: Array, out: Array | None = None, *, algorithm: str | None = None) -> Array:
    """Multiply (M, K) by (K, N) into (M, N).

    `out` must be C-contiguous. `algorithm` is a rung: "plain", "tiled" or "thin", on CUDA devices
    "plain", "plain_shared" or "tiled". By default it is the fastest one for the shapes.
    """
    xp = array_module("gemm", a)
    c = empty(xp, (a.shape[0], b.shape[1]), a.dtype) if out is None else out
    rungs = ("plain", "tiled", "thin") if xp is np else ("plain", "plain_shared", "tiled")
    if algorithm is not None and algorithm not in rungs:
        expected = ", ".join(map(repr, rungs[:-1])) + f" or {rungs[-1]!r}"
        raise ValueError(f"algorithm: got {algorithm!r}, expected {expected}")
    if xp is not np:
        _run_rung(xp, a, b, c, algorithm or "tiled")
    elif algorithm == "plain":
        gemm_plain_cpu(contiguous(a), contiguous(b), c)
    elif algorithm == "thin" or (algorithm is None and _is_thin(a, b)):
        _multiply_thin(a, b, c)
    else:
        a, a_transposed = _storage(a)
        b, b_transposed = _storage(b)
        depth = a.shape[0] if a_transposed else a.shape[1]
        gemm_tiled_cpu(a, a_transposed, b, b_transposed, c, _splits(c.shape[0], c.shape[1], depth))
    return c


def _is_thin(a: Array, b: Array) -> bool:
    """Tell whether so little is to be done with each number that memory is the bound."""
    return min(a.shape[0], b.shape[1]) <= THIN or a.shape[1] <= THIN_DEPTH


def _multiply_thin(a: Array, b: Array, c: Array) -> None:
    """Multiply with what is thin copied to rows, and the large matrix as it lies."""
    if a.shape[1] <= THIN_DEPTH:
        multiply_rows_of_b(contiguous(a), contiguous(b), c)
        return
    turned = b.shape[1] < a.shape[0]
    thin, large = (b.T, a.T) if turned else (a, b)
    target = np.empty(c.shape[::-1], c.dtype) if turned else c
    large, large_transposed = _storage(large)
    multiply = multiply_dots if large_transposed else multiply_rows_of_b
    multiply(contiguous(thin), large, target)
    if turned:
        c[...] = target.T


def matmul(a: Array, b: Array) -> Array:
    """Multiply stacks of matrices (*, M, K) and (*, K, N); the stacks broadcast."""
    xp = array_module("matmul", a)
    if a.dtype != b.dtype or a.dtype.kind != "f":
        return xp.matmul(a, b)
    if a.ndim == b.ndim == 2:
        return gemm(a, b)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = empty(xp, (*stack, a.shape[-2], b.shape[-1]), a.dtype)
    left = xp.broadcast_to(a, (*stack, *a.shape[-2:]))
    right = xp.broadcast_to(b, (*stack, *b.shape[-2:]))
    for index in np.ndindex(*stack):
        gemm(left[index], right[index], c[index])
    return c


def _splits(rows: int, columns: int, depth: int) -> int:
    """Return into how many parts to cut the depth: several if C is small and the sums are long.

    The number follows from the shapes alone, so the bits do not depend on the number of threads.
    """
    pieces = max(1, rows // TASK_ROWS) * max(1, columns // TASK_ROWS)
    return max(1, min(TASKS // pieces, depth // (2 * DEPTH)))


def _storage(matrix: Array) -> tuple[Array, bool]:
    """Return the row-major array behind a matrix, and whether the matrix is its transpose."""
    if matrix.flags.c_contiguous:
        return matrix, False
    if matrix.T.flags.c_contiguous:
        return matrix.T, True
    return contiguous(matrix), False


def _run_rung(xp: Any, a: Array, b: Array, c: Array, algorithm: str) -> None:
    """Run a rung on the device that holds the arrays."""
    rows, columns = c.shape
    depth = a.shape[1]
    if algorithm == "plain":
        launch("gemm", "gemm_plain_cuda", c.size, contiguous(a), contiguous(b), columns, depth, c)
        return
    if algorithm == "plain_shared":
        side = constants("gemm")["SHARED_SIDE"]
        tiles = -(-rows // side) * -(-columns // side)
        arguments = contiguous(a), contiguous(b), rows, columns, depth, c
        launch("gemm", "gemm_plain_shared_cuda", tiles, *arguments, per_block=1)
        return
    a, a_transposed = _storage(a)
    b, b_transposed = _storage(b)
    thread_rows, tiles = tiles_for(rows, columns, c.dtype)
    splits = splits_for(tiles, depth)
    parts = c if splits == 1 else empty(xp, (splits, rows, columns), c.dtype)
    wide = min(pack_width(matrix, matrix.shape[-1]) for matrix in (a, b, parts))
    launch(
        "gemm", "gemm_tiled_cuda", tiles * splits, a, b, rows, columns, depth, parts, splits,
        per_block=1,
        template=(thread_rows, wide, int(a_transposed), int(b_transposed)),
    )  # fmt: skip
    add_parts(parts, c)


def tiles_for(rows: int, columns: int, dtype: np.dtype) -> tuple[int, int]:
    """Return how many rows of a tile a CUDA thread takes, and how many tiles cover C.

    As few as cover `rows`, at most 8; 4 of doubles, which take two registers each.
    """
    sizes = constants("gemm")
    side, across = sizes["SIDE"], -(-columns // sizes["TILE_COLUMNS"])
    most = 32 // dtype.itemsize
    thread_rows = next((n for n in (1, 2, 4) if side * n >= rows), most)
    thread_rows = min(thread_rows, most)
    return thread_rows, -(-rows // (side * thread_rows)) * across


def splits_for(tiles: int, depth: int) -> int:
    """Return into how many parts to cut the depth, so that there are blocks for a whole GPU."""
    return max(1, min(BLOCKS // max(tiles, 1), depth // BLOCK_DEPTH))


def pack_width(array: Any, row: int) -> int:
    """Return how many neighbours in rows of length `row` a CUDA thread may move at once.

    16 bytes' worth if each such pack lies in one row and at a multiple of 16 bytes, else 1.
    """
    count = 16 // array.itemsize
    return count if row % count == 0 and array.data.ptr % 16 == 0 else 1


def add_parts(parts: Array, c: Array) -> None:
    """Add the parts (splits, ...) that CUDA blocks made of C, unless C itself is the one part."""
    if parts is not c:
        launch("gemm", "gemm_tiled_sum_cuda", c.size, parts, parts.shape[0], c)


@parallel_jit
def gemm_plain_cpu(a, b, c):
    rows, depth = a.shape
    columns = b.shape[1]
    for m in prange(rows):
        for n in range(columns):
            c[m, n] = 0
        for k in range(depth):
            a_mk = a[m, k]
            for n in range(columns):
                c[m, n] += a_mk * b[k, n]


class Rows(NamedTuple):
    """The matrix whose numbers the tile broadcasts."""

    array: Array  # flat, row-major; meant where tiles are read as they lie
    packed: Array  # panels of ROWS rows
    first_packed: int  # the first tile that is read from a panel
    depth: int


@parallel_jit
def gemm_tiled_cpu(a, a_transposed, b, b_transposed, c, splits):
    """`splits` is how many parts the depth is cut into."""
    lanes = REGISTER_BITS // (8 * c.itemsize)
    swapped = b_transposed and (a_transposed or c.shape[0] < c.shape[1])
    left, right = (b, a) if swapped else (a, b)
    left_across = not b_transposed if swapped else a_transposed
    right_across = not a_transposed if swapped else b_transposed
    rows, columns = (c.shape[1], c.shape[0]) if swapped else c.shape
    depth = left.shape[0] if left_across else left.shape[1]
    tiles, vectors = (rows + ROWS - 1) // ROWS, (columns + lanes - 1) // lanes

    first_packed = 0 if left_across else rows // ROWS  # the rest of a tile is packed, with zeros
    packed = np.empty((tiles - first_packed) * ROWS * depth, c.dtype)
    operand = Rows(left.reshape(-1), packed, first_packed, depth)
    strips = (tiles - first_packed + STRIP - 1) // STRIP
    if strips == 1:
        pack_strip(operand, left.shape[1], left_across, first_packed, tiles, rows)
    else:
        for strip in prange(strips):
            first = first_packed + strip * STRIP
            last = min(tiles, first + STRIP)
            pack_strip(operand, left.shape[1], left_across, first, last, rows)

    row_parts, column_parts = share(rows, columns, depth, splits, swapped, lanes)
    parts = row_parts * column_parts
    blocks = (depth + DEPTH - 1) // DEPTH
    partial = np.empty((splits if splits > 1 else 0, c.shape[0], c.shape[1]), c.dtype)
    if parts * splits == 1:  # no thread needs to be woken
        multiply_part(operand, right, right_across, c, swapped, (0, rows), (0, columns), (0, depth))
    else:
        for task in prange(parts * splits):
            split, row, column = task // parts, task % parts // column_parts, task % column_parts
            multiply_part(
                operand, right, right_across, c if splits == 1 else partial[split], swapped,
                part_of(row, row_parts, tiles, ROWS, rows),
                part_of(column, column_parts, vectors, lanes, columns),
                part_of(split, splits, blocks, DEPTH, depth),
            )  # fmt: skip
    if splits > 1:
        # Always in the same order, so that the sum does not depend on which thread was first.
        for m in prange(c.shape[0]):
            for n in range(c.shape[1]):
                total = partial[0, m, n]
                for split in range(1, splits):
                    total += partial[split, m, n]
                c[m, n] = total


@jit
def share(rows, columns, depth, splits, swapped, lanes):
    """Return into how many parts to cut the rows and the columns."""
    tasks = max(1, min(TASKS, rows * columns * depth // TASK_PRODUCTS))
    vectors = (columns + lanes - 1) // lanes
    most = max(1, PACKED // (lanes * max(1, min(depth, DEPTH))))
    # At least two panels of columns share what a tile reads of A.
    column_parts = max((vectors + most - 1) // most, min(tasks, vectors // (2 * VECTORS)), 1)
    row_parts = (tasks + column_parts * splits - 1) // (column_parts * splits)
    if swapped:
        row_parts = max(row_parts, rows // SWAPPED_ROWS)
    return max(1, min(row_parts, rows // TASK_ROWS)), column_parts


@jit
def part_of(part, parts, pieces, size, end):
    """Return where a part begins and ends if `parts` share pieces of a size evenly."""
    return part * pieces // parts * size, min(end, (part + 1) * pieces // parts * size)


@jit
def pack_strip(operand, stride, across, first, last, rows):
    """Pack tiles [first, last) of rows."""
    for tile in range(first, last):
        to = (tile - operand.first_packed) * ROWS * operand.depth
        valid = min(ROWS, rows - tile * ROWS)
        pack_rows(
            operand.array, stride, across, tile * ROWS, valid, operand.depth, operand.packed, to
        )


@jit
def multiply_part(operand, right, across, c, swapped, row_range, column_range, steps):
    """Write a part of left @ right to C, or to C^T if the roles are exchanged."""
    (m_first, m_last), (n_first, n_last), (k_first, k_last) = row_range, column_range, steps
    array, packed, first_packed, depth = operand
    lanes = REGISTER_BITS // (8 * c.itemsize)
    vectors = (n_last - n_first + lanes - 1) // lanes
    panels = (vectors + VECTORS - 1) // VECTORS
    flat, columns, columns_stride = c.reshape(-1), c.shape[1], right.shape[1]
    right_flat = right.reshape(-1)
    # Sums of C^T, or else of a tile over the edge of C: what is valid is copied from here.
    pitch = vectors * lanes if swapped else VECTORS * lanes
    aside = (m_last - m_first + ROWS - 1) // ROWS * ROWS if swapped else ROWS
    beside = np.empty(aside * pitch, c.dtype)
    if k_first == k_last:
        beside[:] = 0
        if not swapped:
            c[m_first:m_last, n_first:n_last] = 0
    packed_right = np.empty(vectors * lanes * min(DEPTH, k_last - k_first), c.dtype)
    for k in range(k_first, k_last, DEPTH):
        count = min(DEPTH, k_last - k)
        adding = k > k_first
        if across:
            pack_columns_across(right_flat, columns_stride, n_first, n_last, k, count, packed_right)
        else:
            pack_columns(right_flat, columns_stride, n_first, n_last, k, count, packed_right)
        for m in range(m_first, m_last, ROWS):
            panel = m // ROWS - first_packed
            for p in range(panels):
                first = first_vector(p, panels, vectors)
                wide = first_vector(p + 1, panels, vectors) - first
                n = n_first + first * lanes
                inside = m + ROWS <= m_last and n + wide * lanes <= n_last
                if swapped:
                    target, to, stride = beside, (m - m_first) * pitch + n - n_first, pitch
                elif inside:
                    target, to, stride = flat, m * columns + n, columns
                else:
                    target, to, stride = beside, 0, pitch
                sum_up = adding and (swapped or inside)
                b_start = first * lanes * count
                if panel >= 0:
                    multiply_tile(
                        wide, count, packed, (panel * depth + k) * ROWS, packed_right, b_start,
                        target, to, stride, sum_up,
                    )  # fmt: skip
                else:
                    multiply_rows(
                        wide, count, array, m * depth + k, depth, packed_right, b_start,
                        target, to, stride, sum_up,
                    )  # fmt: skip
                if not (swapped or inside):
                    size = min(ROWS, m_last - m), min(wide * lanes, n_last - n)
                    copy_tile(beside, pitch, size, flat, m * columns + n, columns, adding)
    if swapped:
        for n in range(n_first, n_last, lanes):
            for m in range(m_first, m_last, lanes):
                there = m_last - m
                transpose(
                    beside, (m - m_first) * pitch + n - n_first, pitch, there, n_last - n,
                    flat, n * columns + m, columns, there,
                )  # fmt: skip


@jit
def copy_tile(source, pitch, size, c, start, columns, adding):
    """Copy the part of a tile that lies in C, or add it."""
    lanes = REGISTER_BITS // (8 * c.itemsize)
    rows, width = size
    for i in range(rows):
        for j in range(0, width, lanes):
            mask = (1 << min(lanes, width - j)) - 1
            numbers, place = load_vector(source, i * pitch + j), start + i * columns + j
            if adding:
                numbers = numbers + load_masked(c, place, mask, numbers)
            store_masked(c, place, mask, numbers)
