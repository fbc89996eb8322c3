"""`minicnn eval`: how good a trained network is, class by class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from minicnn.cli._common import (
    SETTINGS,
    console,
    crops_option,
    data_folder_option,
    debug_option,
    device_option,
    load_data,
    load_trained,
    make_table,
)

if TYPE_CHECKING:
    from minicnn.training import Evaluation


@click.command(
    "eval", short_help="Measure a trained network, class by class.", context_settings=SETTINGS
)
@click.argument("run", type=click.Path(path_type=Path))
@data_folder_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to draw the confusion matrix.  [default: RUN/confusion.png]",
)
@crops_option
@device_option
@debug_option
def command(
    run: Path, data_folder: Path | None, out: Path | None, crops: str | None, device: str
) -> int:
    """Measure the network of RUN on the test images of its dataset.

    Prints loss and accuracy and, for each class, how many were found (recall), how many of those
    named so were right (precision) and what it is mistaken for most; draws the confusion matrix.
    --crops needs a run whose test pictures are cut to their centre.
    """
    from minicnn.training import RunFolder, evaluate
    from minicnn.training.report import write_confusion
    from minicnn.training.trainer import check_data, test_loader

    folder = RunFolder.find(run)
    config = folder.load_config()
    model = load_trained(folder, config, device)
    train, test = load_data(config, data_folder)
    check_data(config, model, train, test)
    result = evaluate(model, test_loader(config, test, crops))
    picture = out or folder.confusion
    write_confusion(picture, result, config.classes)
    _print_classes(result, config.classes)
    click.echo(
        f"test loss {result.loss:.4f}, test accuracy {result.accuracy:.2%} "
        f"({result.correct:,} of {result.total:,}) on {device}; confusion matrix in {picture}"
    )
    return 0


def _print_classes(result: Evaluation, classes: list[str]) -> None:
    """Print the table of classes."""
    table = make_table("class", ">images", ">found", ">recall", ">precision", "mistaken most for")
    for index, name in enumerate(classes):
        row = result.confusion[index].copy()
        row[index] = 0
        worst = int(row.argmax())
        mistake = f"{classes[worst]} ({row[worst]:,})" if row[worst] else ""
        count, right = int(result.confusion[index].sum()), int(result.confusion[index, index])
        table.add_row(
            name, f"{count:,}", f"{right:,}", f"{result.recall[index]:.2%}",
            f"{result.precision[index]:.2%}", mistake,
        )  # fmt: skip
    console().print(table)
