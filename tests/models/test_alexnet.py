"""AlexNet: the paper's counts, its ablations, and torchvision's twin."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.models import AlexNet, TorchvisionAlexNet, create_model
from minicnn.models.alexnet import GroupedLRN
from minicnn.summary import summarize
from tests.models.against_torchvision import assert_equals_torchvision
from tests.needs import needs_torch

PAPER_LAYERS = {
    "features.conv1": ((96, 55, 55), 34_944, 105_415_200, 11),
    "features.conv2": ((256, 27, 27), 307_456, 223_948_800, 51),
    "features.conv3": ((384, 13, 13), 885_120, 149_520_384, 99),
    "features.conv4": ((384, 13, 13), 663_936, 112_140_288, 131),
    "features.conv5": ((256, 13, 13), 442_624, 74_760_192, 163),
    "classifier.fc6": ((4096,), 37_752_832, 37_748_736, 355),
    "classifier.fc7": ((4096,), 16_781_312, 16_777_216, 355),
    "classifier.fc8": ((1000,), 4_097_000, 4_096_000, 355),
}


@pytest.mark.parametrize(
    ("name", "options", "parameters", "macs"),
    [
        ("alexnet", {}, 60_965_224, 724_406_816),
        ("alexnet", {"input_size": 224}, 60_965_224, 724_406_816),
        ("alexnet", {"groups": 1}, 62_378_344, 1_135_256_096),
        ("alexnet_torchvision", {}, 61_100_840, 714_188_480),
    ],
)
def test_counts(name, options, parameters, macs):
    with nn.init.skip_init():
        model = create_model(name, **options)
    summary = summarize(model, model.input_shape)
    assert (summary.total_parameters, summary.total_macs) == (parameters, macs)
    if name == "alexnet" and not options:
        rows = {
            row.name: (row.output_shape, row.parameters, row.macs, row.receptive_field[0])
            for row in summary.rows
        }
        assert {layer: rows[layer] for layer in PAPER_LAYERS} == PAPER_LAYERS


def test_notes_tell_how_the_two_famous_sizes_come_about():
    with nn.init.skip_init():
        conv1, fc6 = AlexNet().notes()
    assert "11 x 11 x 3 x 96 = 34,848 weights and 96 biases" in conv1
    assert "6 x 6 x 256 x 4096 = 37,748,736" in fc6
    assert "13 x 13 x 256 x 4096 = 177,209,344" in fc6


def test_the_papers_first_values():
    minicnn.manual_seed(0)
    model = AlexNet(width=0.25, input_size=67)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for layer in ("features.conv2", "features.conv4", "features.conv5"):
        assert (state[f"{layer}.bias"] == 1).all()
    for layer in ("classifier.fc6", "classifier.fc7"):
        assert (state[f"{layer}.bias"] == 1).all()
    for layer in ("features.conv1", "features.conv3", "classifier.fc8"):
        assert (state[f"{layer}.bias"] == 0).all()
    for name, value in state.items():
        if name.endswith("weight") and value.size > 10_000:
            assert value.std() == pytest.approx(0.01, rel=0.03), name


def test_each_half_of_conv2_sees_one_half_of_the_maps():
    model = AlexNet(width=0.125, input_size=67)
    with minicnn.no_grad():
        before = model.features.conv2(minicnn.zeros(1, 12, 5, 5)).numpy()
        maps = np.zeros((1, 12, 5, 5), np.float32)
        maps[:, :6] = 1
        after = model.features.conv2(minicnn.tensor(maps)).numpy()
    changed = (before != after).any(axis=(0, 2, 3))
    assert changed[:16].all() and not changed[16:].any()


def test_response_normalisation_is_the_papers():
    layer = GroupedLRN()
    assert (layer.size, layer.alpha, layer.beta, layer.k) == (5, 1e-4, 0.75, 2.0)
    assert not layer.divide_alpha


def test_response_normalisation_within_groups_is_that_of_each_half():
    maps = minicnn.randn(2, 8, 3, 3) * 30
    whole = GroupedLRN(2)(maps).numpy()
    halves = [GroupedLRN()(maps[:, half]).numpy() for half in (slice(0, 4), slice(4, 8))]
    np.testing.assert_array_equal(whole, np.concatenate(halves, axis=1))
    assert (GroupedLRN()(maps).numpy()[:, 3:5] != whole[:, 3:5]).all()


@pytest.mark.parametrize("option", ["lrn", "overlapping", "dropout", "groups"])
def test_one_switch_takes_one_idea_away(option):
    whole = create_model("alexnet_small")
    without = create_model(
        "alexnet_small", **{option: {"groups": 1, "dropout": 0.0}.get(option, False)}
    )
    kinds = [[type(layer).__name__ for layer in m.modules()] for m in (whole, without)]
    if option == "lrn":
        assert kinds[0].count("GroupedLRN") == 2 and "GroupedLRN" not in kinds[1]
    if option == "overlapping":
        assert [m.features.pool1.kernel_size for m in (whole, without)] == [3, 2]
    if option == "dropout":
        assert [m.classifier.drop6.p for m in (whole, without)] == [0.5, 0.0]
    if option == "groups":
        assert [m.features.conv2.groups for m in (whole, without)] == [2, 1]
    assert without(minicnn.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_an_image_too_small_names_the_layer_and_what_fits():
    with pytest.raises(
        ValueError,
        match=r"AlexNet: images of 32 x 32 are too small: features.pool2 \(MaxPool2d\) needs a map "
        r"of at least 3 x 3 and gets 2 x 2; the smallest that fit are 67 x 67",
    ):
        AlexNet(input_size=32)
    assert AlexNet(input_size=67, width=0.125).map_size() == (1, 1)


def test_another_size_names_the_size_that_fits():
    model = create_model("alexnet_small")
    with pytest.raises(ValueError, match=r"\(2, 1, 32, 32\), expected \(N, 1, 28, 28\); .*3 x 3.*"):
        model(minicnn.zeros(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"\(2, 3, 28, 28\), expected \(N, 1, 28, 28\)"):
        model(minicnn.zeros(2, 3, 28, 28))


@needs_torch
def test_equals_torchvision():
    import torch
    import torchvision

    torch.manual_seed(0)
    with nn.init.skip_init():
        ours = TorchvisionAlexNet()
    assert_equals_torchvision(ours, torchvision.models.alexnet(), (2, 3, 96, 96))
