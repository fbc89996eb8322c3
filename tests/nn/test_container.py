"""Sequential, ModuleList, ModuleDict."""

from collections import OrderedDict

import pytest

import minicnn
from minicnn import nn


def test_sequential_runs_in_order():
    net = nn.Sequential(nn.ReLU(), nn.Flatten(0))
    assert net(minicnn.tensor([[-1.0, 2.0]])).tolist() == [0.0, 2.0]
    assert nn.Sequential()(3) == 3


def test_sequential_of_names():
    net = nn.Sequential(OrderedDict(first=nn.Linear(1, 1), second=nn.ReLU()))
    assert list(net.state_dict()) == ["first.weight", "first.bias"]
    assert net.first is net[0]


def test_sequential_indexing_and_slices():
    layers = [nn.ReLU(), nn.Tanh(), nn.Sigmoid()]
    net = nn.Sequential(*layers)
    assert net[-1] is layers[2] and list(net) == layers and len(net) == 3
    tail = net[1:]
    assert isinstance(tail, nn.Sequential) and list(tail) == layers[1:]
    assert [name for name, _ in tail.named_children()] == ["1", "2"]
    net[0] = nn.Identity()
    assert isinstance(net[0], nn.Identity) and len(net) == 3
    assert net.append(nn.ReLU()) is net and len(net) == 4
    with pytest.raises(IndexError, match="index: got 4"):
        _ = net[4]


def test_module_list():
    layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(2))
    layers.append(nn.ReLU()).extend([nn.Tanh()])
    assert len(layers) == 4 and isinstance(layers[-1], nn.Tanh)
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    tail = layers[2:]
    assert isinstance(tail, nn.ModuleList) and [n for n, _ in tail.named_children()] == ["0", "1"]
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        layers(1)


def test_module_dict():
    layers = nn.ModuleDict({"a": nn.Linear(1, 1)})
    layers["b"] = nn.ReLU()
    layers.update({"c": nn.Tanh()})
    assert list(layers) == list(layers.keys()) == ["a", "b", "c"] and len(layers) == 3
    assert "b" in layers and "d" not in layers
    assert [type(m).__name__ for m in layers.values()] == ["Linear", "ReLU", "Tanh"]
    assert dict(layers.items())["a"] is layers["a"]
    del layers["b"]
    assert list(layers) == ["a", "c"]
    assert list(layers.state_dict()) == ["a.weight", "a.bias"]


@pytest.mark.parametrize(
    "build",
    [lambda x: nn.Sequential(x), lambda x: nn.ModuleList([x]), lambda x: nn.ModuleDict({"a": x})],
)
def test_only_modules_are_admitted(build):
    with pytest.raises(TypeError, match="module: got int, expected a Module"):
        build(3)
