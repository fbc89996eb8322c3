"""The networks, one paper a file, and the names by which programs find them.

A plain name is the paper's network; `..._torchvision` is the one of that library where it differs,
with its keys, so that its weights fit; `..._small` suits 28 x 28 or 32 x 32 digits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minicnn.models.alexnet import AlexNet, TorchvisionAlexNet, alexnet_small
from minicnn.models.alexnet_two_devices import AlexNetTwoDevices
from minicnn.models.classifier import Classifier
from minicnn.models.densenet import DENSENETS, DenseNet, DenseNetCIFAR, densenet_small
from minicnn.models.googlenet import GoogLeNet, googlenet_small
from minicnn.models.googlenet_torchvision import TorchvisionGoogLeNet
from minicnn.models.lenet import LeNet, LeNet5
from minicnn.models.nin import NiN, nin_cifar, nin_small
from minicnn.models.resnet import RESNETS, ResNet, ResNetCIFAR, resnet_small
from minicnn.models.vgg import VGG, VGGS, TorchvisionVGG, vgg_small

MODELS: dict[str, Callable[..., Classifier]] = {
    "lenet": LeNet,
    "lenet5": LeNet5,
    "alexnet": AlexNet,
    "alexnet_torchvision": TorchvisionAlexNet,
    "alexnet_small": alexnet_small,
    "googlenet": GoogLeNet,
    "googlenet_torchvision": TorchvisionGoogLeNet,
    "googlenet_small": googlenet_small,
    **VGGS,
    "nin": NiN,
    "nin_cifar": nin_cifar,
    "nin_small": nin_small,
    **RESNETS,
    **DENSENETS,
}


def create_model(name: str, **options: Any) -> Classifier:
    """Build a network by name.

    Args:
        name: a key of `MODELS`.
        options: arguments of its builder.

    Returns:
        The network; `.input_shape` is the (C, H, W) it takes, `.num_classes` how many scores it
        gives.

    Raises:
        ValueError: when there is no network of that name, or for options out of range.
        TypeError: for an option that the network does not have; lists those that it has.
    """
    if name not in MODELS:
        raise ValueError(f"model: got {name!r}, expected one of {', '.join(sorted(MODELS))}")
    known = inspect.signature(MODELS[name]).parameters
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(
            f"{name} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}"
        )
    return MODELS[name](**options)


__all__ = [
    "MODELS",
    "VGG",
    "AlexNet",
    "AlexNetTwoDevices",
    "Classifier",
    "DenseNet",
    "DenseNetCIFAR",
    "GoogLeNet",
    "LeNet",
    "LeNet5",
    "NiN",
    "ResNet",
    "ResNetCIFAR",
    "TorchvisionAlexNet",
    "TorchvisionGoogLeNet",
    "TorchvisionVGG",
    "alexnet_small",
    "create_model",
    "densenet_small",
    "googlenet_small",
    "nin_cifar",
    "nin_small",
    "resnet_small",
    "vgg_small",
]
