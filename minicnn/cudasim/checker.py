"""Check, run and profile the kernels of a `.cu` file, with arguments made from plans.

    report = cudasim.check("saxpy.cu", "saxpy<float>", grid=4, block=256, args={"n": 1000})
    print(report)

Which launches a file gets is told in `minicnn.cudasim.plans`.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.cudasim.array import ndarray
from minicnn.cudasim.creation import asarray, empty
from minicnn.cudasim.declarations import Declaration, find_kernels
from minicnn.cudasim.errors import Finding, SimulationError
from minicnn.cudasim.module import RawModule
from minicnn.cudasim.plans import Empty, Launch, Plan, prepare, read_plan, read_plans
from minicnn.cudasim.profiling import KernelProfile, profile
from minicnn.cudasim.settings import ORDERS, settings

OPTIONS = ("--std=c++17",)
# More than this much shared memory no launch gets without asking for it.
SHARED_WITHOUT_ASKING = 48 * 1024
# Sums in another order differ by rounding; what differs by more depends on the order of threads.
ROUNDING = 1e-4

_HOST_CODE = re.compile(r"<<<|\bint\s+main\s*\(")


@dataclass(frozen=True)
class Source:
    """A `.cu` text with what was found in it; `path` is where it lies, or a name for it."""

    text: str
    path: Path
    kernels: tuple[Declaration, ...]
    plans: tuple[Plan, ...]


@dataclass
class LaunchReport:
    """What check mode said of one launch.

    Attributes:
        launch: what was launched.
        tried: the orders of the threads in which it ran.
        findings: each different one, the first first.
        orders: of each finding, the orders of the threads in which it showed.
        printed: what the kernel printed, in the first order.
        accesses: where nothing was found, how many loads, stores and atomic operations threads made
            of global and of shared memory: {"global load": 2000, ...}.
        differences: how far arrays end up apart in different orders, relative to their largest
            value, where that is more than rounding.
    """

    launch: Launch
    tried: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    orders: list[list[str]] = field(default_factory=list)
    printed: str = ""
    accesses: dict[str, int] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)

    def add(self, finding: Finding, order: str) -> None:
        """Note a finding, once for all orders it shows in."""
        for known, orders in zip(self.findings, self.orders, strict=True):
            if _same(known, finding):
                if order not in orders:
                    orders.append(order)
                return
        self.findings.append(finding)
        self.orders.append([order])

    def __str__(self) -> str:
        lines = [str(self.launch)]
        if self.printed:
            lines += ["it printed:", *self.printed.splitlines()]
        for finding, orders in zip(self.findings, self.orders, strict=True):
            lines += ["", finding.message, f"order of threads: {', '.join(orders)}"]
        for name, difference in self.differences.items():
            lines += ["", f"{name} depends on the order of threads, by {difference:.1g}"]
        if not self.findings:
            counts = ", ".join(f"{count:,} {name}s" for name, count in self.accesses.items())
            lines.append(f"no finding in {counts or 'no access to memory'}")
        return "\n".join(lines)


@dataclass
class Report:
    """What check mode said of some launches."""

    launches: list[LaunchReport]

    @property
    def findings(self) -> list[Finding]:
        """Every finding of every launch."""
        return [finding for launch in self.launches for finding in launch.findings]

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.launches))


def check(
    source: str | Path,
    kernel: str | None = None,
    grid: Any = None,
    block: Any = None,
    args: Sequence[Any] | Mapping[str, Any] = (),
    shared_mem: int | None = None,
    orders: Sequence[str] = ORDERS,
    route: str | None = None,
) -> Report:
    """Run kernels in check mode, in several orders of the threads, and report what they do wrong.

    Args:
        source: a `.cu` file, or its text.
        kernel: the one to launch, such as "saxpy<float>"; None launches all there are.
        grid, block: numbers of blocks and of threads, integers or tuples.
        args: the arguments in order or by name: NumPy arrays, numbers, or text such as
            "float32[64,64]:empty". What is left out is taken from the file's plans, or guessed.
        shared_mem: bytes of dynamic shared memory.
        orders: of the threads.
        route: see `settings`.

    Raises:
        ValueError: when the kernel or its arguments cannot be made out, or `orders` is empty.
        CompileError, CompilerNotFoundError: when the text cannot be compiled.
    """
    if not orders:
        raise ValueError(f"orders: got none, expected some of {', '.join(ORDERS)}")
    loaded = load(source)
    values = {"grid": grid, "block": block, "shared": shared_mem}
    given = {name: value for name, value in values.items() if value is not None}
    chosen = launches(loaded, kernel, {**given, **_by_name(loaded, kernel, args)})
    return Report([check_launch(loaded, launch, orders, route) for launch in chosen])


def load(source: str | Path) -> Source:
    """Read a `.cu` file, or take its text.

    Raises:
        OSError: when the file cannot be read.
        ValueError: when it holds no kernel, or code for the host.
    """
    is_text = isinstance(source, str) and ("\n" in source or "{" in source)
    path = Path("kernel.cu") if is_text else Path(source)
    text = str(source) if is_text else path.read_text(encoding="utf-8")
    kernels = find_kernels(text)
    if not kernels:
        raise ValueError(f"{path}: holds no __global__ function")
    host_code = _HOST_CODE.search(re.sub(r"//[^\n]*", "", text))
    if host_code:
        line = text.count("\n", 0, text.index(host_code.group())) + 1
        raise ValueError(
            f"{path}:{line}: holds host code ({host_code.group()!r}); take it out, so that kernels "
            "and their helpers remain"
        )
    return Source(text, path, tuple(kernels), tuple(read_plans(text)))


def launches(
    source: Source, kernel: str | None = None, values: Mapping[str, Any] | None = None
) -> list[Launch]:
    """Return the launches that a source gets.

    Args:
        source: its kernels and the plans in its comments.
        kernel: only this one, perhaps with template arguments.
        values: what to set instead of what the plans say.

    Raises:
        ValueError: see `prepare`.
    """
    chosen = list(source.plans)
    planned = {plan.kernel for plan in chosen}
    chosen += [Plan(declared.name) for declared in source.kernels if declared.name not in planned]
    if kernel is not None:
        wanted = read_plan(kernel)
        chosen = [plan for plan in chosen if plan.kernel == wanted.kernel] or [wanted]
        if wanted.template is not None:
            chosen = [replace(plan, template=wanted.template) for plan in chosen]
    overridden = [replace(plan, values={**plan.values, **(values or {})}) for plan in chosen]
    return [prepare(plan, list(source.kernels), source.path.parent) for plan in overridden]


def check_launch(
    source: Source, launch: Launch, orders: Sequence[str] = ORDERS, route: str | None = None
) -> LaunchReport:
    """Run one launch in check mode, once an order, each time with the same arguments."""
    report = LaunchReport(launch, list(orders))
    results = []
    for order in orders:
        with settings(mode="check", order=order, route=route), _printed() as printed:
            try:
                results.append(execute(source, launch))
            except SimulationError as error:
                for finding in error.findings:
                    report.add(finding, order)
        if order == orders[0]:
            report.printed = printed.getvalue()
    for other in results[1:]:
        for name, array in other.items():
            difference = _difference(results[0][name], array)
            if difference > ROUNDING:
                report.differences[name] = max(difference, report.differences.get(name, 0))
    if not report.findings:
        with _printed():
            counted = profile_launch(source, launch, math.prod(launch.grid), route)
        for row in sorted(counted.rows, key=lambda row: (row.space, row.kind)):
            kind = f"{row.space} {row.kind}"
            report.accesses[kind] = report.accesses.get(kind, 0) + round(row.lanes)
    return report


def profile_launch(
    source: Source, launch: Launch, blocks: int | None = None, route: str | None = None
) -> KernelProfile:
    """Run one launch in profile mode; `blocks` is how many of them are looked at."""
    with settings(route=route), profile(blocks) as counted:
        execute(source, launch)
    return counted.kernels[launch.expression]


def execute(source: Source, launch: Launch) -> dict[str, NDArray]:
    """Launch a kernel as the settings say, and return the arrays that it may have written."""
    module = RawModule(
        code=source.text,
        path=source.path,
        options=OPTIONS,
        name_expressions=(launch.expression,),
    )
    function = module.get_function(launch.expression)
    if launch.shared_mem > SHARED_WITHOUT_ASKING:
        function.max_dynamic_shared_size_bytes = launch.shared_mem
    arguments: dict[str, Any] = {
        name: _to_device(value) for name, value in launch.arguments.items()
    }
    function(launch.grid, launch.block, tuple(arguments.values()), shared_mem=launch.shared_mem)
    written = [p.name for p in launch.declaration.parameters if p.pointer and not p.constant]
    return {name: arguments[name].get() for name in written}


def _printed() -> redirect_stdout[io.StringIO]:
    """Keep what kernels print from the screen: the same comes once an order."""
    return redirect_stdout(io.StringIO())


def _to_device(value: NDArray | np.generic | Empty) -> ndarray | np.generic:
    if isinstance(value, Empty):
        return empty(value.shape, value.dtype)
    return asarray(value) if isinstance(value, np.ndarray) else value


def _by_name(
    source: Source, kernel: str | None, args: Sequence[Any] | Mapping[str, Any]
) -> dict[str, Any]:
    """Return arguments by the names of the kernel's parameters."""
    if isinstance(args, Mapping):
        return dict(args)
    if not args:
        return {}
    names = {declared.name: declared for declared in source.kernels}
    name = read_plan(kernel).kernel if kernel else next(iter(names))
    if name not in names or (kernel is None and len(names) > 1):
        raise ValueError(f"kernel: got {kernel!r}, expected one of {', '.join(names)}")
    parameters = names[name].parameters
    if len(args) != len(parameters):
        expected = ", ".join(p.name for p in parameters)
        raise ValueError(f"{name}: got {len(args)} arguments, expected {expected}")
    return {p.name: value for p, value in zip(parameters, args, strict=True)}


def _same(one: Finding, other: Finding) -> bool:
    """Whether two findings are the same fault seen in two orders; the sides of a race may swap."""
    if (one.kind, one.array) != (other.kind, other.array):
        return False
    places = [{(f.file, f.line), (f.other_file, f.other_line)} for f in (one, other)]
    return places[0] == places[1]


def _difference(one: NDArray, other: NDArray) -> float:
    """Return how far two arrays are apart, relative to the largest value of the first."""
    same = (one == other) | ((one != one) & (other != other))
    if same.all():
        return 0.0
    a, b = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(all="ignore"):
        apart = np.abs(a - b)[~same].max() / max(np.abs(a[np.isfinite(a)]).max(initial=0), 1e-30)
    return float(apart) if np.isfinite(apart) else float("inf")
