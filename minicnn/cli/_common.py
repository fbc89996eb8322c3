"""What several commands share: options, tables, and turning arguments into things."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from minicnn.data import Dataset
    from minicnn.nn import Module
    from minicnn.training import RunFolder, TrainingConfig

PLAIN_WIDTH = 140
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show where an error came from."
)
data_folder_option = click.option(
    "--data-folder", type=click.Path(path_type=Path), metavar="DIR",
    help="Where the dataset's files lie, if not in the cache.",
)  # fmt: skip


class Device(click.ParamType):
    """The name of a device that can be used here."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the device's own name: "cuda:sim" for "cuda" where that is simulated."""
        from minicnn.backend import check_device

        return check_device(value)


device_option = click.option(
    "--device", type=Device(), default="cpu", show_default=True, metavar="NAME",
    help="Where to compute: cpu, cuda, or cuda:sim, a simulated GPU; cuda:1 is the second.",
)  # fmt: skip


crops_option = click.option(
    "--crops", type=click.Choice(["five", "ten"]),
    help="Average over the corners and the centre of each picture; ten adds their mirror images.",
)  # fmt: skip


class Shape(click.ParamType):
    """CxHxW, such as 1x28x28."""

    name = "CxHxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        """Return (C, H, W)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", value)
        if match is None:
            self.fail(f"got {value!r}, expected CxHxW such as 1x28x28", param, ctx)
        channels, height, width = map(int, match.groups())
        return channels, height, width


def console() -> Console:
    """Return a console that is as wide as the terminal, or wide enough for any table in a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    # Without markup and emoji, names of files and classes are shown as they are.
    return Console(width=width, highlight=False, markup=False, emoji=False)


def make_table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table in the house style; a column named with a leading > is set right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"), justify="right" if right else "left", no_wrap=right
        )
    return table


def load_data(config: TrainingConfig, folder: Path | None) -> tuple[Dataset, Dataset]:
    """Load the dataset of a run, from `folder` or from where the run had it."""
    from minicnn.data import load_dataset

    place = folder if folder is not None else config.data_folder
    return load_dataset(config.data, place, **config.data_options)


def load_trained(run: RunFolder, config: TrainingConfig, device: str) -> Module:
    """Build a run's network on a device, with the weights of its last finished epoch.

    Raises:
        ValueError: no epoch is finished yet, or the file is damaged or of another network.
    """
    from minicnn.serialization import load_state_dict
    from minicnn.training.recipes import build

    if not run.weights.exists():
        raise ValueError(f"{run} has no weights yet: no epoch of it is finished")
    model: Module = build(config.model, config.model_options)
    weights = load_state_dict(run.weights)
    try:
        model.load_state_dict(weights)
    except ValueError as error:
        raise ValueError(
            f"{run.weights} holds another network than {config.model}: {error}"
        ) from error
    return model.eval().to(device)
