"""`minicnn convert`: weights from one kind of file to another."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from minicnn.cli._common import SETTINGS, debug_option

if TYPE_CHECKING:
    import numpy as np

KINDS = {".safetensors": "safetensors", ".pth": "PyTorch", ".pt": "PyTorch"}
# What batch norm keeps beside its parameters.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


@click.command(
    "convert", short_help="Convert weights between PyTorch's and safetensors files.",
    context_settings=SETTINGS,
)  # fmt: skip
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME", help="Check that the weights fit this network.")
@click.option(
    "--classes", type=click.IntRange(1), metavar="N", help="With --model: how many classes it has."
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@debug_option
def command(source: Path, target: Path, model: str | None, classes: int | None, force: bool) -> int:
    """Read the weights in IN and write them to OUT.

    IN is a safetensors file or one of PyTorch's torch.save, which its content tells; PyTorch is
    not needed, and nothing that such a file holds is run. OUT is written as its name ends:
    .safetensors, or .pth or .pt for torch.load. Values stay as they are, except that bfloat16
    becomes float32; the names of DenseNet's old files become today's.

    \b
    minicnn convert resnet50-0676ba61.pth resnet50.safetensors
    """
    from minicnn.models.keys import modern_keys
    from minicnn.serialization import read_weights, save_tensors, save_torch_file

    kind = KINDS.get(target.suffix)
    if kind is None:
        raise ValueError(f"OUT: got {target}, expected a name that ends in {', '.join(KINDS)}")
    if classes is not None and model is None:
        raise ValueError("--classes is of use with --model only")
    if target.exists() and not force:
        raise ValueError(f"{target} is there already; --force replaces it")
    weights = read_weights(source)
    tensors = modern_keys(weights.tensors)
    renamed = len(tensors.keys() - weights.tensors.keys())
    where = f", under {weights.inside!r}" if weights.inside else ""
    click.echo(f"{source} is {weights.format}{where}: {_counts(tensors)}")
    if renamed:
        click.echo(f"{renamed:,} names of an old DenseNet are today's now")
    if model is not None:
        _check(source, tensors, model, classes)
        click.echo(f"they fit {model}")
    if kind == "safetensors":
        save_tensors(target, tensors, weights.metadata)
    else:
        save_torch_file(target, tensors)
    click.echo(f"written to {target} ({kind}, {target.stat().st_size:,} bytes)")
    return 0


def _counts(tensors: dict[str, np.ndarray]) -> str:
    """Say how many tensors there are, and how many numbers among them are parameters."""
    sizes = {name: math.prod(array.shape) for name, array in tensors.items()}
    buffers = [size for name, size in sizes.items() if name.rpartition(".")[2] in BUFFERS]
    kept = f" and {sum(buffers):,} numbers of batch norm's record" if buffers else ""
    count = f"{len(sizes):,} tensor{'s' if len(sizes) > 1 else ''}"
    return f"{count}, {sum(sizes.values()) - sum(buffers):,} parameters{kept}"


def _check(source: Path, tensors: dict[str, np.ndarray], model: str, classes: int | None) -> None:
    """Refuse weights that do not fit a network.

    Raises:
        ValueError: naming all missing and surplus keys and wrong shapes.
    """
    from minicnn.models import MODELS
    from minicnn.nn.init import skip_init
    from minicnn.training.recipes import build

    with skip_init():
        network = build(model, {} if classes is None else {"num_classes": classes})
    try:
        network.load_state_dict(tensors)
    except ValueError as error:
        other = f"{model}_torchvision"
        hint = f" (torchvision's weights fit {other})" if other in MODELS else ""
        raise ValueError(f"{source}: {error}{hint}") from error
