"""Operands of PTX instructions as C++ expressions, and the types they have.

A PTX register has a size, and often a type, but an instruction may read it as another of the same
size (`add.f32` on `.b32` registers) or of a smaller one (`st.u8` from a `.b16` register). So every
operand is read, and every result written, as the type that the opcode names.

Addresses in shared memory are offsets from the start of the block's shared memory, as on the GPU,
where they have 32 bits; all others are plain addresses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from minicnn.cudasim.ptx.parser import SIZES, Function, Instruction, PtxError, Variable, split

CTYPES = {
    "pred": "bool",
    "b8": "uint8_t", "u8": "uint8_t", "s8": "int8_t",
    "b16": "uint16_t", "u16": "uint16_t", "s16": "int16_t",
    "b32": "uint32_t", "u32": "uint32_t", "s32": "int32_t", "f32": "float",
    "b64": "uint64_t", "u64": "uint64_t", "s64": "int64_t", "f64": "double",
}  # fmt: skip
SPECIAL = {
    **{f"%tid.{axis}": f"threadIdx.{axis}" for axis in "xyz"},
    **{f"%ntid.{axis}": f"blockDim.{axis}" for axis in "xyz"},
    **{f"%ctaid.{axis}": f"blockIdx.{axis}" for axis in "xyz"},
    **{f"%nctaid.{axis}": f"gridDim.{axis}" for axis in "xyz"},
    "%laneid": "ptx::lane()",
    "%warpid": "(ptx::thread() / 32)",
    "%lanemask_eq": "(1u << ptx::lane())",
    "%lanemask_lt": "((1u << ptx::lane()) - 1)",
    "%lanemask_le": "((2u << ptx::lane()) - 1)",
    "%lanemask_gt": "~((2u << ptx::lane()) - 1)",
    "%lanemask_ge": "~((1u << ptx::lane()) - 1)",
    "WARP_SZ": "32u",
}


def identifier(name: str) -> str:
    """Return a C++ name for a PTX name."""
    return re.sub(r"\W", "_", name.lstrip("%"))


def is_float(type: str) -> bool:
    """Say whether a PTX type is f32 or f64."""
    return type in ("f32", "f64")


def unsigned(type: str) -> str:
    """Return the unsigned integer type of the same size."""
    return f"u{8 * SIZES[type]}"


class Operands:
    """What the names of one function mean.

    `callable` names the functions it may call; `keeps_subnormals` says that the CPU runs in the
    mode of float64.
    """

    def __init__(
        self,
        function: Function,
        variables: Mapping[str, Variable],
        callable: Collection[str] = (),
        keeps_subnormals: bool = False,
    ) -> None:
        self.function = function
        self.callable = callable
        self.keeps_subnormals = keeps_subnormals
        self.variables = {**variables, **{v.name: v for v in function.variables}}

    def read(self, operand: str, type: str) -> str:
        """Return the value of an operand as `type`."""
        ctype = CTYPES[type]
        if operand.startswith("!"):
            return f"!{self.read(operand[1:], type)}"
        if operand in SPECIAL:
            return f"{ctype}({SPECIAL[operand]})"
        register = self.function.registers.get(operand)
        if register is not None:
            return self._as(identifier(operand), register, type)
        if literal := self._literal(operand, type):
            return literal
        return f"{ctype}({self.symbol(operand)})"

    def write(self, destination: str, value: str, type: str) -> str:
        """Return the statement that gives a register a value of `type`."""
        ctype = CTYPES[type]
        if destination == "_":
            return f"(void)({value});"
        register = self.function.registers.get(destination)
        if register is None:
            raise PtxError(f"{destination!r} is no register")
        name, wanted = identifier(destination), CTYPES[register]
        if wanted == ctype:
            return f"{name} = {value};"
        if SIZES[register] == SIZES[type] and (is_float(register) or is_float(type)):
            return f"{name} = ptx::bits<{wanted}>({ctype}({value}));"
        return f"{name} = {wanted}({ctype}({value}));"

    def address(self, operand: str, space: str) -> str:
        """Return the plain address that `[register+offset]` stands for, a char pointer."""
        match = re.fullmatch(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if match is None:
            raise PtxError(f"address {operand!r} is not understood")
        register = self.function.registers.get(match[1])
        base = self.read(match[1], "u32" if register and SIZES[register] == 4 else "u64")
        offset = int(match[2], 0) if match[2] else 0
        sum = f"{base} + {offset}ll" if offset else base
        return f"shared_memory + ({sum})" if space == "shared" else f"(char*)({sum})"

    def symbol(self, name: str) -> str:
        """Return the address of a variable, `table` or `table+8`."""
        base, _, offset = name.partition("+")
        variable = self.variables.get(base.strip())
        if variable is None:
            raise PtxError(f"operand {name!r} is not understood")
        place = f"uint64_t({identifier(variable.name)})"
        return f"{place} + {int(offset, 0)}" if offset else place

    def _as(self, name: str, register: str, type: str) -> str:
        wanted, held = CTYPES[type], CTYPES[register]
        if wanted == held or type == "pred":
            return name
        if SIZES[register] == SIZES[type] and (is_float(register) or is_float(type)):
            return f"ptx::bits<{wanted}>({name})"
        if is_float(register) or is_float(type):
            raise PtxError(f"register of type {register} is read as {type}")
        return f"{wanted}({name})"

    def _literal(self, text: str, type: str) -> str:
        """Return a number of the text as `type`, or nothing when it is a name."""
        ctype = CTYPES[type]
        if match := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", text):
            value, holds = f"0x{match[1].lower()}u", "f32"
        elif match := re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", text):
            value, holds = f"0x{match[1].lower()}ull", "f64"
        elif re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
            number = int(text.rstrip("U"), 0)
            if type == "pred":
                return "true" if number else "false"
            # Signed as the text has it; the cast wraps it as the GPU would.
            low = number & (2**64 - 1)
            return f"{ctype}(0x{low:x}ull)" if low >= 2**63 else f"{ctype}({low})"
        else:
            return ""
        if is_float(type) and holds != type:
            raise PtxError(f"number {text} is read as {type}")
        return f"ptx::bits<{ctype}>({value})"


def elements(operand: str) -> list[str]:
    """Return the elements of a vector operand `{a, b}`, or the operand itself."""
    return split(operand[1:-1]) if operand.startswith("{") else [operand]


def type_of(instruction: Instruction) -> str:
    """Return the type an opcode ends with.

    Raises:
        PtxError: it is none that is translated, such as half precision.
    """
    found = instruction.modifiers[-1] if instruction.modifiers else ""
    if found not in SIZES:
        raise PtxError(f"type {found!r} is not translated")
    return found
