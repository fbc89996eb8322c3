"""The cache of machine code: what it notices, what it survives, and two processes at once."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minicnn.kernels import _cache

MODULES = {
    "constants": "FACTOR = 2\n",
    "helper": (
        "from constants import FACTOR\n"
        "from minicnn.kernels._jit import jit\n"
        "@jit\n"
        "def scaled(x):\n"
        "    return FACTOR * x\n"
    ),
    "tiny": (
        "from helper import (\n"
        "    scaled,\n"
        ")\n"
        "from minicnn.kernels._jit import jit\n"
        "@jit\n"
        "def kernel(x):\n"
        "    return scaled(x) + 1\n"
    ),
    "unrelated": "FACTOR = 5\n",
}


class Workshop:
    """A folder of sources, and functions in it as a new process would find them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        for name, text in MODULES.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(text, encoding="utf-8")

    def load(self, name: str = "tiny") -> Any:
        """Import the sources anew."""
        for remembered in (_cache._stamp, _cache._imported, _cache._python_files, _cache._tidy):
            remembered.cache_clear()
        for other in ("constants", "helper", "tiny"):
            self._import(other)
        return sys.modules[name]

    def _import(self, name: str) -> None:
        path = self.folder / f"{name}.py"
        module = ModuleType(name)
        self.monkeypatch.setitem(sys.modules, name, module)
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)

    def run(self, argument: Any = 10) -> tuple[Any, list[tuple[str, str]]]:
        """Return what a new process gets from the kernel, and what happened meanwhile."""
        events = []
        kernel = self.load().kernel
        with _cache.watch(lambda *event: events.append(event)):
            result = kernel(argument)
        return result, events


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that code is kept in."""
    chosen = tmp_path / "cache"
    monkeypatch.setenv("MINICNN_KERNELS_CACHE", str(chosen))
    return chosen


@pytest.fixture
def workshop(folder, tmp_path, monkeypatch):
    sources = tmp_path / "sources"
    sources.mkdir()
    return Workshop(sources, monkeypatch)


COMPILED = [
    ("tiny.kernel", "compiling"), ("helper.scaled", "compiling"), ("helper.scaled", "compiled"),
    ("tiny.kernel", "compiled"),
]  # fmt: skip
LOADED = [("tiny.kernel", "loaded")]


def test_a_kernel_is_compiled_once(workshop, folder):
    assert workshop.run() == (21, COMPILED)
    assert workshop.run() == (21, LOADED)
    assert len(list(folder.iterdir())) == 2


def test_each_signature_has_code_of_its_own(workshop, folder):
    assert workshop.run(10) == (21, COMPILED)
    assert workshop.run(0.25) == (1.5, COMPILED)
    assert workshop.run(10) == (21, LOADED)
    assert workshop.run(0.25) == (1.5, LOADED)


@pytest.mark.parametrize("name, old, new", [("constants", "2", "7"), ("helper", "* x", "* x + 50")])
def test_a_change_in_what_a_kernel_imports_is_seen(workshop, name, old, new):
    workshop.run()
    workshop.write(name, MODULES[name].replace(old, new))
    assert workshop.run() == (71, COMPILED)
    workshop.write(name, MODULES[name])
    assert workshop.run() == (21, LOADED)


def test_a_change_elsewhere_is_no_reason_to_compile(workshop):
    workshop.run()
    workshop.write("unrelated", "FACTOR = 6\n")
    assert workshop.run() == (21, LOADED)


def test_a_change_in_what_only_host_functions_use_is_no_reason_to_compile(workshop, monkeypatch):
    workshop.write("constants", "if False:\n    import unrelated\n" + MODULES["constants"])
    monkeypatch.setattr(_cache, "HOST_ONLY", {"unrelated"})
    workshop.run()
    workshop.write("unrelated", "FACTOR = 6\n")
    assert workshop.run() == (21, LOADED)


def test_nothing_is_kept_once_the_sources_are_others_than_those_in_memory(workshop, folder):
    module = workshop.load()
    workshop.write("constants", "FACTOR = 100\n")
    assert module.kernel(10) == 21
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "another pickle"])
def test_a_damaged_file_is_compiled_again(workshop, folder, damage):
    workshop.run()
    (path,) = folder.glob("tiny.kernel-*")
    whole = path.read_bytes()
    spoiled = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "garbage": os.urandom(5000),
        "another pickle": _cache.hashlib.sha256(b"N.").digest() + b"N.",  # None
    }
    path.write_bytes(spoiled[damage])
    result, events = workshop.run()
    assert result == 21
    assert events[0] == ("tiny.kernel", "compiling")
    assert workshop.run() == (21, LOADED)


def test_without_a_place_everything_works_uncached(workshop, folder):
    folder.write_text("a file, so that no folder can be made here")
    assert workshop.run() == (21, COMPILED)
    assert workshop.run() == (21, COMPILED)


def test_a_folder_that_cannot_be_written_is_read(workshop, folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError

    workshop.run(10)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert workshop.run(10) == (21, LOADED)
    assert workshop.run(0.25) == (1.5, COMPILED)
    assert len(list(folder.iterdir())) == 2


def test_the_second_folder_serves_when_the_first_cannot(workshop, tmp_path, monkeypatch):
    blocked, beside = tmp_path / "file", tmp_path / "beside"
    blocked.write_text("")
    monkeypatch.setattr(_cache, "cache_folders", lambda: [blocked / "kernels", beside])
    assert workshop.run() == (21, COMPILED)
    assert workshop.run() == (21, LOADED)


def test_where_code_is_kept(monkeypatch):
    monkeypatch.delenv("MINICNN_KERNELS_CACHE", raising=False)
    monkeypatch.setattr(_cache.numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    user, beside = _cache.cache_folders()
    assert user == Path("/somewhere/minicnn/kernels")
    assert beside.parent.name == "__pycache__"
    monkeypatch.setattr(_cache.numba.config, "CACHE_DIR", "/numba")
    assert _cache.cache_folders() == [Path("/numba/minicnn-kernels")]
    monkeypatch.setenv("MINICNN_KERNELS_CACHE", "/chosen")
    assert _cache.cache_folders() == [Path("/chosen")]


def test_old_files_go_when_a_new_one_comes(workshop, folder):
    workshop.run(10)
    long_ago = time.time() - (_cache.KEEP + 1) * 24 * 3600
    foreign = folder / "notes.txt"
    foreign.write_text("not ours")
    for path in folder.iterdir():
        os.utime(path, (long_ago, long_ago))
    assert workshop.run(10) == (21, LOADED)  # in use: it stays; the helper's own code was not used
    workshop.run(0.25)
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == [
        "helper.scaled", "notes.txt", "tiny.kernel", "tiny.kernel",
    ]  # fmt: skip
    assert workshop.run(10) == (21, LOADED)


def test_code_of_another_cpu_has_another_name(workshop):
    cache = workshop.load().kernel._cache
    names = {
        cache._file_name("(int64,)", SimpleNamespace(magic_tuple=lambda cpu=cpu: cpu))
        for cpu in [("x86_64", "znver4", "+avx2"), ("x86_64", "znver4", "-avx2"), ("arm64", "", "")]
    }
    assert len(names) == 3 and None not in names


def test_functions_without_a_text_of_their_own_are_not_kept(folder):
    from minicnn.kernels._jit import jit

    factor = 3

    @jit
    def closed(x):
        return factor * x

    namespace: dict[str, Any] = {}
    exec("def typed(x):\n    return 4 * x", namespace)
    assert (closed(2), jit(namespace["typed"])(2)) == (6, 8)
    assert not folder.exists()


def test_recompiling_makes_new_code(workshop):
    workshop.run()
    module = workshop.load()
    assert module.kernel(10) == 21
    module.scaled.py_func.__globals__["FACTOR"] = 4
    module.scaled.recompile()
    module.kernel.recompile()
    assert module.kernel(10) == 41


# Started twice: the two wait for each other, then compile one signature both and one each.
CHILD = """
import sys, time
from pathlib import Path
import numpy as np
import tiny
own, mine, other = sys.argv[1:]
Path(mine).touch()
while not Path(other).exists():
    time.sleep(0.001)
for kind in (np.int64, np.dtype(own).type):
    assert tiny.kernel(kind(10)) == 21
"""


def test_two_processes_that_start_with_an_empty_cache(workshop, folder, tmp_path):
    """Numba's own cache lets both choose the same file, and one signature gets another's code."""
    places = [tmp_path / "a", tmp_path / "b"]
    arguments = [("float32", *places), ("float64", *reversed(places))]
    path = os.pathsep.join([str(workshop.folder), *sys.path])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, *map(str, given)], env=os.environ | {"PYTHONPATH": path}
        )
        for given in arguments
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for argument in (np.int64(10), np.float32(10), np.float64(10)):
        assert workshop.run(argument) == (21, LOADED)
    assert len(list(folder.iterdir())) == 6


@pytest.mark.parametrize("path", sorted(_cache.FOLDER.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_the_stamp_of_a_kernel_file_covers_what_it_imports(path):
    """As Python's own parser sees the imports."""
    wanted, pending = set(), [path]
    while pending:
        current = pending.pop()
        wanted.add(current)
        for node in ast.walk(ast.parse(current.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "minicnn.kernels":
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [(node.module or "").removeprefix("minicnn.kernels.")]
            elif isinstance(node, ast.Import):
                names = [alias.name.removeprefix("minicnn.kernels.") for alias in node.names]
            files = {_cache.FOLDER / f"{name}.py" for name in names}
            pending += [file for file in files - wanted if file.is_file()]
    assert _cache.FOLDER / "_jit.py" in wanted
    wanted -= {_cache.FOLDER / f"{name}.py" for name in _cache.HOST_ONLY}
    assert wanted <= set(_cache.Stamp(path).files)


@pytest.mark.parametrize("path", sorted(_cache.FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_no_kernel_uses_what_is_said_to_be_for_host_functions_only(path):
    host, compiled = set(), []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").removeprefix("minicnn.kernels.")
            host |= {alias.name for alias in node.names if {module, alias.name} & _cache.HOST_ONLY}
        elif isinstance(node, ast.FunctionDef):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            if re.search("jit|intrinsic|overload", decorators):
                compiled.append(node)
    if path.stem in _cache.HOST_ONLY:
        assert not compiled
    for function in compiled:
        used = {name.id for name in ast.walk(function) if isinstance(name, ast.Name)}
        assert not used & host, f"{function.name} uses {used & host}"
