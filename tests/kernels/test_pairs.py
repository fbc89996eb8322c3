"""`pool.py` and `pool.cu` are two readings of one text: names and parameters cannot drift apart."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import minicnn.kernels
from minicnn.kernels import _launch

FOLDER = Path(minicnn.kernels.__file__).parent
PAIRS = sorted(path.stem for path in FOLDER.glob("[!_]*.py") if path.stem != "__init__")
each_pair = pytest.mark.parametrize("stem", PAIRS)


def cpu_kernels(stem: str) -> dict[str, list[str]]:
    """Return the parameters of every `_cpu` function of the `.py` file, by its name without it."""
    tree = ast.parse((FOLDER / f"{stem}.py").read_text(encoding="utf-8"))
    return {
        node.name.removesuffix("_cpu"): [argument.arg for argument in node.args.args]
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_cpu")
    }


def cuda_kernels(stem: str) -> dict[str, _launch.Signature]:
    """Return the kernels of the `.cu` file, by their names without `_cuda`."""
    found = _launch.signatures(stem)
    assert all(name.endswith("_cuda") for name in found), f"{stem}.cu: {list(found)}"
    return {name.removesuffix("_cuda"): signature for name, signature in found.items()}


def base_of(kernel: str, twins: set[str]) -> str | None:
    """Return the twin that `kernel` is or is a rung of: the longest name it begins with."""
    bases = [twin for twin in twins if kernel == twin or kernel.startswith(f"{twin}_")]
    return max(bases, key=len, default=None)


@each_pair
def test_every_file_has_its_twin(stem):
    assert (FOLDER / f"{stem}.cu").is_file()


def test_no_cuda_file_stands_alone():
    assert set(_launch.stems()) == set(PAIRS)


@each_pair
def test_every_cpu_kernel_has_its_twin(stem):
    missing = set(cpu_kernels(stem)) - set(cuda_kernels(stem))
    assert not missing, f"{stem}.cu lacks {sorted(missing)}"


@each_pair
def test_every_cuda_kernel_is_a_twin_or_a_rung_of_one(stem):
    twins = set(cpu_kernels(stem))
    for kernel in cuda_kernels(stem):
        assert base_of(kernel, twins), f"{stem}.cu: {kernel}_cuda belongs to no kernel of {stem}.py"


@each_pair
def test_parameters_have_the_same_names_and_order(stem):
    """CUDA adds sizes and `total`; a number that is a constant there is a template parameter."""
    cuda = cuda_kernels(stem)
    for kernel, parameters in cpu_kernels(stem).items():
        constants = cuda[kernel].template
        names = [p.name for p in cuda[kernel].parameters]
        wanted = [name for name in parameters if name not in constants]
        there = [name for name in names if name in wanted]
        assert there == wanted, f"{kernel}: {stem}.py has {parameters}, {stem}.cu has {names}"


@each_pair
def test_twins_stand_in_the_same_order(stem):
    twins = [name for name in cuda_kernels(stem) if name in cpu_kernels(stem)]
    assert twins == [name for name in cpu_kernels(stem) if name in twins]


@each_pair
def test_what_is_added_are_numbers(stem):
    """An array that the CPU kernel does not take would be a different algorithm, not a twin."""
    cpu = cpu_kernels(stem)
    for kernel, signature in cuda_kernels(stem).items():
        for parameter in signature.parameters:
            if kernel in cpu and parameter.pointer:
                assert parameter.name in cpu[kernel], f"{kernel}_cuda: {parameter.name}"


@each_pair
def test_cuda_file_opens_with_what_it_computes(stem):
    text = (FOLDER / f"{stem}.cu").read_text(encoding="utf-8")
    head = re.match(r"(?://[^\n]*\n)+", text)
    assert head and len(head[0].splitlines()) >= 5, "no explanation at the top"
    assert head[0].splitlines()[0].endswith("."), "the first line is no sentence"


@each_pair
def test_loops_stride_over_the_grid(stem):
    """Every kernel takes its work in a loop, so that it is right with too few blocks."""
    code = _launch.COMMENT.sub(" ", _launch.source(stem))
    for kernel in cuda_kernels(stem):
        body = code[code.index(f"{kernel}_cuda(") :].split("__global__")[0]
        assert "gridDim.x" in body, f"{kernel}_cuda"
