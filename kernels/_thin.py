"""Products with a thin matrix: what bounds them is memory, not arithmetic.

A row times a matrix uses each number of the matrix once. There is nothing to keep for a second use,
so nothing is packed: the large matrix is read once, as it lies, in runs as long as its rows, which
is what lets memory deliver at full speed. With a few rows, all uses of a number follow upon each
other while it is in a register. Two ways, for the two ways in which the large matrix can lie:

    dots   C[m, n] = A[m] . B[n]        rows of B run along k: four of them meet four rows of A, in
                                        16 registers of sums, whose lanes are added at the end
    rows   C[m]   += A[m, k] * B[k]     rows of B run along n: eight of them wait in registers while
                                        every row of C takes its multiples of them

`rows` serves a thin depth as well: A's column times B's row, where writing C is what takes time.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels._jit import inline_jit, jit, parallel_jit, prange
from minicnn.kernels._vector import (
    REGISTER_BITS,
    load,
    load_masked,
    load_vector,
    store,
    store_masked,
    sum_lanes,
    zero_vector,
)

THIN = 8  # rows of A; with more, the register tile is faster
THIN_DEPTH = 4  # rows of B, likewise
TASKS = 8  # into how many pieces the work is cut, if it is large enough
TASK_PRODUCTS = 1 << 17  # fewer are done before another thread has started


@parallel_jit
def multiply_dots(a, b, c):
    """Write C (M, N) from rows of A (M, K) and rows of B (N, K)."""
    columns = b.shape[0]
    tasks = max(1, min(TASKS, a.size * columns // TASK_PRODUCTS))
    if tasks == 1:
        dot_rows(a, b, 0, columns, c)
    else:
        for task in prange(tasks):
            dot_rows(a, b, task * columns // tasks, (task + 1) * columns // tasks, c)


@jit
def dot_rows(a, b, first, last, c):
    """Write columns [first, last) of C."""
    rows, depth = a.shape
    columns = c.shape[1]
    a, b, c = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    if rows == 1:
        for n in range(first, last, 8):
            near, far = four_places(n, last), four_places(n + 4, last)
            dot_one(a, b, four_starts(near, depth), four_starts(far, depth), depth, c, near, far)
        return
    for n in range(first, last, 4):
        for m in range(0, rows, 4):
            of_a, of_b = four_places(m, rows), four_places(n, last)
            dot_four(
                a, four_starts(of_a, depth), b, four_starts(of_b, depth), depth,
                c, four_starts(of_a, columns), of_b,
            )  # fmt: skip


@inline_jit
def four_places(i, end):
    """Return i to i + 3; the last before `end` stands for those that are not there."""
    end -= 1
    return min(i, end), min(i + 1, end), min(i + 2, end), min(i + 3, end)


@inline_jit
def four_starts(places, stride):
    return places[0] * stride, places[1] * stride, places[2] * stride, places[3] * stride


@inline_jit
def load_four(b, starts, k, mask):
    """Return a register from each of four rows; the lanes that the mask leaves out are zero."""
    none = zero_vector(b)
    return (
        load_masked(b, starts[0] + k, mask, none),
        load_masked(b, starts[1] + k, mask, none),
        load_masked(b, starts[2] + k, mask, none),
        load_masked(b, starts[3] + k, mask, none),
    )


@inline_jit
def add_products(sums, x, y):
    """Return sums[i] + x * y[i] for four i."""
    return sums[0] + x * y[0], sums[1] + x * y[1], sums[2] + x * y[2], sums[3] + x * y[3]


@inline_jit
def write_sums(c, row, places, sums):
    """Write to four places of a row of C the sums of the lanes of four registers."""
    store(c, row + places[0], sum_lanes(sums[0]))
    store(c, row + places[1], sum_lanes(sums[1]))
    store(c, row + places[2], sum_lanes(sums[2]))
    store(c, row + places[3], sum_lanes(sums[3]))


@jit
def dot_one(a, b, near, far, depth, c, near_places, far_places):
    """Write the dot products of a row with eight rows."""
    lanes = REGISTER_BITS // (8 * a.itemsize)
    none, every = zero_vector(a), (1 << lanes) - 1
    sums = more = (none, none, none, none)
    whole = depth // lanes * lanes
    for k in range(0, whole, lanes):
        x = load_vector(a, k)
        sums = add_products(sums, x, load_four(b, near, k, every))
        more = add_products(more, x, load_four(b, far, k, every))
    if whole < depth:
        mask = (1 << (depth - whole)) - 1
        x = load_masked(a, whole, mask, none)
        sums = add_products(sums, x, load_four(b, near, whole, mask))
        more = add_products(more, x, load_four(b, far, whole, mask))
    write_sums(c, 0, near_places, sums)
    write_sums(c, 0, far_places, more)


@jit
def dot_four(a, a_starts, b, b_starts, depth, c, c_starts, places):
    """Write the dot products of four rows of A with four rows of B."""
    lanes = REGISTER_BITS // (8 * a.itemsize)
    none, every = zero_vector(a), (1 << lanes) - 1
    s0 = s1 = s2 = s3 = (none, none, none, none)
    whole = depth // lanes * lanes
    for k in range(0, whole, lanes):
        x, y = load_four(a, a_starts, k, every), load_four(b, b_starts, k, every)
        s0, s1 = add_products(s0, x[0], y), add_products(s1, x[1], y)
        s2, s3 = add_products(s2, x[2], y), add_products(s3, x[3], y)
    if whole < depth:
        mask = (1 << (depth - whole)) - 1
        x, y = load_four(a, a_starts, whole, mask), load_four(b, b_starts, whole, mask)
        s0, s1 = add_products(s0, x[0], y), add_products(s1, x[1], y)
        s2, s3 = add_products(s2, x[2], y), add_products(s3, x[3], y)
    write_sums(c, c_starts[0], places, s0)
    write_sums(c, c_starts[1], places, s1)
    write_sums(c, c_starts[2], places, s2)
    write_sums(c, c_starts[3], places, s3)


@parallel_jit
def multiply_rows_of_b(a, b, c):
    """Write C (M, N) from A (M, K) and rows of B (K, N).

    Tasks share out the rows of C where there are many, else the depth; then each has its own sums.
    """
    rows, columns = c.shape
    depth = b.shape[0]
    tasks = max(1, min(TASKS, c.size * depth // TASK_PRODUCTS))
    flat = c.reshape(-1)
    if tasks == 1:
        add_rows(a, b, (0, rows), (0, depth), flat)
    elif depth <= THIN_DEPTH:
        for task in prange(tasks):
            some = task * rows // tasks, (task + 1) * rows // tasks
            add_rows(a, b, some, (0, depth), flat)
    else:
        sums = np.empty(tasks * c.size, c.dtype)
        for task in prange(tasks):
            some = task * depth // tasks, (task + 1) * depth // tasks
            add_rows(a, b, (0, rows), some, sums[task * c.size :])
        # Always in the same order, so that the sum does not depend on which thread was first.
        for i in range(c.size):
            total = sums[i]
            for task in range(1, tasks):
                total += sums[task * c.size + i]
            flat[i] = total


@jit
def add_rows(a, b, row_range, steps, c):
    """Write rows [m_first, m_last) of C, summed over k in [k_first, k_last)."""
    (m_first, m_last), (k_first, k_last) = row_range, steps
    depth, columns = b.shape
    lanes = REGISTER_BITS // (8 * c.itemsize)
    a, b = a.reshape(-1), b.reshape(-1)
    if k_first == k_last:
        c[m_first * columns : m_last * columns] = 0
    k = k_first
    while k + 8 <= k_last:
        for n in range(0, columns, lanes):
            mask = (1 << min(lanes, columns - n)) - 1
            add_eight(a, m_first, m_last, depth, b, k, n, mask, c, columns, k > k_first)
        k += 8
    while k < k_last:
        count = min(THIN_DEPTH, k_last - k)
        for m in range(m_first, m_last):
            for n in range(0, columns, lanes):
                mask = (1 << min(lanes, columns - n)) - 1
                none = zero_vector(c)
                total = load_masked(c, m * columns + n, mask, none) if k > k_first else none
                for i in range(count):
                    row = load_masked(b, (k + i) * columns + n, mask, none)
                    total = total + load(a, m * depth + k + i) * row
                store_masked(c, m * columns + n, mask, total)
        k += THIN_DEPTH


@inline_jit
def add_eight(a, m_first, m_last, depth, b, k, n, mask, c, columns, adding):
    """Add to each row of C its multiples of eight rows of B."""
    none = zero_vector(c)
    at = k * columns + n
    b0 = load_masked(b, at, mask, none)
    b1 = load_masked(b, at + columns, mask, none)
    b2 = load_masked(b, at + 2 * columns, mask, none)
    b3 = load_masked(b, at + 3 * columns, mask, none)
    b4 = load_masked(b, at + 4 * columns, mask, none)
    b5 = load_masked(b, at + 5 * columns, mask, none)
    b6 = load_masked(b, at + 6 * columns, mask, none)
    b7 = load_masked(b, at + 7 * columns, mask, none)
    for m in range(m_first, m_last):
        i, to = m * depth + k, m * columns + n
        near = load(a, i) * b0 + load(a, i + 1) * b1
        far = load(a, i + 2) * b2 + load(a, i + 3) * b3
        near = near + load(a, i + 4) * b4 + load(a, i + 5) * b5
        far = far + load(a, i + 6) * b6 + load(a, i + 7) * b7
        if adding:
            near = near + load_masked(c, to, mask, none)
        store_masked(c, to, mask, near + far)
