"""The arrows of the house: which room may import which, and that no file imports in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted((ROOT / "kernels").glob("*.py")),
    *(p for p in sorted((ROOT / "minicnn").rglob("*.py")) if "kernels" not in p.parts[-2:]),
]

# A room may import itself, the rooms before it, and nothing after it.
ROOMS = [
    {"cudasim"},
    {"kernels"},
    {"random", "backend", "cuda", "grad_mode"},
    {"kernelcheck"},
    {"autograd", "tensor", "tensor_methods", "creation"},
    {"functional"},
    {"gradcheck", "opcheck", "optim", "serialization", "torch_file", "torch_pickle", "data"},
    {"nn", "warm"},
    {"summary", "models", "visualize"},
    {"training"},
    {"cli", "__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# Tensor methods are shorthands for functions, and nn.utils offers optim's gradient clipping.
UPWARD = {("tensor", "functional"), ("tensor_methods", "functional"), ("autograd", "tensor")}
# The simulator stands on the ground, as CuPy does; only these know that it is there.
SIMULATING = {"cudasim", "kernels", "backend", "kernelcheck", "cli"}
# What only these rooms may import from outside.
OUTSIDE = {
    "cupy": {"kernels", "backend"},
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "safetensors": {"serialization"},
    "rich": {"training", "cli"},
    "click": {"cli"},
    "matplotlib": {"training", "cli", "data"},
    "PIL": {"data", "training", "cli"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "kernels" else parts[1]


def imports(path: Path) -> list[str]:
    """Return every module a file imports, inside functions too, but not for type checkers."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "minicnn":
                found += [f"minicnn.{alias.name}" for alias in node.names]
            else:
                found.append(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    room = room_of(path)
    if room == "__init__":
        return
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "minicnn":
            target = rest[0] if rest else "__init__"
            if target not in LEVEL:  # a public name such as minicnn.Tensor
                continue
            allowed = LEVEL[target] <= LEVEL[room] or (room, target) in UPWARD
            assert allowed, f"{path.name} ({room}) must not import {name}"
            assert target != "cudasim" or room in SIMULATING, f"{path.name} must not import {name}"
        elif top in OUTSIDE:
            assert room in OUTSIDE[top], f"{path.name} ({room}) must not import {name}"
        elif room == "cudasim":
            assert top == "numpy" or top in sys.stdlib_module_names, f"{path.name}: {name}"
        else:
            assert top not in {"torch", "torchvision", "sklearn", "scipy"}, f"{path.name}: {name}"


def test_every_room_is_on_the_list():
    assert {room_of(path) for path in FILES} - {"__init__"} <= set(LEVEL)


def test_import_is_light():
    code = (
        "import sys, minicnn; "
        "heavy = {'numba', 'cupy', 'matplotlib', 'rich', 'PIL', 'click'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_module_imports_alone():
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in FILES]
    names = [
        n.replace("kernels.", "minicnn.kernels.", 1) if n.startswith("kernels.") else n
        for n in names
    ]
    names = [n.removesuffix(".__init__") for n in names if not n.endswith("__main__")]
    names = ["minicnn.kernels" if n == "kernels" else n for n in names]
    # Each in a fresh module table of one process: a circle shows as a missing name.
    code = """
import importlib, sys
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split('.')[0] == 'minicnn']:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, check=True)
