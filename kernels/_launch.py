"""Load a `.cu` file and launch its kernels: the only place that knows grid, block and C types.

    launch("activation", "relu_forward_cuda", output.size, input, output)

reads the parameters of `relu_forward_cuda` from the text of `activation.cu`, instantiates its
template for the dtype of `input`, casts every number to the parameter's C type and starts enough
blocks for `total` items. What a kernel is called with is therefore written once, in the `.cu` file;
a wrong count, dtype or memory order is an error before anything runs. CuPy itself would check none
of it: it passes a Python float as a double and a strided array as a bare pointer.

Grids have one dimension and at most MAX_BLOCKS blocks. Every kernel loops over what its grid does
not cover, so it is right with any number of blocks; `limit_blocks` lets tests hold it to that.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.kernels._dispatch import array_module

BLOCK = 256
MAX_BLOCKS = 4096
OPTIONS = ("--std=c++17",)
# Grid-stride loops count in int: the last index plus one stride must not overflow.
MAX_ITEMS = 2**31 - 1 - MAX_BLOCKS * 1024

SCALARS: dict[str, Any] = {
    "bool": np.bool_,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "unsigned char": np.uint8,
    "float": np.float32,
    "double": np.float64,
}
C_NAMES = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}

FOLDER = Path(__file__).parent
INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.M)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
KERNEL = re.compile(
    r"(?:template\s*<([^>]*)>\s*)?__global__\s+void\s+"
    r"(?:__launch_bounds__\s*\([^()]*\)\s*)?(\w+)\s*\(([^)]*)\)"
)
CONSTANT = re.compile(r"^constexpr\s+int\s+(\w+)\s*=\s*(\d+)\s*;", re.M)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: `const T* input` is ("T", pointer, "input")."""

    ctype: str
    pointer: bool
    name: str


@dataclass(frozen=True)
class Signature:
    """A kernel as its `.cu` file declares it; `template` names the template's parameters."""

    stem: str
    name: str
    template: tuple[str, ...]
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True)
class Launch:
    """One launch as `record` saw it; `kernel` is the instantiation, `relu_forward_cuda<float>`."""

    stem: str
    kernel: str
    blocks: int
    block: int
    shared_mem: int


def launch(
    stem: str,
    kernel: str,
    total: int,
    *args: Any,
    block: int = BLOCK,
    per_block: int | None = None,
    shared_mem: int = 0,
    template: Sequence[int] = (),
) -> None:
    """Run a kernel of `<stem>.cu` on the device that holds its arrays.

    Args:
        total: how many items there are; a parameter of that name receives it. With none, nothing
            runs.
        args: the other parameters in their order: device arrays and Python numbers.
        block: threads in a block.
        per_block: how many items a block takes at a time: one a thread by default, 1 where a block
            owns a tile, block // 32 where a warp owns a row.
        shared_mem: bytes of dynamic shared memory.
        template: the values of the template's parameters after the dtype.

    Raises:
        TypeError, ValueError: naming kernel and parameter, when an argument does not fit.
    """
    if total == 0:
        return
    signature = signatures(stem)[kernel]
    if total > MAX_ITEMS:
        raise ValueError(f"{kernel}: {total} items, expected at most {MAX_ITEMS}")
    dtype = _deduce(signature, args)
    expression = kernel
    if signature.template:
        expression = f"{kernel}<{', '.join([C_NAMES[dtype], *map(str, template)])}>"
    cells = _cast(signature, args, total, dtype)
    blocks = min(-(-total // (per_block or block)), _settings.max_blocks)
    for launches in _settings.recorders:
        launches.append(Launch(stem, expression, blocks, block, shared_mem))
    if not _settings.run:
        return
    number = _common_device(signature, cells)
    device_array = next(cell for cell in cells if not isinstance(cell, np.generic))
    xp = array_module(kernel, device_array)
    with nullcontext() if xp.cuda.runtime.getDevice() == number else xp.cuda.Device(number):
        function = fetch(xp, stem, expression, shared_mem, number)
        function((blocks,), (block,), cells, shared_mem=shared_mem)


def _deduce(signature: Signature, args: Sequence[Any]) -> np.dtype:
    """Return the dtype that T stands for: that of the first array passed for a `T*`."""
    wanted = [p for p in signature.parameters if p.name != "total"]
    if len(args) != len(wanted):
        names = ", ".join(p.name for p in wanted)
        raise TypeError(f"{signature.name}: got {len(args)} arguments, expected {names}")
    for parameter, value in zip(wanted, args, strict=True):
        if parameter.ctype == "T" and parameter.pointer:
            dtype = np.dtype(getattr(value, "dtype", object))
            if dtype not in C_NAMES:
                raise TypeError(
                    f"{signature.name}: {parameter.name} has dtype {dtype}, "
                    "expected float32 or float64"
                )
            return dtype
    return np.dtype(np.float32)


def _cast(
    signature: Signature, args: Sequence[Any], total: int, dtype: np.dtype
) -> tuple[Any, ...]:
    """Return what the kernel receives: checked arrays, and numbers of the parameters' C types."""
    values = iter(args)
    cells = []
    for parameter, element in _elements(signature.stem, signature.name, dtype):
        value: Any = total if parameter.name == "total" else next(values)
        if not parameter.pointer:
            cells.append(_number(signature.name, parameter, value, element.type))
            continue
        if not hasattr(value, "flags") or isinstance(value, (np.ndarray, np.generic)):
            kind = type(value).__name__
            raise TypeError(
                f"{signature.name}: {parameter.name} is a {kind}, expected a device array"
            )
        if value.size > MAX_ITEMS:
            raise ValueError(
                f"{signature.name}: {parameter.name} has {value.size} elements, "
                f"expected at most {MAX_ITEMS}: indices are int"
            )
        if value.dtype != element:
            raise TypeError(
                f"{signature.name}: {parameter.name} has dtype {value.dtype}, expected {element}"
            )
        if not value.flags.c_contiguous:
            raise ValueError(
                f"{signature.name}: {parameter.name} of shape {value.shape} has strides "
                f"{value.strides}, expected C-contiguous memory"
            )
        cells.append(value)
    return tuple(cells)


def _common_device(signature: Signature, cells: Sequence[Any]) -> int:
    """Return the number of the device that all arrays of a launch are on."""
    first, number = "", 0
    for parameter, cell in zip(signature.parameters, cells, strict=True):
        if not parameter.pointer:
            continue
        if not first:
            first, number = parameter.name, cell.device.id
        elif cell.device.id != number:
            raise ValueError(
                f"{signature.name}: {parameter.name} is on device {cell.device.id}, "
                f"expected device {number} like {first}"
            )
    return number


@cache
def _elements(stem: str, kernel: str, dtype: np.dtype) -> list[tuple[Parameter, np.dtype]]:
    """Return a kernel's parameters, each with the type of its value or of its elements."""
    return [
        (parameter, dtype if parameter.ctype == "T" else np.dtype(SCALARS[parameter.ctype]))
        for parameter in signatures(stem)[kernel].parameters
    ]


def _number(kernel: str, parameter: Parameter, value: Any, scalar: Any) -> Any:
    try:
        return scalar(operator.index(value) if issubclass(scalar, np.integer) else value)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(
            f"{kernel}: {parameter.name} is {value!r}, expected a number that fits into "
            f"{np.dtype(scalar)}"
        ) from None


def source(stem: str) -> str:
    """Return the text of `<stem>.cu`, its quoted includes expanded, lines numbered as in the files.

    Raises:
        FileNotFoundError: when there is no such file.
    """
    if stem in _settings.replaced:
        return _settings.replaced[stem]
    return _read(f"{stem}.cu")


@cache
def _read(name: str) -> str:
    text = (FOLDER / name).read_text(encoding="utf-8")

    def expand(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 1
        return f'{_read(match[1])}\n#line {line + 1} "{name}"'

    return f'#line 1 "{name}"\n{INCLUDE.sub(expand, text)}'


@cache
def signatures(stem: str) -> dict[str, Signature]:
    """Return every kernel of `<stem>.cu` by name, in the order of the file."""
    text = COMMENT.sub(" ", source(stem))
    found = {}
    for template, name, parameters in KERNEL.findall(text):
        names = tuple(part.split()[-1] for part in template.split(",")) if template else ()
        found[name] = Signature(stem, name, names, tuple(_parameters(parameters)))
    return found


def _parameters(text: str) -> Iterator[Parameter]:
    for part in text.split(","):
        words = part.replace("*", " * ").replace("__restrict__", " ").split()
        kind = " ".join(word for word in words[:-1] if word not in ("const", "*"))
        yield Parameter(kind, "*" in words, words[-1])


@cache
def constants(stem: str) -> dict[str, int]:
    """Return the `constexpr int` of `<stem>.cu` and its includes, such as tile sizes."""
    return {name: int(value) for name, value in CONSTANT.findall(source(stem))}


def stems() -> list[str]:
    """Return the stems of all `.cu` files, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.cu"))


@cache
def fetch(xp: Any, stem: str, expression: str, shared_mem: int, device: int = 0) -> Any:
    """Return one kernel for the current device, whose number is `device`.

    CuPy compiles it now, the simulator at a launch; both keep it on disk.
    """
    module = xp.RawModule(code=source(stem), options=OPTIONS, name_expressions=(expression,))
    function = module.get_function(expression)
    if shared_mem > 48 << 10:  # more than any launch gets without asking
        function.max_dynamic_shared_size_bytes = shared_mem
    return function


class _Settings:
    """What `limit_blocks`, `record` and `replace_source` change for a while."""

    def __init__(self) -> None:
        self.max_blocks = MAX_BLOCKS
        self.recorders: list[list[Launch]] = []
        self.run = True
        self.replaced: dict[str, str] = {}


_settings = _Settings()


@contextmanager
def limit_blocks(count: int) -> Iterator[None]:
    """Start at most `count` blocks in each launch: kernels must be right with too few."""
    before, _settings.max_blocks = _settings.max_blocks, count
    try:
        yield
    finally:
        _settings.max_blocks = before


@contextmanager
def record(run: bool = True) -> Iterator[list[Launch]]:
    """Collect every launch made inside; without `run` nothing is computed."""
    launches: list[Launch] = []
    _settings.recorders.append(launches)
    before, _settings.run = _settings.run, run
    try:
        yield launches
    finally:
        _settings.run = before
        _settings.recorders = [kept for kept in _settings.recorders if kept is not launches]


@contextmanager
def replace_source(stem: str, text: str) -> Iterator[None]:
    """Let `<stem>.cu` read as `text`: how a test plants a fault."""
    _settings.replaced[stem] = text
    _forget()
    try:
        yield
    finally:
        del _settings.replaced[stem]
        _forget()


def _forget() -> None:
    for cached in (signatures, constants, _elements, fetch):
        cached.cache_clear()
