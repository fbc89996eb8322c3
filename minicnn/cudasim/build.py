"""Compile C++ to shared libraries, once: what was built is kept in the user's cache folder.

A library's name holds the hash of everything it depends on: the text, the headers, the flags, the
compiler and the CPU. Libraries are written under another name and renamed, so that two processes or
threads that build the same one at the same time do not meet.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from minicnn.cudasim.errors import CompileError, CompilerNotFoundError

RUNTIME_FOLDER = Path(__file__).parent / "runtime"
SOURCE_NAME = "cudasim_kernel.cu"  # what compiled kernels are called in messages and debug data

_COMMON = (
    "-std=c++17", "-w", "-fPIC", "-march=native", "-fno-exceptions", "-fno-strict-aliasing",
    "-fvisibility=hidden",
)  # fmt: skip
RUNTIME_FLAGS = (*_COMMON, "-O2", "-ftls-model=initial-exec", "-pthread")
# -g1 -gdwarf-4: lines only, in the form that every addr2line reads right.
KERNEL_FLAGS = (*_COMMON, "-fno-rtti", "-g1", "-gdwarf-4")
FAST_FLAGS = (*KERNEL_FLAGS, "-O2", "-fno-semantic-interposition")
# The compiler calls a hook of ours at every access, and a handler of ours on overflow and the like.
# Without vectorisation, and without splitting structures into their members, a float4 stays one
# access of 16 bytes and four floats stay four.
CHECKED_FLAGS = (
    *KERNEL_FLAGS, "-O1", "-DCUDASIM_CHECKED", "-fno-omit-frame-pointer", "-fsanitize=thread",
)  # fmt: skip
_CHECKED_BY_GCC = (
    "--param", "tsan-instrument-func-entry-exit=0",
    "-fsanitize=bounds,shift,integer-divide-by-zero,signed-integer-overflow,alignment,null",
    "-fno-tree-vectorize", "-fno-tree-slp-vectorize", "-fno-tree-sra",
    "-fno-tree-loop-distribute-patterns",
)  # fmt: skip
# clang splits a float4 in any case: with it, misaligned vectors go unseen and profiles show four
# narrow accesses for a wide one. g++ is therefore the one to have.
_CHECKED_BY_CLANG = (
    "-mllvm", "-tsan-instrument-func-entry-exit=0", "-mllvm", "-tsan-instrument-atomics=0",
    "-mllvm", "-tsan-instrument-read-before-write=1",
    "-fsanitize=array-bounds,shift,integer-divide-by-zero,signed-integer-overflow,alignment,null",
    "-fno-vectorize", "-fno-slp-vectorize",
)  # fmt: skip


def cache_folder() -> Path:
    """Return where built libraries are kept: $MINICNN_CUDASIM_CACHE, or the user's cache."""
    if chosen := os.environ.get("MINICNN_CUDASIM_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "minicnn" / "cudasim"


def compiler() -> str:
    """Return the path of the C++ compiler: $CXX, else g++, else clang++.

    Raises:
        CompilerNotFoundError: there is none.
    """
    chosen = os.environ.get("CXX")
    for name in (chosen,) if chosen else ("g++", "clang++"):
        if path := shutil.which(name):
            return path
    wanted = f"CXX={chosen}, which is not" if chosen else "neither g++ nor clang++ is"
    raise CompilerNotFoundError(
        f"simulating CUDA kernels needs a C++ compiler, and {wanted} on the PATH; "
        "install g++ (Debian, Ubuntu: apt install g++) or clang++"
    )


def is_clang(path: str) -> bool:
    """Whether a compiler is clang."""
    return _identity(path, os.stat(path).st_mtime_ns)[1]


def build(text: str, flags: Sequence[str], stem: str, libraries: Sequence[str] = ()) -> Path:
    """Return the shared library compiled from C++ text, building it if it is not there yet.

    Args:
        text: it may include the headers of `runtime/`.
        flags: of the compiler; none that link a sanitizer's own library reach the linker.
        stem: the library's name begins with it.
        libraries: flags of the linker.

    Raises:
        CompilerNotFoundError: there is no compiler.
        CompileError: it refuses the text; the message is the compiler's.
    """
    path = compiler()
    flags = _for_compiler(path, flags)
    identity = _identity(path, os.stat(path).st_mtime_ns)[0]
    parts = [text, *flags, *libraries, identity, _cpu(), _headers()]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    target = cache_folder() / f"{stem}-{digest}.so"
    with lock(target):
        if not target.exists():
            _build(target, path, text, flags, libraries)
    return target


def lock(target: Path) -> threading.Lock:
    """Return what a thread holds while it builds a file, so that another waits, not builds too."""
    return _locks.setdefault(target, threading.Lock())


_locks: dict[Path, threading.Lock] = {}


def _build(
    target: Path, path: str, text: str, flags: Sequence[str], libraries: Sequence[str]
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    mine = f"{os.getpid()}-{threading.get_ident()}"
    partial = target.with_suffix(f".{mine}.so")
    unlinked = target.with_suffix(f".{mine}.o")
    try:
        include = f"-I{RUNTIME_FOLDER}"
        _run([path, *flags, include, "-x", "c++", "-c", "-o", str(unlinked), "-"], text)
        _run([path, "-shared", "-o", str(partial), str(unlinked), *libraries])
        partial.replace(target)
    finally:
        unlinked.unlink(missing_ok=True)
        partial.unlink(missing_ok=True)


def _for_compiler(path: str, flags: Sequence[str]) -> list[str]:
    checked = "-fsanitize=thread" in flags
    if is_clang(path):
        return [*flags, *(_CHECKED_BY_CLANG if checked else ())]
    return [*flags, *(_CHECKED_BY_GCC if checked else ())]


def _run(command: Sequence[str], text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(done.stderr.strip() or f"{command[0]} failed without a message")


@cache
def _identity(path: str, changed: int) -> tuple[str, bool]:
    """Return what tells this compiler from others, and whether it is clang."""
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return f"{path} {changed} {done.stdout}", "clang" in done.stdout


@cache
def _cpu() -> str:
    """Return what -march=native depends on: a cache folder may serve several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    kept = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(dict.fromkeys(kept))


@cache
def _headers() -> str:
    """Return the hash of the runtime's sources."""
    digest = hashlib.sha256()
    for path in sorted(RUNTIME_FOLDER.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
