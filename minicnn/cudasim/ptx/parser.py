"""PTX text to functions, variables and instructions.

PTX is NVIDIA's portable assembly: typed virtual registers, one instruction a statement. This reads
what the compiler writes, no more. Names are made unique on the way: a register declared in an
inner scope, `{ .reg .b32 %temp; ... }`, becomes one of the whole function under another name.

Source: NVIDIA, "Parallel Thread Execution ISA", version 9.0, chapters 4 (syntax) and 5 (state
spaces, types and variables).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from minicnn.cudasim.errors import CompileError

SPACES = {"param", "global", "const", "shared", "local"}
SIZES = {
    "pred": 1,
    "b8": 1, "u8": 1, "s8": 1,
    "b16": 2, "u16": 2, "s16": 2,
    "b32": 4, "u32": 4, "s32": 4, "f32": 4,
    "b64": 8, "u64": 8, "s64": 8, "f64": 8,
}  # fmt: skip

LINKAGE = r"(?:\.(?:visible|weak|extern|common)\s+)*"
FUNCTION = re.compile(
    rf"{LINKAGE}\.(entry|func)\s*(?:\(([^)]*)\)\s*)?([\w$]+)\s*(?:\(([^)]*)\))?([^{{;]*)([{{;])"
)
VARIABLE = re.compile(
    rf"({LINKAGE})\.(global|const|shared|local|param)\s+([^=;]*?)([\w$]+)\s*((?:\[\d*\]\s*)*)"
    r"(?:=\s*([^;]*))?;"
)
REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+([^;]*);")
LOCATION = re.compile(r"\.loc\s+(\d+)\s+(\d+)[^\n]*")
FILE = re.compile(r'\.file\s+(\d+)\s+"([^"]*)"')
BOUND = re.compile(r"\.maxntid\s+([\d\s,]+)")
LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
TABLE = re.compile(r"\s*\.branchtargets\s+([^;]*);")
INSTRUCTION = re.compile(r"(?:@(!?)(%[\w$]+)\s+)?([a-z][\w.:]*)\s*([^;]*);")
NAME = re.compile(r"%?[A-Za-z_$][\w$]*(?:\.[xyz])?")


class PtxError(CompileError):
    """PTX that is not read or not translated; the message names the line and what stands there."""


@dataclass(frozen=True)
class Location:
    """A line of the CUDA source."""

    file: str
    line: int


@dataclass(frozen=True)
class Variable:
    """Memory that has a name: a parameter, a shared or local array, a table of constants.

    `count` elements of `type`; 0 for an array of unknown size, which is dynamic shared memory.
    """

    name: str
    space: str
    type: str
    count: int
    align: int
    initial: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * SIZES[self.type]


@dataclass(frozen=True)
class Label:
    """A place to branch to."""

    name: str


@dataclass(frozen=True)
class Instruction:
    """`@!%p1 ld.global.nc.f32 %f1, [%rd2+4];` is ("ld", ("global", "nc", "f32"), ...).

    `guard` is the predicate it is executed under, with a leading ! when negated, or empty.
    """

    name: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str
    location: Location
    line: int

    def __str__(self) -> str:
        opcode = ".".join([self.name, *self.modifiers])
        return f"{opcode} {', '.join(self.operands)}".strip()


@dataclass
class Function:
    """A kernel (`entry`) or a device function that the compiler did not inline.

    `max_threads` is what __launch_bounds__ allows in a block; 0 where it says nothing.
    """

    name: str
    entry: bool
    parameters: list[Variable]
    results: list[Variable]
    registers: dict[str, str] = field(default_factory=dict)
    variables: list[Variable] = field(default_factory=list)
    statements: list[Label | Instruction] = field(default_factory=list)
    max_threads: int = 0
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Module:
    """A whole PTX text."""

    variables: list[Variable] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)


def parse(text: str) -> Module:
    """Read a PTX text.

    Raises:
        PtxError: it holds something the compiler is not known to write.
    """
    text = re.sub(r"//[^\n]*", "", text)
    files = {int(number): PurePosixPath(path).name for number, path in FILE.findall(text)}
    module, at = Module(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif match := re.compile(r"\.(version|target|address_size|file)\b[^\n]*").match(text, at):
            at = match.end()
        elif match := re.compile(r"\.section\b[^{]*\{[^}]*\}").match(text, at):
            at = match.end()
        elif match := FUNCTION.match(text, at):
            at = match.end()
            if match[6] == "{":
                function = Function(match[3], match[1] == "entry", [], [])
                function.parameters = _parameters(match[4] or "")
                function.results = _parameters(match[2] or "")
                if bound := BOUND.search(match[5]):
                    function.max_threads = math.prod(map(int, bound[1].split(",")))
                at = _Body(text, files, function).read(at)
                module.functions.append(function)
        elif match := VARIABLE.match(text, at):
            module.variables.append(_variable(match))
            at = match.end()
        else:
            raise _unread(text, at)
    return module


class _Body:
    """The statements of one function, read from its opening brace to the closing one."""

    def __init__(self, text: str, files: dict[int, str], function: Function) -> None:
        self.text = text
        self.files = files
        self.function = function
        self.location = Location("", 0)
        self.scopes: list[dict[str, str]] = [{}]
        self.renamed = 0

    def read(self, at: int) -> int:
        """Fill in the function and return where its text ends."""
        text, line, counted = self.text, 1, 0
        while self.scopes:
            if at >= len(text):
                raise PtxError(f"{self.function.name}: the text ends within the function")
            line, counted = line + text.count("\n", counted, at), at
            if text[at].isspace():
                at += 1
            elif text[at] == "{":
                self.scopes.append({})
                at += 1
            elif text[at] == "}":
                self.scopes.pop()
                at += 1
            elif text[at] == ".":
                at = self._directive(at)
            elif match := LABEL.match(text, at):
                at = self._label(match)
            elif match := INSTRUCTION.match(text, at):
                self._instruction(match, line)
                at = match.end()
            else:
                raise _unread(text, at)
        return at

    def _directive(self, at: int) -> int:
        if match := LOCATION.match(self.text, at):
            # Line 0 marks code of no line of its own: it keeps the last one.
            if int(match[2]):
                self.location = Location(self.files.get(int(match[1]), ""), int(match[2]))
        elif match := REGISTERS.match(self.text, at):
            for name in _register_names(match[2]):
                self.function.registers[self._declare(name)] = match[1]
        elif match := VARIABLE.match(self.text, at):
            self.function.variables.append(_variable(match, self._declare(match[4])))
        elif not (match := re.compile(r"\.pragma\b[^;]*;").match(self.text, at)):
            raise _unread(self.text, at)
        return match.end()

    def _label(self, match: re.Match[str]) -> int:
        if table := TABLE.match(self.text, match.end()):
            targets = tuple(target.strip() for target in table[1].split(","))
            self.function.tables[match[1]] = targets
            return table.end()
        self.function.statements.append(Label(match[1]))
        return match.end()

    def _instruction(self, match: re.Match[str], line: int) -> None:
        negated, guard, opcode, operands = match.groups()
        name, *modifiers = opcode.replace("::", "_").split(".")
        self.function.statements.append(
            Instruction(
                name,
                tuple(modifiers),
                tuple(self._resolve(part) for part in split(operands)),
                negated + self._resolve(guard) if guard else "",
                self.location,
                line,
            )
        )

    def _declare(self, name: str) -> str:
        """Return the unique name of what is declared here."""
        unique = name
        if len(self.scopes) > 1:
            self.renamed += 1
            unique = f"{name}_{self.renamed}"
        self.scopes[-1][name] = unique
        return unique

    def _resolve(self, operand: str) -> str:
        def unique(match: re.Match[str]) -> str:
            for scope in reversed(self.scopes):
                if match[0] in scope:
                    return scope[match[0]]
            return match[0]

        return NAME.sub(unique, operand) if len(self.scopes) > 1 else operand


def split(text: str) -> list[str]:
    """Split operands at the commas outside of [], {} and ()."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        if character in "[{(":
            depth += 1
        elif character in ")}]":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def _register_names(text: str) -> list[str]:
    names: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(r"(%?[\w$]+)(?:<(\d+)>)?", part.strip())
        if match is None:
            raise PtxError(f"register declaration {text!r} is not understood")
        names += [f"{match[1]}{i}" for i in range(int(match[2]))] if match[2] else [match[1]]
    return names


def _parameters(text: str) -> list[Variable]:
    found = []
    for part in text.split(","):
        if part.strip():
            match = VARIABLE.match(f"{part.strip()};")
            if match is None:
                raise PtxError(f"parameter {part.strip()!r} is not understood")
            found.append(_variable(match))
    return found


def _variable(match: re.Match[str], name: str = "") -> Variable:
    _, space, attributes, declared, brackets, initial = match.groups()
    # What follows .ptr says where a pointer points to, not how it lies itself.
    align = re.search(r"\.align\s+(\d+)", attributes.split(".ptr")[0])
    types = [word for word in re.findall(r"\.(\w+)", attributes) if word in SIZES]
    if len(types) != 1:
        raise PtxError(f"variable {match[0]!r} is not understood")
    count = 1
    for length in re.findall(r"\[(\d*)\]", brackets):
        count *= int(length or 0)
    values = tuple(split(initial.strip().strip("{}"))) if initial else ()
    size = SIZES[types[0]]
    return Variable(
        name or declared, space, types[0], count, int(align[1]) if align else size, values
    )


def _unread(text: str, at: int) -> PtxError:
    line = text.count("\n", 0, at) + 1
    found = text[at:].split("\n", 1)[0].strip()
    return PtxError(f"PTX line {line}: {found!r} is not understood")
