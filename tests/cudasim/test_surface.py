"""The look-alike has no name that CuPy lacks; the engine uses none that the look-alike lacks."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from minicnn import cudasim
from minicnn.cudasim import cuda, linalg
from minicnn.cudasim.module import Function
from tests.needs import needs_compiler, needs_cupy

ROOT = Path(__file__).parents[2]
KERNELS = sorted((ROOT / "kernels").glob("*.cu"))

# What is ours alone: how a simulation is steered and what it says.
OURS = {
    "ArgumentTypeError", "ArgumentValueError", "CompileError", "CompilerNotFoundError", "Finding",
    "Profile", "Report", "SimulationError", "check", "get_settings", "profile", "settings",
}  # fmt: skip
ARRAY_SOURCES = {"array_module", "get_array_module"}


def parameters(function):
    return inspect.signature(function).parameters


@needs_cupy
@pytest.mark.parametrize("name", sorted(set(cudasim.__all__) - OURS))
def test_every_name_is_cupys(name):
    import cupy

    mine, theirs = getattr(cudasim, name), getattr(cupy, name)
    if isinstance(theirs, cupy.ufunc):
        assert isinstance(mine, cudasim.ufunc)
    elif inspect.isfunction(theirs):
        known = list(parameters(theirs))
        for position, (parameter, given) in enumerate(parameters(mine).items()):
            if given.kind is inspect.Parameter.VAR_KEYWORD:
                continue
            assert parameter in known, f"{name}({parameter}=) is not CuPy's"
            original = parameters(theirs)[parameter]
            if given.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                assert known[position] == parameter
            if given.default != original.default:
                assert {given.default, original.default} == {float, "float"}, parameter
    else:
        assert callable(mine) == callable(theirs)


@needs_cupy
def test_arrays_have_cupys_members():
    import cupy

    mine = {name for name in vars(cudasim.ndarray) if not name.startswith("_")}
    assert mine <= set(dir(cupy.ndarray))
    special = {name for name in vars(cudasim.ndarray) if name.startswith("__")}
    missing = special - set(dir(cupy.ndarray))
    # Reflected and in-place forms that Cython folds into one, and Python's own.
    assert missing <= {
        "__annotations__", "__deepcopy__", "__imatmul__", "__static_attributes__",
        "__firstlineno__", "__rdivmod__", "__weakref__",
    }  # fmt: skip
    refused = ("__index__", "__contains__", "tostring", "itemset", "ctypes", "put")
    assert not any(hasattr(cudasim.ndarray, name) for name in refused)


@needs_cupy
@pytest.mark.parametrize("name", sorted(n for n in vars(cudasim.ndarray) if not n.startswith("_")))
def test_methods_take_cupys_arguments(name):
    import cupy

    mine = getattr(cudasim.ndarray, name)
    if not callable(mine):
        return
    signature = getattr(cupy.ndarray, name).__doc__.split("\n")[0]
    for parameter in list(parameters(mine))[1:]:
        assert parameter in signature, f"{name}({parameter}=): CuPy has {signature}"


@needs_cupy
def test_the_cuda_module_has_cupys_names():
    import cupy

    for name, mine in vars(cuda).items():
        defined_here = getattr(mine, "__module__", "") == cuda.__name__
        if not name.startswith("_") and defined_here:
            theirs = getattr(cupy.cuda, name)
            if inspect.isclass(mine):
                members = {n for n in vars(mine) if not n.startswith("_")} - {"null"}
                assert members <= set(dir(theirs)) | {"id"}
    for name in vars(cuda.runtime):
        assert hasattr(cupy.cuda.runtime, name)
    assert set(parameters(linalg.norm)) == set(parameters(cupy.linalg.norm))


@needs_cupy
def test_raw_modules_and_kernels_have_cupys_members():
    import cupy

    for ours, theirs in ((cudasim.RawModule, cupy.RawModule), (Function, cupy.RawKernel)):
        public = {name for name in dir(ours) if not name.startswith("_")}
        assert public - {"kernels"} <= set(dir(theirs))
    for maker, theirs in (
        (cudasim.RawModule, cupy.RawModule),
        (cudasim.RawKernel, cupy.RawKernel),
    ):
        signature = theirs.__doc__.split("\n")[0]
        assert set(parameters(maker)) - {"others"} <= set(re.findall(r"\w+", signature))


@needs_cupy
@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_cupy_builds_its_module_without_a_gpu(path):
    """Nothing is compiled, for that needs a device, but the arguments are taken."""
    import cupy

    from minicnn.kernels import _launch

    names = [
        f"{name}<float>" if signature.template else name
        for name, signature in _launch.signatures(path.stem).items()
    ]
    module = cupy.RawModule(
        code=_launch.source(path.stem), options=_launch.OPTIONS, name_expressions=tuple(names)
    )
    assert module.name_expressions == tuple(names)


# What the engine asks of an array module ---------------------------------------------------------


class Uses(ast.NodeVisitor):
    """Collect the dotted names that a file takes from an array module."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self.modules: set[str] = set()

    def visit_Assign(self, node: ast.Assign) -> None:
        if self.is_module(node.value):
            self.modules |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        if node.arg == "xp":
            self.modules.add("xp")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names, root = [node.attr], node.value
        while isinstance(root, ast.Attribute):
            names.insert(0, root.attr)
            root = root.value
        if self.is_module(root):
            self.found.setdefault(".".join(names), node.lineno)
        else:
            self.generic_visit(node)

    def is_module(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self.modules
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            return name in ARRAY_SOURCES
        return False


def uses_of(text: str) -> dict[str, int]:
    uses = Uses()
    tree = ast.parse(text)
    uses.visit(tree)
    uses.visit(tree)  # once more, for what was bound below its use
    return uses.found


FILES = [
    *sorted((ROOT / "kernels").glob("*.py")),
    *(path for path in sorted((ROOT / "minicnn").rglob("*.py")) if "cudasim" not in path.parts),
]
USED = {
    name: f"{path.relative_to(ROOT)}:{line}"
    for path in FILES
    if "kernels" not in path.relative_to(ROOT).parts[1:]
    for name, line in uses_of(path.read_text(encoding="utf-8")).items()
}


def has(module: object, dotted: str) -> bool:
    for name in dotted.split("."):
        if not hasattr(module, name):
            return False
        module = getattr(module, name)
    return True


def test_uses_are_found_in_every_form():
    text = """
xp = get_array_module(a)
xp.one(xp.two.three)
backend.array_module("cpu").four
def f(xp): return xp.five
np.six
a.seven
"""
    assert set(uses_of(text)) == {"one", "two.three", "four", "five"}


def test_the_engine_does_use_an_array_module():
    assert len(USED) > 10 and {"exp", "zeros", "add.at"} <= set(USED)


@needs_compiler
@pytest.mark.parametrize("name", sorted(USED))
def test_what_the_engine_uses_is_here(name):
    assert has(cudasim, name), f"{USED[name]}: cudasim has no {name}"


@needs_cupy
@pytest.mark.parametrize("name", sorted(USED))
def test_what_the_engine_uses_is_cupys(name):
    import cupy

    assert has(cupy, name), f"{USED[name]}: cupy has no {name}"
