"""General matrix multiplication: C[m, n] = sum over k of A[m, k] * B[k, n].

Letters: `m` rows of A and C, `n` columns of B and C, `k` the summed index ("depth"). C is
row-major; A and B may each be a transposed view. 2 M N K flops over M K + K N + M N elements: the
larger the matrices, the more arithmetic each byte carries, which is why convolutions are turned
into one large product.

Rungs, slow to fast, with the idea each adds:
    plain   one iteration owns a row of C and adds to it one row of B after the other; every access
            is contiguous, but each element of C is loaded and stored K times
    tiled   a tile of C lives in registers while k runs, so C is touched once in DEPTH steps;
            A and B are first copied ("packed") into panels in the order in which the tile reads
            them; why the tile has the size it has is told in `_tile.py`
On CUDA devices a rung stands between the two, plain_shared; `gemm.cu` tells what each adds there.

    packed A: [k block][panel of ROWS rows][k][row]        read in order, one panel stays in L1
    packed B: [panel of VECTORS * lanes columns][k][column]     a task's panels stay in L2

A task is a run of B's panels (and, where C is narrow, a part of the depth); tasks share nothing
they write.

Source: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, sections 4
to 6.
"""

from __future__ import annotations

from typing import Any

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


DEPTH = 384  # one panel of A: 8 x 384 floats = 12 KB, a quarter of the first-level cache
TASKS = 8  # into how many pieces the work is cut, if it is large enough
BLOCK = 256 * 384  # numbers of B packed at once: 384 KB of floats, for the second-level cache
TASK_PRODUCTS = 1 << 18
TASK_VECTORS = 6
TASK_ROWS = 256
PANEL_ROWS = 8
PIECE = 64
STRIP = 8

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
    c = xp.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out
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
        gemm_tiled_cpu(a, a_transposed, b, b_transposed, c, _splits(*c.shape, depth))
    return c


def _is_thin(a: Array, b: Array) -> bool:
    """Tell whether so little is to be done with each number that memory is the bound."""
    return min(a.shape[0], b.shape[1]) <= THIN or a.shape[1] <= THIN_DEPTH


def _multiply_thin(a: Array, b: Array, c: Array) -> None:
    """Multiply with whatever is thin copied to rows, and the larger matrix as it lies."""
    if b.shape[1] < a.shape[0] and a.shape[1] > THIN_DEPTH:
        thin, large, target = b.T, a.T, np.empty(c.shape[::-1], c.dtype)
    else:
        thin, large, target = a, b, c
    large, large_transposed = _storage(large)
    if large_transposed:
        multiply_dots(contiguous(thin), large, target)
    else:
        multiply_rows_of_b(contiguous(thin), large, target)
    if target is not c:
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
    pieces = max(1, rows // PIECE) * max(1, columns // PIECE)
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


@parallel_jit
def gemm_tiled_cpu(a, a_transposed, b, b_transposed, c, splits):
    """`splits` is how many parts the depth is cut into."""
    lanes = REGISTER_BITS // (8 * c.itemsize)
    # C^T = B^T A^T, where that leaves the smaller matrix to be packed across.
    swapped = b_transposed and (a_transposed or c.shape[0] < c.shape[1])
    left, right = (b, a) if swapped else (a, b)
    left_transposed = not b_transposed if swapped else a_transposed
    right_transposed = not a_transposed if swapped else b_transposed
    rows, columns = (c.shape[1], c.shape[0]) if swapped else c.shape
    depth = left.shape[0] if left_transposed else left.shape[1]
    tiles, vectors = (rows + ROWS - 1) // ROWS, (columns + lanes - 1) // lanes

    # Rows of A that lie in memory as rows are read there; all others are packed.
    first_packed = 0 if left_transposed else rows // ROWS
    panels = tiles - first_packed
    packed = np.empty(panels * ROWS * depth, c.dtype)
    strips = (panels + STRIP - 1) // STRIP
    if strips == 1:
        pack_strip(left, left_transposed, first_packed, tiles, rows, depth, packed)
    else:
        for strip in prange(strips):
            first = first_packed + strip * STRIP
            pack_strip(
                left,
                left_transposed,
                first,
                min(tiles, first + STRIP),
                rows,
                depth,
                packed[strip * STRIP * ROWS * depth :],
            )

    tasks = max(1, min(TASKS, rows * columns * depth // TASK_PRODUCTS))
    most = max(1, BLOCK // (lanes * max(1, min(depth, DEPTH))))
    column_parts = max((vectors + most - 1) // most, min(tasks, vectors // TASK_VECTORS))
    row_parts = (tasks + column_parts * splits - 1) // (column_parts * splits)
    if swapped:
        row_parts = max(row_parts, rows // TASK_ROWS)
    row_parts = max(1, min(row_parts, tiles // PANEL_ROWS))
    partial = np.empty((splits if splits > 1 else 0, c.shape[0], c.shape[1]), c.dtype)
    parts = row_parts * column_parts
    if parts * splits == 1:
        multiply_part(
            left,
            first_packed,
            packed,
            right,
            right_transposed,
            depth,
            c,
            swapped,
            (0, rows),
            (0, columns),
            (0, depth),
        )
    else:
        blocks = (depth + DEPTH - 1) // DEPTH
        for task in prange(parts * splits):
            split, part = task // parts, task % parts
            row_part, column_part = part // column_parts, part % column_parts
            multiply_part(
                left,
                first_packed,
                packed,
                right,
                right_transposed,
                depth,
                c if splits == 1 else partial[split],
                swapped,
                (
                    row_part * tiles // row_parts * ROWS,
                    min(rows, (row_part + 1) * tiles // row_parts * ROWS),
                ),
                (
                    column_part * vectors // column_parts * lanes,
                    min(columns, (column_part + 1) * vectors // column_parts * lanes),
                ),
                (
                    split * blocks // splits * DEPTH,
                    min(depth, (split + 1) * blocks // splits * DEPTH),
                ),
            )
    if splits > 1:
        # Always in the same order, so that the sum does not depend on which thread was first.
        for m in prange(c.shape[0]):
            for n in range(c.shape[1]):
                total = partial[0, m, n]
                for split in range(1, splits):
                    total += partial[split, m, n]
                c[m, n] = total


@jit
def pack_strip(left, transposed, first, last, rows, depth, packed):
    source = left.reshape(-1)
    for panel in range(first, last):
        m = panel * ROWS
        pack_rows(
            source,
            left.shape[1],
            transposed,
            m,
            min(ROWS, rows - m),
            depth,
            packed,
            (panel - first) * ROWS * depth,
        )


@jit
def multiply_part(
    left,
    first_packed,
    packed,
    right,
    right_transposed,
    depth,
    c,
    swapped,
    row_range,
    column_range,
    steps,
):
    """Write rows [m_first, m_last) and columns [n_first, n_last) of left @ right to C or C^T."""
    m_first, m_last = row_range
    n_first, n_last = column_range
    k_first, k_last = steps
    lanes = REGISTER_BITS // (8 * c.itemsize)
    vectors = (n_last - n_first + lanes - 1) // lanes
    panels = (vectors + VECTORS - 1) // VECTORS
    source, across, flat, columns = left.reshape(-1), right.reshape(-1), c.reshape(-1), c.shape[1]
    if k_first == k_last:
        if swapped:
            c[n_first:n_last, m_first:m_last] = 0
        else:
            c[m_first:m_last, n_first:n_last] = 0
    packed_right = np.empty(vectors * lanes * min(DEPTH, k_last - k_first), c.dtype)
    # What cannot be written to C in whole tiles goes there from a block beside it.
    pitch = vectors * lanes
    block = np.empty(
        (m_last - m_first + ROWS - 1) // ROWS * ROWS * pitch if swapped else ROWS * VECTORS * lanes,
        c.dtype,
    )
    for k in range(k_first, k_last, DEPTH):
        count = min(DEPTH, k_last - k)
        adding = k > k_first
        if right_transposed:
            pack_columns_across(across, right.shape[1], n_first, n_last, k, count, packed_right)
        else:
            pack_columns(across, right.shape[1], n_first, n_last, k, count, packed_right)
        for m in range(m_first, m_last, ROWS):
            panel = m // ROWS
            for p in range(panels):
                first = first_vector(p, panels, vectors)
                wide = first_vector(p + 1, panels, vectors) - first
                n = n_first + first * lanes
                inside = m + ROWS <= m_last and n + wide * lanes <= n_last
                if swapped:
                    target, to, stride = block, (m - m_first) * pitch + first * lanes, pitch
                elif inside:
                    target, to, stride = flat, m * columns + n, columns
                else:
                    target, to, stride = block, 0, wide * lanes
                sum_up = adding and (swapped or inside)
                b_start = first * lanes * count
                if panel >= first_packed:
                    a_start = ((panel - first_packed) * depth + k) * ROWS
                    multiply_tile(
                        wide,
                        count,
                        packed,
                        a_start,
                        packed_right,
                        b_start,
                        target,
                        to,
                        stride,
                        sum_up,
                    )
                else:
                    multiply_rows(
                        wide,
                        count,
                        source,
                        m * depth + k,
                        depth,
                        packed_right,
                        b_start,
                        target,
                        to,
                        stride,
                        sum_up,
                    )
                if not swapped and not inside:
                    for i in range(min(ROWS, m_last - m)):
                        for j in range(0, min(wide * lanes, n_last - n), lanes):
                            mask = (1 << min(lanes, n_last - n - j)) - 1
                            place = (m + i) * columns + n + j
                            value = load_vector(block, i * stride + j)
                            if adding:
                                value = value + load_masked(flat, place, mask, value)
                            store_masked(flat, place, mask, value)
    if swapped and k_last > k_first:
        for n in range(n_first, n_last, lanes):
            for m in range(m_first, m_last, lanes):
                transpose(
                    block,
                    (m - m_first) * pitch + n - n_first,
                    pitch,
                    m_last - m,
                    n_last - n,
                    flat,
                    n * columns + m,
                    columns,
                    m_last - m,
                )
