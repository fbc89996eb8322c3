"""`python -m benchmarks kernels|ladder|models|training|memory|digits|compare`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import machine

if TYPE_CHECKING:
    from benchmarks.timing import Case, Settings

PLAIN_WIDTH = 160
KERNEL_TURN, NETWORK_TURN = 0.05, 0.2  # seconds that a side's turn lasts at least


@click.group()
def main() -> None:
    """Check results, then time them, sides in turn."""


def measuring(rounds: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of every command that times something; `rounds` is its default."""
    options = [
        click.option(
            "--threads", default=2, show_default=True, type=click.IntRange(1), help="Of every side."
        ),
        click.option(
            "--clock", type=click.Choice(["wall", "cpu"]),
            help="Wall clock, or processor time; the latter by default with one thread.",
        ),
        click.option("--rounds", default=rounds, show_default=True, type=click.IntRange(1)),
        click.option(
            "--json", "json_path", type=click.Path(path_type=Path), metavar="FILE",
            help="Write the figures here.",
        ),
        click.option(
            "--plot", "plot_path", type=click.Path(path_type=Path), metavar="FILE.png",
            help="Draw a picture of them.",
        ),
    ]  # fmt: skip

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def prepare(
    threads: int, clock: str | None, rounds: int, plot_path: Path | None, seconds: float
) -> Settings:
    """Return the settings, in a process that has the environment they ask for.

    Raises:
        ClickException: for settings that do not fit together, and for a picture without Matplotlib.
    """
    from benchmarks.timing import Settings, default_clock

    if plot_path is not None and importlib.util.find_spec("matplotlib") is None:
        raise click.ClickException("--plot needs Matplotlib: pip install matplotlib")
    try:
        settings = Settings(threads, clock or default_clock(threads), rounds, seconds)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    machine.restart(machine.environment(threads, keep_memory=True))
    return settings


def collect(
    benchmark: str, cases: Iterable[Case], settings: Settings, json_path: Path | None
) -> dict[str, Any]:
    """Measure, naming each case as it is done; return the run.

    The file is written after every case, so that what was measured is kept whatever comes.

    Raises:
        ClickException: for arguments out of range.
    """
    from benchmarks import report

    run: dict[str, Any] = {
        "benchmark": benchmark,
        "machine": machine.describe(),
        "settings": asdict(settings),
        "cases": [],
    }
    try:
        with Console(stderr=True).status("measuring") as status:
            for case in cases:
                run["cases"].append(case.as_dict())
                if json_path is not None:
                    report.save(run, json_path)
                status.update(f"{len(run['cases'])} measured, the last: {case.name}")
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    return run


batch_scale_option = click.option(
    "--batch-scale", default=1.0, show_default=True, type=click.FloatRange(0, min_open=True),
    help="Factor of all batches.",
)  # fmt: skip


@main.command()
@click.option(
    "--only", multiple=True, metavar="PATTERN",
    help="Cases that have this in their name, such as 'conv VGG' or 'gemm*data'; repeatable.",
)  # fmt: skip
@batch_scale_option
@measuring(rounds=7)
def kernels(
    only: tuple[str, ...],
    batch_scale: float,
    threads: int,
    clock: str | None,
    rounds: int,
    json_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Time convolutions, products and memory-bound operators beside NumPy's and PyTorch's."""
    from benchmarks import report

    settings = prepare(threads, clock, rounds, plot_path, KERNEL_TURN)
    machine.load_torch()
    from benchmarks.kernels import run as measured

    run = collect("kernels", measured(only, batch_scale, settings), settings, json_path)
    report.print_run(run, console())
    if plot_path is not None:
        from benchmarks.plots import ratios_png

        plot_path.write_bytes(ratios_png(run))


@main.command()
@click.option(
    "--layer", "layer_name", metavar="NAME",
    help="A convolution of `kernels`, such as 'VGG 3_2'; a smaller one by default.",
)  # fmt: skip
@batch_scale_option
@click.option(
    "--size", default=768, show_default=True, type=click.IntRange(1), help="Of square matrices."
)
@measuring(rounds=5)
def ladder(
    layer_name: str | None,
    batch_scale: float,
    size: int,
    threads: int,
    clock: str | None,
    rounds: int,
    json_path: Path | None,
    plot_path: Path | None,
) -> None:
    """Climb from the plain loop to the fastest: each rung's rate, share of the peak, and idea."""
    from benchmarks import report

    settings = prepare(threads, clock, rounds, plot_path, KERNEL_TURN)
    machine.load_torch()
    from benchmarks import ladder as room

    try:
        layer = room.LAYER if layer_name is None else room.find_layer(layer_name)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    cases = room.run(layer, size, batch_scale, settings)
    run = collect("ladder", cases, settings, json_path)
    table = Table("", "rung", title="The ladder")
    for column in ("rate", "of the peak"):
        table.add_column(column, justify="right")
    table.add_column("the idea it adds")
    for row in room.table(run):
        table.add_row(*row)
    out = console()
    out.print(report.heading(run), highlight=False)
    out.print(table)
    if json_path is not None:
        report.save(run, json_path)
    if plot_path is not None:
        from benchmarks.plots import roofline_png

        plot_path.write_bytes(roofline_png(run))


def whole(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the commands that time whole networks."""
    for option in (
        measuring(rounds=5),
        click.option(
            "--side", "sides", multiple=True, metavar="NAME",
            help="Of the others only these, such as 'PyTorch tuned'; repeatable.",
        ),
        click.option(
            "--batch-size", type=click.IntRange(1),
            help="Images at a time; the network's own number by default.",
        ),
        click.argument("networks", nargs=-1),
    ):  # fmt: skip
        function = option(function)
    return function


@main.command()
@whole
def models(**options: Any) -> None:
    """Time inference with each of NETWORKS, or with all, beside PyTorch and what else there is."""
    _whole("inference", **options)


@main.command()
@whole
def training(**options: Any) -> None:
    """Time training steps of each of NETWORKS, or of all, beside PyTorch and what else there is."""
    _whole("training", **options)


def _whole(
    mode: str,
    networks: tuple[str, ...],
    batch_size: int | None,
    sides: tuple[str, ...],
    threads: int,
    clock: str | None,
    rounds: int,
    json_path: Path | None,
    plot_path: Path | None,
) -> None:
    from benchmarks import report

    settings = prepare(threads, clock, rounds, plot_path, NETWORK_TURN)
    from benchmarks.models import run as measured

    cases = measured(mode, networks, sides, batch_size, settings)
    run = collect(mode, cases, settings, json_path)
    report.print_run(run, console())
    if plot_path is not None:
        from benchmarks.plots import ratios_png

        plot_path.write_bytes(ratios_png(run))


@main.command()
@click.argument("old", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("new", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def compare(old: Path, new: Path) -> None:
    """Say what got slower or faster from one --json file to the other; 1 if anything got slower."""
    from benchmarks import report
    from benchmarks.compare import changes, print_changes

    try:
        found = list(changes(report.load(old), report.load(new)))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    print_changes(found, console())
    if any(change.verdict == "slower" for change in found):
        raise SystemExit(1)


def console() -> Console:
    """Return the console; wide where the output is no terminal, so that a table stays whole."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=PLAIN_WIDTH)


@main.command()
@click.argument("networks", nargs=-1)
@click.option("--batch-size", default=4, show_default=True, type=click.IntRange(1))
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here."
)
def memory(networks: tuple[str, ...], batch_size: int, json_path: Path | None) -> None:
    """Measure the most memory that a training step of each of NETWORKS takes, full size."""
    from benchmarks.memory import NETWORKS, compare

    unknown = [name for name in networks if name not in NETWORKS]
    if unknown:
        raise click.ClickException(
            f"networks: got {', '.join(unknown)}, expected some of {', '.join(NETWORKS)}"
        )
    table = Table(
        "network", "minicnn, GiB", "torchvision, GiB", "torchvision's",
        title=f"Most memory of a training step, SGD with momentum, batch {batch_size}",
    )  # fmt: skip
    rows = []
    for row in compare(list(networks or NETWORKS), batch_size):
        theirs = row["torchvision"]
        table.add_row(
            row["network"], f"{row['minicnn'] / 2**30:.2f}",
            "" if theirs is None else f"{theirs / 2**30:.2f}", row["twin"] or "",
        )  # fmt: skip
        rows.append(row)
    Console().print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


@main.command()
@click.option("--ablations", is_flag=True, help="Take one idea at a time away as well.")
@click.option(
    "--out",
    default="runs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the runs' folders are; finished ones are not trained again.",
)
def digits(ablations: bool, out: Path) -> None:
    """Train every network for digits on MNIST and print the README's table."""
    from benchmarks.digits import ABLATIONS, NETWORKS, markdown, train

    results = [train(run, out) for run in [*NETWORKS, *(ABLATIONS if ablations else [])]]
    click.echo(markdown(results))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
