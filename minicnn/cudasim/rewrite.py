"""Read CUDA C and turn the little of it that no header can explain to a C++ compiler into C++.

    __shared__ float tile[32][33];     typedef float cudasim_type_1[32][33]; ... a reference to
                                       memory that the runtime gives the block
    extern __shared__ float row[];     a pointer to the dynamic shared memory
    #pragma unroll                     #pragma GCC unroll
    extern "C" __global__              __global__, so that kernels can be static

Lines keep their numbers: the compilers see one text whose lines are counted through, and `Source`
knows from the `#line` directives which file and line each of them is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from minicnn.cudasim.build import SOURCE_NAME
from minicnn.cudasim.errors import CompileError

# Comments, and the strings in which what looks like one is none.
_COMMENT = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'""", re.S)
_LINE = re.compile(r'^[ \t]*#[ \t]*(?:line[ \t]+)?(\d+)(?:[ \t]+"([^"\n]*)")?.*$')
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"].*$')
_BRACKETS = r"(?:\[[^\]]*\]\s*)*"
_SHARED = re.compile(
    r"(?P<extern>extern\s+)?(?:static\s+)?(?P<before>__align__\s*\(\s*\w+\s*\)\s*|alignas\s*\([^)]*\)\s*)?"
    r"\b__shared__\b\s*(?P<declaration>[^;{}]*);"
)
_ALIGN = re.compile(r"\b(?:__align__|alignas)\s*\(([^()]*)\)")
_DECLARATOR = re.compile(rf"^\s*(?P<pointer>\**)\s*(?P<name>\w+)\s*(?P<sizes>{_BRACKETS})$")
_UNROLL = re.compile(r"^([ \t]*)#[ \t]*pragma[ \t]+unroll\b[ \t]*\(?[ \t]*(\w*)[ \t]*\)?", re.M)
_BOUNDS = r"(?:__launch_bounds__\s*\((?P<bound{}>(?:[^()]|\([^()]*\))*)\)\s*)?"
_KERNEL = re.compile(
    r"(?:template\s*<(?P<template>[^;{}()]*)>\s*)?(?P<c>extern\s*\"C\"\s*)?(?:static\s+|inline\s+)*"
    r"(?P<global>\b__global__)\s+(?:static\s+|inline\s+)*"
    + _BOUNDS.format(1) + r"void\s+" + _BOUNDS.format(2) + r"(?P<name>\w+)\s*(?:<[^;{}()]*>\s*)?\("
)  # fmt: skip
# What the shim and NVRTC know without them.
_KNOWN_HEADERS = frozenset(
    "cuda_runtime.h cuda.h device_launch_parameters.h stdio.h cstdio math.h cmath math_constants.h "
    "stdint.h cstdint stddef.h cstddef float.h cfloat limits.h climits assert.h cassert".split()
)
_LIMITS = """\
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define FLT_MAX __FLT_MAX__
#define FLT_MIN __FLT_MIN__
#define FLT_EPSILON __FLT_EPSILON__
#define DBL_MAX __DBL_MAX__
#define DBL_EPSILON __DBL_EPSILON__
#define INT_MAX __INT_MAX__
#define INT_MIN (-__INT_MAX__ - 1)
"""


@dataclass(frozen=True)
class KernelText:
    """A kernel as its source declares it.

    Attributes:
        name: of the function.
        parameters: their names, "" where one has none.
        template: the names of the template's parameters; None for a plain function.
        extern_c: whether it can be fetched by its bare name, without a name expression.
        launch_bound: the expression for the most threads a block may have; "" if it gives none.
        line: in the text's own count.
    """

    name: str
    parameters: tuple[str, ...]
    template: tuple[str, ...] | None
    extern_c: bool
    launch_bound: str
    line: int


@dataclass(frozen=True)
class Source:
    """CUDA C, read.

    Attributes:
        plain: the text without comments and directives on lines: what NVIDIA's compiler may get.
        text: the same as C++.
        kernels: by name.
        lines: the original lines; line n of the texts is lines[n - 1].
    """

    plain: str
    text: str
    kernels: dict[str, KernelText]
    lines: tuple[str, ...]
    _starts: tuple[int, ...] = field(repr=False, default=())
    _places: tuple[tuple[str, int], ...] = field(repr=False, default=())

    def place(self, line: int) -> tuple[str, int]:
        """Return the file and the line there of a line of the texts."""
        k = bisect_right(self._starts, line) - 1
        name, first = self._places[k]
        return name, first + line - self._starts[k]

    def quote(self, line: int) -> str:
        """Return a line as it was written."""
        return self.lines[line - 1].rstrip() if 1 <= line <= len(self.lines) else ""

    def in_files(self, message: str, name: str) -> str:
        """Return a compiler's message with the lines of file `name` replaced by files and lines."""

        def replace(match: re.Match[str]) -> str:
            file, line = self.place(int(match[1]))
            return f"{file}:{line}"

        return re.sub(rf"(?<![\w/.]){re.escape(name)}:(\d+)", replace, message)


@lru_cache(maxsize=256)
def read(code: str, name: str, folders: tuple[str, ...] = (), clang: bool = False) -> Source:
    """Read CUDA C.

    Args:
        code: the text; `#line` directives in it name the files it was put together from.
        name: the file it starts in.
        folders: where quoted includes are looked for.
        clang: write pragmas as clang wants them, not as g++.

    Raises:
        CompileError: a construct that cannot be simulated.
    """
    lines, starts, places = _expand(code, name, folders)
    bare = _without_comments("\n".join(lines))
    kept, limits = _without_directives(bare, lambda line: _at(starts, places, line))
    plain = "\n".join(kept)
    source = Source(plain, "", {}, tuple(lines), tuple(starts), tuple(places))
    if "<<<" in plain:
        line = plain.count("\n", 0, plain.index("<<<")) + 1
        raise _refusal(
            source, line, "launches a kernel with <<< >>>; the code must hold device code only"
        )
    kernels, text = _kernels(plain)
    text = _shared(source, text)
    if not clang:
        text = _UNROLL.sub(_gcc_unroll, text)
    limit_lines = _LIMITS if limits else ""
    text = f'{limit_lines}#line 1 "{SOURCE_NAME}"\n{text}\n'
    return Source(plain, text, kernels, tuple(lines), tuple(starts), tuple(places))


def _at(starts: Sequence[int], places: Sequence[tuple[str, int]], line: int) -> str:
    k = bisect_right(starts, line) - 1
    return f"{places[k][0]}:{places[k][1] + line - starts[k]}"


def _refusal(source: Source, line: int, why: str) -> CompileError:
    file, number = source.place(line)
    return CompileError(f"{file}:{number}: {why}\n{number:5} | {source.quote(line)}")


def _expand(
    code: str, name: str, folders: tuple[str, ...]
) -> tuple[list[str], list[int], list[tuple[str, int]]]:
    """Return all lines, quoted includes replaced by files, and which file each stretch is from."""
    lines: list[str] = []
    starts: list[int] = []
    places: list[tuple[str, int]] = []

    def add(text: str, file: str, nested: tuple[str, ...]) -> None:
        starts.append(len(lines) + 1)
        places.append((file, 1))
        for number, line in enumerate(text.split("\n"), 1):
            if match := _LINE.match(line):
                file = match[2] or file
                lines.append("")
                starts.append(len(lines) + 1)
                places.append((file, int(match[1])))
                continue
            match = _INCLUDE.match(line)
            if match and match[1] == '"' and match[2] not in _KNOWN_HEADERS:
                path = _find(match[2], folders)
                if path is None:
                    raise CompileError(
                        f'{file}:{number}: there is no "{match[2]}" in {list(folders)}'
                    )
                if str(path) not in nested:
                    add(path.read_text(encoding="utf-8"), path.name, (*nested, str(path)))
                starts.append(len(lines) + 1)
                places.append((file, number + 1))
                continue
            lines.append(line)

    add(code, name, ())
    return lines, starts, places


def _find(name: str, folders: Sequence[str]) -> Path | None:
    return next((p for folder in folders if (p := Path(folder) / name).is_file()), None)


def _without_comments(text: str) -> str:
    return _COMMENT.sub(lambda m: m[0] if m[0][0] in "\"'" else " " + "\n" * m[0].count("\n"), text)


def _without_directives(text: str, at: Callable[[int], str]) -> tuple[list[str], bool]:
    """Blank includes of headers that need none; say whether any of them defines limits."""
    kept, limits = [], False
    for number, line in enumerate(text.split("\n"), 1):
        match = _INCLUDE.match(line)
        if match and match[2] not in _KNOWN_HEADERS:
            place = at(number)
            raise CompileError(f"{place}: {match[2]} cannot be included in a simulated kernel")
        limits |= match is not None
        kept.append("" if match else line)
    return kept, limits


def _kernels(text: str) -> tuple[dict[str, KernelText], str]:
    """Return the kernels, and the text with their heads as C++ wants them."""
    found: dict[str, KernelText] = {}
    pieces, done = [], 0
    for match in _KERNEL.finditer(text):
        end = _closing(text, match.end() - 1)
        parts = _split(text[match.end() : end])
        template = match["template"]
        if template is None or template.strip():
            found[match["name"]] = KernelText(
                name=match["name"],
                parameters=tuple(_parameter_name(part) for part in parts),
                template=None
                if template is None
                else tuple(map(_parameter_name, _split(template))),
                extern_c=match["c"] is not None or _in_extern_c(text, match.start()),
                launch_bound=_first(match["bound1"] or match["bound2"]),
                line=text.count("\n", 0, match.start("global")) + 1,
            )
        pieces.append(text[done : match.start()])
        head = match[0]
        if match["c"]:  # a function that is static has no linkage to declare
            head = head.replace(match["c"], "\n" * match["c"].count("\n"), 1)
        if template is not None and not template.strip():  # nor has an explicit specialisation
            head = head.replace("__global__", "")
        pieces.append(head)
        done = match.end()
    pieces.append(text[done:])
    return found, "".join(pieces)


def _first(bounds: str | None) -> str:
    """Return the threads of `__launch_bounds__(threads, blocks)`."""
    return _split(bounds)[0].strip() if bounds else ""


def _in_extern_c(text: str, position: int) -> bool:
    """Whether a place is within `extern "C" { ... }`."""
    for match in re.finditer(r'extern\s*"C"\s*\{', text[:position]):
        body = text[match.end() : position]
        if body.count("{") >= body.count("}"):
            return True
    return False


def _closing(text: str, start: int) -> int:
    """Return where the bracket that opens at `start` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        if depth == 0:
            return i
    return len(text)


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    rest = text[start:]
    return [*parts, rest] if parts or rest.strip() not in ("", "void") else []


def _parameter_name(text: str) -> str:
    declared = re.sub(r"\[[^\]]*\]", "", text.split("=")[0])
    match = re.search(r"(\w+)\s*$", declared)
    return match[1] if match else ""


def _shared(source: Source, text: str) -> str:
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        line = text.count("\n", 0, match.start("declaration")) + 1
        declaration = (match["before"] or "") + match["declaration"]
        aligns = _ALIGN.findall(declaration)
        align = aligns[0] if aligns else ""
        declaration = " ".join(_ALIGN.sub(" ", declaration).split())
        first, *more = _split(declaration)
        head = re.match(rf"^(.*?)([\s*]*)\b(\w+)\s*({_BRACKETS})$", first)
        if not head or not head[1].strip():
            raise _refusal(
                source,
                line,
                "this form of __shared__ is not understood; write `__shared__ type name[sizes];`",
            )
        ctype, pieces = head[1].strip(), []
        for declarator in [first[len(head[1]) :], *more]:
            parts = _DECLARATOR.match(declarator)
            if not parts:
                raise _refusal(source, line, "a __shared__ variable cannot have an initialiser")
            count += 1
            pieces.append(
                _declare(match["extern"], ctype + parts["pointer"], parts, count, align, line)
            )
        return "".join(pieces) + "\n" * match[0].count("\n")

    rewritten = _SHARED.sub(replace, text)
    if "__shared__" in rewritten:
        line = rewritten.count("\n", 0, rewritten.index("__shared__")) + 1
        raise _refusal(
            source,
            line,
            "this form of __shared__ is not understood; write `__shared__ type name[sizes];`",
        )
    return rewritten


def _declare(
    dynamic: str | None, ctype: str, parts: re.Match[str], number: int, align: str, line: int
) -> str:
    """Return C++ that declares a shared array as a reference to memory of the runtime."""
    name, sizes = parts["name"], "".join(parts["sizes"].split())
    if dynamic:
        return f'{ctype}* const {name} = ({ctype}*)cudasim_dynamic_shared("{name}", {line});'
    alias = f"cudasim_type_{number}"
    boundary = (
        f"({align}) > alignof({alias}) ? ({align}) : alignof({alias})"
        if align
        else f"alignof({alias})"
    )
    # The address of a static variable tells this array, in this instantiation, from all others.
    return (
        f"typedef {ctype} {alias}{sizes}; static char cudasim_key_{number}; "
        f"{alias}& {name} = *({alias}*)cudasim_shared(&cudasim_key_{number}, sizeof({alias}), "
        f'{boundary}, "{name}", {line});'
    )


def _gcc_unroll(match: re.Match[str]) -> str:
    # Without a number, or with one that only the compiler knows: often enough for tiles.
    times = match[2] if match[2].isdigit() else "32"
    return f"{match[1]}#pragma GCC unroll {times}"
