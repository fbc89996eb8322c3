"""Name what is on pictures from anywhere with a trained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicnn import functional as F
from minicnn.data import Dataset, read_image
from minicnn.grad_mode import no_grad
from minicnn.nn import Module
from minicnn.tensor import Tensor
from minicnn.training.config import TrainingConfig
from minicnn.training.evaluate import average_views, device_of_module
from minicnn.training.pictures import FRAMES, place, read_grey
from minicnn.training.trainer import test_loader


def prepare(path: Path, config: TrainingConfig) -> NDArray[np.uint8]:
    """Read a picture and make it like the images of a run's dataset.

    Args:
        path: any file that Pillow reads.
        config: the run's settings; its dataset decides.

    Returns:
        (C, H, W) uint8, before the run's test transforms.

    Raises:
        ValueError: the file is not a picture, or is damaged; the message names it.
        OSError: it cannot be read.
    """
    if config.data in FRAMES:
        return place(read_grey(path), FRAMES[config.data])
    channels, *size = config.image_shape
    return read_image(path, (size[0], size[1]) if size else None, channels)


def predict(
    model: Module, config: TrainingConfig, images: NDArray[np.uint8], crops: str | None = None
) -> NDArray[np.float64]:
    """Return the probability of each class for each image.

    Args:
        model: a trained network in evaluation mode, on any device.
        config: the settings it was trained with.
        images: (N, C, H, W), as `prepare` makes them.
        crops: "five" or "ten" views of each to average over, see `test_loader`.

    Returns:
        (N, K); rows add up to 1.
    """
    unlabelled = Dataset(images, np.zeros(len(images), np.int64), config.classes)
    device = device_of_module(model)
    scores = []
    with no_grad():
        for batch, labels in test_loader(config, unlabelled, crops):
            views = model(Tensor(batch).to(device))
            scores.append(views if crops is None else average_views(views, len(labels)))
        return np.concatenate([F.softmax(x.double(), 1).cpu().numpy() for x in scores])
