"""The networks that are timed whole, and a batch for each: the same on every side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TRAINING, INFERENCE = "training", "inference"
MODES = (TRAINING, INFERENCE)
OPTIONS: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9}


class Network(NamedTuple):
    """A network under the names that it has on the two sides.

    Attributes:
        ours: in `minicnn.models`.
        theirs: in torchvision; None for those that `benchmarks.pytorch` builds itself.
        batch: images at a time, unless told otherwise.
    """

    ours: str
    theirs: str | None
    batch: int
    shape: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000


NETWORKS = {
    "lenet": Network("lenet", None, 128, (1, 28, 28), 10),
    "alexnet_paper": Network("alexnet", None, 32, (3, 227, 227)),
    "alexnet": Network("alexnet_torchvision", "alexnet", 32),
    "vgg16": Network("vgg16_torchvision", "vgg16", 8),
    "resnet18": Network("resnet18_torchvision", "resnet18", 16),
    "resnet50": Network("resnet50_torchvision", "resnet50", 16),
    "googlenet": Network("googlenet_torchvision", "googlenet", 16),
    "densenet121": Network("densenet121_torchvision", "densenet121", 16),
}


@dataclass(frozen=True)
class Job:
    """What an engine is to do.

    Attributes:
        network: a key of `NETWORKS`.
        mode: one of `MODES`.
        batch: images at a time.
        threads: to use.
        weights: a safetensors file with the values to start from.
    """

    network: str
    mode: str
    batch: int
    threads: int
    weights: str

    @property
    def table(self) -> Network:
        return NETWORKS[self.network]

    def data(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return images (N, C, H, W) and labels (N,)."""
        rng = np.random.default_rng(0)
        images = rng.standard_normal((self.batch, *self.table.shape), np.float32)
        return images, rng.integers(0, self.table.classes, self.batch)
