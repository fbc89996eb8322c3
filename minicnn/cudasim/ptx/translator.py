"""PTX to C++: one C++ function for each of PTX, one statement for each instruction.

    setp.ge.s32 %p1, %r1, %r2;    p1 = (int32_t(r1) >= int32_t(r2));
    @%p1 bra $L__BB0_2;           if (p1) { goto _L__BB0_2; }
    ld.global.f32 %f1, [%rd1];    { const char* at = (char*)(rd1); ... f1 = ptx::load<float>(at); }

Registers become variables, labels stay labels. A kernel's parameters arrive as CUDA passes them, an
array of pointers to their values. What C++ has no operator for is in `runtime/ptx.h`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minicnn.cudasim.ptx import arithmetic, control, memory
from minicnn.cudasim.ptx.operands import CTYPES, Operands, identifier
from minicnn.cudasim.ptx.parser import (
    SIZES,
    Function,
    Instruction,
    Label,
    Module,
    PtxError,
    parse,
)

HANDLERS = {**arithmetic.HANDLERS, **memory.HANDLERS, **control.HANDLERS}
EXPORTED = 'extern "C" __attribute__((visibility("default")))'


@dataclass(frozen=True)
class Translation:
    """C++ for one kernel, and the PTX types of its parameters.

    The kernel is the function `cudasim_kernel` that `runtime/runtime.h` describes.
    """

    source: str
    parameters: tuple[str, ...]


def translate(ptx: str, symbol: str) -> Translation:
    """Translate one kernel of a PTX text, with the device functions it may call.

    Raises:
        PtxError: an instruction is none that is translated; the message holds it, its line in the
            PTX and the line of the CUDA source it comes from.
        ValueError: there is no kernel of that symbol.
    """
    module = parse(ptx)
    kernel = next((f for f in module.functions if f.entry and f.name == symbol), None)
    if kernel is None:
        entries = [f.name for f in module.functions if f.entry]
        raise ValueError(f"symbol: got {symbol!r}, expected one of {entries}")
    functions = [*_called(module, kernel), kernel]
    writer = _Writer(module, functions)
    lines = [
        '#include "ptx.h"',
        "",
        "namespace {",
        "",
        *writer.variables(),
        *(f"{writer.declaration(function)};" for function in functions[:-1]),
        "",
        "}  // namespace",
        *(line for function in functions for line in writer.function(function)),
        "",
        f"{EXPORTED} const int cudasim_launch_bound = {kernel.max_threads};",
        "",
    ]
    return Translation("\n".join(lines), tuple(p.type for p in kernel.parameters))


def source_name(symbol: str) -> str:
    """Return the name that a shared array has in the source: `tile` for `_ZZ4gemmE4tile`."""
    for match in re.finditer(r"E(\d+)", symbol):
        name = symbol[match.end() : match.end() + int(match[1])]
        if re.fullmatch(r"(_\d+)?", symbol[match.end() + int(match[1]) :]) and name:
            return name
    return symbol


class _Writer:
    """Writes the functions of one module and collects the lines they come from."""

    def __init__(self, module: Module, functions: Sequence[Function]) -> None:
        self.module = module
        self.functions = functions
        self.named = {variable.name: variable for variable in module.variables}
        self.callable = {f.name for f in functions}
        self.keeps_subnormals = any(map(_computes_in_double, functions))

    def variables(self) -> Iterator[str]:
        """Yield tables in global and constant memory, and what tells shared arrays apart."""
        for variable in self.module.variables:
            if not any(_names(function, variable.name) for function in self.functions):
                continue
            if variable.space == "shared":
                yield f"const char key_{identifier(variable.name)} = 0;"
            if variable.space in ("global", "const"):
                values = ", ".join(_initial(value, variable.type) for value in variable.initial)
                yield (
                    f"alignas(16) {CTYPES[variable.type]} {identifier(variable.name)}"
                    f"[{max(variable.count, 1)}] = {{{values}}};"
                )

    def declaration(self, function: Function) -> str:
        """Return the head of the C++ function."""
        if function.entry:
            return f"{EXPORTED} void cudasim_kernel(const uint64_t* arguments)"
        places = [
            memory.parameter_place(variable, False, number)
            for number, variable in enumerate([*function.results, *function.parameters])
        ]
        return f"void {identifier(function.name)}({', '.join(places)})"

    def function(self, function: Function) -> Iterator[str]:
        """Yield the lines of the C++ function."""
        passed = {v.name: v for v in [*function.parameters, *function.results]}
        operands = Operands(
            function, {**self.named, **passed}, self.callable, self.keeps_subnormals
        )
        statements = [self._statement(operands, s) for s in function.statements]
        yield ""
        if not function.entry:
            yield "namespace {"
        yield f"{self.declaration(function)} {{"
        if function.entry:
            for number, variable in enumerate(function.parameters):
                yield f"    {memory.parameter_place(variable, True, number)}"
        yield from _registers(function)
        if function.entry and self.keeps_subnormals:
            yield "    ptx::keep_subnormals();"
        yield "    char* const shared_memory = cudasim_shared_base();"
        yield from self._memory(function)
        yield from statements
        yield "}"
        if not function.entry:
            yield "}  // namespace"

    def _memory(self, function: Function) -> Iterator[str]:
        """Yield the arrays that a function has, or names."""
        for variable in [*function.variables, *self.module.variables]:
            name = identifier(variable.name)
            if variable.space == "shared" and _names(function, variable.name):
                shown, line = source_name(variable.name), _first_line(function)
                if variable in function.variables:
                    yield f"    static const char key_{name} = 0;"
                place = f'cudasim_dynamic_shared("{shown}", {line})'
                if variable.count:
                    size = f"{variable.size}, {variable.align}"
                    place = f'cudasim_shared(&key_{name}, {size}, "{shown}", {line})'
                yield f"    const uint64_t {name} = (char*){place} - shared_memory;"
            elif variable.space in ("local", "param"):
                yield f"    alignas(16) char {name}[{max(variable.size, 1)}];"

    def _statement(self, operands: Operands, statement: Label | Instruction) -> str:
        if isinstance(statement, Label):
            return f"{identifier(statement.name)}:;"
        handler = HANDLERS.get(statement.name)
        try:
            if handler is None:
                raise PtxError("this instruction is not translated")
            text = handler(operands, statement)
        except (PtxError, ValueError, KeyError, IndexError) as error:
            place = f"{statement.location.file}:{statement.location.line}"
            raise PtxError(
                f"PTX line {statement.line}, from {place}: {statement}: {error}"
            ) from error
        if statement.guard:
            text = f"if ({operands.read(statement.guard, 'pred')}) {{ {text} }}"
        if "@LINE" in text:
            # By this the compiled code knows which line of the CUDA source an access comes from.
            line, file = statement.location.line, statement.location.file
            text = text.replace("@LINE", str(line))
            if line:
                return f'#line {line} "{file}"\n    {text}'
        return f"    {text}"


def _called(module: Module, function: Function) -> list[Function]:
    """Return the device functions that a function calls, and those that they call."""
    defined = {f.name: f for f in module.functions if not f.entry}
    found: dict[str, Function] = {}
    pending = [function]
    while pending:
        for statement in pending.pop().statements:
            if isinstance(statement, Instruction) and statement.name == "call":
                for name in statement.operands[:2]:
                    if name in defined and name not in found:
                        found[name] = defined[name]
                        pending.append(defined[name])
    return list(found.values())


def _computes_in_double(function: Function) -> bool:
    moves = ("ld", "st", "mov", "selp")
    return any(
        "f64" in statement.modifiers and statement.name not in moves
        for statement in function.statements
        if isinstance(statement, Instruction)
    )


def _registers(function: Function) -> Iterator[str]:
    """Yield the declarations of the registers that the function uses."""
    text = " ".join(
        f"{statement.guard} {' '.join(statement.operands)}"
        for statement in function.statements
        if isinstance(statement, Instruction)
    )
    used = set(re.findall(r"%?[\w$]+", text))
    for type, ctype in CTYPES.items():
        names = [identifier(n) for n, t in function.registers.items() if t == type and n in used]
        for start in range(0, len(names), 8):
            yield f"    {ctype} {', '.join(f'{name} = 0' for name in names[start : start + 8])};"
    yield "    bool carry = false;"


def _first_line(function: Function) -> int:
    """Return the line of the source that a function begins at."""
    found = (s.location.line for s in function.statements if isinstance(s, Instruction))
    return next(found, 0)


def _names(function: Function, name: str) -> bool:
    """Say whether any instruction of a function names a variable."""
    word = re.compile(rf"(?<![\w$]){re.escape(name)}(?![\w$])")
    return any(
        word.search(operand)
        for statement in function.statements
        if isinstance(statement, Instruction)
        for operand in statement.operands
    )


def _initial(value: str, type: str) -> str:
    if match := re.fullmatch(r"0([fFdD])([0-9a-fA-F]+)", value):
        return f"ptx::bits<{CTYPES[type]}>(0x{match[2]}{'u' if SIZES[type] == 4 else 'ull'})"
    number = int(value.rstrip("U"), 0) & (2 ** (8 * SIZES[type]) - 1)
    return str(number) if SIZES[type] < 4 else f"{CTYPES[type]}({number}ull)"
