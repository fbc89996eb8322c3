"""Launches written down as text, and the arguments made from it.

A plan is one line, in a comment of the `.cu` file or put together from options:

    // cudasim: saxpy<float> grid=4 block=256 n=1000 a=2.5 x=float32[n]:random y=float32[n]:zeros

A number is written as such; an array as its dtype, which may be left out, its sizes, and after a
colon what fills it: `random` (the default; for integers 0 to 9), `zeros`, `ones`, `arange`, a
number, or `empty`, which a kernel must not read before it writes. `x=file.npy` loads an array.
Sizes, grid and block are integers or sums and products of integer arguments, such as [rows*2,n].

What is left out is guessed where there is one sensible answer: with a single integer parameter, it
is 1000 and so is the length of every array; other numbers are 1.5; a block has 256 threads, and
there are as many blocks as give the largest array one thread an element.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.cudasim.declarations import Declaration, Parameter, element_dtype

FILLS = ("random", "zeros", "ones", "arange", "empty")
LENGTH = 1000
NUMBER = 1.5
THREADS = 256
OPTIONS = ("grid", "block", "shared")

_DIRECTIVE = re.compile(r"^\s*//\s*cudasim:(.*)$", re.M)
_KERNEL = re.compile(r"\s*(\w+)\s*(?:<([^<>]*)>)?")
_WORD = re.compile(r"\s*(\w+)=((?:\[[^\]]*\]|\S)+)")
_ARRAY = re.compile(r"(?P<dtype>\w*)\[(?P<sizes>[^\]]*)\](?::(?P<fill>\S+))?")
_OPERATORS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}

Dims = tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """One launch as somebody wrote it.

    Attributes:
        kernel: its name.
        template: the text between < and >; None where there was none.
        values: what each argument, `grid`, `block` and `shared` was set to: text, a number or a
            NumPy array.
        line: of the comment it stands in; None for options.
    """

    kernel: str
    template: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None


@dataclass(frozen=True)
class Empty:
    """An array whose bytes are not to be set."""

    shape: Dims
    dtype: np.dtype


@dataclass(frozen=True)
class Launch:
    """One launch with all that it needs.

    Attributes:
        expression: the kernel's instantiation, such as saxpy<float>.
        declaration: of the kernel.
        grid, block: blocks of the grid, threads of a block.
        shared_mem: bytes of dynamic shared memory.
        arguments: by parameter: a NumPy array, an `Empty`, or a NumPy number of the C type.
        guessed: the parameters that the plan did not name.
    """

    expression: str
    declaration: Declaration
    grid: Dims
    block: Dims
    shared_mem: int
    arguments: Mapping[str, NDArray | np.generic | Empty]
    guessed: tuple[str, ...]

    def __str__(self) -> str:
        shown = [f"grid={_dims(self.grid)}", f"block={_dims(self.block)}"]
        if self.shared_mem:
            shown.append(f"shared={self.shared_mem}")
        for name, value in self.arguments.items():
            if isinstance(value, (np.ndarray, Empty)):
                shown.append(f"{name}={value.dtype}[{_dims(value.shape)}]")
            else:
                shown.append(f"{name}={value}")
        return " ".join([self.expression, *shown])


def read_plans(source: str) -> list[Plan]:
    """Return the plans in the comments of a `.cu` text.

    Raises:
        ValueError: naming the line that cannot be read.
    """
    return [
        read_plan(found[1], source.count("\n", 0, found.start(1)) + 1)
        for found in _DIRECTIVE.finditer(source)
    ]


def read_plan(text: str, line: int | None = None) -> Plan:
    """Return the plan that a line such as `saxpy<float> grid=4 n=1000` writes down.

    Raises:
        ValueError: when it is not of that form.
    """
    where = f"line {line}: " if line else ""
    kernel = _KERNEL.match(text)
    if kernel is None:
        raise ValueError(f"{where}got {text.strip()!r}, expected a kernel's name")
    values: dict[str, str] = {}
    position = kernel.end()
    while text[position:].strip():
        word = _WORD.match(text, position)
        if word is None or word[1] in values:
            rest = text[position:].strip()
            raise ValueError(f"{where}got {rest!r}, expected name=value, each name once")
        values[word[1]] = word[2]
        position = word.end()
    return Plan(kernel[1], kernel[2], values, line)


def prepare(plan: Plan, kernels: list[Declaration], folder: Path) -> Launch:
    """Return a launch with every argument of a plan made.

    Args:
        plan: what is known.
        kernels: of the source.
        folder: where the `.npy` files lie.

    Raises:
        ValueError: naming the argument, for a plan that does not fit the kernel, or when something
            can be guessed in no sensible way; with a line to copy.
        OSError: for a file that cannot be read.
    """
    declaration = next((k for k in kernels if k.name == plan.kernel), None)
    if declaration is None:
        names = ", ".join(k.name for k in kernels) or "no kernel"
        raise ValueError(f"{plan.kernel}: no such kernel; the source has {names}")
    return _Maker(plan, declaration, folder).launch()


class _Maker:
    """What is known about the launch being prepared."""

    def __init__(self, plan: Plan, declaration: Declaration, folder: Path):
        self.plan, self.declaration, self.folder = plan, declaration, folder
        self.template = self.template_arguments()
        self.parameters = declaration.parameters
        self.integers = [p for p in self.parameters if not p.pointer and self.kind(p) in "iu"]
        self.made: dict[str, Any] = {}
        # The same numbers in every run and every order.
        self.rng = np.random.default_rng(0)
        known = {p.name for p in self.parameters} | set(OPTIONS)
        for name in plan.values:
            if name not in known:
                names = ", ".join(p.name for p in self.parameters)
                raise self.error(f"{name}: no such parameter; it has {names}")

    def error(self, problem: str) -> ValueError:
        where = f"line {self.plan.line}: " if self.plan.line else ""
        return ValueError(f"{where}{self.declaration.name}: {problem}")

    def no_guess(self, what: str) -> ValueError:
        return self.error(
            f"{what} cannot be guessed; write such a line on top of the file, and change it:\n"
            f"  {example(self.declaration, self.plan.template)}"
        )

    def launch(self) -> Launch:
        for parameter in self.parameters:
            if not parameter.pointer and parameter.name in self.plan.values:
                self.made[parameter.name] = self.number(parameter, self.plan.values[parameter.name])
        guessed = tuple(p.name for p in self.parameters if p.name not in self.plan.values)
        self.guess_length()
        for parameter in self.parameters:
            if parameter.pointer and parameter.name in self.plan.values:
                self.made[parameter.name] = self.array(parameter, self.plan.values[parameter.name])
        self.guess()
        block = self.dims("block") or (THREADS,)
        grid = self.dims("grid") or self.one_thread_an_element(block)
        if self.declaration.dynamic_shared and "shared" not in self.plan.values:
            raise self.no_guess("the size of the dynamic shared memory")
        shared = self.plan.values.get("shared", 0)
        return Launch(
            self.expression(),
            self.declaration,
            grid,
            block,
            self.integer("shared", shared),
            {p.name: self.made[p.name] for p in self.parameters},
            guessed,
        )

    # Templates ---------------------------------------------------------------------------------

    def template_arguments(self) -> dict[str, str]:
        """Return what each template parameter stands for."""
        wanted = self.declaration.template
        given = [part.strip() for part in (self.plan.template or "").split(",") if part.strip()]
        if len(given) > len(wanted):
            raise self.error(f"got {len(given)} template arguments, expected {len(wanted)}")
        arguments = {}
        for position, (kind, name, default) in enumerate(wanted):
            if position < len(given):
                arguments[name] = given[position]
            elif default:
                arguments[name] = default
            elif kind in ("typename", "class"):
                arguments[name] = "float"
            else:
                raise self.no_guess(f"template argument {name}")
        return arguments

    def expression(self) -> str:
        name = self.declaration.name
        return f"{name}<{', '.join(self.template.values())}>" if self.template else name

    def dtype(self, parameter: Parameter) -> np.dtype:
        ctype = self.template.get(parameter.ctype, parameter.ctype)
        found = element_dtype(ctype)
        if found is None:
            raise self.error(f"{parameter.name} has type {ctype!r}, which plans cannot make")
        return found

    def kind(self, parameter: Parameter) -> str:
        return self.dtype(parameter).kind

    # Values ------------------------------------------------------------------------------------

    def evaluate(self, name: str, value: Any) -> Any:
        """Return a number, or the number that a text works out to."""
        if not isinstance(value, str):
            return value
        try:
            return self._evaluate(ast.parse(value, mode="eval").body)
        except (SyntaxError, KeyError, ZeroDivisionError, TypeError):
            names = ", ".join(p.name for p in self.integers)
            allowed = f"a number, or sums and products of numbers and {names or 'numbers'}"
            raise self.error(f"{name}: got {value!r}, expected {allowed}") from None

    def _evaluate(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
            return node.value
        if isinstance(node, ast.Name):
            value = {"true": True, "false": False, **self.made}[node.id]
            return value.item() if isinstance(value, np.generic) else value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._evaluate(node.operand)
        if isinstance(node, ast.BinOp):
            left, right = self._evaluate(node.left), self._evaluate(node.right)
            return _OPERATORS[type(node.op)](left, right)
        raise SyntaxError

    def integer(self, name: str, value: Any, least: int = 0) -> int:
        number = self.evaluate(name, value)
        if isinstance(number, (int, np.integer)) and number >= least:
            return int(number)
        raise self.error(f"{name}: got {value!r}, expected a whole number of at least {least}")

    def number(self, parameter: Parameter, value: Any) -> np.generic:
        """Return a scalar argument in its C type."""
        number = self.evaluate(parameter.name, value)
        dtype = self.dtype(parameter)
        whole = isinstance(number, (int, np.integer))
        if not isinstance(number, (int, float, np.generic)) or (dtype.kind in "iu" and not whole):
            kind = "a whole number" if dtype.kind in "iu" else "a number"
            raise self.error(f"{parameter.name}: got {value!r}, expected {kind}")
        try:
            return dtype.type(number)
        except OverflowError:
            raise self.error(
                f"{parameter.name}: got {value!r}, which does not fit into {parameter.ctype}"
            ) from None

    def array(self, parameter: Parameter, value: Any) -> NDArray | Empty:
        """Return an array argument."""
        dtype = self.dtype(parameter)
        if isinstance(value, str) and value.endswith(".npy"):
            value = np.load(self.folder / value, allow_pickle=False)
        if isinstance(value, np.ndarray):
            if value.dtype != dtype:
                raise self.error(f"{parameter.name}: got {value.dtype}, expected {dtype}")
            return np.ascontiguousarray(value)
        spec = _ARRAY.fullmatch(value) if isinstance(value, str) else None
        if spec is None:
            raise self.error(
                f"{parameter.name}: got {value!r}, expected an array such as {dtype}[64,64]:random"
            )
        if spec["dtype"] and spec["dtype"] != dtype.name:
            raise self.error(f"{parameter.name}: got {spec['dtype']}, expected {dtype.name}")
        sizes = [part for part in spec["sizes"].split(",") if part.strip()]
        shape = tuple(self.integer(parameter.name, part.strip()) for part in sizes)
        return self.filled(parameter.name, shape, dtype, spec["fill"] or "random")

    def filled(self, name: str, shape: Dims, dtype: np.dtype, fill: str) -> NDArray | Empty:
        if fill == "empty":
            return Empty(shape, dtype)
        if fill == "random":
            if dtype.kind == "f":
                return self.rng.standard_normal(shape).astype(dtype)
            return self.rng.integers(0, 2 if dtype.kind == "b" else 10, shape).astype(dtype)
        if fill == "arange":
            return np.arange(math.prod(shape)).astype(dtype).reshape(shape)
        number = {"zeros": 0, "ones": 1}.get(fill)
        if number is None:
            try:
                number = self.evaluate(name, fill)
            except ValueError:
                expected = ", ".join(FILLS)
                raise self.error(
                    f"{name}: got the fill {fill!r}, expected a number or one of {expected}"
                ) from None
        return np.full(shape, number, dtype)

    # Guesses -----------------------------------------------------------------------------------

    def guess_length(self) -> None:
        """Set the only integer where an array's size is said to depend on it."""
        if len(self.integers) == 1 and self.integers[0].name not in self.made:
            word = re.compile(rf"\b{self.integers[0].name}\b")
            texts = (text for text in self.plan.values.values() if isinstance(text, str))
            if any(word.search(text) for text in texts):
                self.made[self.integers[0].name] = self.dtype(self.integers[0]).type(LENGTH)

    def guess(self) -> None:
        """Make the arguments that the plan left out."""
        sizes = [math.prod(array.shape) for array in self.arrays()]
        missing = [p for p in self.parameters if p.name not in self.made]
        for parameter in (p for p in missing if not p.pointer):
            if self.kind(parameter) == "b":
                self.made[parameter.name] = np.bool_(True)
            elif self.kind(parameter) == "f":
                self.made[parameter.name] = self.dtype(parameter).type(NUMBER)
            elif len(self.integers) == 1:
                length = max(sizes, default=LENGTH)
                self.made[parameter.name] = self.dtype(parameter).type(length)
            else:
                raise self.no_guess(f"the integer {parameter.name}")
        for parameter in (p for p in missing if p.pointer):
            if len(self.integers) != 1:
                raise self.no_guess(f"the size of {parameter.name}")
            shape = (int(self.made[self.integers[0].name]),)
            dtype = self.dtype(parameter)
            self.made[parameter.name] = self.filled(parameter.name, shape, dtype, "random")

    def arrays(self) -> list[NDArray | Empty]:
        return [v for v in self.made.values() if isinstance(v, (np.ndarray, Empty))]

    def dims(self, name: str) -> Dims | None:
        """Return grid or block, one to three sizes; None where the plan does not say."""
        value = self.plan.values.get(name)
        if value is None:
            return None
        parts = value.split(",") if isinstance(value, str) else value
        parts = parts if isinstance(parts, (list, tuple)) else [parts]
        if not 1 <= len(parts) <= 3:
            raise self.error(f"{name}: got {value!r}, expected one to three numbers")
        # CuPy would take 0 for 1; CUDA itself refuses it.
        return tuple(self.integer(name, part, least=1) for part in parts)

    def one_thread_an_element(self, block: Dims) -> Dims:
        largest = max((math.prod(array.shape) for array in self.arrays()), default=1)
        return (max(1, -(-largest // max(1, math.prod(block)))),)


def example(declaration: Declaration, template: str | None = None) -> str:
    """Return a plan for a kernel to copy and change."""
    words = [declaration.name]
    if declaration.template:
        shown = [
            default or ("float" if kind in ("typename", "class") else "16")
            for kind, _, default in declaration.template
        ]
        words[0] += f"<{template or ', '.join(shown)}>"
    words += ["grid=4", f"block={THREADS}"]
    if declaration.dynamic_shared:
        words.append(f"shared={THREADS * 4}")
    types = {name: "float" for _, name, _ in declaration.template}
    integers, arrays = [], []
    for parameter in declaration.parameters:
        dtype = element_dtype(types.get(parameter.ctype, parameter.ctype))
        if parameter.pointer:
            arrays.append((parameter.name, dtype))
        elif dtype is not None and dtype.kind in "iu":
            integers.append(parameter.name)
    words += [f"{name}={40 - 7 * i if i < 5 else 5}" for i, name in enumerate(integers)]
    size = "*".join(integers[:2]) or str(LENGTH)
    words += [f"{name}={'' if dtype is None else dtype}[{size}]" for name, dtype in arrays]
    return f"// cudasim: {' '.join(words)}"


def _dims(sizes: Dims) -> str:
    return ",".join(map(str, sizes))
