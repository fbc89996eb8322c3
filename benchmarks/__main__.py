"""`python -m benchmarks training|memory|digits`: time, memory and what training comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table


@click.group()
def main() -> None:
    """Check results, then time them, sides in turn."""


@main.command()
@click.option("--batch-size", default=64, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1))
@click.option(
    "--steps", default=20, show_default=True, type=click.IntRange(1), help="Calls a round."
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here."
)
def training(
    batch_size: int, threads: int, rounds: int, steps: int, json_path: Path | None
) -> None:
    """Time a LeNet training step beside PyTorch's."""
    try:
        from benchmarks.training import run

        result = run(batch_size, threads, rounds, steps)
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is not installed; this compares with it"
        ) from error
    show(result)
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


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


def show(result: dict[str, Any]) -> None:
    """Print the sides and the ratio."""
    where = result["machine"]
    table = Table(
        "side",
        "best, ms",
        "median, ms",
        title=f"{result['benchmark']}, batch {result['batch_size']}, {result['threads']} threads",
        caption=f"{where['cpu']}, {where['cores']} cores, Python {where['python']}",
    )
    for name, seconds in result["sides"].items():
        table.add_row(name, f"{seconds['best'] * 1e3:.2f}", f"{seconds['median'] * 1e3:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"PyTorch / minicnn: {result['ratio_best']:.2f} of the best, "
        f"{result['ratio_median']:.2f} of the medians"
    )


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
