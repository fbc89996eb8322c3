"""Measure a network on a labelled set: loss, accuracy, confusion matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minicnn import functional as F
from minicnn.grad_mode import no_grad
from minicnn.tensor import Tensor

if TYPE_CHECKING:
    from minicnn.data import DataLoader
    from minicnn.nn import Module


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        loss: mean cross-entropy over the images, without label smoothing.
        confusion: (K, K) int64 counts; row = true class, column = predicted class.
    """

    loss: float
    confusion: np.ndarray

    @property
    def total(self) -> int:
        """How many images were looked at."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """How many were named rightly."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share named rightly, 0 to 1."""
        return self.correct / self.total if self.total else 0.0

    @property
    def recall(self) -> np.ndarray:
        """(K,) share of each true class that was found; 0 for a class without images."""
        return _share(self.confusion, self.confusion.sum(axis=1))

    @property
    def precision(self) -> np.ndarray:
        """(K,) share of each predicted class that was right; 0 for one never predicted."""
        return _share(self.confusion, self.confusion.sum(axis=0))


def _share(confusion: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion) / np.maximum(totals, 1)


def device_of_module(model: Module) -> str:
    """Return where a network's parameters are; one without any computes on the CPU."""
    return next((parameter.device for parameter in model.parameters()), "cpu")


def average_views(scores: Tensor, count: int) -> Tensor:
    """Return the logarithm of the probabilities averaged over the views of each image.

    Args:
        scores: (count * views, K), the views of an image following each other.
        count: how many images there are.

    Returns:
        (count, K); its softmax is the average itself.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
    neural networks", 2012, section 4.1.
    """
    log_probs = F.log_softmax(scores, 1).cpu().numpy().reshape(count, -1, scores.shape[1])
    # The largest view is taken out, so that tiny probabilities do not become log 0.
    top = log_probs.max(axis=1)
    mean = top + np.log(np.exp(log_probs - top[:, np.newaxis]).mean(axis=1))
    return Tensor(mean).to(scores.device)


def evaluate(
    model: Module, loader: DataLoader, on_batch: Callable[[int], None] | None = None
) -> Evaluation:
    """Run the network over every batch, in evaluation mode and without recording gradients.

    Args:
        model: maps (N, C, H, W) images to (N, K) scores, on its device; its mode is put back at
            the end.
        loader: gives (images, labels) batches; labels lie in 0 .. K-1. Where there are several
            views of each image, one after the other, the probabilities are averaged over them.
        on_batch: called with the number of images done after each batch; may raise to stop.
    """
    was_training = model.training
    model.eval()
    device = device_of_module(model)
    loss_sum = 0.0
    confusion = np.zeros((model.num_classes, model.num_classes), np.int64)
    try:
        with no_grad():
            for images, labels in loader:
                scores = model(Tensor(images).to(device))
                if len(images) != len(labels):
                    scores = average_views(scores, len(labels))
                target = Tensor(labels).to(device)
                loss_sum += F.cross_entropy(scores, target, reduction="sum").item()
                np.add.at(confusion, (labels, scores.argmax(1).cpu().numpy()), 1)
                if on_batch is not None:
                    on_batch(int(confusion.sum()))
    finally:
        model.train(was_training)
    return Evaluation(loss_sum / max(int(confusion.sum()), 1), confusion)
