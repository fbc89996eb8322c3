"""AlexNet on two devices: the towers of figure 2, and one device's network by another road."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import nn, optim
from minicnn.kernels import conv2d
from minicnn.models import AlexNet
from minicnn.models.alexnet import SMALL
from minicnn.models.alexnet_two_devices import AlexNetTwoDevices
from minicnn.models.initialize import HE
from minicnn.serialization import load_state_dict, save_state_dict
from tests.needs import needs_compiler

SIMULATED = ("cuda:sim:0", "cuda:sim:1")
PLACES = [
    pytest.param(("cpu", "cpu"), id="cpu"),
    pytest.param(SIMULATED, id="simulated", marks=needs_compiler),
    pytest.param(("cpu", "cuda:sim:1"), id="mixed", marks=needs_compiler),
]
SIZES = {"in_channels": 1, "num_classes": 10, "input_size": 19, "width": 0.25}
# In units of the largest value of each tensor: some roundings of float32 and float64.
BOUNDS = {np.float32: 5e-6, np.float64: 1e-14}


def one_device(dtype: Any = np.float32, **options: Any) -> AlexNet:
    """Return a small network with the dropout off, so that no draw makes a difference."""
    minicnn.manual_seed(3)
    given: dict[str, Any] = {
        "convs": SMALL, "hidden": 64, "dropout": 0.0, "lrn_groups": 2, "init": HE, **SIZES,
    }  # fmt: skip
    return AlexNet(**{**given, **options}).to(dtype)


def batch(dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    images = minicnn.tensor(rng.random((4, 1, 19, 19)) * 20, dtype)
    return images, minicnn.tensor(rng.integers(0, 10, 4))


def step(model, dtype, seed=0):
    """Take a step of training; return scores, gradients and weights by name of one device."""
    images, labels = batch(dtype, seed)
    scores = model(images)
    loss = model.loss(scores, labels.to(scores.device))
    model.zero_grad()
    loss.backward()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    gradients = joined(model, lambda p: p.grad)
    optimizer.step()
    return scores.detach().cpu().numpy(), gradients, joined(model, lambda p: p)


def joined(model, read):
    """Return an array for each parameter; of two towers, their halves one after the other."""
    if isinstance(model, AlexNet):
        return {n: read(p).detach().cpu().numpy() for n, p in model.named_parameters()}
    halves = [dict(tower.named_parameters()) for tower in model.towers]
    return {
        name: np.concatenate([read(half[name]).detach().cpu().numpy() for half in halves])
        for name in halves[0]
    }


def assert_close(found, expected, bound):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(found[name] - value).max() <= bound * abs(value).max(), name
        assert abs(value).max() > 0, name


def test_each_tower_has_the_kernels_of_figure_2():
    with nn.init.skip_init():
        model = AlexNetTwoDevices(devices=("cpu", "cpu"))
    for tower in model.towers:
        shapes = {n: p.shape for n, p in tower.named_parameters() if n.endswith("weight")}
        assert shapes == {
            "features.conv1.weight": (48, 3, 11, 11),
            "features.conv2.weight": (128, 48, 5, 5),
            "features.conv3.weight": (192, 256, 3, 3),
            "features.conv4.weight": (192, 192, 3, 3),
            "features.conv5.weight": (128, 192, 3, 3),
            "classifier.fc6.weight": (2048, 9216),
            "classifier.fc7.weight": (2048, 4096),
            "classifier.fc8.weight": (500, 4096),
        }
    assert sum(p.numel() for p in model.parameters()) == 60_965_224


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("devices", PLACES)
def test_two_steps_are_those_of_one_device(devices, dtype):
    whole = one_device(dtype)
    model = AlexNetTwoDevices.from_alexnet(whole, devices)
    assert [tower.features.conv1.weight.device for tower in model.towers] == [
        device.removesuffix(":0") for device in devices
    ]
    for seed in (0, 1):
        with conv2d.without("winograd"):  # a simulated device has none, and other roundings
            results = step(model, dtype, seed), step(whole, dtype, seed)
        for found, expected in zip(*results, strict=True):
            if isinstance(found, np.ndarray):
                found, expected = {"scores": found}, {"scores": expected}
            assert_close(found, expected, BOUNDS[dtype])


def test_scores_are_the_bits_of_one_device():
    whole = one_device().eval()
    model = AlexNetTwoDevices.from_alexnet(whole, ("cpu", "cpu"))
    images, _ = batch()
    np.testing.assert_array_equal(model(images).detach().numpy(), whole(images).detach().numpy())


@pytest.mark.parametrize("devices", PLACES)
def test_splitting_and_joining_lose_nothing(devices):
    whole = one_device(np.float64, num_classes=7, dropout=0.25, overlapping=False).eval()
    model = AlexNetTwoDevices.from_alexnet(whole, devices)
    again = model.to_alexnet()
    assert repr(again) == repr(whole) and not again.training and not model.training
    assert model.num_classes == 7 and model.input_shape == (1, 19, 19)
    for name, value in whole.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), value.numpy())
    assert [len(tower.classifier.fc8.bias) for tower in model.towers] == [4, 3]


def test_the_towers_talk_in_front_of_conv3_and_of_the_dense_layers_alone():
    model = AlexNetTwoDevices.from_alexnet(one_device().eval(), ("cpu", "cpu"))
    images, _ = batch()
    seen: dict[str, np.ndarray] = {}
    first, second = model.towers
    for part in (first.features, first.classifier):
        for name, layer in part.named_children():
            layer.register_forward_hook(
                lambda m, args, output, name=name: seen.update({name: output.numpy().copy()})
            )
    with minicnn.no_grad():
        model(images)
        before = dict(seen)
        for layer in ("conv1", "conv2"):
            getattr(second.features, layer).weight.mul_(1.5)
        model(images)
        changed = {name for name in seen if (seen[name] != before[name]).any()}
        assert not changed & {"conv1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2"}
        assert {"conv3", "conv4", "conv5", "fc6", "fc7", "fc8"} <= changed
        before = dict(seen)
        second.features.conv3.weight.mul_(1.5)
        model(images)
    changed = {name for name in seen if (seen[name] != before[name]).any()}
    assert not any(name in changed for name in first.features._modules)
    assert {"fc6", "fc7", "fc8"} <= changed


def test_first_values_are_those_of_one_device_and_dropout_draws_in_training():
    minicnn.manual_seed(5)
    model = AlexNetTwoDevices(**SIZES, devices=("cpu", "cpu"), convs=SMALL, hidden=64, init=HE)
    minicnn.manual_seed(5)
    whole = AlexNet(**SIZES, convs=SMALL, hidden=64, lrn_groups=2, init=HE)
    for name, value in joined(whole, lambda p: p).items():
        np.testing.assert_array_equal(joined(model, lambda p: p)[name], value)
    images, _ = batch()
    assert (model(images).detach().numpy() != model(images).detach().numpy()).any()


@needs_compiler
def test_weights_are_saved_from_two_devices_and_moved_to_one(tmp_path):
    model = AlexNetTwoDevices.from_alexnet(one_device(), SIMULATED).eval()
    save_state_dict(tmp_path / "weights", model.state_dict())
    twin = AlexNetTwoDevices(
        **SIZES, devices=reversed_pair(SIMULATED), convs=SMALL, hidden=64, dropout=0.0, init=HE
    ).eval()
    assert twin.devices == ("cuda:sim:1", "cuda:sim")
    twin.load_state_dict(load_state_dict(tmp_path / "weights"))
    images, _ = batch()
    expected = model(images)
    assert expected.device == "cuda:sim"
    scores = twin(images.to("cuda:sim:1"))
    assert scores.device == "cuda:sim:1" and scores.tolist() == expected.tolist()
    assert twin.to("cuda:sim") is twin and twin.devices == ("cuda:sim", "cuda:sim")
    assert twin(images).tolist() == expected.tolist()
    assert twin.place(SIMULATED).devices == ("cuda:sim", "cuda:sim:1")


def reversed_pair(devices):
    return devices[1], devices[0]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="norm1 has 1 groups, expected 2: build the network with"):
        AlexNetTwoDevices.from_alexnet(one_device(lrn_groups=1), ("cpu", "cpu"))
    with pytest.raises(ValueError, match="no layer has 2 groups, expected a network with groups=2"):
        AlexNetTwoDevices.from_alexnet(one_device(groups=1), ("cpu", "cpu"))
    with pytest.raises(ValueError, match="conv2 has 4 groups, expected at most 2"):
        AlexNetTwoDevices.from_alexnet(one_device(groups=4), ("cpu", "cpu"))
    for devices in ("cpu", ("cpu",), ("cpu",) * 3):
        with pytest.raises(ValueError, match="devices: got .*, expected two names, one a tower"):
            AlexNetTwoDevices.from_alexnet(one_device(), devices)
    with pytest.raises(ValueError, match="device: got 'gpu', expected one of 'cpu'"):
        AlexNetTwoDevices.from_alexnet(one_device(), ("cpu", "gpu"))
    with pytest.raises(ValueError, match="num_classes is 1, expected at least 2, one a tower"):
        AlexNetTwoDevices(num_classes=1, devices=("cpu", "cpu"))
    model = AlexNetTwoDevices.from_alexnet(one_device(), ("cpu", "cpu"))
    with pytest.raises(ValueError, match=r"AlexNetTwoDevices: images have shape \(1, 3, 19, 19\)"):
        model(minicnn.zeros(1, 3, 19, 19))
    with pytest.raises(ValueError, match=r"expected \(N, 1, 19, 19\); they end as maps of 3 x 3"):
        model(minicnn.zeros(1, 1, 31, 31))
