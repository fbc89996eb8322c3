"""Name what is on pictures from anywhere with a trained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicnn import functional as F
from minicnn.data import DataLoader, Dataset, build_transform, read_image
from minicnn.grad_mode import no_grad
from minicnn.nn import Module
from minicnn.tensor import Tensor
from minicnn.training.config import TrainingConfig
from minicnn.training.evaluate import device_of_module
from minicnn.training.pictures import FRAMES, place, read_grey


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
    channels, height, width = config.image_shape
    return read_image(path, (height, width), channels)


def predict(
    model: Module, config: TrainingConfig, images: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """Return the probability of each class for each image.

    Args:
        model: a trained network in evaluation mode, on any device.
        config: the settings it was trained with.
        images: (N, C, H, W), as `prepare` makes them.

    Returns:
        (N, K); rows add up to 1.
    """
    unlabelled = Dataset(images, np.zeros(len(images), np.int64), config.classes)
    loader = DataLoader(
        unlabelled, config.batch_size, transform=build_transform(config.test_transforms)
    )
    device = device_of_module(model)
    with no_grad():
        scores = [model(Tensor(batch).to(device)) for batch, _ in loader]
        return np.concatenate([F.softmax(x.double(), 1).cpu().numpy() for x in scores])
