"""Instructions that move: between registers, and between registers and memory.

Each access to global or shared memory announces itself to the simulator before it happens, with the
line of the CUDA source it comes from. A vector access announces itself once, as wide as it is.
"""

from __future__ import annotations

from minicnn.cudasim.ptx.operands import CTYPES, Operands, elements, identifier, type_of
from minicnn.cudasim.ptx.parser import SIZES, Instruction, PtxError, Variable

SPACES = ("global", "shared", "local", "const", "param")
ATOMICS = {
    "add": "old + value",
    "min": "value < old ? value : old",
    "max": "old < value ? value : old",
    "exch": "value",
    "and": "old & value",
    "or": "old | value",
    "xor": "old ^ value",
    "inc": "old >= value ? 0 : old + 1",
    "dec": "old == 0 || old > value ? value : old - 1",
    "cas": "old == compared ? value : old",
}


def space_of(instruction: Instruction) -> str:
    """Return the state space an opcode names, or "generic"."""
    for modifier in instruction.modifiers:
        name, _, rest = modifier.partition("_")
        if name in SPACES and rest in ("", "cta"):
            return name
    return "generic"


def move(operands: Operands, instruction: Instruction) -> str:
    """mov: also packs a vector into a register, and unpacks one."""
    type = type_of(instruction)
    target, source = instruction.operands
    if target.startswith("{"):
        parts = elements(target)
        bits = 8 * SIZES[type] // len(parts)
        value = operands.read(source, f"b{8 * SIZES[type]}")
        writes = [
            operands.write(part, f"{CTYPES[f'b{bits}']}({value} >> {bits * i})", f"b{bits}")
            for i, part in enumerate(parts)
        ]
        return " ".join(writes)
    if source.startswith("{"):
        parts = elements(source)
        bits = 8 * SIZES[type] // len(parts)
        wide = f"b{8 * SIZES[type]}"
        packed = " | ".join(
            f"{CTYPES[wide]}({operands.read(part, f'b{bits}')}) << {bits * i}"
            for i, part in enumerate(parts)
        )
        return operands.write(target, packed, wide)
    return operands.write(target, operands.read(source, type), type)


def convert_address(operands: Operands, instruction: Instruction) -> str:
    """cvta: to a plain address, or `cvta.to` one of a state space."""
    type, source = type_of(instruction), instruction.operands[1]
    value = operands.read(source, type)
    if space_of(instruction) == "shared":
        back = "to" in instruction.modifiers
        value = (
            f"{value} - uint64_t(shared_memory)" if back else f"uint64_t(shared_memory) + {value}"
        )
    return operands.write(instruction.operands[0], value, type)


def load(operands: Operands, instruction: Instruction) -> str:
    """ld, ldu: one element, or a vector of neighbours as one wide access."""
    type, space = type_of(instruction), space_of(instruction)
    target, place = instruction.operands
    targets, ctype, size = elements(target), CTYPES[type], SIZES[type]
    address = _parameter(operands, place) if space == "param" else operands.address(place, space)
    writes = [
        operands.write(each, f"ptx::load<{ctype}>(at + {i * size})", type)
        for i, each in enumerate(targets)
    ]
    announced = _announce(instruction, space, "CUDASIM_READ", len(targets) * size)
    return f"{{ const char* at = {address};{announced} {' '.join(writes)} }}"


def store(operands: Operands, instruction: Instruction) -> str:
    """st: likewise."""
    type, space = type_of(instruction), space_of(instruction)
    place, source = instruction.operands
    sources, ctype, size = elements(source), CTYPES[type], SIZES[type]
    address = _parameter(operands, place) if space == "param" else operands.address(place, space)
    writes = [
        f"ptx::store<{ctype}>(at + {i * size}, {operands.read(each, type)});"
        for i, each in enumerate(sources)
    ]
    announced = _announce(instruction, space, "CUDASIM_WRITE", len(sources) * size)
    return f"{{ char* at = {address};{announced} {' '.join(writes)} }}"


def atomic(operands: Operands, instruction: Instruction) -> str:
    """atom, red: read, compute and write in one step; `red` forgets what was read."""
    type, space = type_of(instruction), space_of(instruction)
    keeps = instruction.name == "atom"
    place, *values = instruction.operands[1:] if keeps else instruction.operands
    kind = next((m for m in instruction.modifiers if m in ATOMICS), "")
    if not kind or any(value.startswith("{") for value in values):
        raise PtxError("this form is not translated")
    ctype = CTYPES[type]
    named = ["compared", "value"] if kind == "cas" else ["value"]
    given = " ".join(
        f"{ctype} {name} = {operands.read(value, type)};"
        for name, value in zip(named, values, strict=True)
    )
    step = f"[=]({ctype} old) -> {ctype} {{ return {ATOMICS[kind]}; }}"
    change = f"ptx::change<{ctype}>(at, {step})"
    done = operands.write(instruction.operands[0], change, type) if keeps else f"{change};"
    announced = _announce(instruction, space, "CUDASIM_ATOMIC", SIZES[type])
    return f"{{ char* at = {operands.address(place, space)};{announced} {given} {done} }}"


def parameter_place(variable: Variable, entry: bool, number: int) -> str:
    """Return the C++ declaration by which a function receives a parameter."""
    name = identifier(variable.name)
    if entry:
        return f"char* const {name} = (char*)&arguments[{number}];"
    return f"char* {name}"


def _parameter(operands: Operands, place: str) -> str:
    name, _, offset = place.strip("[] ").partition("+")
    if operands.variables[name.strip()].space != "param":
        raise PtxError(f"{name} is no parameter")
    base = identifier(name.strip())
    return f"{base} + {int(offset, 0)}" if offset else base


def _announce(instruction: Instruction, space: str, kind: str, size: int) -> str:
    """Return the call that tells the simulator of an access; a thread's own memory needs none."""
    if space in ("param", "local"):
        return ""
    return f" ANNOUNCE(at, {size}, {kind}, @LINE);"


HANDLERS = {
    "mov": move,
    "cvta": convert_address,
    "ld": load,
    "ldu": load,
    "st": store,
    "atom": atomic,
    "red": atomic,
}
