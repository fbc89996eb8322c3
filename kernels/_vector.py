"""A vector type for Numba: kernels that say what each register holds.

A `Vector` is one SIMD register of `lanes` neighbouring numbers: 16 floats with AVX-512, 8 with AVX,
4 on any other host. In a kernel it is a value like a number:

    x = load_vector(array, i)                    array[i], array[i + 1], ...
    store_vector(array, i, 2.0 * x + y)          lane by lane; the product and the sum are one FMA

Numba's own loops leave such decisions to the compiler, which makes them well where all accesses are
neighbours and badly where they are not: pooling windows, transposes, Winograd's tiles of 4 x 4. The
functions here are `@intrinsic`s: Numba hands them LLVM's builder in place of a call, and they
append the instructions that the caller asked for.

Masks are integers: bit `l` tells about lane `l`. A load leaves out lanes without touching their
memory, which may lie outside the array; a store leaves memory as it is.

Flat arrays and offsets throughout. Numba lets an index count from the end when it is negative; that
test at every access keeps a loop from being vectorised. Here there is none: copying loops with
`load` and `store` run four times as fast.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model


def _register_bits() -> int:
    features = numba.config.CPU_FEATURES
    if features is None:
        host = llvmlite.binding.get_host_cpu_features()
        present = {name for name, there in host.items() if there}
    else:
        present = {name[1:] for name in features.split(",") if name.startswith("+")}
    return 512 if "avx512f" in present else 256 if "avx" in present else 128


REGISTER_BITS = _register_bits()
LANES = REGISTER_BITS // 32  # of float32

I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))


def lanes_of(dtype: np.dtype) -> int:
    """Return how many numbers of a dtype a register holds."""
    return REGISTER_BITS // (8 * dtype.itemsize)


class Vector(types.Type):
    """The Numba type of a register of numbers of type `dtype`."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.lanes = REGISTER_BITS // dtype.bitwidth
        super().__init__(name=f"vector({dtype}, {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    """A Vector is LLVM's <lanes x dtype>."""

    def __init__(self, manager: Any, fe_type: Vector) -> None:
        element = manager[fe_type.dtype].get_value_type()
        super().__init__(manager, fe_type, ir.VectorType(element, fe_type.lanes))


def pointer(context: Any, builder: Any, kind: Any, array: Any, start: Any) -> Any:
    """Return the address of element `start` of a flat array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [start])


def load_from(builder: Any, address: Any, vector: Any) -> Any:
    """Append the load of a vector; it need not be aligned."""
    value = builder.load(builder.bitcast(address, vector.as_pointer()))
    value.align = 4
    return value


def store_to(builder: Any, value: Any, address: Any) -> None:
    """Append the store of a vector; it need not be aligned."""
    builder.store(value, builder.bitcast(address, value.type.as_pointer())).align = 4


def splat(builder: Any, number: Any, vector: Any) -> Any:
    """Append what fills all lanes with one number."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(I32, 0))
    return shuffle(builder, first, undefined, [0] * vector.count)


def shuffle(builder: Any, a: Any, b: Any, pattern: Sequence[int]) -> Any:
    """Append the vector of the lanes `pattern` of `a` followed by `b`."""
    indices = ir.Constant(ir.VectorType(I32, len(pattern)), list(pattern))
    return builder.shuffle_vector(a, b, indices)


# Arithmetic, lane by lane. A number beside a vector stands for a vector of it.


class _Arithmetic(AbstractTemplate):
    def generic(self, args: tuple[types.Type, ...], kws: dict[str, types.Type]) -> Any:
        vectors = [kind for kind in args if isinstance(kind, Vector)]
        if len(args) != 2 or not vectors or len(set(vectors)) > 1:
            return None
        kinds = [kind if isinstance(kind, Vector) else vectors[0].dtype for kind in args]
        return signature(vectors[0], *kinds)


def _define(operation: Callable[..., Any], instruction: str) -> None:
    infer_global(operation)(type(f"_{instruction}", (_Arithmetic,), {}))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = context.get_value_type(sig.return_type)
        operands = [
            value if isinstance(kind, Vector) else splat(builder, value, vector)
            for value, kind in zip(args, sig.args, strict=True)
        ]
        if isinstance(sig.return_type.dtype, types.Integer):
            return getattr(builder, instruction)(*operands)
        # "contract" lets a product and a sum become one instruction; nothing else is relaxed.
        return getattr(builder, f"f{instruction}")(*operands, flags=("contract",))

    for number in (types.Float, types.Integer):
        for kinds in ((Vector, Vector), (Vector, number), (number, Vector)):
            lower_builtin(operation, *kinds)(lower)


_define(operator.add, "add")
_define(operator.sub, "sub")
_define(operator.mul, "mul")
_define(operator.truediv, "div")


@intrinsic
def maximum(typing, a, b):
    """Return the larger of each lane; where either is NaN, `b`'s unless `a` is greater."""

    def generate(context, builder, signature, arguments):
        left, right = arguments
        integers = isinstance(signature.args[0].dtype, types.Integer)
        compare = builder.icmp_signed if integers else builder.fcmp_ordered
        return builder.select(compare(">", left, right), left, right)

    return a(a, b), generate


@intrinsic
def zero_vector(typing, array):
    """Return a vector of zeros of the array's dtype."""
    kind = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(array), generate


@intrinsic
def lane_count(typing, array):
    """Return how many of the array's numbers a register holds: a constant, unlike its itemsize."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(I64, Vector(signature.args[0].dtype).lanes)

    return types.int64(array), generate


@intrinsic
def full_vector(typing, like, number):
    """Return a vector of the dtype of an array or vector with one number in all lanes."""
    kind = Vector(like.dtype)

    def generate(context, builder, signature, arguments):
        return splat(builder, arguments[1], context.get_value_type(kind))

    return kind(like, kind.dtype), generate


@intrinsic
def lane_numbers(typing, array):
    """Return 0, 1, 2, ... as integers of the width of the array's numbers."""
    kind = Vector(types.Integer.from_bitwidth(array.dtype.bitwidth))

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(kind), list(range(kind.lanes)))

    return kind(array), generate


@intrinsic
def absolute(typing, a):
    """Return each lane without its sign."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        width = 32 if isinstance(value.type.element, ir.FloatType) else 64
        kind = ir.FunctionType(value.type, [value.type])
        name = f"llvm.fabs.v{value.type.count}f{width}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [value])

    return a(a), generate


@intrinsic
def square_root(typing, a):
    """Return the root of each lane; NaN for a negative one."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        width = 32 if isinstance(value.type.element, ir.FloatType) else 64
        kind = ir.FunctionType(value.type, [value.type])
        name = f"llvm.sqrt.v{value.type.count}f{width}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [value])

    return a(a), generate


@intrinsic
def sum_lanes(typing, a):
    """Return the sum of all lanes: halves are added until one number is left."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        half = value.type.count // 2
        while half:
            upper = shuffle(builder, value, value, range(half, 2 * half))
            value = builder.fadd(shuffle(builder, value, value, range(half)), upper)
            half //= 2
        return builder.extract_element(value, ir.Constant(I32, 0))

    return a.dtype(a), generate


@intrinsic
def largest_lane(typing, a):
    """Return the largest of all lanes, of those that are numbers if some are NaN."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        half = value.type.count // 2
        while half:
            upper = shuffle(builder, value, value, range(half, 2 * half))
            value = shuffle(builder, value, value, range(half))
            known = builder.fcmp_ordered("ord", value, value)
            larger = builder.fcmp_ordered(">", upper, value)
            value = builder.select(builder.or_(larger, builder.not_(known)), upper, value)
            half //= 2
        return builder.extract_element(value, ir.Constant(I32, 0))

    return a.dtype(a), generate


@intrinsic
def power_of_two(typing, a):
    """Return 2^k for each lane, k being the integer that the last bits of the number spell."""

    def generate(context, builder, signature, arguments):
        (value,) = arguments
        # A float's exponent, `bias` more than that of the power, stands before `digits` bits.
        width, digits, bias = (
            (32, 23, 127) if isinstance(value.type.element, ir.FloatType) else (64, 52, 1023)
        )
        integers = ir.VectorType(ir.IntType(width), value.type.count)
        shift, one = (
            ir.Constant(integers, [number] * value.type.count)
            for number in (digits, bias << digits)
        )
        bits = builder.shl(builder.bitcast(value, integers), shift)
        return builder.bitcast(builder.add(bits, one), value.type)

    return a(a), generate


# Questions about each lane, answered by masks.


def _as_integer(builder: Any, bits: Any) -> Any:
    """Return a vector of truth values as a mask."""
    few = builder.bitcast(bits, ir.IntType(bits.type.count))
    return builder.zext(few, I64) if bits.type.count < 64 else few


def _as_bits(builder: Any, mask: Any, lanes: int) -> Any:
    """Return a mask as a vector of truth values."""
    few = builder.trunc(mask, ir.IntType(lanes)) if lanes < 64 else mask
    return builder.bitcast(few, ir.VectorType(I1, lanes))


@intrinsic
def greater(typing, a, b):
    """Tell where `a` is larger than `b`: nowhere where one is NaN."""

    def generate(context, builder, signature, arguments):
        return _as_integer(builder, builder.fcmp_ordered(">", *arguments))

    return types.int64(a, a), generate


@intrinsic
def unordered(typing, a, b):
    """Tell where at least one of two is NaN."""

    def generate(context, builder, signature, arguments):
        return _as_integer(builder, builder.fcmp_unordered("uno", *arguments))

    return types.int64(a, a), generate


@intrinsic
def equal(typing, a, b):
    """Tell where two vectors agree: nowhere where one is NaN."""

    def generate(context, builder, signature, arguments):
        if isinstance(signature.args[0].dtype, types.Integer):
            same = builder.icmp_signed("==", *arguments)
        else:
            same = builder.fcmp_ordered("==", *arguments)
        return _as_integer(builder, same)

    return types.int64(a, a), generate


@intrinsic
def exceeds(typing, a, b):
    """Tell where `a` is larger than `b`; NaN is larger than all numbers, and not than NaN."""

    def generate(context, builder, signature, arguments):
        a, b = arguments
        # "Unordered or greater" is true where either is NaN.
        larger = builder.fcmp_unordered(">", a, b)
        return _as_integer(builder, builder.and_(larger, builder.fcmp_ordered("ord", b, b)))

    return types.int64(a, a), generate


@intrinsic
def select(typing, mask, a, b):
    """Return `a` where the mask's bit is 1, elsewhere `b`."""

    def generate(context, builder, signature, arguments):
        mask, a, b = arguments
        return builder.select(_as_bits(builder, mask, a.type.count), a, b)

    return a(types.int64, a, a), generate


# Memory.


@intrinsic
def load(typing, array, i):
    """Return array[i] of a flat array, i from 0."""

    def generate(context, builder, signature, arguments):
        array, i = arguments
        return builder.load(pointer(context, builder, signature.args[0], array, i))

    return array.dtype(array, types.int64), generate


@intrinsic
def store(typing, array, i, value):
    """Set array[i] of a flat array to `value`, i from 0."""

    def generate(context, builder, signature, arguments):
        array, i, value = arguments
        builder.store(value, pointer(context, builder, signature.args[0], array, i))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


@intrinsic
def load_vector(typing, array, i):
    """Return array[i : i + lanes] of a flat array."""
    kind = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        address = pointer(context, builder, signature.args[0], *arguments)
        return load_from(builder, address, context.get_value_type(kind))

    return kind(array, types.int64), generate


@intrinsic
def store_vector(typing, array, i, value):
    """Set array[i : i + lanes] of a flat array."""

    def generate(context, builder, signature, arguments):
        array, i, value = arguments
        store_to(builder, value, pointer(context, builder, signature.args[0], array, i))
        return context.get_dummy_value()

    return types.void(array, types.int64, value), generate


def _masked(context: Any, builder: Any, what: str, kind: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Return LLVM's masked load or store for vectors `kind`, the mask as bits, the alignment."""
    bits = ir.VectorType(I1, kind.count)
    address = kind.as_pointer()
    result, before = (kind, [address]) if what == "load" else (ir.VoidType(), [kind, address])
    after = [I32, bits, kind] if what == "load" else [I32, bits]
    if isinstance(kind.element, ir.IntType):
        letter, width = "i", kind.element.width
    else:
        letter, width = "f", 32 if isinstance(kind.element, ir.FloatType) else 64
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(result, before + after),
        f"llvm.masked.{what}.v{kind.count}{letter}{width}.p0",
    )
    return function, _as_bits(builder, mask, kind.count), ir.Constant(I32, width // 8)


@intrinsic
def load_masked(typing, array, i, mask, other):
    """Return array[i : i + lanes] where the mask's bit is 1, elsewhere the lanes of `other`."""

    def generate(context, builder, signature, arguments):
        array, i, mask, other = arguments
        kind = context.get_value_type(signature.return_type)
        function, bits, align = _masked(context, builder, "load", kind, mask)
        address = pointer(context, builder, signature.args[0], array, i)
        address = builder.bitcast(address, kind.as_pointer())
        return builder.call(function, [address, align, bits, other])

    return other(array, types.int64, types.int64, other), generate


@intrinsic
def store_masked(typing, array, i, mask, value):
    """Set array[i : i + lanes] where the mask's bit is 1; integers are cut to the array's width."""

    def generate(context, builder, signature, arguments):
        array, i, mask, value = arguments
        if isinstance(value.type.element, ir.IntType):
            element = context.get_value_type(signature.args[0].dtype)
            if element.width < value.type.element.width:
                value = builder.trunc(value, ir.VectorType(element, value.type.count))
        function, bits, align = _masked(context, builder, "store", value.type, mask)
        address = pointer(context, builder, signature.args[0], array, i)
        address = builder.bitcast(address, value.type.as_pointer())
        builder.call(function, [value, address, align, bits])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), generate


@intrinsic
def prefetch(typing, array, i):
    """Ask for the cache line of array[i], which may lie outside the array."""

    def generate(context, builder, signature, arguments):
        address = pointer(context, builder, signature.args[0], *arguments)
        kind = ir.FunctionType(ir.VoidType(), [address.type, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, *(ir.Constant(I32, number) for number in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


# Lanes changing places.


def _pair(kind: Any) -> Any:
    return types.UniTuple(kind, 2)  # type: ignore[attr-defined]


@intrinsic
def split_pairs(typing, a, b):
    """Return the even and the odd lanes of `a` followed by `b`."""

    def generate(context, builder, signature, arguments):
        a, b = arguments
        places = range(2 * a.type.count)
        parts = [shuffle(builder, a, b, places[first::2]) for first in (0, 1)]
        return context.make_tuple(builder, signature.return_type, parts)

    return _pair(a)(a, b), generate


@intrinsic
def join_pairs(typing, a, b):
    """Return a0, b0, a1, b1, ... as two vectors: what `split_pairs` took apart."""

    def generate(context, builder, signature, arguments):
        a, b = arguments
        lanes = a.type.count
        places = [place for lane in range(lanes) for place in (lane, lanes + lane)]
        parts = [shuffle(builder, a, b, part) for part in (places[:lanes], places[lanes:])]
        return context.make_tuple(builder, signature.return_type, parts)

    return _pair(a)(a, b), generate


@intrinsic
def transpose_block(typing, source, start, stride, target, to, to_stride):
    """Write a block of lanes x lanes of a flat array, rows `stride` apart, transposed.

    Stage by stage, halves, quarters, ... of two registers change places; log2(lanes) stages, each
    one shuffle a register.
    """

    def generate(context, builder, signature, arguments):
        source, start, stride, target, to, to_stride = arguments
        kind = context.get_value_type(Vector(signature.args[0].dtype))
        lanes = kind.count
        begin = pointer(context, builder, signature.args[0], source, start)
        end = pointer(context, builder, signature.args[3], target, to)
        rows = [
            load_from(builder, builder.gep(begin, [builder.mul(stride, ir.Constant(I64, i))]), kind)
            for i in range(lanes)
        ]
        half = lanes // 2
        while half:
            for i in range(lanes):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    low = [lanes + (j ^ half) if j & half else j for j in range(lanes)]
                    high = [lanes + j if j & half else j | half for j in range(lanes)]
                    rows[i], rows[i + half] = (shuffle(builder, *pair, p) for p in (low, high))
            half //= 2
        for i, row in enumerate(rows):
            step = builder.mul(to_stride, ir.Constant(I64, i))
            store_to(builder, row, builder.gep(end, [step]))
        return context.get_dummy_value()

    index = types.int64
    return types.void(source, index, index, target, index, index), generate
