"""A LeNet training step, ours beside PyTorch's: same weights, batch, optimiser and threads."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import minicnn
import minicnn.functional as F
from benchmarks.timing import Side, alternate, machine
from minicnn import Tensor, optim
from minicnn.models import create_model

OPTIONS: dict[str, Any] = {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}


class WrongResult(AssertionError):
    """The two sides do not compute the same, so there is nothing to time."""


def run(batch_size: int, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Check both sides on three steps, then time them; return the figures.

    Raises:
        WrongResult: when the losses of the two sides differ by more than 1e-4.
        ModuleNotFoundError: without PyTorch.
    """
    import torch

    torch.set_num_threads(threads)
    minicnn.set_num_threads(threads)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch_size, 1, 28, 28), np.float32)
    labels = rng.integers(0, 10, batch_size)

    ours = create_model("lenet")
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 20, 5),
        torch.nn.MaxPool2d(2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(20, 50, 5),
        torch.nn.MaxPool2d(2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(800, 500),
        torch.nn.ReLU(),
        torch.nn.Linear(500, 10),
    )
    with torch.no_grad():
        for parameter, value in zip(theirs.parameters(), ours.parameters(), strict=True):
            parameter.copy_(torch.from_numpy(value.numpy().copy()))

    our_step = step(
        ours, optim.SGD(ours.parameters(), **OPTIONS), F.cross_entropy, Tensor, images, labels
    )
    their_step = step(
        theirs,
        torch.optim.SGD(theirs.parameters(), **OPTIONS),
        torch.nn.functional.cross_entropy,
        torch.from_numpy,
        images,
        labels,
    )
    start = time.perf_counter()
    losses = [(our_step(), their_step())]
    first = time.perf_counter() - start
    losses += [(our_step(), their_step()) for _ in range(2)]
    for number, (a, b) in enumerate(losses, 1):
        if not abs(a - b) <= 1e-4 * abs(b):
            raise WrongResult(f"step {number}: our loss is {a:.6f}, PyTorch's {b:.6f}")

    sides = [Side("minicnn", our_step), Side(f"PyTorch {torch.__version__}", their_step)]
    alternate(sides, rounds, steps)
    return {
        "benchmark": "LeNet training step",
        "batch_size": batch_size,
        "threads": threads,
        "machine": machine(),
        "first_step_seconds": first,
        "sides": {side.name: {"best": side.best, "median": side.median} for side in sides},
        "ratio_best": sides[1].best / sides[0].best,
        "ratio_median": sides[1].median / sides[0].median,
    }


def step(
    model: Any, optimizer: Any, loss_fn: Any, wrap: Any, images: np.ndarray, labels: np.ndarray
) -> Any:
    """Return a function that trains on the batch once and returns the loss; for both sides."""
    x, y = wrap(images), wrap(labels)

    def train() -> float:
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return train
