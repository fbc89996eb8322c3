"""`minicnn predict`: what a trained network sees in pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from minicnn.cli._common import (
    SETTINGS,
    console,
    crops_option,
    debug_option,
    device_option,
    load_trained,
    make_table,
)

if TYPE_CHECKING:
    from minicnn.training import TrainingConfig


@click.command("predict", short_help="Name what is on pictures.", context_settings=SETTINGS)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="N",
    help="How many classes to show for each picture.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every probability as JSON.")
@crops_option
@device_option
@debug_option
def command(
    run: Path, images: tuple[Path, ...], top: int, as_json: bool, crops: str | None, device: str
) -> int:
    """Name what is on each IMAGE (PNG, JPEG, ...) with the network of RUN.

    A network that was trained on MNIST gets each picture as MNIST was made: grey, bright ink on
    black (a dark drawing on a bright ground is inverted), cropped, scaled to 20 pixels and centred
    by its mass in 28x28. Pictures that are 28x28 already keep their place. Networks trained on a
    folder of images get the middle of each picture, scaled to the size of those, or the whole
    picture where those had any size.

    \b
    minicnn predict runs/lenet-mnist seven.png
    minicnn predict runs/lenet-mnist --json *.jpg
    """
    from minicnn.training import RunFolder
    from minicnn.training.predict import predict, prepare

    folder = RunFolder.find(run)
    config = folder.load_config()
    model = load_trained(folder, config, device)
    pixels = [prepare(path, config) for path in images]
    alike = len({picture.shape for picture in pixels}) == 1
    groups = [np.stack(pixels)] if alike else [picture[np.newaxis] for picture in pixels]
    probabilities = np.concatenate([predict(model, config, group, crops) for group in groups])
    if as_json:
        _print_json(images, probabilities, config)
    else:
        _print_table(images, probabilities, config, top)
        click.echo(f"computed on {device}")
    return 0


def _print_json(images: Sequence[Path], probabilities: np.ndarray, config: TrainingConfig) -> None:
    """Print a list with one object a picture."""
    results = [
        {
            "image": str(path),
            "class": config.classes[int(row.argmax())],
            "probabilities": dict(zip(config.classes, map(float, row), strict=True)),
        }
        for path, row in zip(images, probabilities, strict=True)
    ]
    click.echo(json.dumps(results, indent=2))


def _print_table(
    images: Sequence[Path], probabilities: np.ndarray, config: TrainingConfig, top: int
) -> None:
    """Print the likeliest classes, a line a picture."""
    from rich.text import Text

    table = make_table("image", "class", ">probability", "then")
    for path, row in zip(images, probabilities, strict=True):
        best, *others = np.argsort(-row, kind="stable")[:top]
        then = ", ".join(f"{config.classes[index]} {row[index]:.2%}" for index in others)
        table.add_row(str(path), Text(config.classes[best], "bold"), f"{row[best]:.2%}", then)
    console().print(table)
