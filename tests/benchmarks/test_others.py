"""The layers of a traced network, run by `Interpreter`: here with PyTorch's operations again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.networks import INFERENCE, TRAINING, Job

torch: Any = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from benchmarks import others, pytorch  # noqa: E402  they import PyTorch

F = torch.nn.functional


class Operations:
    """What `Interpreter` asks for, in PyTorch."""

    array = staticmethod(torch.from_numpy)
    relu = staticmethod(torch.relu)

    def conv(self, x, weight, bias, layer):
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    def max_pool(self, x, kernel, stride, pads):
        (top, bottom), (left, right) = pads
        return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-np.inf), kernel, stride)

    def lrn(self, x, layer):
        return F.local_response_norm(x, layer.size, layer.alpha, layer.beta, layer.k)

    def batch_norm(self, x, own, layer):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(own[name] for name in names), eps=layer.eps)

    def cat(self, maps):
        return torch.cat(maps, 1)


class Small(torch.nn.Module):
    """A network with one of each layer and function that there is an operation for."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, groups=1)
        self.norm = torch.nn.BatchNorm2d(4)
        self.relu = torch.nn.ReLU()
        self.response = torch.nn.LocalResponseNorm(3)
        self.pool = torch.nn.MaxPool2d(3, 2, ceil_mode=True)
        self.grouped = torch.nn.Conv2d(8, 6, 1, groups=2)
        self.average = torch.nn.AvgPool2d(2, 2)
        self.adaptive = torch.nn.AdaptiveAvgPool2d((2, 3))
        self.drop = torch.nn.Dropout(0.5)
        self.linear = torch.nn.Linear(36, 5)

    def forward(self, x):
        x = self.pool(self.response(self.relu(self.norm(self.conv(x)))))
        x = self.grouped(torch.cat([x, F.relu(x) + x], 1))
        head = F.adaptive_avg_pool2d(x, (1, 1))
        x = self.drop(torch.flatten(self.adaptive(self.average(x)), 1))
        return self.linear(x), torch.flatten(head, 1)


def interpreted(model, monkeypatch, mode, x, dropout=None):
    monkeypatch.setattr(others, "build", lambda job: model)
    network = others.Interpreter(Job("lenet", mode, 2, 1, ""), Operations())
    values = {name: torch.from_numpy(value) for name, value in network.values.items()}
    return network(values, x, dropout)


def test_a_network_gives_the_same_layer_by_layer(monkeypatch):
    torch.manual_seed(0)
    model = Small().eval()
    model.norm.running_mean += 0.3
    model.linear = torch.nn.Linear(36, 5)
    x = torch.randn(2, 3, 37, 33)
    with torch.no_grad():
        for found, expected in zip(
            interpreted(model, monkeypatch, INFERENCE, x), model(x), strict=True
        ):
            assert found.shape == expected.shape
            assert (found - expected).abs().max() < 1e-5


def test_dropout_is_whatever_it_is_given(monkeypatch):
    model = pytorch.lenet()
    model.drop = torch.nn.Dropout(0.25)
    seen = []

    def dropout(x, p):
        seen.append(p)
        return x

    interpreted(model, monkeypatch, TRAINING, torch.randn(2, 1, 28, 28), dropout)
    assert seen == [0.25]


@pytest.mark.parametrize("size", range(3, 12))
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1)]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_padding_says_how_far_windows_hang_over(size, kernel, stride, padding, ceil_mode):
    layer = torch.nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    x = torch.randn(1, 1, size, size)
    pads = others._pads((size, size), (kernel,) * 2, (stride,) * 2, (padding,) * 2, layer)
    found = Operations().max_pool(x, kernel, stride, pads)
    assert torch.equal(found, layer(x))


@pytest.mark.parametrize(("size", "out"), [(14, 4), (7, 1), (6, 6), (5, 3), (7, 14)])
def test_adaptive_pooling_is_two_products(size, out):
    x = torch.randn(2, 3, size, size)
    expected = F.adaptive_avg_pool2d(x, out)
    assert (others._adaptive(x, out, Operations()) - expected).abs().max() < 1e-6
