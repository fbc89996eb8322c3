"""Networks side by side: accuracy if it is known, parameters, MACs, depth, receptive field.

Depth is the number of layers with weights (convolutions and dense layers) on the longest path from
the image to the scores, as the papers count it: of ResNet-50 that is 50, since the projections lie
on shorter paths beside their blocks, of DenseNet-121 it is 121 and of GoogLeNet 22. It is read off
the autograd graph of one forward pass. Auxiliary heads, which only training runs, count nowhere.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicnn import nn
from minicnn.autograd import Edge, gradient_edge
from minicnn.models import MODELS
from minicnn.models.classifier import scores_of
from minicnn.models.published import PUBLISHED, Published
from minicnn.nn.init import skip_init
from minicnn.summary import Summary, summarize
from minicnn.tensor import Tensor
from minicnn.training.recipes import build
from minicnn.training.run_folder import RunFolder

WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_WINDOWED = {"Conv2d", "MaxPool2d", "AvgPool2d"}
UNKNOWN = Published("", None, None, "", "")


@dataclass(frozen=True)
class Compared:
    """What is known of a network.

    Attributes:
        name: of the network, or the folder of its run.
        model: the network's name.
        data: on what its accuracy was measured; "" where none is known.
        top1, top5: accuracies in percent, None where unknown.
        views: how images were looked at for them.
        source: who measured.
        input_shape: (C, H, W).
        parameters: those that the scores depend on.
        macs: multiply-adds for one image.
        depth: layers with weights on the longest path.
        receptive_field: (vertical, horizontal) pixels that a value of the last map can depend on.
    """

    name: str
    model: str
    data: str
    top1: float | None
    top5: float | None
    views: str
    source: str
    input_shape: tuple[int, ...]
    parameters: int
    macs: int
    depth: int
    receptive_field: tuple[int, int]


def compare(names: Sequence[str]) -> list[Compared]:
    """Describe networks and runs, each once, in the order given.

    Args:
        names: of networks, as in `MODELS`, and folders of runs.

    Raises:
        ValueError: for what is neither, before anything is built; or a damaged run.
        OSError: the files of a run cannot be read.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if name not in MODELS and not Path(name).is_dir():
            raise ValueError(_unknown(name))
    return [_network(name) if name in MODELS else _run(name) for name in chosen]


def describe(model: nn.Module, input_shape: Sequence[int]) -> tuple[Summary, int]:
    """Run a network once and return the summary of its layers, and its depth.

    Args:
        model: a network whose output is scores, or a tuple that begins with them.
        input_shape: (C, H, W).

    Raises:
        ValueError: the network does not take such images.
    """
    weighted: set[Edge] = set()
    depths: list[int] = []

    def note(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        weighted.add(gradient_edge(output))

    def measure(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        depths.append(longest_path(scores_of(output), weighted))

    handles = [
        module.register_forward_hook(note)
        for module in model.modules()
        if isinstance(module, WEIGHTED)
    ]
    handles.append(model.register_forward_hook(measure))
    try:
        summary = summarize(model, input_shape)
    finally:
        for handle in handles:
            handle.remove()
    return summary, depths[-1]


def longest_path(output: Tensor, marked: set[Edge]) -> int:
    """Return how many marked results lie on the path to `output` that has most of them.

    Args:
        output: a result of operations that were recorded.
        marked: edges of results, as `gradient_edge` gives them.
    """
    best: dict[Edge, int] = {}
    stack = [gradient_edge(output)]
    while stack:
        edge = stack[-1]
        below = [e for e in getattr(edge[0], "_edges", None) or () if e is not None]
        waiting = [e for e in below if e not in best]
        if waiting:
            stack += waiting
            continue
        stack.pop()
        best[edge] = max((best[e] for e in below), default=0) + (edge in marked)
    return best[gradient_edge(output)]


def to_dict(row: Compared) -> dict[str, Any]:
    """Return a row for JSON."""
    return {
        "name": row.name,
        "model": row.model,
        "input_shape": list(row.input_shape),
        "accuracy": None
        if not row.data
        else {
            "data": row.data,
            "top1": row.top1,
            "top5": row.top5,
            "views": row.views,
            "source": row.source,
        },
        "parameters": row.parameters,
        "macs": row.macs,
        "depth": row.depth,
        "receptive_field": list(row.receptive_field),
    }


def _network(name: str) -> Compared:
    """Describe a network by name."""
    return _compared(name, name, {}, PUBLISHED.get(name, UNKNOWN))


def _run(path: str) -> Compared:
    """Describe the network of a run."""
    folder = RunFolder.find(Path(path))
    config = folder.load_config()
    last = folder.load_metrics().get("last")
    accuracy = UNKNOWN
    if last is not None:
        try:
            top1, epoch = 100 * float(last["test_accuracy"]), int(last["epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{folder.metrics_json} has no test accuracy of the last epoch: {error!r}"
            ) from error
        source = f"test images after epoch {epoch}"
        accuracy = Published(config.data, top1, None, "", source)
    return _compared(path, config.model, config.model_options, accuracy)


def _compared(name: str, model: str, options: dict[str, Any], accuracy: Published) -> Compared:
    """Build a network and add its figures to its accuracy."""
    with skip_init():
        network = build(model, options)
    for parameter in network.parameters():  # whatever lay in the memory could be not a number
        nn.init.zeros_(parameter)
    summary, depth = describe(network, network.input_shape)
    fields = [
        row.receptive_field
        for row in summary.rows
        if row.type in _WINDOWED and len(row.output_shape) == 3
    ]
    return Compared(
        name=name,
        model=model,
        data=accuracy.data,
        top1=accuracy.top1,
        top5=accuracy.top5,
        views=accuracy.views,
        source=accuracy.source,
        input_shape=summary.input_shape,
        parameters=sum(row.parameters for row in summary.rows),
        macs=summary.total_macs,
        depth=depth,
        receptive_field=max(fields, key=math.prod, default=(1, 1)),
    )


def _unknown(name: str) -> str:
    """Say what was expected in place of a name."""
    near = difflib.get_close_matches(name, MODELS, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return (
        f"got {name!r}, expected the name of a network, as `minicnn summary` lists them, "
        f"or the folder of a run{hint}"
    )
