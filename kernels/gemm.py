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

from minicnn.kernels._dispatch import array_module, contiguous
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import constants, launch
from minicnn.kernels._tile import ROWS, VECTORS, multiply_tile, tile_columns
from minicnn.kernels._vector import REGISTER_BITS, load, store

Array = NDArray


DEPTH = 384  # one panel of A: 8 x 384 floats = 12 KB, a quarter of the first-level cache
TASKS = 8  # into how many pieces the work is cut, if it is large enough
TASK_COLUMNS = 256  # of B, packed at once: 256 x 384 floats = 384 KB, for the second-level cache

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


def gemm(a: Array, b: Array, out: Array | None = None, *, algorithm: str = "tiled") -> Array:
    """Multiply (M, K) by (K, N) into (M, N).

    `out` must be C-contiguous. `algorithm` is a rung: "plain" or "tiled", on CUDA devices also
    "plain_shared".
    """
    xp = array_module("gemm", a)
    c = xp.empty((a.shape[0], b.shape[1]), a.dtype) if out is None else out
    rungs = ("plain", "tiled") if xp is np else ("plain", "plain_shared", "tiled")
    if algorithm not in rungs:
        expected = ", ".join(map(repr, rungs[:-1])) + f" or {rungs[-1]!r}"
        raise ValueError(f"algorithm: got {algorithm!r}, expected {expected}")
    if xp is not np:
        _run_rung(xp, a, b, c, algorithm)
    elif algorithm == "plain":
        gemm_plain_cpu(contiguous(a), contiguous(b), c)
    else:
        a, a_transposed = _storage(a)
        b, b_transposed = _storage(b)
        width = tile_columns(c.dtype)
        splits = _splits(c.shape[1], a.shape[0] if a_transposed else a.shape[1], width)
        gemm_tiled_cpu(a, a_transposed, b, b_transposed, c, splits)
    return c


def matmul(a: Array, b: Array) -> Array:
    """Multiply stacks of matrices (*, M, K) and (*, K, N); the stacks broadcast."""
    xp = array_module("matmul", a)
    if a.dtype != b.dtype or a.dtype.kind != "f":
        return xp.matmul(a, b)
    if a.ndim == b.ndim == 2:
        return gemm(a, b)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    c = xp.empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    left = xp.broadcast_to(a, (*stack, *a.shape[-2:]))
    right = xp.broadcast_to(b, (*stack, *b.shape[-2:]))
    for index in np.ndindex(*stack):
        gemm(left[index], right[index], c[index])
    return c


def _splits(columns: int, depth: int, width: int) -> int:
    """Return into how many parts to cut the depth: several if C is narrow and the sums are long.

    The number follows from the shapes alone, so the bits do not depend on the number of threads.
    """
    narrow = columns <= 4 * width
    return max(1, min(TASKS, depth // (2 * DEPTH))) if narrow else 1


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
    parts = c if splits == 1 else xp.empty((splits, rows, columns), c.dtype)
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
    rows, columns = c.shape
    width = VECTORS * REGISTER_BITS // (8 * c.itemsize)
    depth = a.shape[0] if a_transposed else a.shape[1]
    row_panels = (rows + ROWS - 1) // ROWS
    packed_a = np.empty(row_panels * ROWS * depth, c.dtype)
    for panel in prange(row_panels):
        pack_rows(a, a_transposed, panel * ROWS, row_panels * ROWS, depth, packed_a)

    column_panels = (columns + width - 1) // width
    panels_a_task = max(1, min(TASK_COLUMNS // width, column_panels // TASKS))
    column_tasks = (column_panels + panels_a_task - 1) // panels_a_task
    blocks = (depth + DEPTH - 1) // DEPTH
    partial = np.empty((splits if splits > 1 else 0, rows, columns), c.dtype)
    for task in prange(column_tasks * splits):
        split = task // column_tasks
        first = task % column_tasks * panels_a_task
        last = min(column_panels, first + panels_a_task)
        multiply_block(
            packed_a,
            b,
            b_transposed,
            c if splits == 1 else partial[split],
            width,
            (first, last),
            (split * blocks // splits * DEPTH, min(depth, (split + 1) * blocks // splits * DEPTH)),
        )
    if splits > 1:
        # Always in the same order, so that the sum does not depend on which thread was first.
        for m in prange(rows):
            for n in range(columns):
                total = partial[0, m, n]
                for split in range(1, splits):
                    total += partial[split, m, n]
                c[m, n] = total


@jit
def multiply_block(packed_a, b, b_transposed, c, width, panels, steps):
    """Write the columns of C in panels [first, last) of B, summed over k in [k_first, k_last)."""
    rows, columns = c.shape
    first, last = panels
    k_first, k_last = steps
    if k_first == k_last:
        c[:, first * width : last * width] = 0
    flat = c.reshape(-1)
    padded_rows = (rows + ROWS - 1) // ROWS * ROWS
    packed_b = np.empty((last - first) * width * min(DEPTH, k_last - k_first), c.dtype)
    edge = np.empty(ROWS * width, c.dtype)
    for k_start in range(k_first, k_last, DEPTH):
        count = min(DEPTH, k_last - k_start)
        n_last = min(columns, last * width)
        pack_columns(b, b_transposed, first * width, n_last, k_start, count, width, packed_b)
        for m in range(0, rows, ROWS):
            a_start = k_start * padded_rows + m * count
            for panel in range(first, last):
                n = panel * width
                b_start = (panel - first) * width * count
                # A tile over the edge of C is made beside it and its valid part copied in.
                inside = m + ROWS <= rows and n + width <= columns
                target, start, stride = (
                    (flat, m * columns + n, columns) if inside else (edge, 0, width)
                )
                adding = inside and k_start > k_first
                multiply_tile(
                    VECTORS, count, packed_a, a_start, packed_b, b_start, target, start, stride,
                    adding,
                )  # fmt: skip
                if inside:
                    continue
                for i in range(min(ROWS, rows - m)):
                    for j in range(min(width, columns - n)):
                        place = (m + i) * columns + n + j
                        value = edge[i * width + j]
                        flat[place] = flat[place] + value if k_start > k_first else value


@jit
def pack_rows(a, transposed, m, padded_rows, depth, packed):
    """Copy ROWS rows of A from row `m` on, k block after k block; rows beyond A are zeros."""
    source, stride = a.reshape(-1), a.shape[1]
    rows = a.shape[1] if transposed else a.shape[0]
    valid = min(ROWS, rows - m)
    for k_start in range(0, depth, DEPTH):
        count = min(DEPTH, depth - k_start)
        to = k_start * padded_rows + m * count
        for k in range(count):
            for i in range(valid):
                place = (
                    (k_start + k) * stride + m + i if transposed else (m + i) * stride + k_start + k
                )
                store(packed, to + k * ROWS + i, load(source, place))
            for i in range(valid, ROWS):
                store(packed, to + k * ROWS + i, packed.dtype.type(0))


@jit
def pack_columns(b, transposed, n_first, n_last, k_start, steps, width, packed):
    """Copy columns [n_first, n_last) of B into packed[panel][k][column]; zeros beyond B."""
    source, stride = b.reshape(-1), b.shape[1]
    panels = (n_last - n_first + width - 1) // width
    if transposed:
        # A panel's rows of storage side by side, a cache line of each at a time.
        for panel in range(panels):
            n = n_first + panel * width
            for k_block in range(0, steps, 8):
                for j in range(min(width, n_last - n)):
                    place = (n + j) * stride + k_start
                    for k in range(k_block, min(steps, k_block + 8)):
                        to = (panel * steps + k) * width + j
                        store(packed, to, load(source, place + k))
    else:
        # A row of storage as far as the panels go, then the next: each row is on another page.
        for k in range(steps):
            for panel in range(panels):
                n = n_first + panel * width
                place, to = (k_start + k) * stride + n, (panel * steps + k) * width
                for j in range(min(width, n_last - n)):
                    store(packed, to + j, load(source, place + j))
    valid = n_last - n_first - (panels - 1) * width
    for k in range(steps):
        for j in range(valid, width):
            store(packed, ((panels - 1) * steps + k) * width + j, packed.dtype.type(0))
