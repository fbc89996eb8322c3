"""SIMD building blocks that Numba's own loops do not reach: written as LLVM vector instructions.

An `@intrinsic` receives LLVM's builder in place of the call and appends instructions; the result is
inlined into the kernel that calls it and compiled for the host's widest registers. Kernels cache
their machine code by the date of their own file: after a change here, touch the files that import
it.

The register tile. A vector register holds `lanes` neighbouring columns of C. A tile of ROWS rows
and VECTORS registers a row needs ROWS * VECTORS accumulators. Each step of k loads VECTORS
registers of B, and for each row broadcasts one number of A and multiplies and adds it into that
row's accumulators:

    step k:   b0 b1 b2 <- B panel[k]              3 loads
              row 0..7:  c[r, v] += A panel[k, r] * b_v         8 broadcasts, 24 fused multiply-adds

24 multiply-adds for 11 loads keep the arithmetic units busy: two multiply-adds start every cycle
and each takes four, so at least 8 independent ones must be under way. With AVX-512 there are 32
registers (24 + 3 + 1 in use), with AVX2 16 (6 * 2 + 2 + 1). A compiler cannot be talked into
keeping such a tile in registers, so `multiply_tile` writes the loop itself, in LLVM's vector
instructions.

"""

from __future__ import annotations

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


def _register_bits() -> int:
    features = numba.config.CPU_FEATURES
    if features is None:
        host = llvmlite.binding.get_host_cpu_features()
        present = {name for name, there in host.items() if there}
    else:
        present = {name[1:] for name in features.split(",") if name.startswith("+")}
    return 512 if "avx512f" in present else 256 if "avx" in present else 128


REGISTER_BITS = _register_bits()
ROWS, VECTORS = (8, 3) if REGISTER_BITS == 512 else (6, 2)


def tile_columns(dtype: np.dtype) -> int:
    """Return how many columns of C a register tile covers."""
    return VECTORS * REGISTER_BITS // (8 * dtype.itemsize)


@intrinsic
def load(typing, array, i):
    """Return array[i] of a flat array, i from 0.

    Numba lets an index count from the end when it is negative; that test at every access keeps a
    loop from being vectorised. Here there is none: copying loops run four times as fast.
    """

    def generate(context, builder, signature, arguments):
        array, i = arguments
        data = context.make_array(signature.args[0])(context, builder, array).data
        return builder.load(builder.gep(data, [i]))

    return array.dtype(array, types.int64), generate


@intrinsic
def store(typing, array, i, value):
    """Set array[i] of a flat array to `value`, i from 0; see `load`."""

    def generate(context, builder, signature, arguments):
        array, i, value = arguments
        data = context.make_array(signature.args[0])(context, builder, array).data
        builder.store(value, builder.gep(data, [i]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


@intrinsic
def multiply_tile(typing, depth, a, a_start, b, b_start, c, c_start, c_stride, accumulate):
    """Write C tile = (C tile if accumulate else 0) + A panel @ B panel, both packed, in registers.

    `*_start` are offsets in elements into flat arrays; `c_stride` is the distance between rows of
    C.
    """
    index = types.int64
    signature = types.void(index, a, index, b, index, c, index, index, types.boolean)

    def generate(context, builder, signature, arguments):
        depth, a, a_start, b, b_start, c, c_start, c_stride, accumulate = arguments
        element = context.get_data_type(signature.args[1].dtype)
        lanes = REGISTER_BITS // (8 * (4 if isinstance(element, ir.FloatType) else 8))
        vector = ir.VectorType(element, lanes)
        fma_name = f"llvm.fma.v{lanes}f{32 if isinstance(element, ir.FloatType) else 64}"
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), fma_name
        )
        i64 = ir.IntType(64)

        def pointer(position, array, start):
            struct = context.make_array(signature.args[position])(context, builder, array)
            return builder.gep(struct.data, [start])

        def offset(base, elements):
            return builder.gep(base, [ir.Constant(i64, elements)])

        def load_vector(address):
            value = builder.load(builder.bitcast(address, vector.as_pointer()))
            value.align = 4
            return value

        def store_vector(value, address):
            builder.store(value, builder.bitcast(address, vector.as_pointer())).align = 4

        def broadcast(number):
            undefined = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return builder.shuffle_vector(first, undefined, zeros)

        a_panel, b_panel = pointer(1, a, a_start), pointer(3, b, b_start)
        c_tile = pointer(5, c, c_start)
        tile = [(row, v) for row in range(ROWS) for v in range(VECTORS)]

        entry = builder.block
        loop = builder.append_basic_block("depth")
        done = builder.append_basic_block("done")
        builder.branch(loop)

        builder.position_at_end(loop)
        k = builder.phi(i64)
        k.add_incoming(ir.Constant(i64, 0), entry)
        sums = {}
        for place in tile:
            sums[place] = builder.phi(vector)
            sums[place].add_incoming(ir.Constant(vector, [0.0] * lanes), entry)
        a_step = builder.gep(a_panel, [builder.mul(k, ir.Constant(i64, ROWS))])
        b_step = builder.gep(b_panel, [builder.mul(k, ir.Constant(i64, VECTORS * lanes))])
        b_registers = [load_vector(offset(b_step, v * lanes)) for v in range(VECTORS)]
        updated = {}
        for row in range(ROWS):
            a_register = broadcast(builder.load(offset(a_step, row)))
            for v in range(VECTORS):
                updated[row, v] = builder.call(fma, [a_register, b_registers[v], sums[row, v]])
        for place in tile:
            sums[place].add_incoming(updated[place], loop)
        next_k = builder.add(k, ir.Constant(i64, 1))
        k.add_incoming(next_k, loop)
        builder.cbranch(builder.icmp_signed("<", next_k, depth), loop, done)

        builder.position_at_end(done)
        rows = [
            builder.gep(c_tile, [builder.mul(c_stride, ir.Constant(i64, row))])
            for row in range(ROWS)
        ]
        with builder.if_else(accumulate) as (adding, writing):
            with adding:
                for row, v in tile:
                    address = offset(rows[row], v * lanes)
                    store_vector(builder.fadd(load_vector(address), updated[row, v]), address)
            with writing:
                for row, v in tile:
                    store_vector(updated[row, v], offset(rows[row], v * lanes))
        return context.get_dummy_value()

    return signature, generate
