"""NVIDIA's run-time compiler through ctypes: CUDA C in, PTX or machine code out, and no GPU.

    compiled = compile(source, ["relu_forward_cuda<float>"], arch=80, kind="cubin")
    compiled.resources()["relu_forward_cuda<float>"].registers

It compiles for any architecture it knows, on any machine: neither a device nor a driver is asked.
The options are those that CuPy adds to every RawModule, so that what is read here, registers,
spills and PTX, is what a user's GPU gets. What was compiled once is kept on disk, by the hash of
everything that the result depends on.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from minicnn.cudasim import build, toolkit
from minicnn.cudasim.errors import CompileError

# Turing, Ampere, Hopper and both Blackwells: a data centre's or a desktop's GPU from 2018 on.
ARCHITECTURES = (75, 80, 90, 100, 120)
# What CuPy 14 compiles every RawModule with.
OPTIONS = ("-ftz=true", "--std=c++17", "--device-as-default-execution-space")
# Lines of the source in PTX; the resource report in the log of machine code.
KIND_OPTIONS = {"ptx": ("-lineinfo",), "cubin": ("--ptxas-options=-v",)}
WHEELS = "nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12"


class NvrtcNotFoundError(RuntimeError):
    """NVRTC is neither in a wheel, nor on the library path, nor in a CUDA toolkit."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes of a multiprocessor, from the log of the assembler ptxas.

    `shared` counts static shared memory, `stack` the local memory of a thread, `spill_stores` and
    `spill_loads` the bytes of registers that did not fit: all in bytes.
    """

    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int
    barriers: int

    @property
    def spills(self) -> int:
        """Bytes stored and loaded because registers did not suffice."""
        return self.spill_stores + self.spill_loads


@dataclass(frozen=True)
class Compiled:
    """What NVRTC made of one source: the code, what it said, and the kernels' symbols."""

    code: bytes
    log: str
    lowered_names: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The code as text: of PTX only."""
        return self.code.decode()

    def resources(self) -> dict[str, Resources]:
        """Return what each kernel takes: by name expression where one was given, else by symbol."""
        names = {symbol: name for name, symbol in self.lowered_names.items()}
        found = parse_log(self.log)
        return {names.get(symbol, symbol): taken for symbol, taken in found.items()}


def compile(
    source: str,
    name_expressions: Sequence[str] = (),
    arch: int = 80,
    kind: str = "ptx",
    options: Sequence[str] = (),
) -> Compiled:
    """Compile a CUDA source for one architecture.

    Args:
        source: the text; `#line` directives name its files.
        name_expressions: template instantiations to make, such as "relu_forward_cuda<float>".
        arch: the compute capability times ten: 80 is that of an A100.
        kind: "ptx", NVIDIA's portable assembly with the source's lines, or "cubin", machine code.
        options: more of the compiler's options, after CuPy's.

    Raises:
        NvrtcNotFoundError: there is no NVRTC.
        CompileError: it refuses the source; the message is its log.
        ValueError: unknown kind.
    """
    if kind not in KIND_OPTIONS:
        raise ValueError(f"kind: got {kind!r}, expected one of {list(KIND_OPTIONS)}")
    target = f"-arch={'sm' if kind == 'cubin' else 'compute'}_{arch}"
    flags = [*OPTIONS, *KIND_OPTIONS[kind], target, *options]
    library = library_path()
    stamp = [str(library), os.stat(library).st_size] if library.is_absolute() else [str(library)]
    key = json.dumps([source, list(name_expressions), kind, flags, stamp])
    path = build.cache_folder() / f"nvrtc-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    with build.lock(path):
        kept = _load(path)
        if kept is None:
            kept = _compile(source, name_expressions, kind, flags)
            _save(path, kept)
    return kept


def library_path() -> Path:
    """Return where NVRTC lies.

    Raises:
        NvrtcNotFoundError: nowhere; the message says what to install.
    """
    path = toolkit.find_library("nvrtc")
    if path is None:
        raise NvrtcNotFoundError(
            f"NVIDIA's run-time compiler NVRTC was not found; pip install {WHEELS}, "
            "or set CUDA_HOME to a CUDA toolkit (no GPU is needed)"
        )
    return path


def version() -> tuple[int, int]:
    """Return NVRTC's version, that of its CUDA toolkit."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def supported_architectures() -> list[int]:
    """Return the architectures this NVRTC compiles for."""
    library, count = _library(), ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    values = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(values)
    return list(values)


def parse_log(log: str) -> dict[str, Resources]:
    """Return what each function takes, from the log of ptxas, by symbol.

    A device function that was not inlined is listed too: its registers count in its kernels, so
    that it holds 0 here, but what it spills is told nowhere else.
    """
    found: dict[str, Resources] = {}
    sections = re.split(r"Function properties for '?(\S+?)'?\s*\n", log)
    for symbol, text in zip(sections[1::2], sections[2::2], strict=True):
        text = text.split("Compiling entry function")[0]
        stack = _number(r"(\d+) bytes cumulative stack size", text)
        found[symbol] = Resources(
            registers=_number(r"Used (\d+) registers", text),
            spill_stores=_number(r"(\d+) bytes spill stores", text),
            spill_loads=_number(r"(\d+) bytes spill loads", text),
            stack=max(stack, _number(r"(\d+) bytes stack frame", text)),
            shared=_number(r"(\d+)(?:\+\d+)? bytes smem", text),
            barriers=_number(r"used (\d+) barriers", text),
        )
    return found


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    path = library_path()
    if path.is_absolute():
        # NVRTC opens this one by its bare name; once it is loaded, the loader finds it.
        builtins = toolkit.find_library("nvrtc-builtins")
        if builtins is not None and builtins.parent == path.parent:
            ctypes.CDLL(str(builtins))
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _compile(
    source: str, name_expressions: Sequence[str], kind: str, flags: Sequence[str]
) -> Compiled:
    library, program = _library(), ctypes.c_void_p()
    status = library.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), build.SOURCE_NAME.encode(), 0, None, None
    )
    _check(library, status)
    try:
        for name in name_expressions:
            _check(library, library.nvrtcAddNameExpression(program, name.encode()))
        values = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        status = library.nvrtcCompileProgram(program, len(flags), values)
        log = _read(library, program, "ProgramLog").decode(errors="replace")
        if status:
            # Places are written as every other compiler writes them.
            text = re.sub(r"^(\S+)\((\d+)\): ", r"\1:\2: ", log.strip(), flags=re.M)
            reason = library.nvrtcGetErrorString(status).decode()
            raise CompileError(f"NVRTC refuses the source ({reason}):\n{text}")
        lowered = {}
        for name in name_expressions:
            symbol = ctypes.c_char_p()
            status = library.nvrtcGetLoweredName(program, name.encode(), ctypes.byref(symbol))
            _check(library, status)
            lowered[name] = (symbol.value or b"").decode()
        return Compiled(_read(library, program, kind.upper()), log, lowered)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _read(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    """Return what `nvrtcGet<what>` gives; text without the zero byte that ends it."""
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw if what == "CUBIN" else buffer.raw.rstrip(b"\0")


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        raise CompileError(f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")


def _load(path: Path) -> Compiled | None:
    """Return what an earlier compilation left; a file that is damaged counts as none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Compiled(base64.b64decode(kept["code"]), kept["log"], kept["lowered_names"])
    except (OSError, ValueError, KeyError):
        return None


def _save(path: Path, compiled: Compiled) -> None:
    kept = {
        "log": compiled.log,
        "lowered_names": compiled.lowered_names,
        "code": base64.b64encode(compiled.code).decode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(kept), encoding="utf-8")
    partial.replace(path)  # in one step: another process never reads half a file
