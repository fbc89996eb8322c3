"""The register tile: the one loop in which every product of the CPU kernels is made.

    C[row, column] (+)= sum over k of A[row, k] * B[k, column]

for ROWS rows and up to VECTORS registers of columns. The sums live in registers while k runs:

    step k:   b0 b1 b2 <- B[k]                          3 loads
              row 0..7:  c[row, v] += A[row, k] * b_v   8 broadcasts, 24 fused multiply-adds

24 multiply-adds for 11 loads keep the arithmetic units busy: two multiply-adds start every cycle
and each takes four, so at least 8 independent ones must be under way. With AVX-512 there are 32
registers (24 + 3 + 1 in use), with AVX2 16 (6 * 2 + 2 + 1), and so it is with 128-bit registers. A
compiler cannot be talked into keeping such a tile in registers, so `tile` writes the loop itself,
in LLVM's vector instructions.

B is packed: B[k] stands right behind B[k - 1], `vectors * lanes` columns each. A has any strides:
packed panels have (a_row, a_step) = (1, ROWS), rows of a matrix as they lie (row length, 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from minicnn.kernels._jit import jit
from minicnn.kernels._vector import (
    I64,
    REGISTER_BITS,
    Vector,
    lanes_of,
    load_from,
    pointer,
    splat,
    store_to,
)

ROWS, VECTORS = (8, 3) if REGISTER_BITS == 512 else (6, 2)


def tile_columns(dtype: np.dtype) -> int:
    """Return how many columns of C the widest tile covers."""
    return VECTORS * lanes_of(dtype)


@intrinsic
def tile(
    typing, vectors, depth, a, a_start, a_row, a_step, b, b_start, c, c_start, c_stride,
    accumulate, bias, bias_start,
):  # fmt: skip
    """Write ROWS rows and `vectors` registers of columns of C.

    `*_start` are offsets in elements into flat arrays, `c_stride` is the distance between rows of
    C; what C holds counts if `accumulate`. The sums of a row begin with its number of `bias`, or
    with zero if that is None. `depth` is at least 1.
    """
    index = types.int64
    of_a, of_b = (a, index, index, index), (b, index)
    of_c, of_bias = (c, index, index, types.boolean), (bias, index)
    signature = types.void(index, index, *of_a, *of_b, *of_c, *of_bias)

    def generate(context, builder, signature, arguments):
        vectors, depth, a, a_start, a_row, a_step, b, b_start, *rest = arguments
        c, c_start, c_stride, accumulate, bias, bias_start = rest
        vector = context.get_value_type(Vector(signature.args[6].dtype))

        def address(position, array, start):
            return pointer(context, builder, signature.args[position], array, start)

        begin = [ir.Constant(vector, None)] * ROWS
        if signature.args[12] is not types.none:
            first = address(12, bias, bias_start)
            numbers = [builder.load(element(builder, first, row)) for row in range(ROWS)]
            begin = [splat(builder, number, vector) for number in numbers]
        a_rows = rows_of(builder, address(2, a, a_start), a_row)
        c_rows = rows_of(builder, address(8, c, c_start), c_stride)
        b_panel = address(6, b, b_start)
        for count in range(1, VECTORS + 1):
            with builder.if_then(builder.icmp_signed("==", vectors, ir.Constant(I64, count))):
                sums = sum_products(builder, begin, count, depth, a_rows, a_step, b_panel)
                write_sums(builder, sums, c_rows, accumulate)
        return context.get_dummy_value()

    return signature, generate


def element(builder: Any, base: Any, index: int) -> Any:
    """Append the address of base[index]."""
    return builder.gep(base, [ir.Constant(I64, index)])


def rows_of(builder: Any, first: Any, stride: Any) -> list[Any]:
    """Append the addresses of ROWS rows, `stride` apart."""
    return [builder.gep(first, [builder.mul(stride, ir.Constant(I64, i))]) for i in range(ROWS)]


def sum_products(
    builder: Any, begin: list[Any], vectors: int, depth: Any, a_rows: list[Any], a_step: Any,
    b_panel: Any,
) -> dict[tuple[int, int], Any]:  # fmt: skip
    """Append the loop over k; return the sums of each (row, vector), which begin with `begin`."""
    vector = begin[0].type
    width = 32 if isinstance(vector.element, ir.FloatType) else 64
    multiply_add = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector, [vector] * 3),
        f"llvm.fmuladd.v{vector.count}f{width}",  # two instructions where a host has no FMA
    )
    entry = builder.block
    loop, done = (builder.append_basic_block(name) for name in ("depth", "done"))
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(I64)
    sums = {(row, v): builder.phi(vector) for row in range(ROWS) for v in range(vectors)}
    a_offset = builder.mul(k, a_step)
    b_row = builder.gep(b_panel, [builder.mul(k, ir.Constant(I64, vectors * vector.count))])
    b_registers = [
        load_from(builder, element(builder, b_row, v * vector.count), vector)
        for v in range(vectors)
    ]
    updated = {}
    for row, a_row in enumerate(a_rows):
        a_register = splat(builder, builder.load(builder.gep(a_row, [a_offset])), vector)
        for v, b_register in enumerate(b_registers):
            updated[row, v] = builder.call(multiply_add, [a_register, b_register, sums[row, v]])
    for (row, v), total in sums.items():
        total.add_incoming(begin[row], entry)
        total.add_incoming(updated[row, v], loop)
    next_k = builder.add(k, ir.Constant(I64, 1))
    k.add_incoming(ir.Constant(I64, 0), entry)
    k.add_incoming(next_k, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

    builder.position_at_end(done)
    return updated


def write_sums(builder: Any, sums: Any, c_rows: list[Any], accumulate: Any) -> None:
    """Append what writes the sums to C, or adds them to it."""
    places = {
        place: element(builder, c_rows[place[0]], place[1] * total.type.count)
        for place, total in sums.items()
    }
    with builder.if_else(accumulate) as (then, otherwise):
        with then:
            for place, total in sums.items():
                before = load_from(builder, places[place], total.type)
                store_to(builder, builder.fadd(before, total), places[place])
        with otherwise:
            for place, total in sums.items():
                store_to(builder, total, places[place])


@jit
def multiply_tile(vectors, depth, a, a_start, b, b_start, c, c_start, c_stride, accumulate):
    """Write a tile of C from packed panels of A and B; see `tile`."""
    tile(
        vectors, depth, a, a_start, 1, ROWS, b, b_start, c, c_start, c_stride, accumulate, None, 0
    )  # fmt: skip


@jit
def multiply_tile_biased(
    vectors, depth, a, a_start, b, b_start, c, c_start, c_stride, accumulate, bias, bias_start
):  # fmt: skip
    """Write a tile of C from packed panels of A and B, each row beginning with its bias."""
    tile(
        vectors, depth, a, a_start, 1, ROWS, b, b_start, c, c_start, c_stride, accumulate, bias,
        bias_start,
    )  # fmt: skip


@jit
def multiply_rows(vectors, depth, a, a_start, a_row, b, b_start, c, c_start, c_stride, accumulate):
    """Write a tile of C from ROWS rows of A as they lie and a packed panel of B; see `tile`."""
    tile(
        vectors, depth, a, a_start, a_row, 1, b, b_start, c, c_start, c_stride, accumulate, None, 0
    )  # fmt: skip
