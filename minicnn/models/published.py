"""Accuracies that the networks' authors, and torchvision for its weights, report, with sources.

How an image is looked at matters as much as the network: `views` says whether that was one crop
from its centre, the average over ten crops, or the whole image in a fully convolutional pass.
Figures are of single networks on the ImageNet validation images of 2012, or on CIFAR-10's test
images with crops and flips in training, in percent.
"""

from __future__ import annotations

from typing import NamedTuple

ONE, TEN, WHOLE = "one crop", "ten crops", "whole image"
IMAGENET, CIFAR = "ImageNet", "CIFAR-10"


class Published(NamedTuple):
    """A reported result.

    Attributes:
        data: the dataset.
        top1: how often the first guess is right, in percent; None where only the other is known.
        top5: how often one of the first five is.
        views: how each image was looked at; empty for small ones, which are seen as they are.
        source: who says so.
    """

    data: str
    top1: float | None
    top5: float | None
    views: str
    source: str


def _errors(
    top1: float | None, top5: float | None, views: str, source: str, data: str = IMAGENET
) -> Published:
    """Return a result that is stated as error rates."""
    right1, right5 = (None if rate is None else round(100 - rate, 2) for rate in (top1, top5))
    return Published(data, right1, right5, views, source)


_ALEXNET = "Krizhevsky et al., 2012, section 6"
_VGG = "Simonyan and Zisserman, 2014, table 3"
_CAFFE = "Caffe's replication, model zoo"
_MSRA = "the authors' released models"
_DENSENET = "Huang et al., 2016, ImageNet results"

PUBLISHED: dict[str, Published] = {
    "alexnet": _errors(40.7, 18.2, TEN, _ALEXNET),
    "vgg11": _errors(29.6, 10.4, WHOLE, _VGG),
    "vgg11_lrn": _errors(29.7, 10.5, WHOLE, _VGG),
    "vgg13": _errors(28.7, 9.9, WHOLE, _VGG),
    "vgg16_1x1": _errors(27.3, 8.8, WHOLE, _VGG),
    "vgg16": _errors(25.6, 8.1, WHOLE, _VGG),
    "vgg19": _errors(25.5, 8.0, WHOLE, _VGG),
    "googlenet": Published(IMAGENET, 68.7, 88.9, ONE, _CAFFE),
    "resnet18": _errors(27.88, None, TEN, "He et al., 2015, section 4.1, shortcuts A"),
    "resnet34": _errors(24.52, 7.46, TEN, "He et al., 2015, section 4.1, shortcuts B"),
    "resnet50": _errors(24.7, 7.8, ONE, _MSRA),
    "resnet101": _errors(23.6, 7.1, ONE, _MSRA),
    "resnet152": _errors(23.0, 6.7, ONE, _MSRA),
    "densenet121": _errors(25.02, 7.71, ONE, _DENSENET),
    "densenet169": _errors(23.80, 6.85, ONE, _DENSENET),
    "densenet201": _errors(22.58, 6.34, ONE, _DENSENET),
    "densenet264": _errors(22.15, 6.12, ONE, _DENSENET),
    "densenet161": _errors(22.33, None, ONE, _DENSENET),
    **{
        f"{name}_torchvision": Published(IMAGENET, top1, top5, ONE, "torchvision, IMAGENET1K_V1")
        for name, top1, top5 in (
            ("alexnet", 56.522, 79.066),
            ("vgg11", 69.020, 88.628),
            ("vgg13", 69.928, 89.246),
            ("vgg16", 71.592, 90.382),
            ("vgg19", 72.376, 90.876),
            ("vgg11_bn", 70.370, 89.810),
            ("vgg13_bn", 71.586, 90.374),
            ("vgg16_bn", 73.360, 91.516),
            ("vgg19_bn", 74.218, 91.842),
            ("googlenet", 69.778, 89.530),
            ("resnet18", 69.758, 89.078),
            ("resnet34", 73.314, 91.420),
            ("resnet50", 76.130, 92.862),
            ("resnet101", 77.374, 93.546),
            ("resnet152", 78.312, 94.046),
            ("densenet121", 74.434, 91.972),
            ("densenet169", 75.600, 92.806),
            ("densenet201", 76.896, 93.370),
            ("densenet161", 77.138, 93.560),
        )
    },
    "nin_cifar": _errors(8.81, None, "", "Lin et al., 2013, section 4", CIFAR),
    **{
        name: _errors(error, None, "", "Huang et al., 2016, table 2", CIFAR)
        for name, error in (
            ("densenet40_k12", 5.24),
            ("densenet100_k12", 4.10),
            ("densenet100_k24", 3.74),
            ("densenet_bc100_k12", 4.51),
            ("densenet_bc250_k24", 3.62),
            ("densenet_bc190_k40", 3.46),
        )
    },
}
