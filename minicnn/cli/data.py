"""`minicnn data`: which datasets there are, whether they are here, and what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minicnn.cli._common import SETTINGS, console, data_folder_option, debug_option, make_table

if TYPE_CHECKING:
    from minicnn.data import Dataset


@click.command("data", short_help="List, fetch and look at datasets.", context_settings=SETTINGS)
@click.argument("name", required=False)
@data_folder_option
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw some images of each class into this PNG.",
)
@debug_option
def command(name: str | None, data_folder: Path | None, picture: Path | None) -> int:
    """List the datasets; with NAME, fetch that one if need be, verify it and count its classes.

    \b
    minicnn data mnist --picture mnist.png
    minicnn data folder --data-folder my-images
    """
    if name is None:
        if picture is not None or data_folder is not None:
            raise click.UsageError("Which dataset? Give its NAME.", click.get_current_context())
        _list()
        return 0
    from minicnn.data import load_dataset
    from minicnn.serialization import write_atomically

    train, test = load_dataset(name, data_folder)
    _print_counts(train, test)
    if picture is not None:
        from minicnn.training.plots import samples_png

        write_atomically(picture, samples_png(train, f"{name}: training images"))
        click.echo(f"some of them are drawn in {picture}")
    return 0


def _list() -> None:
    """Print every dataset and where its files are."""
    from minicnn.data import DATASETS

    table = make_table("name", "what it is", "where it is")
    for name, description in DATASETS.items():
        table.add_row(name, description, _place(name))
    console().print(table)


def _place(name: str) -> str:
    """Say where a dataset's files are, or would go."""
    from minicnn.data.download import cache_folder
    from minicnn.data.mnist import FASHION_MNIST, MNIST

    sources = {source.name: source for source in (MNIST, FASHION_MNIST)}
    if name not in sources:
        return "in this package" if name == "digits" else "where --data-folder says"
    variable = sources[name].variable
    if os.environ.get(variable):
        return f"{os.environ[variable]} (from {variable})"
    cache = cache_folder(name)
    return str(cache) if cache.is_dir() else f"not here yet; fetched to {cache} when needed"


def _print_counts(train: Dataset, test: Dataset) -> None:
    """Print how many images of each class there are."""
    shape = "x".join(map(str, train.image_shape))
    click.echo(f"{train.name}: {len(train):,} training and {len(test):,} test images of {shape}")
    table = make_table("class", ">training", ">test")
    for index, name in enumerate(train.classes):
        counts = [int((part.labels == index).sum()) for part in (train, test)]
        table.add_row(name, *(f"{count:,}" for count in counts))
    table.add_section()
    table.add_row("total", f"{len(train):,}", f"{len(test):,}", style="bold")
    console().print(table)
