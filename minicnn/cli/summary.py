"""`minicnn summary`: the layers of a network as a table."""

from __future__ import annotations

import inspect
from typing import Any

import click

from minicnn.cli._common import (
    SETTINGS,
    Shape,
    console,
    debug_option,
    device_option,
    make_table,
)


@click.command("summary", short_help="Show the layers of a network.", context_settings=SETTINGS)
@click.argument("model", required=False)
@click.option("--input", "input_shape", type=Shape(), help="Size of an image, such as 1x28x28.")
@click.option(
    "--classes", type=click.IntRange(1), metavar="N", help="How many classes to tell apart."
)
@click.option("--training", is_flag=True, help="Count what only training runs, too.")
@device_option
@debug_option
def command(
    model: str | None,
    input_shape: tuple[int, int, int] | None,
    classes: int | None,
    training: bool,
    device: str,
) -> int:
    """Show the layers of MODEL: output shape, parameters, multiply-adds, receptive field.

    Without MODEL, list the networks. Multiply-adds (MACs) are for one image.
    Auxiliary heads, which only training runs, have rows with --training; the total of parameters
    is that of the whole network.

    \b
    minicnn summary lenet --input 1x28x28
    """
    from minicnn.models import MODELS
    from minicnn.summary import summarize
    from minicnn.training.recipes import build

    if model is None:
        _list_models(MODELS)
        return 0
    options = _options(MODELS.get(model), input_shape, classes)
    network = build(model, options).to(device)
    if classes is not None and classes != network.num_classes:
        raise ValueError(f"classes: got {classes}, but {model} always has {network.num_classes}")
    summary = summarize(network, input_shape or network.input_shape, training=training)
    table = make_table("layer", "type", ">output", ">parameters", ">MACs", ">receptive field")
    for row in summary.rows:
        table.add_row(
            row.name, row.type, _times(row.output_shape), f"{row.parameters:,}",
            f"{row.macs:,}" if row.macs else "", _field(row.receptive_field),
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "total",
        "",
        "",
        f"{summary.total_parameters:,}",
        f"{summary.total_macs:,}",
        "",
        style="bold",
    )
    click.echo(f"{summary.model}, input {_times(summary.input_shape)}, run on {device}")
    console().print(table)
    frozen = summary.total_parameters - summary.trainable_parameters
    if frozen:
        click.echo(f"{frozen:,} of the parameters are frozen")
    for note in network.notes():
        click.echo(note)
    return 0


def _list_models(models: dict[str, Any]) -> None:
    table = make_table("model", "what it is")
    for name, builder in models.items():
        table.add_row(name, (inspect.getdoc(builder) or "").partition("\n")[0])
    console().print(table)


def _options(
    builder: Any, input_shape: tuple[int, int, int] | None, classes: int | None
) -> dict[str, Any]:
    """Return the builder's options for this input and these classes, as far as it has any."""
    wanted: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if input_shape is not None:
        wanted.update(in_channels=input_shape[0], input_size=input_shape[1:])
    known = inspect.signature(builder).parameters if builder is not None else {}
    return {name: value for name, value in wanted.items() if name in known}


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _field(field: tuple[int, int]) -> str:
    return str(field[0]) if field[0] == field[1] else _times(field)
