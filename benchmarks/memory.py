"""The most memory a training step takes, network by network, ours beside torchvision's.

Each measurement is a process of its own: it builds the network, makes two steps of SGD with
momentum (the second has all of the optimiser's state beside the activations) and reads from the
operating system how much it held at most, less what it held after its imports.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# Ours, and what torchvision has that is nearest to it.
NETWORKS: dict[str, str | None] = {
    "alexnet": "alexnet",
    "alexnet_torchvision": "alexnet",
    "vgg11": "vgg11",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "vgg16_bn": "vgg16_bn",
    "nin": None,
    "googlenet": None,
    "googlenet_torchvision": "googlenet",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
    "densenet121": "densenet121",
    "densenet169": "densenet169",
    "densenet201": "densenet201",
    "densenet161": "densenet161",
}
OPTIONS: dict[str, Any] = {"lr": 1e-3, "momentum": 0.9}
SIDES = ("minicnn", "torchvision")


def measure(side: str, name: str, batch_size: int) -> int:
    """Return the most bytes that training `name` on random images took, beyond the imports.

    Args:
        side: one of `SIDES`.
        name: the network, as that side calls it.
        batch_size: images a step, of the network's own size.

    Raises:
        RuntimeError: the process did not end well; holds what it said.
    """
    command = [sys.executable, "-m", "benchmarks.memory", side, name, str(batch_size)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise RuntimeError(f"{side} {name} ended with {done.returncode}: {last}")
    return int(json.loads(done.stdout)["bytes"])


def compare(names: list[str], batch_size: int) -> Iterator[dict[str, Any]]:
    """Measure each network on both sides; yield one row of figures after the other."""
    for name in names:
        twin = NETWORKS[name]
        theirs = None if twin is None else measure("torchvision", twin, batch_size)
        yield {
            "network": name,
            "minicnn": measure("minicnn", name, batch_size),
            "twin": twin,
            "torchvision": theirs,
        }


def _ours(name: str) -> tuple[Callable[[np.ndarray, np.ndarray], None], tuple[int, ...], int]:
    import minicnn
    from minicnn import optim
    from minicnn.models import create_model

    model = create_model(name)
    optimizer = optim.SGD(model.parameters(), **OPTIONS)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        loss = model.loss(model(minicnn.tensor(images)), minicnn.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step, model.input_shape, model.num_classes


def _theirs(name: str) -> tuple[Callable[[np.ndarray, np.ndarray], None], tuple[int, ...], int]:
    import torch
    import torchvision

    options = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, **options)
    optimizer = torch.optim.SGD(model.parameters(), **OPTIONS)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        output, target = model(torch.from_numpy(images)), torch.from_numpy(labels)
        outputs = output if isinstance(output, tuple) else (output,)
        losses = [torch.nn.functional.cross_entropy(scores, target) for scores in outputs]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step, (3, 224, 224), 1000


def _held() -> int:
    """Return the most bytes this process has held; kibibytes are Linux's unit, bytes the Mac's."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _main(side: str, name: str, batch_size: int) -> None:
    """Be the process that `measure` starts."""
    if side == "minicnn":
        import minicnn.kernels.conv2d  # noqa: F401
        import minicnn.models  # noqa: F401
    else:
        import torchvision  # noqa: F401
    before = _held()
    step, shape, classes = (_ours if side == "minicnn" else _theirs)(name)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch_size, *shape), np.float32)
    for _ in range(2):
        step(images, rng.integers(0, classes, batch_size))
    sys.stdout.write(json.dumps({"bytes": _held() - before}) + os.linesep)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
