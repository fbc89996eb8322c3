"""Which kernels there are, read from the texts of the pairs: nothing is compiled or run."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from minicnn.kernels import _launch


@dataclass(frozen=True)
class Op:
    """One operation of `minicnn.kernels`.

    Attributes:
        name: of the host function and, with `_reference`, of what defines it.
        stem: of its two files.
        cpu: the Numba kernels it runs.
        cuda: the CUDA kernels they are twins of, the plain rungs and those below them.
    """

    name: str
    stem: str
    cpu: tuple[str, ...]
    cuda: tuple[str, ...]


def ops(stems: tuple[str, ...] = ()) -> list[Op]:
    """Return the operations of some pairs, of all by default.

    Raises:
        ValueError: a stem of no pair.
    """
    known = [path.stem for path in sorted(_launch.FOLDER.glob("[!_]*.py"))]
    for stem in stems:
        if stem not in known:
            raise ValueError(f"stem: got {stem!r}, expected some of {', '.join(known)}")
    return [op for stem in stems or known for op in _ops_of(stem)]


def _ops_of(stem: str) -> list[Op]:
    text = (_launch.FOLDER / f"{stem}.py").read_text(encoding="utf-8")
    functions = {n.name: n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)}
    families = _families(stem, [name for name in functions if name.endswith("_cpu")])
    found = []
    for name in functions:
        if f"{name}_reference" in functions and not name.startswith("_"):
            cpu = _kernels(functions, name)
            found.append(Op(name, stem, cpu, tuple(k for kernel in cpu for k in families[kernel])))
    return found


def _families(stem: str, cpu: list[str]) -> dict[str, list[str]]:
    """Return the CUDA kernels of each Numba kernel.

    Twins share their name but for the suffix; rungs below the plain one add a word before it.
    """
    families: dict[str, list[str]] = {kernel: [] for kernel in cpu}
    cuda = _launch.signatures(stem) if stem in _launch.stems() else {}
    for kernel in cuda:
        bases = [name for name in cpu if kernel.startswith(name.removesuffix("cpu"))]
        if bases:
            families[max(bases, key=len)].append(kernel)
    return families


def _kernels(functions: dict[str, ast.FunctionDef], name: str) -> tuple[str, ...]:
    """Return the kernels that a host function runs, itself or through functions of its file."""
    reached, pending = {name}, [name]
    while pending:
        for node in ast.walk(functions[pending.pop()]):
            if isinstance(node, ast.Name) and node.id in functions and node.id not in reached:
                reached.add(node.id)
                if not node.id.endswith(("_cpu", "_reference")):
                    pending.append(node.id)
    return tuple(other for other in functions if other in reached and other.endswith("_cpu"))
