"""VGG: the paper's counts and receptive fields, what each switch does, and torchvision's twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.models import MODELS, VGG, create_model
from minicnn.models.vgg import GLOROT, HE, Config, TorchvisionVGG
from minicnn.summary import summarize
from tests.models.against_torchvision import assert_equals_torchvision
from tests.needs import needs_torch

PARAMETERS = {
    "vgg11": 132_863_336, "vgg11_lrn": 132_863_336, "vgg13": 133_047_848,
    "vgg16_1x1": 133_638_952, "vgg16": 138_357_544, "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840, "vgg13_bn": 133_053_736, "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}  # fmt: skip
MACS = {
    "vgg11": 7_609_090_048, "vgg13": 11_308_466_176, "vgg16_1x1": 11_770_888_192,
    "vgg16": 15_470_264_320, "vgg19": 19_632_062_464,
}  # fmt: skip
TORCHVISION = [name for name in MODELS if name.startswith("vgg") and name.endswith("_torchvision")]
# The others take a minute together.
DEFAULT = ("vgg11_torchvision",)
WEIGHTS_OF_D = (
    1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648, 2_359_296, 2_359_296,
    2_359_296, 2_359_296, 2_359_296, 102_760_448, 16_777_216, 4_096_000,
)  # fmt: skip
FIELDS_OF_D = {
    "features.conv1_2": 5, "features.pool1": 6, "features.pool2": 16, "features.pool3": 44,
    "features.pool4": 100, "features.conv5_3": 196, "features.pool5": 212, "classifier.fc6": 404,
}  # fmt: skip


def unfilled(name: str, **options: Any) -> Any:
    """Build a network whose weights are zeros: half a gigabyte less to write."""
    with nn.init.skip_init():
        return create_model(name, **options)


@pytest.mark.parametrize("name", [*PARAMETERS, *TORCHVISION])
def test_parameters(name):
    model = unfilled(name)
    expected = PARAMETERS[name.removesuffix("_torchvision")]
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("name", MACS)
def test_multiply_adds(name):
    model = unfilled(name)
    summary = summarize(model, model.input_shape)
    assert (summary.total_parameters, summary.total_macs) == (PARAMETERS[name], MACS[name])
    if name == "vgg16":
        weights = [p.numel() for key, p in model.named_parameters() if key.endswith("weight")]
        assert tuple(weights) == WEIGHTS_OF_D
        assert sum(p.numel() for p in model.features.parameters()) == 14_714_688
        fields = {row.name: row.receptive_field for row in summary.rows}
        assert {layer: fields[layer] for layer in FIELDS_OF_D} == {
            layer: (field, field) for layer, field in FIELDS_OF_D.items()
        }


def test_the_names_are_all_there():
    assert len(TORCHVISION) == 8
    assert {name.removesuffix("_torchvision") for name in TORCHVISION} < set(PARAMETERS)


@pytest.mark.parametrize("name", ["vgg13", "vgg16_bn_torchvision"])
def test_notes_tell_what_small_kernels_save(name):
    first, last = unfilled(name).notes()
    assert "128 channels" in first and "= 294,912 weights; one 5 x 5 layer has 409,600" in first
    assert "442,368; one 7 x 7 layer has 802,816" in first  # 27 C^2 against 49 C^2
    assert "7 x 7 x 512 x 4096 = 102,760,448 weights" in last
    share, total = {
        "vgg13": ("93%", "133,047,848"), "vgg16_bn_torchvision": ("89%", "138,365,992"),
    }[name]  # fmt: skip
    assert f"3 dense layers hold {share} of the network's {total} parameters" in last


def test_notes_of_c_tell_what_1x1_kernels_save():
    pointwise = unfilled("vgg16_1x1").notes()[1]
    # conv3_3, conv4_3, conv5_3: 256^2 + 2 * 512^2, and nine times that.
    assert pointwise.startswith("3 convolutions are 1 x 1 and have 589,824 weights")
    assert "5,308,416" in pointwise


def test_c_has_1x1_kernels_at_the_end_of_its_last_three_blocks():
    features = VGG("C", width=0.125, input_size=32).features
    kernels = {
        name: layer.kernel_size[0]
        for name, layer in features.named_children() if isinstance(layer, nn.Conv2d)
    }  # fmt: skip
    assert [name for name, kernel in kernels.items() if kernel == 1] == [
        "conv3_3", "conv4_3", "conv5_3",
    ]  # fmt: skip
    assert len(kernels) == 13 and set(kernels.values()) == {1, 3}


def test_response_normalisation_is_alexnets_and_follows_conv1_1():
    for config, options in (("A-LRN", {}), ("B", {"lrn": True})):
        features = VGG(config, width=0.125, input_size=32, **options).features
        names = [name for name, _ in features.named_children()]
        assert names.index("norm1") == names.index("relu1_1") + 1
        norm = features.norm1
        assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 2.0)
        assert not norm.divide_alpha
    without = VGG("A-LRN", width=0.125, input_size=32, lrn=False)
    assert not hasattr(without.features, "norm1")


def deviations(model: Any) -> dict[str, tuple[float, tuple[int, ...]]]:
    """Return each large weight's standard deviation and shape; check that biases are 0."""
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert layer.bias is not None and not layer.bias.numpy().any(), name
            if layer.weight.numel() > 10_000:
                found[name] = (layer.weight.numpy().std(), layer.weight.shape)
    return found


def test_the_papers_first_values_have_a_variance_of_a_hundredth():
    minicnn.manual_seed(0)
    found = deviations(VGG("A", width=0.25, input_size=32))
    assert len(found) == 9
    for name, (std, _) in found.items():
        assert std**2 == pytest.approx(0.01, rel=0.05), name


def test_glorots_first_values():
    minicnn.manual_seed(0)
    found = deviations(VGG("A", width=0.25, input_size=32, init=GLOROT))
    for name, (std, (outputs, inputs, *window)) in found.items():
        expected = np.sqrt(2 / ((outputs + inputs) * np.prod(window)))
        assert std == pytest.approx(expected, rel=0.03), name


def test_torchvisions_first_values():
    minicnn.manual_seed(0)
    found = deviations(TorchvisionVGG("A", width=0.25, batch_norm=True))
    for name, (std, (outputs, _, *window)) in found.items():
        expected = np.sqrt(2 / (outputs * np.prod(window))) if window else 0.01
        assert std == pytest.approx(expected, rel=0.03), name


def test_one_switch_takes_one_idea_away():
    whole, without = create_model("vgg_small"), create_model("vgg_small", batch_norm=False)
    kinds = [[type(layer).__name__ for layer in m.modules()] for m in (whole, without)]
    assert kinds[0].count("BatchNorm2d") == 7 and "BatchNorm2d" not in kinds[1]
    plain = create_model("vgg_small", dropout=0.0)
    assert [m.classifier.drop7.p for m in (whole, plain)] == [0.5, 0.0]
    assert hasattr(create_model("vgg_small", lrn=True).features, "norm1")
    assert without(minicnn.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(("size", "least"), [(28, 8e6), (32, 8e6)])
def test_the_small_one_fits_a_laptop(size, least):
    model = create_model("vgg_small", input_size=size)
    assert least < summarize(model, model.input_shape).total_macs < 15e6


def test_an_image_too_small_names_the_layer_and_what_fits():
    with pytest.raises(
        ValueError,
        match=r"VGG: images of 31 x 40 are too small: features.pool5 \(MaxPool2d\) needs a map of "
        r"at least 2 x 2 and gets 1 x 2; the smallest that fit are 32 x 32",
    ):
        VGG("A", input_size=(31, 40), width=0.125)
    with pytest.raises(ValueError, match=r"images of 28 x 28 are too small: features.20 "):
        TorchvisionVGG("A", input_size=28, width=0.125)


def test_another_size_is_refused_by_the_papers_and_taken_by_torchvisions():
    ours, theirs = (kind("A", width=0.03, input_size=32) for kind in (VGG, TorchvisionVGG))
    images = minicnn.zeros(1, 3, 64, 32)
    with pytest.raises(ValueError, match=r"\(1, 3, 64, 32\), expected \(N, 3, 32, 32\); .*2 x 1"):
        ours(images)
    assert theirs(images).shape == (1, 1000)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("F", "config: got 'F', expected one of A, A-LRN, B, C, D, E"),
        (Config(((3,), (3,)), channels=(8,)), "config: got kernels of 2 blocks and channels of 1"),
    ],
)
def test_unknown_configurations(config, message):
    with pytest.raises(ValueError, match=message):
        VGG(config)


def test_a_column_of_ones_own():
    model = VGG(Config(((5,),), channels=(4,), hidden=6), 1, 3, 8, init=HE)
    assert model(minicnn.zeros(2, 1, 8, 8)).shape == (2, 3)
    assert "Two 3 x 3 layers of 4 channels" in model.notes()[0]


@needs_torch
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in DEFAULT else pytest.mark.slow) for n in TORCHVISION],
)
def test_equals_torchvision(name):
    import torch
    import torchvision

    torch.manual_seed(0)
    twin = torchvision.models.get_model(name.removesuffix("_torchvision"), weights=None)
    # A ReLU whose input is nearly 0 moves the deepest one's gradients too far in float32.
    dtype = np.float64 if "_bn_" in name or "vgg19" in name else np.float32
    assert_equals_torchvision(unfilled(name), twin, (4, 3, 32, 32), dtype)
