"""Modules: networks and their layers. State lives here; every computation is a functional call."""

from minicnn.nn import init, utils
from minicnn.nn.container import ModuleDict, ModuleList, Sequential
from minicnn.nn.layers import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Identity,
    LeakyReLU,
    Linear,
    LogSoftmax,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from minicnn.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss, SmoothL1Loss
from minicnn.nn.module import Module, Parameter
from minicnn.nn.norm import BatchNorm1d, BatchNorm2d, LocalResponseNorm
from minicnn.nn.vision import RoIAlign, RoIPool, Upsample

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ReLU",
    "RoIAlign",
    "RoIPool",
    "Sequential",
    "Sigmoid",
    "SmoothL1Loss",
    "Softmax",
    "Tanh",
    "Upsample",
    "init",
    "utils",
]
