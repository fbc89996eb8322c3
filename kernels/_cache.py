"""Machine code on disk: a kernel is compiled once, and loaded by every later process in 2 ms.

`keep_code` gives a function that Numba compiles this cache in place of Numba's own. It differs in
three ways:

- Helpers are compiled into the kernels that call them, yet Numba looks at a kernel's own file alone
  and runs old code after a helper was changed. Here the text of every file counts that is imported,
  directly or not, from the kernel's folder or from this one, but for those of HOST_ONLY.
- One file holds the code of one function for one signature, and its name is the hash of all that
  the code depends on: those texts, the signature, the CPU, Python, Numba and its settings. Files
  are written under another name and renamed. So two processes that compile the same kernel at the
  same time write the same file, and there is no index that could name the wrong one.
- A folder that cannot be written is read all the same. A file that is damaged is compiled again.

Where: $MINICNN_KERNELS_CACHE if that is set, a folder in $NUMBA_CACHE_DIR if that is; else the
user's cache folder or, where that cannot be written, one beside the kernels. Files that no process
has loaded for KEEP days go when a new one comes.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import llvmlite
import numba
import numpy as np
from numba.core import serialize
from numba.core.caching import CompileResultCacheImpl, _Cache

FOLDER = Path(__file__).parent
SUFFIX = ".kernel"
KEEP = 14  # days
# No kernel calls or reads what these define, so that they may change without a kernel's changing.
HOST_ONLY = {"_cache", "_dispatch", "_launch", "_memory"}
DIGEST = 32  # bytes that each file begins with: the SHA-256 of the rest

Event = Literal["loaded", "compiling", "compiled"]
Listener = Callable[[str, Event], None]

_listeners: list[Listener] = []


def keep_code(dispatcher: Any) -> Any:
    """Let what Numba compiles for `dispatcher` be kept on disk; return it."""
    if hasattr(dispatcher, "_cache"):  # with NUMBA_DISABLE_JIT it is the plain function
        dispatcher._cache = KernelCache(dispatcher.py_func)
    return dispatcher


@contextmanager
def watch(listener: Listener) -> Iterator[None]:
    """Tell `listener` the name and the event of whatever is loaded or compiled inside the `with`.

    A name is that of the file and the function, such as pool.max_pool2d_forward_cpu. Helpers count
    too. The thread that needs the kernel calls the listener.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def cache_folders() -> list[Path]:
    """Return where code is looked for, in this order; new code goes where it can be written."""
    if chosen := os.environ.get("MINICNN_KERNELS_CACHE"):
        return [Path(chosen)]
    if numba.config.CACHE_DIR:
        return [Path(numba.config.CACHE_DIR) / "minicnn-kernels"]
    beside = FOLDER / "__pycache__" / "kernels"
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no home
        return [beside]
    return [Path(base) / "minicnn" / "kernels", beside]


def cached_files() -> list[Path]:
    """Return every file of the cache, whatever made it."""
    return [path for folder in cache_folders() for path in sorted(folder.glob(f"*{SUFFIX}*"))]


def tell(name: str, event: Event) -> None:
    """Tell all who watch."""
    for listener in list(_listeners):
        listener(name, event)


class KernelCache(_Cache):
    """The code of one function, as Numba's dispatcher asks for it and offers it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        code = function.__code__
        path = Path(code.co_filename)
        self.name = f"{path.stem}.{function.__qualname__}"
        self._identity = f"{function.__module__} {self.name} {code.co_firstlineno}"
        self._stamp: Stamp | None = None  # of what is typed in, or closes over variables
        if function.__closure__ is None:
            with suppress(OSError):
                self._stamp = _stamp(path)
        self._convert = object.__new__(CompileResultCacheImpl)  # its __init__ looks for a folder
        self.enable()

    @property
    def cache_path(self) -> str:
        """The folder, as Numba's statistics show it."""
        return str(cache_folders()[0])

    def enable(self) -> None:
        """Read and write files."""
        self._enabled = True

    def disable(self) -> None:
        """Read and write no file."""
        self._enabled = False

    def flush(self) -> None:
        """Remove the function's files, for all signatures."""
        for path in cached_files():
            if path.name.startswith(f"{_plain(self.name)}-"):
                with suppress(OSError):
                    path.unlink()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function, or None if it must be compiled."""
        target_context.refresh()
        name = self._file_name(sig, target_context.codegen())
        data = name and _read(name)
        if data:
            with suppress(Exception):  # whatever a file from elsewhere may raise: compile
                compiled = self._convert.rebuild(target_context, pickle.loads(data))
                tell(self.name, "loaded")
                return compiled
        tell(self.name, "compiling")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write a compiled function, if it is of a kind that another process can load."""
        name = self._file_name(sig, data.codegen)
        if name and not data.lifted and not data.library.has_dynamic_globals:
            _write(name, serialize.dumps(self._convert.reduce(data)))
        tell(self.name, "compiled")

    def _file_name(self, sig: Any, codegen: Any) -> str | None:
        """Return the name that holds the hash of all the code depends on; None if it is not kept.

        When a source was changed after this process read it, nobody knows which text the functions
        in memory are of.
        """
        signature = str(sig)
        if not self._enabled or self._stamp is None or self._stamp.is_outdated():
            return None
        if " at 0x" in signature:  # a function as an argument, named by its address
            return None
        parts = (self._identity, signature, str(codegen.magic_tuple()), self._stamp.digest, _host())
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        return f"{_plain(self.name)}-{digest}{SUFFIX}"


class Stamp:
    """The sources that a file's functions are made of.

    Attributes:
        files: the file itself and what it imports from its own folder and from that of the kernels.
        digest: the hash of their texts.
    """

    def __init__(self, path: Path) -> None:
        files = {path}
        pending = [path]
        while pending:
            found = _imported(pending.pop(), path.parent) - files
            files |= found
            pending += found
        self.files = sorted(files)
        self._state = self._look()
        texts = [file.name.encode() + b"\0" + file.read_bytes() for file in self.files]
        self.digest = hashlib.sha256(b"\0".join(texts)).hexdigest()

    def is_outdated(self) -> bool:
        """Whether a source was changed since."""
        return self._look() != self._state

    def _look(self) -> list[tuple[int, int]] | None:
        try:
            return [(s.st_mtime_ns, s.st_size) for s in map(os.stat, self.files)]
        except OSError:
            return None


_stamp = cache(Stamp)

# An import statement, to the end of the line or of the parenthesis.
_IMPORT = re.compile(r"^[ \t]*(?:from|import)\b[^\n(]*(?:\([^)]*\))?", re.MULTILINE)


@cache
def _imported(path: Path, folder: Path) -> set[Path]:
    """Return the files of the two folders that an import statement of `path` may mean."""
    statements = " ".join(_IMPORT.findall(path.read_text(encoding="utf-8", errors="replace")))
    files = _python_files(FOLDER) | _python_files(folder)
    words = set(re.findall(r"\w+", statements)) - HOST_ONLY
    return {files[word] for word in words if word in files}


@cache
def _python_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.py")}


@cache
def _host() -> str:
    """Return the versions and settings that machine code and its pickle depend on."""
    settings = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE")
    values = [getattr(numba.config, name, None) for name in settings]
    versions = [platform.python_implementation(), platform.python_version(), numba.__version__]
    return str([*versions, llvmlite.__version__, np.__version__, *values])


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]", "", name)  # <locals> is no name of a file everywhere


def _read(name: str) -> memoryview | None:
    """Return what was written under a name, or None where that is not there whole."""
    for folder in cache_folders():
        path = folder / name
        try:
            data = memoryview(path.read_bytes())
        except OSError:
            continue
        if hashlib.sha256(data[DIGEST:]).digest() == data[:DIGEST]:
            with suppress(OSError):
                os.utime(path)  # it is in use
            return data[DIGEST:]
    return None


def _write(name: str, data: bytes) -> None:
    """Write data under a name in the first folder that takes it, if one does."""
    for folder in cache_folders():
        partial = folder / f"{name}.{os.urandom(8).hex()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(hashlib.sha256(data).digest() + data)
            partial.replace(folder / name)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            continue
        _tidy(folder)
        return


@cache
def _tidy(folder: Path) -> None:
    """Remove what no process has loaded or written for long; once in a process."""
    oldest = time.time() - KEEP * 24 * 60 * 60
    for path in folder.glob(f"*{SUFFIX}*"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
