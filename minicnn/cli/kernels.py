"""`minicnn kernels`: what there is, the CPU's compiled ahead, the GPU's judged without one."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minicnn.cli._common import SETTINGS, console, debug_option, make_table

if TYPE_CHECKING:
    from rich.table import Table

    from minicnn.kernelcheck.report import Build, Report


@click.group(
    "kernels",
    short_help="List the kernels; compile the CPU's; report on the GPU's.",
    context_settings=SETTINGS,
    invoke_without_command=True,
)
@debug_option
@click.pass_context
def command(ctx: click.Context) -> None:
    """List every operation with the kernels that compute it.

    The CUDA kernels of an operation stand in the order of their file: the plain one first, then
    the faster rungs. `minicnn kernels report` says more about them; `minicnn kernels warm` compiles
    those of the CPU.
    """
    if ctx.invoked_subcommand is None:
        console().print(_listing())


def _listing() -> Table:
    from minicnn.kernelcheck.listing import ops

    table = make_table("op", "Numba kernels", "CUDA kernels", "kernels/")
    for op in ops():
        table.add_row(op.name, "\n".join(op.cpu), "\n".join(op.cuda), f"{op.stem}.py, .cu")
    return table


@command.command("report", short_help="Compile and count the CUDA kernels.")
@click.argument("stems", metavar="[STEM]...", nargs=-1)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), metavar="FILE",
    help="Write everything that was found to a file.",
)  # fmt: skip
@click.option("--update", is_flag=True, help="Rewrite the table that the kernels are held to.")
@debug_option
def report_command(stems: tuple[str, ...], json_path: Path | None, update: bool) -> int:
    """Compile the CUDA kernels of every pair, or of each STEM, and count what they ask of a GPU.

    NVIDIA's compiler builds them for five architectures; the simulator counts their accesses to
    memory. The report ends with what is worse than kernels/_budgets.csv allows; then the exit code
    is 1. There is no GPU in this and no time.
    """
    from minicnn import cudasim
    from minicnn.cudasim import nvrtc, sass
    from minicnn.kernelcheck import budgets, report

    try:
        found = report.measure(stems or None)
    except (nvrtc.NvrtcNotFoundError, sass.NvdisasmNotFoundError) as error:
        both = "pip install 'minicnn[nvrtc]' brings all of NVIDIA's tools that the report needs"
        raise click.ClickException(f"{error}; {both}") from error
    except cudasim.CompilerNotFoundError as error:
        raise click.ClickException(str(error)) from error
    out = console()
    out.print(_resources(found))
    if found.roofline:
        out.print(_roofline(found))
    if json_path is not None:
        json_path.write_text(json.dumps(found.as_dict(), indent=1) + "\n", encoding="utf-8")
        click.echo(f"wrote {json_path}")
    if update:
        budgets.write(found)
        click.echo(f"wrote {budgets.PATH.name}")
    worse = budgets.violations(found, budgets.read())
    for sentence in worse:
        click.echo(sentence, err=True)
    click.echo(f"{len(found.kernels)} kernels, {len(worse)} over their budget")
    return 1 if worse else 0


@command.command("warm", short_help="Compile the CPU kernels ahead.")
@click.option("--float64", is_flag=True, help="For float64 too, not only for float32.")
@click.option("--clear", is_flag=True, help="Remove what is there, so that all is compiled anew.")
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N",
    help="Processes that compile at the same time.  [default: one a core, at most 8]",
)  # fmt: skip
@debug_option
def warm_command(float64: bool, clear: bool, jobs: int | None) -> None:
    """Compile every Numba kernel that is not on disk yet, so that no first run waits for it.

    The code is kept in $MINICNN_KERNELS_CACHE, by default in the user's cache folder. It is of use
    to this CPU, and until a kernel's source, Numba or Python changes.
    """
    import os

    import numpy as np

    from minicnn.kernels import _cache
    from minicnn.warm import Event, count_calls, warm

    if clear:
        for path in _cache.cached_files():
            path.unlink(missing_ok=True)
    dtypes = [np.dtype(name) for name in ("float32", "float64")[: 1 + float64]]
    names: defaultdict[str, set[str]] = defaultdict(set)
    begun = time.perf_counter()
    with _progress(count_calls(dtypes)) as (show, advance):

        def tell(name: str, event: Event) -> None:
            names[event].add(name)
            if event == "called":
                advance()
            elif event == "compiling":
                show(name)

        warm(dtypes, tell, jobs or min(os.cpu_count() or 1, 8))
    seconds = time.perf_counter() - begun
    compiled = names["compiled"]
    there = names["loaded"] - compiled
    click.echo(f"kernels: {len(compiled)} compiled, {len(there)} there already; {seconds:.1f} s")
    sizes: Counter[Path] = Counter()
    for path in _cache.cached_files():
        sizes[path.parent] += path.stat().st_size
    for folder, size in sizes.items():
        click.echo(f"{folder}: {size / 1e6:.1f} MB")


@contextmanager
def _progress(total: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """Yield what shows the name of a kernel and what says that one of `total` calls is made."""
    if not sys.stdout.isatty():
        yield (lambda name: click.echo(f"compiling {name}")), (lambda: None)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}"), transient=True) as progress:
        task = progress.add_task("loading", total=total)
        yield (
            lambda name: progress.update(task, description=f"compiling {name}"),
            lambda: progress.advance(task),
        )


def _resources(report: Report) -> Table:
    architectures = " ".join(f"sm_{arch}" for arch in report.architectures)
    table = make_table(
        ">kernel", ">registers", ">spills", ">shared", ">occupancy %", ">FMA %", ">coalesced",
        ">banks",
        title=f"On {architectures}, compiled by NVRTC {report.compiler}",
    )  # fmt: skip
    for kernel in report.kernels:
        builds = kernel.builds
        table.add_row(
            kernel.name.replace("_cuda<", "<"),
            " ".join(str(build.registers) for build in builds),
            str(max(build.spills for build in builds)),
            str(builds[0].shared + kernel.dynamic_shared),
            " ".join(f"{build.occupancy.share * 100:.0f}" for build in builds),
            " ".join(map(_share, builds)),
            "-" if kernel.coalescing is None else f"{kernel.coalescing:.2f}",
            "-" if kernel.bank_conflict is None else f"{kernel.bank_conflict}-way",
        )
    return table


def _share(build: Build) -> str:
    return "-" if build.multiply_adds is None else f"{build.multiply_adds * 100:.0f}"


def _roofline(report: Report) -> Table:
    from minicnn.kernelcheck.report import A100

    table = make_table(
        "case", "type", ">operations", ">bytes", ">operations a byte", "bound",
        title=(
            f"Roofline of an {A100.name}: memory is the bound below {A100.ridge('float'):.1f} "
            f"operations a byte, {A100.ridge('double'):.1f} in float64"
        ),
    )  # fmt: skip
    for row in report.roofline:
        table.add_row(
            f"{row.op} {row.label}", row.dtype, f"{row.flops:,}", f"{row.bytes:,}",
            f"{row.intensity:.2f}", row.bound(),
        )  # fmt: skip
    return table
