"""`minicnn kernels`: what there is, and what can be said about the CUDA side without a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minicnn.cli._common import SETTINGS, console, debug_option, make_table

if TYPE_CHECKING:
    from rich.table import Table

    from minicnn.kernelcheck.report import Build, Report


@click.group(
    "kernels",
    short_help="List the kernels; report on their CUDA code.",
    context_settings=SETTINGS,
    invoke_without_command=True,
)
@debug_option
@click.pass_context
def command(ctx: click.Context) -> None:
    """List every operation with the kernels that compute it.

    The CUDA kernels of an operation stand in the order of their file: the plain one first, then
    the faster rungs. `minicnn kernels report` says more about them.
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
