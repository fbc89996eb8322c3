"""`minicnn visualize`: filters, feature maps, and where a network looks in a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from minicnn.cli._common import SETTINGS, debug_option, device_option, load_trained

if TYPE_CHECKING:
    from minicnn.training import TrainingConfig
    from minicnn.visualize import HeatMap

# What torchvision subtracts from pixels of 0 to 1 and divides by.
IMAGENET_INPUT = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
MOST_LISTED = 20


@click.command(
    "visualize", short_help="Draw filters, feature maps, and where a network looks.",
    context_settings=SETTINGS,
)  # fmt: skip
@click.argument("source", metavar="RUN|MODEL", type=click.Path(path_type=Path))
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE",
    help="Weights of MODEL: .safetensors, or PyTorch's .pth.",
)  # fmt: skip
@click.option(
    "--classes", type=click.IntRange(1), metavar="N", help="With --weights: how many classes."
)
@click.option(
    "--layer", "layers", multiple=True, metavar="NAME",
    help="Draw the maps of this layer; may be repeated.  [default: up to four convolutions]",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["auto", "cam", "grad-cam"]), default="auto", show_default=True,
    help="How to find where it looks; auto takes cam where the network allows it.",
)  # fmt: skip
@click.option(
    "--class", "chosen", metavar="NAME", help="Where it looks for this class, not the likeliest."
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Where to put the pictures.  [default: RUN, or visualize-MODEL]",
)  # fmt: skip
@device_option
@debug_option
def command(
    source: Path,
    image: Path | None,
    weights: Path | None,
    classes: int | None,
    layers: tuple[str, ...],
    method: str,
    chosen: str | None,
    out: Path | None,
    device: str,
) -> int:
    """Draw what a network sees: that of RUN, or MODEL with the weights in a file.

    Without IMAGE, the filters of the first convolution (filters.png). With it, also the maps of
    some layers (IMAGE-maps.png), each on a scale of its own, and where the network looks for the
    class (IMAGE-heat.png): by CAM for networks that end in global average pooling, else by
    Grad-CAM. IMAGE is prepared as `minicnn predict` does; with --weights, as MNIST's digits for
    networks on grey images, as torchvision's for those on colour.

    \b
    minicnn visualize runs/lenet-mnist seven.png
    minicnn visualize resnet50_torchvision cat.jpg --weights resnet50-0676ba61.pth
    """
    from minicnn.nn import Module
    from minicnn.serialization import write_atomically
    from minicnn.training import RunFolder
    from minicnn.training.report import write_filters

    if image is None and (layers or chosen is not None or method != "auto"):
        raise ValueError("--layer, --class and --method are of use with an IMAGE only")
    model: Module
    if weights is not None:
        model, config = _from_weights(str(source), weights, classes, device)
        folder = out or Path(f"visualize-{source}")
    elif classes is not None:
        raise ValueError("--classes is of use with --weights only")
    else:
        run = RunFolder.find(source)
        config = run.load_config()
        model = load_trained(run, config, device)
        folder = out or source
    pictures: dict[str, bytes] = {}
    if image is not None:
        pictures, heat = _pictures(model, config, image, layers, method, chosen, device)
        _say(heat, config)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in pictures.items():
        write_atomically(folder / name, data)
    if any(parameter.ndim == 4 for parameter in model.parameters()):
        write_filters(RunFolder(folder), model)
        pictures["filters.png"] = b""
    for name in pictures:
        click.echo(f"written to {folder / name}")
    if not pictures:
        click.echo("this network has no convolution, so there are no filters to draw")
    return 0


def _pictures(
    model: Any,
    config: TrainingConfig,
    image: Path,
    layers: tuple[str, ...],
    method: str,
    chosen: str | None,
    device: str,
) -> tuple[dict[str, bytes], HeatMap]:
    """Return the pictures of an image's maps and heat map by file name, and the latter."""
    from minicnn import Tensor
    from minicnn.data import Dataset
    from minicnn.training.predict import prepare
    from minicnn.training.trainer import test_loader
    from minicnn.training.visualize_picture import feature_maps_png, heat_png
    from minicnn.visualize import feature_maps, heat_map

    target = None if chosen is None else _class_index(chosen, config.classes)
    unlabelled = Dataset(prepare(image, config)[np.newaxis], np.zeros(1, np.int64), config.classes)
    batch, _ = next(iter(test_loader(config, unlabelled)))
    tensor = Tensor(batch).to(device)
    maps = feature_maps(model, tensor, layers)
    heat = heat_map(model, tensor, target, method=method)
    title = f"{config.model}, {image.name}"
    pictures = {f"{image.stem}-heat.png": heat_png(batch[0], heat, config.classes, title)}
    if maps:
        pictures[f"{image.stem}-maps.png"] = feature_maps_png(maps, title)
    return pictures, heat


def _from_weights(
    name: str, weights: Path, classes: int | None, device: str
) -> tuple[Any, TrainingConfig]:
    """Build a network by name with the weights of a file, and settings to prepare pictures by.

    Raises:
        ValueError: no such network, or a file that does not fit it.
        OSError: the file cannot be read.
    """
    from minicnn.models.keys import modern_keys
    from minicnn.nn.init import skip_init
    from minicnn.serialization import load_weights
    from minicnn.training import TrainingConfig
    from minicnn.training.recipes import DATA_INPUT, build, fit_transforms, picture_transforms

    with skip_init():
        model = build(name, {} if classes is None else {"num_classes": classes})
    try:
        model.load_state_dict(modern_keys(load_weights(weights)))
    except ValueError as error:
        raise ValueError(f"{weights} does not fit {name}: {error}") from error
    channels, *size = model.input_shape
    grey = channels == 1
    fit = fit_transforms((28, 28), tuple(size)) if grey else picture_transforms(tuple(size))[1]
    statistics = DATA_INPUT["mnist"] if grey else IMAGENET_INPUT
    config = TrainingConfig(
        model=name,
        data="mnist" if grey else "folder",
        classes=[str(index) for index in range(model.num_classes)],
        image_shape=[1, 28, 28] if grey else [channels],
        test_transforms=[*fit, {"name": "Normalize", **statistics}],
    )
    return model.eval().to(device), config


def _class_index(name: str, classes: list[str]) -> int:
    """Return the place of a class.

    Raises:
        ValueError: there is none of that name; lists the first of those there are.
    """
    if name in classes:
        return classes.index(name)
    more = f", ... ({len(classes):,} in all)" if len(classes) > MOST_LISTED else ""
    raise ValueError(
        f"class: got {name!r}, expected one of {', '.join(classes[:MOST_LISTED])}{more}"
    )


def _say(heat: HeatMap, config: TrainingConfig) -> None:
    """Say what was found, and how sure the network is of it."""
    high, wide = heat.values.shape
    row, column = np.unravel_index(int(heat.values.argmax()), heat.values.shape)
    click.echo(
        f"{config.classes[heat.target]} {heat.probabilities[heat.target]:.2%}; {heat.method} on "
        f"{heat.layer}, {high} x {wide}, is largest in row {row + 1}, column {column + 1}"
    )
