"""Every kernel file keeps the contract of `minicnn.kernels`: the same parts in the same order."""

import ast
from pathlib import Path

import pytest

import minicnn.kernels

KERNEL_FILES = sorted(Path(minicnn.kernels.__file__).parent.glob("[!_]*.py"))
each_kernel_file = pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: path.name)


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path):
    """Return the file's top-level functions: references, host functions, compiled kernels."""
    references, hosts, kernels = {}, {}, {}
    for node in parse(path).body:
        if isinstance(node, ast.FunctionDef):
            if decorators(node) & {"jit", "parallel_jit"}:
                kernels[node.name] = node
            elif node.name.endswith("_reference"):
                references[node.name] = node
            else:
                hosts[node.name] = node
    return references, hosts, kernels


def decorators(function):
    return set().union(*(names_in(node) for node in function.decorator_list))


def names_in(node):
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def operators(path):
    """Return the names of the public host functions that run a kernel."""
    return {
        name
        for name, node in functions(path)[1].items()
        if not name.startswith("_") and any(used.endswith("_cpu") for used in names_in(node))
    }


def test_there_are_kernel_files():
    assert {"im2col.py", "pool.py", "softmax.py"} <= {path.name for path in KERNEL_FILES}


@each_kernel_file
def test_docstring_comes_first_and_cites_its_source(path):
    docstring = ast.get_docstring(parse(path)) or ""
    assert docstring.split("\n")[0].endswith("."), "the first line is no sentence"
    assert "\nSource: " in docstring, "no source"


@each_kernel_file
def test_references_stand_above_host_functions_above_kernels(path):
    references, hosts, kernels = functions(path)
    reference_lines = [node.lineno for name, node in references.items() if name[0] != "_"]
    host_lines = [hosts[name].lineno for name in operators(path)]
    kernel_lines = [node.lineno for node in kernels.values()]
    assert reference_lines and host_lines and kernel_lines, "a part is missing"
    assert max(reference_lines) < min(host_lines), "a host function stands above a reference"
    assert max(host_lines) < min(kernel_lines), "a kernel stands above a host function"


@each_kernel_file
def test_every_operator_has_a_reference_and_every_reference_an_operator(path):
    references, hosts, _ = functions(path)
    defined = {name.removesuffix("_reference") for name in references if name[0] != "_"}
    assert operators(path) <= defined
    assert defined <= set(hosts)


@each_kernel_file
def test_every_kernel_is_run_by_a_host_function(path):
    _, hosts, kernels = functions(path)
    run = set().union(*(names_in(node) for node in hosts.values()))
    assert {name for name in kernels if name.endswith("_cpu")} <= run


@each_kernel_file
def test_parallel_functions_are_kernels_by_name(path):
    for name, node in functions(path)[2].items():
        if "parallel_jit" in decorators(node):
            assert name.endswith("_cpu"), f"{name} is parallel, yet not named as a kernel"


@each_kernel_file
def test_kernels_reach_numba_through_jit_alone(path):
    for node in ast.walk(parse(path)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        assert not any(module.split(".")[0] == "numba" for module in modules)
