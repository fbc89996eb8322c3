"""Maps and heat maps: planted networks whose answer is known by hand, and CAM against Grad-CAM."""

from __future__ import annotations

import io

import numpy as np
import pytest

import minicnn
from minicnn import Tensor, nn
from minicnn.models import create_model
from minicnn.training.visualize_picture import feature_maps_png, heat_png, over_picture
from minicnn.visualize import feature_maps, heat_map, spread

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")


class Pooled(nn.Module):
    """Convolutions, global average pooling, and a dense layer or none."""

    def __init__(self, channels: int = 2, classes: int = 3, dense: bool = True):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, channels, 3, padding=1),
            nn.ReLU(),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(channels, classes) if dense else None

    def forward(self, images):
        x = self.dropout(self.avgpool(self.features(images)).flatten(1))
        return x if self.fc is None else self.fc(x)


def random_image(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32))


def planted() -> Pooled:
    """A network whose class 1 is how bright a picture is: it looks where it is bright."""
    model = Pooled()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with minicnn.no_grad():
        model.features[0].weight[0, 0, 1, 1] = 1.0
        model.features[2].weight[1, 0, 1, 1] = 1.0
        assert model.fc is not None
        model.fc.weight[1, 1] = 2.0
        model.fc.weight[2, 1] = -2.0
    return model


@pytest.mark.parametrize("method", ["auto", "cam", "grad-cam"])
def test_a_planted_network_looks_where_it_must(method):
    picture = np.zeros((1, 1, 7, 9), np.float32)
    picture[0, 0, 2, 6] = 1
    heat = heat_map(planted(), Tensor(picture), method=method)
    assert heat.target == 1
    assert np.unravel_index(heat.values.argmax(), heat.values.shape) == (2, 6)
    assert heat.method == ("grad-cam" if method == "grad-cam" else "cam")
    expected = np.zeros((7, 9))
    expected[2, 6] = 2.0 if heat.method == "cam" else 2.0 / 63
    np.testing.assert_allclose(heat.values, expected, rtol=1e-6)
    scores = np.array([0, 2 / 63, -2 / 63])
    np.testing.assert_allclose(heat.probabilities, np.exp(scores) / np.exp(scores).sum(), rtol=1e-6)


def test_evidence_against_a_class_is_negative_in_cam_and_left_out_of_grad_cam():
    picture = np.ones((1, 1, 4, 4), np.float32)
    against = heat_map(planted(), Tensor(picture), 2)
    np.testing.assert_allclose(against.values, -2.0)
    assert not heat_map(planted(), Tensor(picture), 2, method="grad-cam").values.any()
    assert not over_picture(against.values, (8, 8)).any()


@pytest.mark.parametrize("dense", [True, False])
def test_cam_is_grad_cam_times_the_number_of_places(dense):
    minicnn.manual_seed(3)
    model = Pooled(channels=5, classes=5, dense=dense)
    image = random_image(1, 8, 6)
    for target in range(5):
        cam = heat_map(model, image, target)
        grad_cam = heat_map(model, image, target, method="grad-cam")
        assert (cam.method, cam.layer, grad_cam.layer) == ("cam", "features", "features")
        np.testing.assert_allclose(
            np.maximum(cam.values, 0), 48 * grad_cam.values, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(cam.probabilities, grad_cam.probabilities)
    # The mean of the map is the score, up to the bias.
    bias = model.fc.bias.detach().numpy()[4] if dense else 0
    with minicnn.no_grad():
        score = model.eval()(image).numpy()[0, 4]
    assert cam.values.mean() + bias == pytest.approx(score, rel=1e-4, abs=1e-6)


def test_grad_cam_of_alexnet_takes_the_maps_behind_the_last_relu():
    model = create_model("alexnet_small")
    heat = heat_map(model, random_image(1, 28, 28))
    assert (heat.method, heat.layer) == ("grad-cam", "features.relu5")
    assert heat.values.shape == (6, 6) and heat.values.min() >= 0


def test_grad_cam_equals_finite_differences():
    """alpha_k is how the score changes when a map is lifted everywhere."""
    minicnn.manual_seed(1)

    class Lifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3)
            self.fc = nn.Linear(3 * 16, 2)
            self.lift = np.zeros(3)

        def forward(self, x):
            maps = self.conv(x) + Tensor(self.lift.reshape(1, 3, 1, 1))
            return self.fc((maps * maps).flatten(1))

    model = Lifted().double()
    image = random_image(1, 6, 6).double()
    heat = heat_map(model, image, 1, layer="conv")
    alpha = np.zeros(3)
    for k in range(3):
        scores = []
        for step in (1e-5, -1e-5):
            model.lift[:] = 0
            model.lift[k] = step
            with minicnn.no_grad():
                scores.append(model(image).numpy()[0, 1])
        alpha[k] = (scores[0] - scores[1]) / 2e-5 / 16
    model.lift[:] = 0
    maps = feature_maps(model, image, ["conv"])["conv"]
    np.testing.assert_allclose(
        heat.values, np.maximum(np.tensordot(alpha, maps, 1), 0), rtol=1e-6, atol=1e-9
    )


def test_frozen_networks_can_be_asked_and_nothing_changes():
    model = planted().train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with minicnn.no_grad():
        heat = heat_map(model, random_image(1, 5, 5), 1, method="grad-cam")
    assert heat.values.any()
    assert model.training and model.dropout.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_refused_image_leaves_no_hooks():
    model = create_model("alexnet_small")
    with pytest.raises(ValueError, match="expected"):
        heat_map(model, random_image(3, 28, 28))
    assert not any(module._forward_hooks for module in model.modules()) and model.training


def test_feature_maps_are_what_the_layers_give():
    model = planted()
    image = random_image(1, 5, 6)
    maps = feature_maps(model, image, ["features.1"])["features.1"]
    np.testing.assert_array_equal(maps[0], np.maximum(image.numpy()[0, 0], 0))
    assert not maps[1:].any() and maps.shape == (4, 5, 6)
    assert list(feature_maps(model, image)) == ["features.0", "features.2"]


def test_default_layers_are_spread_from_the_first_to_the_last():
    assert spread(list("abcdefghij")) == ["a", "d", "g", "j"]
    assert spread(["a", "b", "a"]) == ["a", "b"]
    assert spread([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 3}, "got class 3, expected one of 0 to 2"),
        ({"method": "eyes"}, "got 'eyes', expected one of auto, cam, grad-cam"),
        ({"layer": "fc"}, "got 'fc', expected one that gives maps: features.0, features.1"),
        ({"layer": "features.0", "method": "cam"}, "use grad-cam"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        heat_map(planted(), random_image(1, 5, 5), **arguments)


def test_what_is_not_there_is_said():
    image = random_image(1, 28, 28)
    with pytest.raises(ValueError, match="does not end in global average pooling"):
        heat_map(create_model("lenet"), image, method="cam")
    with pytest.raises(ValueError, match="no convolution"):
        heat_map(nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), image)
    with pytest.raises(ValueError, match=r"\(2, 1, 5, 5\), expected one image"):
        heat_map(planted(), minicnn.zeros(2, 1, 5, 5))
    with pytest.raises(ValueError, match="got 'conv9', expected"):
        feature_maps(planted(), random_image(1, 5, 5), ["conv9"])


# Pictures --------------------------------------------------------------------------------------


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), int)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_hottest_place_of_a_picture_is_where_it_must_be(channels):
    picture = np.zeros((1, 1, 8, 8), np.float32)
    picture[0, 0, 5, 6] = 1
    heat = heat_map(planted(), Tensor(picture))
    shown = np.repeat(picture[0], channels, axis=0)
    drawn = pixels(heat_png(shown, heat, ["none", "bright", "dark"], "a picture"))
    # Orange and yellow are what only the heat has; it lies in the second panel and on the scale.
    warm = (drawn[..., 0] - drawn[..., 2] > 60) & (drawn[..., 0] > 120)
    height, width = warm.shape
    panel = warm[:, int(0.33 * width) : int(0.62 * width)]
    rows, columns = np.nonzero(panel)
    assert len(rows) > 100
    assert 0.5 * height < rows.mean() < 0.85 * height
    assert columns.mean() > 0.6 * panel.shape[1]


def test_a_heat_map_is_laid_over_the_picture_bilinearly():
    values = np.array([[0.0, 0.0], [0.0, 4.0]])
    large = over_picture(values, (8, 8))
    assert large.shape == (8, 8) and large.max() == 1
    assert large[7, 7] == 1 and large[0, 0] == 0 and large[3, 3] < large[4, 4] < large[5, 5]


def test_every_map_has_its_own_scale():
    maps = np.zeros((2, 4, 4))
    maps[0, :2] = 1e-3
    maps[1, :2] = 1e3
    drawn = pixels(feature_maps_png({"layer": maps}, "title"))
    for colour in ((253, 231, 36), (68, 1, 84)):  # the ends of viridis
        hits = (np.abs(drawn - np.array(colour)).max(axis=2) <= 4).any(axis=0)
        starts = np.flatnonzero(np.diff(hits.astype(int)) == 1)
        assert len(starts) == 2  # in both maps


@pytest.mark.parametrize("shapes", [[(1, 1, 1)], [(3, 8, 8), (300, 2, 5), (16, 3, 3)]])
def test_maps_of_any_shape(shapes):
    rng = np.random.default_rng(0)
    maps = {f"layer{i}": rng.normal(size=shape) for i, shape in enumerate(shapes)}
    assert pixels(feature_maps_png(maps, "title")).std() > 1
