"""Instructions that compute: registers in, a register out.

Each function below translates one opcode and returns C++ statements. Integers wrap, so they are
added and multiplied unsigned; what C++ leaves undefined (shifts past the width, division by zero,
conversions out of range) goes through helpers of ptx.h, which do as the GPU does.

Sums and products of floats are rounded one by one: nothing here is contracted to an fma that the
PTX has not. The assembler of a GPU may contract `mul` and `add` where they carry no rounding.

CuPy compiles so that float32 instructions flush subnormal numbers to zero (`.ftz`), while those of
float64 never do, and the compiler's own `fmod` relies on it. A CPU has one mode for both. Kernels
of float32 therefore run in its flushing mode, in which the simulator starts all kernels; those with
float64 arithmetic leave it, and flush their few float32 values one by one.
"""

from __future__ import annotations

from collections.abc import Callable

from minicnn.cudasim.ptx.operands import CTYPES, Operands, is_float, type_of, unsigned
from minicnn.cudasim.ptx.parser import SIZES, Instruction, PtxError

Handler = Callable[[Operands, Instruction], str]

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
UNSIGNED_COMPARISONS = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
LOGIC = {"and": "&", "or": "|", "xor": "^"}
DIRECTED = {"rz": "FE_TOWARDZERO", "rm": "FE_DOWNWARD", "rp": "FE_UPWARD"}
TO_INTEGER = {"rni": "rint", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
# Of one argument, correct to more digits than the GPU's approximations have.
UNARY = {
    "sqrt": "sqrt({a})",
    "rcp": "1 / {a}",
    "rsqrt": "1 / sqrt({a})",
    "ex2": "exp2({a})",
    "lg2": "log2({a})",
    "sin": "sin({a})",
    "cos": "cos({a})",
    "tanh": "tanh({a})",
}


def _result(operands: Operands, instruction: Instruction, value: str, type: str) -> str:
    if "sat" in instruction.modifiers:
        value = f"ptx::saturate({CTYPES[type]}({value}))"
    value = _flushed(operands, instruction, value, type)
    return operands.write(instruction.operands[0], value, type)


def _sources(
    operands: Operands, instruction: Instruction, type: str, count: int | None = None
) -> list[str]:
    """Return the first `count` sources, all by default."""
    named = instruction.operands[1:] if count is None else instruction.operands[1 : 1 + count]
    values = [operands.read(operand, type) for operand in named]
    return [_flushed(operands, instruction, value, type) for value in values]


def _flushed(operands: Operands, instruction: Instruction, value: str, type: str) -> str:
    """Return a value, subnormals made zero where the opcode says so and the CPU does not do it."""
    explicit = operands.keeps_subnormals and "ftz" in instruction.modifiers and type == "f32"
    return f"ptx::flush(float({value}))" if explicit else value


def _rounding(instruction: Instruction) -> str:
    """Return the direction to round in, or nothing for the nearest."""
    return next((DIRECTED[m] for m in instruction.modifiers if m in DIRECTED), "")


def add_or_subtract(operands: Operands, instruction: Instruction) -> str:
    """add, sub, and their parts with carry: addc, subc."""
    type, sign = type_of(instruction), "+" if instruction.name.startswith("add") else "-"
    if is_float(type):
        a, b = _sources(operands, instruction, type)
        if direction := _rounding(instruction):
            value = f"ptx::fma_directed({CTYPES[type]}(1), {a}, {sign}{b}, {direction})"
            return _result(operands, instruction, value, type)
        return _result(operands, instruction, f"{a} {sign} {b}", type)
    if "sat" in instruction.modifiers:
        raise PtxError("saturating integer arithmetic is not translated")
    type = unsigned(type)
    a, b = _sources(operands, instruction, type)
    return _with_carry(operands, instruction, type, f"{a}", sign, b)


def _with_carry(
    operands: Operands, instruction: Instruction, type: str, a: str, sign: str, b: str
) -> str:
    """Return a + b or a - b, plus the carry for `addc`, `subc` and `madc`, which `.cc` keeps."""
    reads, keeps = instruction.name.endswith("c"), "cc" in instruction.modifiers
    value = f"{a} {sign} {b}" + (f" {sign} carry" if reads else "")
    if not keeps:
        return operands.write(instruction.operands[0], value, type)
    wide = f"(unsigned __int128)({a}) {sign} ({b})" + (f" {sign} carry" if reads else "")
    written = operands.write(instruction.operands[0], f"{CTYPES[type]}(wide)", type)
    return (
        f"{{ unsigned __int128 wide = {wide}; carry = wide >> {8 * SIZES[type]} & 1; {written} }}"
    )


def multiply(operands: Operands, instruction: Instruction) -> str:
    """mul, of floats or of integers: the low half, the high half or the whole product."""
    type = type_of(instruction)
    if not is_float(type):
        value, type = _product(operands, instruction, type)
        return operands.write(instruction.operands[0], value, type)
    a, b = _sources(operands, instruction, type)
    value = f"{a} * {b}"
    if direction := _rounding(instruction):
        value = f"ptx::multiply_directed({a}, {b}, {direction})"
    return _result(operands, instruction, value, type)


def multiply_add(operands: Operands, instruction: Instruction) -> str:
    """fma of floats, mad of integers, and mad with carry."""
    type = type_of(instruction)
    if is_float(type):
        a, b, c = _sources(operands, instruction, type)
        direction = _rounding(instruction)
        value = (
            f"ptx::fma_directed({a}, {b}, {c}, {direction})" if direction else f"fma({a}, {b}, {c})"
        )
        return _result(operands, instruction, value, type)
    if "sat" in instruction.modifiers:
        raise PtxError("saturating integer arithmetic is not translated")
    product, type = _product(operands, instruction, type)
    type = unsigned(type)
    addend = operands.read(instruction.operands[3], type)
    return _with_carry(operands, instruction, type, f"{CTYPES[type]}({product})", "+", addend)


def _product(operands: Operands, instruction: Instruction, type: str) -> tuple[str, str]:
    """Return the product of two integers, and its type."""
    size, signed = SIZES[type], type[0] == "s"
    if "wide" in instruction.modifiers:
        wide = f"{'s' if signed else 'u'}{16 * size}"
        a, b = (operands.read(o, type) for o in instruction.operands[1:3])
        return f"{CTYPES[wide]}({a}) * {CTYPES[wide]}({b})", wide
    if "hi" in instruction.modifiers:
        wide = {2: "int32_t", 4: "int64_t", 8: "__int128"}[size]
        wide = (
            wide
            if signed
            else {"int32_t": "uint32_t", "int64_t": "uint64_t"}.get(wide, f"unsigned {wide}")
        )
        a, b = (operands.read(o, type) for o in instruction.operands[1:3])
        return f"{CTYPES[type]}((({wide}){a} * ({wide}){b}) >> {8 * size})", type
    type = unsigned(type)
    a, b = (operands.read(o, type) for o in instruction.operands[1:3])
    if instruction.name.endswith("24"):
        a, b = f"({a} & 0xffffff)", f"({b} & 0xffffff)"
    # Two 16-bit numbers would be multiplied as signed ints, and overflow.
    return (f"{a} * {b}" if size > 2 else f"1u * {a} * {b}"), type


def divide(operands: Operands, instruction: Instruction) -> str:
    """div; the approximate forms divide exactly."""
    type = type_of(instruction)
    a, b = _sources(operands, instruction, type)
    if not is_float(type):
        return operands.write(instruction.operands[0], f"ptx::divide({a}, {b})", type)
    direction = _rounding(instruction)
    value = f"ptx::divide_directed({a}, {b}, {direction})" if direction else f"{a} / {b}"
    return _result(operands, instruction, value, type)


def remainder(operands: Operands, instruction: Instruction) -> str:
    """rem."""
    type = type_of(instruction)
    a, b = _sources(operands, instruction, type)
    return operands.write(instruction.operands[0], f"ptx::remainder({a}, {b})", type)


def unary(operands: Operands, instruction: Instruction) -> str:
    """Square roots, reciprocals, and the functions that a GPU approximates."""
    type = type_of(instruction)
    if not is_float(type) or _rounding(instruction):
        raise PtxError("this form is not translated")
    (a,) = _sources(operands, instruction, type)
    return _result(operands, instruction, UNARY[instruction.name].format(a=a), type)


def negate(operands: Operands, instruction: Instruction) -> str:
    """neg: floats change their sign bit, whatever they are."""
    type = type_of(instruction)
    type = type if is_float(type) else unsigned(type)
    (a,) = _sources(operands, instruction, type)
    return _result(operands, instruction, f"-{a}", type)


def absolute(operands: Operands, instruction: Instruction) -> str:
    """abs."""
    type = type_of(instruction)
    (a,) = _sources(operands, instruction, type)
    value = f"fabs({a})" if is_float(type) else f"({a} < 0 ? 0u - {a} : {a})"
    return _result(operands, instruction, value, type)


def minimum_or_maximum(operands: Operands, instruction: Instruction) -> str:
    """min, max: of floats, a NaN loses against any number, unless `.NaN` says that it wins."""
    type = type_of(instruction)
    if (
        "xorsign" in instruction.modifiers
        or "abs" in instruction.modifiers
        or len(instruction.operands) > 3
    ):
        raise PtxError("this form is not translated")
    a, b = _sources(operands, instruction, type)
    helper = {"min": "minimum", "max": "maximum"}[instruction.name]
    if is_float(type):
        wins = "true" if "NaN" in instruction.modifiers else "false"
        return _result(operands, instruction, f"ptx::{helper}<{wins}>({a}, {b})", type)
    sign = "<" if instruction.name == "min" else ">"
    return operands.write(instruction.operands[0], f"({a} {sign} {b} ? {a} : {b})", type)


def logic(operands: Operands, instruction: Instruction) -> str:
    """and, or, xor, not: of bits or of predicates."""
    type = type_of(instruction)
    sources = _sources(operands, instruction, type)
    if instruction.name == "not":
        value = f"!{sources[0]}" if type == "pred" else f"~{sources[0]}"
    else:
        value = f"{sources[0]} {LOGIC[instruction.name]} {sources[1]}"
    return operands.write(instruction.operands[0], value, type)


def logic_of_three(operands: Operands, instruction: Instruction) -> str:
    """lop3: any function of three bits, by its table."""
    a, b, c = (operands.read(o, "b32") for o in instruction.operands[1:4])
    table = int(instruction.operands[4], 0)
    return operands.write(instruction.operands[0], f"ptx::lop3({a}, {b}, {c}, {table})", "b32")


def shift(operands: Operands, instruction: Instruction) -> str:
    """shl, shr: all bits are gone, or all are the sign, once the shift reaches the width."""
    type = type_of(instruction)
    a, count = (
        operands.read(instruction.operands[1], type),
        operands.read(instruction.operands[2], "u32"),
    )
    helper = {"shl": "shift_left", "shr": "shift_right"}[instruction.name]
    return operands.write(instruction.operands[0], f"ptx::{helper}({a}, {count})", type)


def funnel_shift(operands: Operands, instruction: Instruction) -> str:
    """shf: 32 bits out of 64 that are shifted left or right."""
    low, high, count = (operands.read(o, "u32") for o in instruction.operands[1:4])
    count = (
        f"({count} & 31)" if "wrap" in instruction.modifiers else f"ptx::minimum_of({count}, 32u)"
    )
    both = f"(uint64_t({high}) << 32 | {low})"
    value = f"uint32_t({both} >> {count})"
    if instruction.modifiers[0] == "l":
        value = f"uint32_t(({both} << {count}) >> 32)"
    return operands.write(instruction.operands[0], value, "u32")


def bit_field(operands: Operands, instruction: Instruction) -> str:
    """bfe, bfi: cut bits out, put bits in."""
    type = type_of(instruction)
    sources = instruction.operands[1:]
    bits = [operands.read(o, type) for o in sources[:-2]]
    place = [operands.read(o, "u32") for o in sources[-2:]]
    helper = {"bfe": "extract", "bfi": "insert"}[instruction.name]
    value = f"ptx::{helper}({', '.join(bits + place)})"
    return operands.write(instruction.operands[0], value, type)


def count_bits(operands: Operands, instruction: Instruction) -> str:
    """popc, clz, brev, bfind."""
    type = type_of(instruction)
    if instruction.name == "bfind" and (type[0] == "s" or "shiftamt" in instruction.modifiers):
        raise PtxError("this form is not translated")
    a = operands.read(instruction.operands[1], unsigned(type))
    helper = {"popc": "ones", "clz": "leading_zeros", "brev": "reversed", "bfind": "highest"}
    value = f"ptx::{helper[instruction.name]}({a})"
    result = type if instruction.name == "brev" else "u32"
    return operands.write(instruction.operands[0], value, result)


def permute(operands: Operands, instruction: Instruction) -> str:
    """prmt: four bytes chosen from eight."""
    if len(instruction.modifiers) > 1:
        raise PtxError("this form is not translated")
    a, b, selector = (operands.read(o, "b32") for o in instruction.operands[1:4])
    return operands.write(instruction.operands[0], f"ptx::permute({a}, {b}, {selector})", "b32")


def copy_sign(operands: Operands, instruction: Instruction) -> str:
    """copysign: the sign of the first, the rest of the second."""
    type = type_of(instruction)
    sign, value = _sources(operands, instruction, type)
    return operands.write(instruction.operands[0], f"copysign({value}, {sign})", type)


def test_property(operands: Operands, instruction: Instruction) -> str:
    """testp: is a float finite, infinite, a number, a NaN, normal or subnormal?"""
    type, a = type_of(instruction), operands.read(instruction.operands[1], type_of(instruction))
    tests = {
        "finite": f"std::isfinite({a})",
        "infinite": f"std::isinf({a})",
        "number": f"!std::isnan({a})",
        "notanumber": f"std::isnan({a})",
        "normal": f"std::isnormal({a})",
        "subnormal": f"(std::fpclassify({a}) == FP_SUBNORMAL)",
    }
    del type
    return operands.write(instruction.operands[0], tests[instruction.modifiers[0]], "pred")


def select(operands: Operands, instruction: Instruction) -> str:
    """selp: one of two by a predicate."""
    type = type_of(instruction)
    a, b = (operands.read(o, type) for o in instruction.operands[1:3])
    chosen = operands.read(instruction.operands[3], "pred")
    return operands.write(instruction.operands[0], f"({chosen} ? {a} : {b})", type)


def _comparison(operands: Operands, instruction: Instruction, type: str) -> str:
    """Return the comparison of the first two sources, joined to a predicate where there is one."""
    kind = instruction.modifiers[0]
    if kind in UNSIGNED_COMPARISONS:
        kind, type = UNSIGNED_COMPARISONS[kind], unsigned(type)
    a, b = _sources(operands, instruction, type, 2)
    if kind in ("num", "nan"):
        value = f"{'!' if kind == 'num' else ''}ptx::unordered({a}, {b})"
    elif is_float(type) and len(kind) == 3:  # such as ltu: true when either is NaN
        value = f"(ptx::unordered({a}, {b}) || {a} {COMPARISONS[kind[:2]]} {b})"
    elif is_float(type) and kind == "ne":  # where C++ says true of NaN
        value = f"(!ptx::unordered({a}, {b}) && {a} != {b})"
    else:
        value = f"({a} {COMPARISONS[kind]} {b})"
    if len(instruction.operands) > 3:
        how = next(LOGIC[m] for m in instruction.modifiers if m in LOGIC)
        value = f"({value} {how} {operands.read(instruction.operands[3], 'pred')})"
    return value


def set_predicate(operands: Operands, instruction: Instruction) -> str:
    """setp: a predicate, and after a bar its opposite."""
    value = _comparison(operands, instruction, type_of(instruction))
    first, _, second = instruction.operands[0].partition("|")
    if not second:
        return operands.write(first, value, "pred")
    writes = [
        operands.write(first, "true_or_false", "pred"),
        operands.write(second, "!true_or_false", "pred"),
    ]
    return f"{{ bool true_or_false = {value}; {' '.join(writes)} }}"


def set_number(operands: Operands, instruction: Instruction) -> str:
    """set: a comparison as a number, 1.0 or all ones when true."""
    *_, result, type = instruction.modifiers
    value = _comparison(operands, instruction, type)
    yes = "1.0f" if is_float(result) else f"{CTYPES[result]}(-1)"
    return operands.write(
        instruction.operands[0], f"({value} ? {yes} : {CTYPES[result]}(0))", result
    )


def convert(operands: Operands, instruction: Instruction) -> str:
    """cvt: between integers, between floats, and from one to the other."""
    modifiers = instruction.modifiers
    if len(modifiers) < 2 or modifiers[-1] not in SIZES or modifiers[-2] not in SIZES:
        raise PtxError("this conversion is not translated")
    target, source = modifiers[-2:]
    (a,), ctype = _sources(operands, instruction, source), CTYPES[target]
    integral = next((TO_INTEGER[m] for m in modifiers if m in TO_INTEGER), "")
    if is_float(source):
        value = f"{integral}({a})" if integral else a
        if not is_float(target):
            value = f"ptx::to_integer<{ctype}>({value})"
        elif direction := _rounding(instruction):
            value = f"ptx::to_float_directed({value}, {direction})"
        elif source != target:
            value = f"{ctype}({value})"
        if is_float(target):
            return _result(operands, instruction, value, target)
        return operands.write(instruction.operands[0], value, target)
    if is_float(target):
        if direction := _rounding(instruction):
            a = f"ptx::from_integer_directed<{ctype}>({a}, {direction})"
    elif "sat" in modifiers:
        a = f"ptx::clamp<{ctype}>({a})"
    return operands.write(instruction.operands[0], f"{ctype}({a})", target)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("add", "sub", "addc", "subc"), add_or_subtract),
    **dict.fromkeys(("mul", "mul24"), multiply),
    **dict.fromkeys(("fma", "mad", "mad24", "madc"), multiply_add),
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(("min", "max"), minimum_or_maximum),
    **dict.fromkeys(("and", "or", "xor", "not"), logic),
    **dict.fromkeys(("shl", "shr"), shift),
    **dict.fromkeys(("bfe", "bfi"), bit_field),
    **dict.fromkeys(("popc", "clz", "brev", "bfind"), count_bits),
    "div": divide,
    "rem": remainder,
    "neg": negate,
    "abs": absolute,
    "lop3": logic_of_three,
    "shf": funnel_shift,
    "prmt": permute,
    "copysign": copy_sign,
    "testp": test_property,
    "selp": select,
    "setp": set_predicate,
    "set": set_number,
    "cvt": convert,
}
