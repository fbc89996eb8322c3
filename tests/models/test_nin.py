"""Network in Network: the counts of both forms, its blocks, and classes read from maps."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.models import NiN, create_model
from minicnn.models.nin import Block
from minicnn.summary import summarize


@pytest.mark.parametrize(
    ("name", "options", "parameters", "macs"),
    [
        ("nin", {}, 7_595_176, 1_100_188_800),
        ("nin", {"input_size": 227}, 7_595_176, 1_105_996_320),
        ("nin_cifar", {}, 966_986, 222_486_528),
        ("nin_cifar", {"num_classes": 100}, 984_356, None),
    ],
)
def test_counts(name, options, parameters, macs):
    with nn.init.skip_init():
        model = create_model(name, **options)
    summary = summarize(model, model.input_shape)
    assert summary.total_parameters == parameters
    assert macs in (None, summary.total_macs)


def test_sizes_of_maps_at_224():
    with nn.init.skip_init():
        model = NiN()
    rows = {row.name: row.output_shape for row in summarize(model, model.input_shape).rows}
    assert rows["features.conv1"] == (96, 54, 54)
    assert [rows[f"features.pool{i}"][1] for i in (1, 2, 3)] == [27, 13, 6]
    assert rows["features.cccp8"] == (1000, 6, 6)


def test_a_block_is_a_perceptron_at_every_place():
    minicnn.manual_seed(0)
    model = NiN(1, 3, 6, blocks=(Block((4, 5, 0), 3, padding=1),))
    images = minicnn.randn(2, 1, 6, 6)
    maps = model.features(images).numpy()
    assert maps.shape == (2, 3, 6, 6)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    window = images.numpy()[1, 0, 2:5, 1:4].ravel()  # around row 3, column 2
    x = window
    for layer in ("conv1", "cccp1", "cccp2"):
        weight = state[f"features.{layer}.weight"]
        x = np.maximum(weight.reshape(len(weight), -1) @ x + state[f"features.{layer}.bias"], 0)
    np.testing.assert_allclose(maps[1, :, 3, 2], x, rtol=1e-5, atol=1e-6)


def test_a_score_is_the_mean_of_its_classes_map():
    model = create_model("nin_small").eval()
    images = minicnn.randn(2, 1, 28, 28)
    maps = model.features(images).numpy()
    np.testing.assert_allclose(model(images).numpy(), maps.mean(axis=(2, 3)), rtol=1e-5)


def test_blocks_end_as_their_table_says():
    kinds = [type(layer).__name__ for layer in create_model("nin_cifar").features]
    pools = [kind for kind in kinds if kind in ("MaxPool2d", "AvgPool2d", "Dropout")]
    assert pools == ["MaxPool2d", "Dropout", "AvgPool2d", "Dropout"]
    assert kinds.count("ReLU") == kinds.count("Conv2d") == 9 and "BatchNorm2d" not in kinds


def test_one_switch_takes_one_idea_away():
    whole, without = create_model("nin_small"), create_model("nin_small", batch_norm=False)
    kinds = [[type(layer).__name__ for layer in m.modules()] for m in (whole, without)]
    assert kinds[0].count("BatchNorm2d") == 9 and "BatchNorm2d" not in kinds[1]
    assert create_model("nin_small", dropout=0.0).features.drop1.p == 0
    assert without(minicnn.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_images_of_other_sizes_are_taken_and_too_small_ones_named():
    model = create_model("nin_small")
    assert model(minicnn.zeros(1, 1, 32, 40)).shape == (1, 10)
    with pytest.raises(
        ValueError,
        match=r"NiN: images of 10 x 10 are too small: features.conv1 \(Conv2d\) needs a map of at "
        r"least 11 x 11 and gets 10 x 10; the smallest that fit are 39 x 39",
    ):
        NiN(input_size=10, width=0.1)
    with pytest.raises(ValueError, match=r"\(1, 3, 28, 28\), expected \(N, 1, height, width\)"):
        model(minicnn.zeros(1, 3, 28, 28))


def test_the_notes_count_the_dense_layer_that_is_not_there():
    model = create_model("nin_small")
    assert "7 x 7 x 10 maps to 10 classes would have 4,900" in model.notes()[0]


def test_gradients_reach_every_parameter():
    model = create_model("nin_small")
    loss = F.cross_entropy(model(minicnn.randn(4, 1, 28, 28)), minicnn.tensor([0, 1, 2, 3]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and np.isfinite(parameter.grad.numpy()).all(), name
