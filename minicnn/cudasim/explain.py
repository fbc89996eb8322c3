"""Sentences for what the runtime found: what happened, where, the source line, a likely cure."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

from minicnn.cudasim.build import SOURCE_NAME
from minicnn.cudasim.errors import KINDS, Finding
from minicnn.cudasim.library import RawFinding
from minicnn.cudasim.rewrite import Source

_CODE_OFFSET = 0x80000000
_VERBS = {0: "reads", 1: "writes", 2: "atomically changes", -1: "touches"}
_NOUNS = {0: "read", 1: "write", 2: "atomic operation", -1: "access"}
_GLOBAL, _SHARED = 1, 2
_TYPE_NAMES = {"f4": "float", "f8": "double", "i4": "int", "i8": "long long", "b1": "bool"}

_CURES = {
    "out-of-bounds": "compare the index with the array's size before using it (i < total), and the "
    "launch with what the kernel expects.",
    "race": "put __syncthreads() (within one warp __syncwarp()) between the two accesses; where "
    "threads add to the same element use atomicAdd(); let each block write elements of its own.",
    "uninitialised read": "write it first: fill a shared array and meet at __syncthreads(); make a "
    "global array with zeros() or asarray().",
    "barrier divergence": "let all threads of the block reach the same __syncthreads(): move it "
    "out of the condition, and do not return before it.",
    "warp divergence": "let every lane that the mask names reach the same primitive: move it out "
    "of the condition, and make the block a multiple of 32 threads.",
    "deadlock": "let all threads, or all lanes that the mask names, reach the primitive that the "
    "others wait at.",
    "misaligned": "start vector accesses at multiples of their size: pad the rows, or read single "
    "elements where the address is not aligned.",
    "overflow": "compute in long long, or in unsigned where wrapping is meant.",
    "undefined behaviour": "guard the operation: no division by zero, no shift by the width.",
    "memory fault": "run it again in check mode, which names the array, the index and the line.",
    "limit": "make the block or its tiles smaller; for more dynamic shared memory set the "
    "function's max_dynamic_shared_size_bytes.",
}


@dataclass(frozen=True)
class Launched:
    """What the sentences about one launch need.

    Attributes:
        kernel: its name.
        source: its text.
        library: the shared library that holds its machine code.
        parameters: their names.
        types: their types, as in the signature: "PCf4".
    """

    kernel: str
    source: Source
    library: Path
    parameters: Sequence[str]
    types: Sequence[str]


def explain(raw: Sequence[RawFinding], launched: Launched) -> list[Finding]:
    """Return the runtime's findings with lines and sentences."""
    sites = [site for one in raw for site in (one.site, one.other_site)]
    lines = locate(sites, launched.library)
    return [_explain(one, launched, lines) for one in raw]


def locate(sites: Iterable[int], library: Path) -> dict[int, int]:
    """Return the line of the text for each site that has one."""
    lines = {site: site for site in sites if 0 < site < _CODE_OFFSET}
    offsets = sorted({site for site in sites if site >= _CODE_OFFSET})
    tool = _addr2line()
    if not offsets or tool is None:
        return lines
    addresses = [hex(site - _CODE_OFFSET) for site in offsets]
    command = [tool, "-e", str(library), "-a", "-i", *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    current = -1
    for line in done.stdout.splitlines():
        if line.startswith("0x"):
            current += 1
            continue
        # The innermost of inlined functions comes first; those of our own header do not count.
        file, _, rest = line.rpartition(":")
        number = rest.split(" ")[0]
        site = offsets[current]
        if file.endswith(SOURCE_NAME) and number.isdigit() and int(number) and site not in lines:
            lines[site] = int(number)
    return lines


@cache
def _addr2line() -> str | None:
    return which("addr2line") or which("llvm-addr2line")


def _explain(raw: RawFinding, launched: Launched, lines: dict[int, int]) -> Finding:
    kind = KINDS[raw.kind]
    source = launched.source
    line, other_line = lines.get(raw.site), lines.get(raw.other_site)
    file, number = source.place(line) if line else (None, None)
    other_file, other_number = source.place(other_line) if other_line else (None, None)
    block, thread = _triple(raw.block), _triple(raw.thread)
    array = _array_name(raw, launched, line)
    what, element = _what(kind, raw, launched, array)

    text = [f"{kind}: {what}"]
    at = f"{file}:{number}" if file else "an unknown line"
    if not file and not block:
        at = "some line; it was noticed when the launch had ended"
    who = f" by block {block}, thread {thread}" if block else ""
    text.append(f"  at {at}{who}")
    if line:
        text.append(f"  {number:6} | {source.quote(line).strip()}")
    if other_line and (kind == "race" or other_line != line):
        if kind == "race":
            verb = {
                "reads": "read",
                "writes": "written",
                "atomically changes": "changed atomically",
            }
            how = verb[_VERBS[raw.other_access]]
            other = f"{how} by block {_triple(raw.other_block)}, thread {_triple(raw.other_thread)}"
        else:
            other = "others of the block wait"
        text.append(f"  at {other_file}:{other_number} {other}")
        text.append(f"  {other_number:6} | {source.quote(other_line).strip()}")
    if element:
        text.append(f"  {element}")
    if raw.count > 1:
        text.append(f"  {raw.count} times in all")
    if cure := _CURES.get(kind):
        text.append(f"  Likely cure: {cure}")
    return Finding(
        kind=kind,
        message="\n".join(text),
        file=file,
        line=number,
        other_line=other_number,
        block=block,
        thread=thread,
        array=array,
        other_file=other_file,
        count=raw.count,
    )


def _triple(values: Sequence[int]) -> tuple[int, int, int] | None:
    x, y, z = values
    return None if x < 0 else (x, y, z)


def _array_name(raw: RawFinding, launched: Launched, line: int | None) -> str | None:
    if raw.space == _GLOBAL and raw.argument >= 0:
        names = launched.parameters
        return names[raw.argument] if raw.argument < len(names) else f"argument {raw.argument}"
    if raw.name:
        return raw.name.decode(errors="replace")
    if KINDS[raw.kind] == "out-of-bounds" and raw.column and line:
        return _indexed_name(launched.source.text, line, raw.column)
    return None


def _indexed_name(text: str, line: int, column: int) -> str | None:
    """Return the name in `name[i][j]` when the compiler points at one of its brackets."""
    lines = text.split(f'"{SOURCE_NAME}"\n', 1)[1].split("\n")
    if line > len(lines):
        return None
    end, depth = min(column, len(lines[line - 1])) - 1, 0
    here = lines[line - 1]
    # Back over whole brackets, to the letters before the first one.
    i = end
    while i >= 0:
        depth += (here[i] == "]") - (here[i] == "[")
        if depth <= 0 and (here[i].isalnum() or here[i] == "_"):
            start = i
            while start > 0 and (here[start - 1].isalnum() or here[start - 1] == "_"):
                start -= 1
            return here[start : i + 1]
        i -= 1
    return None


def _what(kind: str, raw: RawFinding, launched: Launched, array: str | None) -> tuple[str, str]:
    """Return the first sentence, and one about the element of the array."""
    detail = raw.detail.decode(errors="replace")
    shown = _shown(raw, array)
    noun, verb = _NOUNS[raw.access], _VERBS[raw.access]
    element = _element(raw, launched)
    if kind == "out-of-bounds":
        if raw.column:
            return detail, ""
        if raw.space == 0:
            return f"{noun} of {raw.access_bytes} bytes at an address of no array", ""
        return f"{noun} of {raw.access_bytes} bytes outside {shown}", element
    if kind == "race":
        return f"a thread {verb} {shown} while another may use the same element", element
    if kind == "uninitialised read":
        return f"{noun} of {shown}, which nobody has written", element
    if kind == "barrier divergence":
        if detail:
            return f"a thread {detail}; this one it never met", ""
        return "threads of one block meet at different barriers", ""
    if kind == "misaligned":
        what = (
            detail or f"{noun} of {raw.access_bytes} bytes at an address that is no multiple of it"
        )
        return f"{what}; in {shown}" if array else what, element
    if kind == "memory fault":
        return detail or f"an access outside {shown}", element if raw.space else ""
    if kind == "limit" and array:
        return f"{shown}: {detail}", ""
    return detail, ""


def _shown(raw: RawFinding, array: str | None) -> str:
    if array is None:
        return "an array that is no argument" if raw.space == _GLOBAL else "memory of no array"
    return f"the shared array `{array}`" if raw.space == _SHARED else f"`{array}`"


def _element(raw: RawFinding, launched: Launched) -> str:
    """Return where in the array it is: by element where the type is known, and by byte."""
    if raw.space == 0:
        return ""
    size, ctype = raw.access_bytes or 4, ""
    if raw.space == _GLOBAL and 0 <= raw.argument < len(launched.types):
        kind = launched.types[raw.argument].lstrip("PC")
        size, ctype = int(kind[1:]) or 1, _TYPE_NAMES.get(kind, "")
    place = f"byte {raw.offset} of {raw.array_bytes}"
    if raw.space == _SHARED or raw.array_bytes % size:
        return place
    elements = f"{raw.array_bytes // size} {ctype}".strip()
    return f"element {raw.offset // size} of {elements} ({place})"
