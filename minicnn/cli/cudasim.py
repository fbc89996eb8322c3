"""`minicnn cudasim`: check, run and profile anybody's CUDA kernels, without a GPU."""

from __future__ import annotations

import signal
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minicnn.cli._common import SETTINGS, console, debug_option, make_table

if TYPE_CHECKING:
    from minicnn.cudasim.checker import LaunchReport, Source
    from minicnn.cudasim.plans import Launch
    from minicnn.cudasim.profiling import KernelProfile

GOOD = 0.9  # of the bytes moved are wanted, or of the cycles needed
FEW = 100  # elements that are printed one by one
PRINTED = 10  # lines of a kernel's own that are shown

PLANS = """
    The arguments are written in a comment on top of the file, a line a launch:

    \b
    // cudasim: saxpy<float> grid=4 block=256 n=1000 a=2.5 x=float32[n] y=float32[n]:zeros

    Arrays are filled with random numbers, or as a word after a colon says: zeros, ones, arange, a
    number, or empty, which a kernel must write before it reads. x=file.npy loads one. What is left
    out is guessed if there is one integer parameter: it and all arrays have length 1000.
    """

PROFILE = """Count what each line of FILE asks of a GPU's memory.

    Global memory moves in sectors of 32 bytes: a request of a warp costs the sectors its 32 threads
    touch, and is best if those hold nothing but what was asked for. Shared memory has 32 banks: a
    request takes as many cycles as one bank has to serve. Counts are exact; nothing is a time.
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what all three commands take."""
    decorators = [
        click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True)),
        click.option(
            "--kernel", metavar="NAME", help="Launch this one only, such as 'saxpy<double>'."
        ),
        click.option("--grid", metavar="X[,Y,Z]", help="How many blocks."),
        click.option("--block", metavar="X[,Y,Z]", help="How many threads a block has."),
        click.option("--shared", metavar="BYTES", help="Dynamic shared memory."),
        click.option(
            "--arg", "arguments", metavar="NAME=VALUE", multiple=True,
            help="An argument, as in the comment: n=1000, 'x=float32[n]:ones', x=x.npy.",
        ),
        click.option(
            "--route", type=click.Choice(["shim", "ptx"]),
            help="Compile the source itself (the default), or what NVIDIA's compiler makes of it.",
        ),
        debug_option,
    ]  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@click.group("cudasim", short_help="Debug CUDA kernels without a GPU.", context_settings=SETTINGS)
@debug_option
def command() -> None:
    """Check, run and profile the kernels of a .cu FILE on the CPU.

    The file holds kernels and their helpers, no code for the host. A C++ compiler is needed.

    \b
    minicnn cudasim check my.cu
    """


@command.command("check", help="Say what the kernels of FILE do wrong.\n" + PLANS)
@_options
@click.option(
    "--order", "orders", multiple=True,
    type=click.Choice(["ascending", "descending", "random"]),
    help="In which order threads run; may be repeated. The default is all three.",
)  # fmt: skip
def check(file: Path, orders: tuple[str, ...], route: str | None, **given: Any) -> int:
    with _clear_errors():
        from rich.text import Text

        from minicnn.cudasim.checker import ORDERS, check_launch

        source, launches = _launches(file, **given)
        screen = console()
        found = 0
        for launch in launches:
            screen.print(Text(str(launch), "bold"))
            screen.file.flush()  # seen even if the launch never ends
            report = check_launch(source, launch, orders or ORDERS, route)
            found += len(report.findings)
            _print_report(screen, report)
    count = "no finding" if not found else f"{found} finding{'s' if found > 1 else ''}"
    screen.print(f"{count} in {len(launches)} launch{'es' if len(launches) > 1 else ''}")
    return 1 if found else 0


@command.command("run", help="Run the kernels of FILE and show what they write.\n" + PLANS)
@_options
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Save every array that a kernel writes as DIR/KERNEL.NAME.npy.",
)  # fmt: skip
def run(file: Path, out: Path | None, route: str | None, **given: Any) -> int:
    import numpy as np

    with _clear_errors():
        from minicnn.cudasim import settings
        from minicnn.cudasim.checker import execute

        source, launches = _launches(file, **given)
        for number, launch in enumerate(launches):
            click.echo(str(launch))
            with settings(mode="fast", route=route):
                written = execute(source, launch)
            for name, array in written.items():
                shown = np.array2string(array, threshold=FEW, precision=6, prefix=f"  {name} = ")
                click.echo(f"  {name} = {shown}")
                if out is not None:
                    out.mkdir(parents=True, exist_ok=True)
                    kernel = launch.declaration.name
                    same = [other.declaration.name for other in launches].count(kernel) > 1
                    path = out / f"{kernel}{number if same else ''}.{name}.npy"
                    np.save(path, array)
                    click.echo(f"  {name} saved in {path}")
    return 0


@command.command("profile", help=PROFILE + PLANS)
@_options
@click.option(
    "--blocks", type=click.IntRange(1), metavar="N",
    help="Look at the requests of N blocks, spread over the grid (64).",
)  # fmt: skip
def profile(file: Path, blocks: int | None, route: str | None, **given: Any) -> int:
    with _clear_errors():
        from minicnn.cudasim.checker import profile_launch

        source, launches = _launches(file, **given)
        for launch in launches:
            _print_profile(launch, profile_launch(source, launch, blocks, route))
    return 0


def _launches(
    file: Path,
    kernel: str | None,
    grid: str | None,
    block: str | None,
    shared: str | None,
    arguments: tuple[str, ...],
) -> tuple[Source, list[Launch]]:
    """Read a file and make the arguments of its launches."""
    from minicnn.cudasim.checker import launches, load

    values: dict[str, Any] = {"grid": grid, "block": block, "shared": shared}
    values = {name: value for name, value in values.items() if value is not None}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--arg: got {text!r}, expected NAME=VALUE")
        values[name] = value
    source = load(file)
    if arguments and kernel is None and len(source.kernels) > 1:
        names = ", ".join(declared.name for declared in source.kernels)
        raise ValueError(f"--arg: the file has several kernels ({names}); choose by --kernel")
    return source, launches(source, kernel, values)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what is wrong with a file, or with this machine, into an error of the command line.

    Python hears of Ctrl-C only when a launch returns, and a kernel's loop may be endless: here the
    system ends the process, as it would end any other program.
    """
    from minicnn.cudasim.errors import CompileError, CompilerNotFoundError, SimulationError

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if main else None
    try:
        yield
    except (CompileError, CompilerNotFoundError, SimulationError, TypeError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def _print_report(screen: Any, report: LaunchReport) -> None:
    """Print what was found in one launch."""
    printed = report.printed.splitlines()
    for line in printed[:PRINTED]:
        screen.print(f"  it printed: {line}", markup=False)
    if len(printed) > PRINTED:
        screen.print(f"  ... and {len(printed) - PRINTED:,} lines more")
    # An order ends at its first fault: what another order says of this one is known only if that
    # order found nothing at all.
    silent = set(report.tried) - {order for orders in report.orders for order in orders}
    for finding, orders in zip(report.findings, report.orders, strict=True):
        first, *rest = finding.message.splitlines()
        screen.print()
        _print_indented(screen, first, "bold red")
        for line in rest:
            _print_indented(screen, line, _style(line))
        if silent and len(orders) < len(report.tried):
            _print_indented(screen, f"  Seen only when threads run in {' or '.join(orders)} order.")
    for name, difference in report.differences.items():
        text = f"{name} depends on the order of threads: it differs by up to {difference:.1g}"
        _print_indented(screen, text, "yellow")
    if not report.findings:
        counts = ", ".join(f"{count:,} {name}s" for name, count in report.accesses.items())
        _print_indented(screen, f"no finding in {counts or 'no access to memory'}", "green")
    screen.print()


def _print_profile(launch: Launch, counted: KernelProfile) -> None:
    """Print what each line of one launch costs, and what every array moves at least."""
    from rich.text import Text

    columns = ("line", "access", ">bytes", ">requests", ">a request", ">efficiency", "source")
    table = make_table(*columns, title=str(launch))
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in sorted(counted.rows, key=lambda row: (row.file or "", row.line or 0, row.kind)):
        if row.space == "global":
            cost, good = f"{row.sectors_per_request:.1f} sectors", f"{100 * row.coalescing:.1f} %"
            style = "green" if row.coalescing > GOOD else "red"
        else:
            cost = f"{row.cycles / max(row.requests, 1):.1f} cycles"
            good = f"{row.bank_conflict:.1f}-way" if row.bank_conflict > 1 else "no conflict"
            style = "green" if row.bank_conflict < 1 / GOOD else "red"
        where = f"{row.file}:{row.line}" if row.line else "?"
        access = f"{row.space} {row.kind}"
        requests = f"{row.requests:,.0f}"
        table.add_row(where, access, str(row.width), requests, cost, Text(good, style), row.source)
    screen = console()
    screen.print(table)
    screen.print(
        f"  {counted.transferred_bytes:,.0f} bytes move between multiprocessors and caches, "
        f"{100 * counted.coalescing:.0f} % of them wanted"
    )
    for array in counted.arrays.values():
        screen.print(
            f"  {array.name}: {array.read:,} of its {array.bytes:,} bytes are read, "
            f"{array.written:,} written"
        )
    screen.print()


def _style(line: str) -> str:
    """Return how a line of a finding is shown: cures stand out, places stand back."""
    if line.lstrip().startswith("Likely cure"):
        return "green"
    return "cyan" if " | " in line else "dim"


def _print_indented(screen: Any, text: str, style: str = "dim") -> None:
    """Print a line, wrapped under its own beginning."""
    from rich.text import Text

    body = text.lstrip()
    margin = " " * (2 + len(text) - len(body))
    for line in textwrap.wrap(body, max(40, screen.width - len(margin))):
        screen.print(Text(margin + line, style))
