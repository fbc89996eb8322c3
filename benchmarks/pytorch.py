"""PyTorch's engine: torchvision's networks, and twins of two that it does not have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from benchmarks.engines import Array, Engine, dropout_off
from benchmarks.networks import OPTIONS, TRAINING, Job

AUX_WEIGHT = 0.3


class PyTorch(Engine):
    """PyTorch in eager mode; `channels_last` is the memory order that oneDNN likes better."""

    def __init__(self, job: Job, channels_last: bool = False):
        super().__init__(job)
        torch.set_num_threads(job.threads)
        order = torch.channels_last if channels_last else torch.contiguous_format
        self.model = build(job).to(memory_format=order)
        images, labels = job.data()
        self.images = torch.from_numpy(images).to(memory_format=order)
        self.labels = torch.from_numpy(labels)
        self.optimizer = torch.optim.SGD(self.model.parameters(), **OPTIONS)

    def step(self) -> float | Array:
        if self.job.mode != TRAINING:
            with torch.inference_mode():
                return self.model(self.images).numpy()
        loss = loss_of(self.model(self.images), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def gradients(self) -> dict[str, float]:
        return {
            name: float(parameter.grad.norm())
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        with dropout_off(self.model.modules()):
            yield


def build(job: Job) -> nn.Module:
    """Return the network of a job with its weights, in its mode."""
    own = {"lenet": lenet, "alexnet_paper": alexnet_paper}
    if job.table.theirs is None:
        model = own[job.network]()
    else:
        options = {"init_weights": False} if job.network == "googlenet" else {}
        model = torchvision.models.get_model(job.table.theirs, weights=None, **options)
    # A file of ours has no counters of batches.
    missing, unknown = model.load_state_dict(load_file(job.weights), strict=False)
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")] + unknown
    if wrong:
        raise RuntimeError(f"the networks differ in {', '.join(wrong[:4])}")
    return model.train(job.mode == TRAINING)


def loss_of(output: Any, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy, of heads on the way 0.3 times."""
    scores, *heads = output if isinstance(output, tuple) else (output,)
    loss = nn.functional.cross_entropy(scores, labels)
    for head in heads:
        loss = loss + AUX_WEIGHT * nn.functional.cross_entropy(head, labels)
    return loss


def lenet() -> nn.Module:
    """Return `minicnn.models.LeNet` in PyTorch."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 20, 5), pool1=nn.MaxPool2d(2), relu1=nn.ReLU(),
            conv2=nn.Conv2d(20, 50, 5), pool2=nn.MaxPool2d(2), relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(800, 500), relu3=nn.ReLU(), fc2=nn.Linear(500, 10),
        )
    )  # fmt: skip


def alexnet_paper() -> nn.Module:
    """Return `minicnn.models.AlexNet` in PyTorch: two groups, response normalisation."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)  # PyTorch divides alpha by 5

    features = OrderedDict(
        conv1=nn.Conv2d(3, 96, 11, stride=4), relu1=nn.ReLU(), norm1=norm(),
        pool1=nn.MaxPool2d(3, 2),
        conv2=nn.Conv2d(96, 256, 5, padding=2, groups=2), relu2=nn.ReLU(), norm2=norm(),
        pool2=nn.MaxPool2d(3, 2),
        conv3=nn.Conv2d(256, 384, 3, padding=1), relu3=nn.ReLU(),
        conv4=nn.Conv2d(384, 384, 3, padding=1, groups=2), relu4=nn.ReLU(),
        conv5=nn.Conv2d(384, 256, 3, padding=1, groups=2), relu5=nn.ReLU(),
        pool5=nn.MaxPool2d(3, 2),
    )  # fmt: skip
    classifier = OrderedDict(
        fc6=nn.Linear(9216, 4096), relu6=nn.ReLU(), drop6=nn.Dropout(),
        fc7=nn.Linear(4096, 4096), relu7=nn.ReLU(), drop7=nn.Dropout(),
        fc8=nn.Linear(4096, 1000),
    )  # fmt: skip
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(features),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(classifier),
        )
    )
