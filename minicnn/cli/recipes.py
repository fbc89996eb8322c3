"""`minicnn recipes`: how the papers trained their networks."""

from __future__ import annotations

import json

import click

from minicnn.cli._common import SETTINGS, console, debug_option, make_table


@click.command("recipes", short_help="Show how the papers trained.", context_settings=SETTINGS)
@click.argument("name", required=False)
@debug_option
def command(name: str | None) -> int:
    """List the recipes, or show one whole, as `minicnn train MODEL --recipe NAME` starts from it.

    \b
    minicnn recipes resnet-cifar
    minicnn train resnet20 --recipe resnet-cifar --epochs 10
    """
    from minicnn.training.papers import RECIPES

    if name is None:
        table = make_table("recipe", ">epochs", ">batch", ">rate", "schedule", "source")
        for key, recipe in RECIPES.items():
            settings = recipe.settings
            table.add_row(
                key, str(settings["epochs"]), str(settings["batch_size"]),
                str(settings["optimizer_options"]["lr"]), settings["schedule"], recipe.source,
            )  # fmt: skip
        console().print(table)
        return 0
    if name not in RECIPES:
        raise ValueError(f"recipe: got {name!r}, expected one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    click.echo(f"{recipe.source}.\n{recipe.differs}")
    click.echo(json.dumps(recipe.settings, indent=2))
    return 0
