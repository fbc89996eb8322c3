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


@intrinsic(prefer_literal=True)
def tile(
    typing, vectors, depth, a, a_start, a_row, a_step, b, b_start, c, c_start, c_stride, accumulate
):  # fmt: skip
    """Write ROWS rows and `vectors` (a literal) registers of columns of C.

    `*_start` are offsets in elements into flat arrays, `c_stride` is the distance between rows of
    C; what C holds counts if `accumulate`. `depth` is at least 1.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    index = types.int64
    signature = types.void(
        vectors, index, a, index, index, index, b, index, c, index, index, types.boolean
    )
    places = [(row, v) for row in range(ROWS) for v in range(vectors.literal_value)]

    def generate(context, builder, signature, arguments):
        _, depth, a, a_start, a_row, a_step, b, b_start, c, c_start, c_stride, adding = arguments
        kinds = signature.args
        vector = context.get_value_type(Vector(kinds[6].dtype))
        lanes, width = vector.count, 32 if isinstance(vector.element, ir.FloatType) else 64
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector] * 3),
            f"llvm.fmuladd.v{lanes}f{width}",  # two instructions where a host has no FMA
        )

        def constant(number):
            return ir.Constant(I64, number)

        def offset(base, elements):
            return builder.gep(base, [constant(elements)])

        a_first = pointer(context, builder, kinds[2], a, a_start)
        a_rows = [builder.gep(a_first, [builder.mul(a_row, constant(i))]) for i in range(ROWS)]
        b_panel = pointer(context, builder, kinds[6], b, b_start)
        c_first = pointer(context, builder, kinds[8], c, c_start)

        entry = builder.block
        loop, done = (builder.append_basic_block(name) for name in ("depth", "done"))
        builder.branch(loop)

        builder.position_at_end(loop)
        k = builder.phi(I64)
        k.add_incoming(constant(0), entry)
        sums = {place: builder.phi(vector) for place in places}
        a_offset = builder.mul(k, a_step)
        b_step = builder.gep(
            b_panel, [builder.mul(k, constant(signature.args[0].literal_value * lanes))]
        )
        b_registers = [
            load_from(builder, offset(b_step, v * lanes), vector)
            for v in range(signature.args[0].literal_value)
        ]
        updated = {}
        for row in range(ROWS):
            number = builder.load(builder.gep(a_rows[row], [a_offset]))
            a_register = splat(builder, number, vector)
            for v, b_register in enumerate(b_registers):
                updated[row, v] = builder.call(fma, [a_register, b_register, sums[row, v]])
        for place in places:
            sums[place].add_incoming(ir.Constant(vector, None), entry)
            sums[place].add_incoming(updated[place], loop)
        next_k = builder.add(k, constant(1))
        k.add_incoming(next_k, loop)
        builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

        builder.position_at_end(done)
        c_rows = [builder.gep(c_first, [builder.mul(c_stride, constant(i))]) for i in range(ROWS)]
        with builder.if_else(adding) as (then, otherwise):
            with then:
                for row, v in places:
                    address = offset(c_rows[row], v * lanes)
                    before = load_from(builder, address, vector)
                    store_to(builder, builder.fadd(before, updated[row, v]), address)
            with otherwise:
                for row, v in places:
                    store_to(builder, updated[row, v], offset(c_rows[row], v * lanes))
        return context.get_dummy_value()

    return signature, generate


@jit
def multiply_tile(
    vectors, depth, a, a_start, b, b_start, c, c_start, c_stride, accumulate
):  # fmt: skip
    """Write a tile of C from packed panels of A and B; see `tile`."""
    if vectors == VECTORS:
        tile(VECTORS, depth, a, a_start, 1, ROWS, b, b_start, c, c_start, c_stride, accumulate)
    elif vectors == 1:
        tile(1, depth, a, a_start, 1, ROWS, b, b_start, c, c_start, c_stride, accumulate)
    else:
        tile(2, depth, a, a_start, 1, ROWS, b, b_start, c, c_start, c_stride, accumulate)


@jit
def multiply_rows(
    vectors, depth, a, a_start, a_row, b, b_start, c, c_start, c_stride, accumulate
):  # fmt: skip
    """Write a tile of C from ROWS rows of A as they lie and a packed panel of B; see `tile`."""
    if vectors == VECTORS:
        tile(VECTORS, depth, a, a_start, a_row, 1, b, b_start, c, c_start, c_stride, accumulate)
    elif vectors == 1:
        tile(1, depth, a, a_start, a_row, 1, b, b_start, c, c_start, c_stride, accumulate)
    else:
        tile(2, depth, a, a_start, a_row, 1, b, b_start, c, c_start, c_stride, accumulate)
