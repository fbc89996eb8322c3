"""Instructions that steer: branches and calls, barriers, and what the lanes of a warp exchange."""

from __future__ import annotations

from minicnn.cudasim.ptx.operands import Operands, identifier
from minicnn.cudasim.ptx.parser import Instruction, PtxError, split

SHUFFLES = {"idx": "IDX", "up": "UP", "down": "DOWN", "bfly": "XOR"}
REDUCTIONS = {"popc": "COUNT", "and": "AND", "or": "OR"}
# What the compiler calls for `assert`; its first argument is the text of the condition.
ASSERT = "__assertfail"


def leave(operands: Operands, instruction: Instruction) -> str:
    """ret, exit."""
    if instruction.name == "exit" and not operands.function.entry:
        raise PtxError("exit within a device function is not translated")
    return "return;"


def branch(operands: Operands, instruction: Instruction) -> str:
    """bra; brx.idx jumps by a table."""
    if instruction.name == "bra":
        return f"goto {identifier(instruction.operands[0])};"
    targets = operands.function.tables.get(instruction.operands[1])
    if targets is None:
        raise PtxError(f"there is no table {instruction.operands[1]}")
    cases = " ".join(f"case {i}: goto {identifier(t)};" for i, t in enumerate(targets))
    return f"switch ({operands.read(instruction.operands[0], 'u32')}) {{ {cases} }}"


def call(operands: Operands, instruction: Instruction) -> str:
    """call: of a function of the same text; arguments and results pass through memory."""
    results = split(instruction.operands[0][1:-1]) if instruction.operands[0][0] == "(" else []
    name, *rest = instruction.operands[1:] if results else instruction.operands
    arguments = split(rest[0].strip("() \n\t")) if rest else []
    if name == ASSERT:
        return f"ptx::assertion_failed({identifier(arguments[0])}, @LINE);"
    if name not in operands.callable:
        raise PtxError(f"{name} is not defined here")
    passed = ", ".join(identifier(argument) for argument in [*results, *arguments])
    return f"{identifier(name)}({passed});"


def barrier(operands: Operands, instruction: Instruction) -> str:
    """bar: of all threads of the block, with or without a vote, or of a warp's lanes."""
    kind = [m for m in instruction.modifiers if m not in ("cta", "aligned")]
    if kind == ["warp", "sync"]:
        return f"cudasim_syncwarp({operands.read(instruction.operands[0], 'b32')}, @LINE);"
    if kind == ["sync"]:
        _check_barrier(instruction, instruction.operands)
        return "cudasim_barrier(@LINE);"
    if kind[0] == "red":
        target, *barrier_operands, vote = instruction.operands
        _check_barrier(instruction, barrier_operands)
        predicate, how = operands.read(vote, "pred"), REDUCTIONS[kind[1]]
        value = f"cudasim_barrier_reduce(@LINE, {predicate}, ptx::{how})"
        return operands.write(target, value, kind[2])
    raise PtxError("this form is not translated")


def _check_barrier(instruction: Instruction, barrier_operands: tuple[str, ...] | list[str]) -> None:
    if list(barrier_operands) != ["0"]:
        raise PtxError("only barrier 0 of all threads of the block is translated")


def shuffle(operands: Operands, instruction: Instruction) -> str:
    """shfl.sync: read another lane's register; the predicate says whether that lane exists."""
    if instruction.modifiers[0] != "sync":
        raise PtxError("shuffles without a mask are not translated")
    target, _, valid = instruction.operands[0].partition("|")
    value, lane, clamp, mask = (operands.read(o, "b32") for o in instruction.operands[1:])
    kind = SHUFFLES[instruction.modifiers[1]]
    got = f"ptx::shuffle(ptx::{kind}, {value}, {lane}, {clamp}, {mask}, valid, @LINE)"
    writes = operands.write(target, got, "b32")
    if valid:
        writes += " " + operands.write(valid, "valid", "pred")
    return f"{{ bool valid; {writes} }}"


def vote(operands: Operands, instruction: Instruction) -> str:
    """vote.sync: which lanes, any lane or all lanes say yes."""
    if instruction.modifiers[0] != "sync":
        raise PtxError("votes without a mask are not translated")
    target, answer, mask = instruction.operands
    yes, mask = operands.read(answer, "pred"), operands.read(mask, "b32")
    ballot = f"cudasim_ballot({mask}, {yes}, @LINE)"
    kind = instruction.modifiers[1]
    if kind == "ballot":
        return operands.write(target, ballot, "b32")
    values = {
        "any": f"({ballot} != 0)",
        "all": f"(cudasim_ballot({mask}, !{yes}, @LINE) == 0)",
    }
    if kind not in values:
        raise PtxError("this form is not translated")
    return operands.write(target, values[kind], "pred")


def nothing(operands: Operands, instruction: Instruction) -> str:
    """Fences and hints: accesses here happen in order, and one after the other."""
    return ";"


def trap(operands: Operands, instruction: Instruction) -> str:
    """trap, which the compiler puts where a program cannot come."""
    return 'cudasim_fail("trap", @LINE);'


HANDLERS = {
    **dict.fromkeys(("ret", "exit"), leave),
    **dict.fromkeys(("bra", "brx"), branch),
    **dict.fromkeys(("bar", "barrier"), barrier),
    **dict.fromkeys(("membar", "fence", "prefetch", "prefetchu", "nanosleep"), nothing),
    "call": call,
    "shfl": shuffle,
    "vote": vote,
    "trap": trap,
}
