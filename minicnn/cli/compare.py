"""`minicnn compare`: networks side by side, as a table and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minicnn.cli._common import SETTINGS, console, debug_option, make_table

if TYPE_CHECKING:
    from minicnn.training.compare import Compared


@click.command(
    "compare", short_help="Compare networks: accuracy, size, work, depth.",
    context_settings=SETTINGS,
)  # fmt: skip
@click.argument("names", metavar="NAME|RUN...", nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Where to draw the picture (PNG).  [default: compare.png]",
)  # fmt: skip
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write the table there as JSON, too.",
)  # fmt: skip
@debug_option
def command(names: tuple[str, ...], out: Path | None, json_file: Path | None) -> int:
    """Compare networks by NAME and trained networks by the folder of their RUN.

    Accuracies of names are published ones, with their source, those of runs are of their last
    epoch; bubbles in the picture show them against the multiply-adds (MACs) for one image, and bars
    what networks without them cost. Depth counts convolutions and dense layers on the longest path.
    The receptive field is that of the last map, before global pooling or dense layers. Auxiliary
    heads, which only training runs, are left out.

    \b
    minicnn compare alexnet vgg16 googlenet resnet50 densenet121
    """
    from minicnn.serialization import write_atomically
    from minicnn.training.compare import compare, to_dict
    from minicnn.training.compare_picture import compare_png

    rows = compare(names)
    picture = out or Path("compare.png")
    write_atomically(picture, compare_png(rows))
    if json_file is not None:
        text = json.dumps([to_dict(row) for row in rows], indent=2)
        write_atomically(json_file, (text + "\n").encode())
    _print_table(rows)
    click.echo(f"picture in {picture}" + (f", figures in {json_file}" if json_file else ""))
    return 0


def _print_table(rows: Sequence[Compared]) -> None:
    """Print a line a network, and below whence the accuracies are."""
    table = make_table(
        "network", ">top-1", ">top-5", "on", ">parameters", ">MACs", ">depth", ">receptive field",
        "input",
    )  # fmt: skip
    for row in rows:
        on = ", ".join(text for text in (row.data, row.views) if text)
        high, wide = row.receptive_field
        table.add_row(
            row.name, _percent(row.top1), _percent(row.top5), on, f"{row.parameters:,}",
            f"{row.macs:,}", str(row.depth), str(high) if high == wide else f"{high}x{wide}",
            "x".join(map(str, row.input_shape)),
        )  # fmt: skip
    console().print(table)
    sources: dict[str, list[str]] = {}
    for row in rows:
        if row.source:
            sources.setdefault(row.source, []).append(row.name)
    for source, names in sources.items():
        click.echo(f"{', '.join(names)}: {source}")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} %"
