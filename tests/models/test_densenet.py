"""DenseNet: the paper's counts, what a layer sees, the ablations, and torchvision's twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.gradcheck import gradcheck
from minicnn.models import DenseNet, DenseNetCIFAR, create_model
from minicnn.models.densenet import DENSENETS, DenseBlock, Form
from minicnn.summary import summarize
from tests.models.against_torchvision import assert_close, assert_equals_torchvision
from tests.needs import needs_torch

COUNTS = {
    "densenet121": (7_978_856, 2_834_161_664),
    "densenet169": (14_149_480, 3_359_843_328),
    "densenet201": (20_013_928, 4_291_365_888),
    "densenet161": (28_681_000, 7_727_907_072),
    "densenet264": (33_337_704, 5_751_653_376),
    "densenet40_k12": (1_019_722, 264_812_928),
    "densenet100_k12": (6_979_642, 1_769_516_448),
    "densenet100_k24": (27_249_082, 6_889_347_744),
    "densenet_bc100_k12": (769_162, 287_929_692),
    "densenet_bc250_k24": (15_324_406, 5_418_785_724),
    "densenet_bc190_k40": (25_624_430, 9_301_945_740),
}
QUICK = ("densenet40_k12", "densenet_bc100_k12")
# What goes out of each part of DenseNet-121, and its parameters.
PARTS = {
    "conv0": (64, 9_408),
    "norm0": (64, 128),
    "denseblock1": (256, 335_040),
    "transition1": (128, 33_280),
    "denseblock2": (512, 919_680),
    "transition2": (256, 132_096),
    "denseblock3": (1024, 2_837_760),
    "transition3": (512, 526_336),
    "denseblock4": (1024, 2_158_080),
    "norm5": (1024, 2_048),
}
TWINS = (121, 169, 201, 161)


def unfilled(name: str, **options: Any) -> Any:
    with nn.init.skip_init():
        return create_model(name, **options)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules()]


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name):
    assert count(unfilled(name)) == COUNTS[name][0]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in COUNTS]
)
def test_multiply_adds(name):
    model = unfilled(name)
    assert summarize(model, model.input_shape).total_macs == COUNTS[name][1]


def test_the_parts_of_densenet121():
    model = unfilled("densenet121")
    summary = summarize(model, model.input_shape)
    assert (summary.total_parameters, summary.total_macs) == COUNTS["densenet121"]
    seen = {}

    def note(name):
        def hook(module, args, output):
            seen[name] = output.shape[1:]

        return hook

    for name, part in model.features.named_children():
        part.register_forward_hook(note(name))
    with minicnn.no_grad():
        model.eval()(minicnn.zeros(1, 3, 64, 64))
    for name, (channels, parameters) in PARTS.items():
        part = getattr(model.features, name)
        assert (seen[name][0], count(part)) == (channels, parameters), name
    assert [seen[f"denseblock{i}"][1] for i in (1, 2, 3, 4)] == [16, 8, 4, 2]
    assert count(model.classifier) == 1_025_000
    fields = {row.name: row.receptive_field[0] for row in summary.rows}
    assert (fields["features.conv0"], fields["features.pool0"]) == (7, 11)
    # Six 3x3 convolutions where neighbours are 4 pixels apart.
    assert fields["features.denseblock1.denselayer6.conv2"] == 11 + 6 * 2 * 4


@pytest.mark.parametrize("depth", TWINS)
def test_torchvisions_has_the_papers_layers(depth):
    shapes = [
        {key: value.shape for key, value in unfilled(name).state_dict().items()}
        for name in (f"densenet{depth}", f"densenet{depth}_torchvision")
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("skip", [True, False])
def test_a_layer_sees_all_maps_before_it(skip):
    """Each layer adds up all that it sees: with all maps before it, sums double every time."""
    block = DenseBlock(4, 1, Form(1, False, skip, False, 0.0, True))
    with minicnn.no_grad():
        for layer in block.children():
            layer.conv1.weight.zero_()
            layer.conv1.weight[:, :, 1, 1] = 1.0
            layer.conv1.bias.zero_()
        image = minicnn.rand(2, 1, 5, 5)
        maps = block(image).numpy()
    factors = [1, 1, 2, 4, 8] if skip else [1]
    expected = image.numpy() * np.array(factors, np.float32).reshape(1, -1, 1, 1)
    np.testing.assert_allclose(maps, expected, rtol=1e-6)
    assert maps.shape[1] == block.out_channels


def test_a_layer_is_bn_relu_1x1_bn_relu_3x3():
    """Against the formula of section 3, written out for one layer of a block."""
    minicnn.manual_seed(0)
    block = DenseBlock(2, 3, Form(2, True, True, True, 0.0, True)).eval()
    first, second = block.children()
    for layer in (first, second):
        for norm in (layer.norm1, layer.norm2):
            for tensor in (norm.weight, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 2)
            for tensor in (norm.bias, norm.running_mean):
                nn.init.uniform_(tensor, -1, 1)

    def h(layer, maps):
        for norm, conv, padding in ((layer.norm1, layer.conv1, 0), (layer.norm2, layer.conv2, 1)):
            column = [
                value.reshape(1, -1, 1, 1)
                for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            ]
            mean, variance, weight, bias = column
            maps = (maps - mean) * (variance + 1e-5) ** -0.5 * weight + bias
            maps = F.conv2d(F.relu(maps), conv.weight, padding=padding)
        return maps

    assert first.conv1.weight.shape == (8, 3, 1, 1) and second.conv2.weight.shape == (2, 8, 3, 3)
    with minicnn.no_grad():
        image = minicnn.randn(2, 3, 4, 4)
        one = h(first, image)
        two = h(second, F.cat([image, one], 1))
        expected = np.concatenate([x.numpy() for x in (image, one, two)], axis=1)
        np.testing.assert_allclose(block(image).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_a_block():
    minicnn.manual_seed(1)
    block = DenseBlock(3, 2, Form(2, False, True, True, 0.0, True)).double()
    maps = minicnn.randn(3, 2, 4, 4, dtype=np.float64, requires_grad=True)
    assert gradcheck(block, maps)


def test_first_values():
    minicnn.manual_seed(0)
    for name in ("densenet121", "densenet121_torchvision"):
        model = create_model(name, width=0.5)
        state = {key: value.numpy() for key, value in model.state_dict().items()}
        for key, value in state.items():
            if value.ndim == 4:
                expected = (2 / np.prod(value.shape[1:])) ** 0.5
                assert value.std() == pytest.approx(expected, rel=0.1), key
        assert (state["classifier.bias"] == 0).all()
        inputs = model.classifier.in_features
        weight = state["classifier.weight"] * inputs**0.5
        if name == "densenet121":
            assert weight.std() == pytest.approx(2**0.5, rel=0.02)
        else:
            assert weight.std() == pytest.approx(3**-0.5, rel=0.02)
            assert np.abs(weight).max() <= 1.0


def test_width_multiplies_growth_and_first_maps():
    for name, first in (("densenet121", 32), ("densenet40_k12", 8), ("densenet_bc100_k12", 12)):
        model = unfilled(name, width=0.5)
        layer = next(model.features.denseblock1.children())
        k = next(m for m in reversed(list(layer.children())) if isinstance(m, nn.Conv2d))
        assert model.features.conv0.out_channels == first
        assert k.out_channels == (16 if name == "densenet121" else 6)


def test_dropout_stands_behind_every_convolution_but_the_first():
    small = create_model("densenet_small", dropout=0.2)
    names = [name for name, m in small.named_modules() if isinstance(m, nn.Dropout)]
    convolutions = [name for name, m in small.named_modules() if isinstance(m, nn.Conv2d)]
    assert names == [name.replace("conv", "drop") for name in convolutions[1:]]
    assert all(m.p == 0.2 for m in small.modules() if isinstance(m, nn.Dropout))
    assert "Dropout" not in kinds(create_model("densenet_small"))
    theirs = unfilled("densenet121_torchvision", dropout=0.2)
    assert kinds(theirs).count("Dropout") == 58  # one a layer of the blocks


def test_one_switch_takes_one_idea_away():
    images = minicnn.rand(2, 1, 28, 28)
    bare = create_model("densenet_small", batch_norm=False)
    assert "BatchNorm2d" not in kinds(bare)
    assert all(m.bias is not None for m in bare.modules() if isinstance(m, nn.Conv2d))
    chain = create_model("densenet_small", skip=False)
    whole = create_model("densenet_small")
    assert kinds(chain) == kinds(whole)
    layers = list(chain.features.denseblock2.children())
    assert [layer.conv1.in_channels for layer in layers] == [6] + [12] * 5
    assert chain.classifier.in_features == 12
    for model in (bare, chain, whole):
        assert model(images).shape == (2, 10)


def test_the_small_one_is_small_and_takes_both_sizes():
    model = create_model("densenet_small")
    assert summarize(model, (1, 28, 28)).total_macs == 13_709_256
    assert model.map_size() == (3, 3) and model.map_size((32, 32)) == (4, 4)
    assert model(minicnn.zeros(1, 1, 32, 32)).shape == (1, 10)
    other = create_model("densenet_small", in_channels=3, num_classes=7, input_size=32)
    assert other(minicnn.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_an_image_too_small_names_the_layer_and_what_fits():
    message = (
        r"images of 28 x 24 are too small: features.transition3.pool \(AvgPool2d\) needs a map of "
        r"at least 2 x 2 and gets 1 x 1; the smallest that fit are 29 x 29"
    )
    with pytest.raises(ValueError, match=f"DenseNet: {message}"):
        create_model("densenet121", input_size=(28, 24))
    with pytest.raises(ValueError, match=f"DenseNet: {message}"):
        unfilled("densenet121", width=0.1)(minicnn.zeros(1, 3, 28, 24))
    with pytest.raises(ValueError, match=r"\(2, 1, 28, 28\), expected \(N, 3, height, width\)"):
        unfilled("densenet121", width=0.1)(minicnn.zeros(2, 1, 28, 28))
    with pytest.raises(ValueError, match="DenseNetCIFAR: .* smallest that fit are 4 x 4"):
        create_model("densenet40_k12", input_size=3)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (DenseNet, {"layers": ()}, r"DenseNet: layers is \(\), expected one or more blocks"),
        (DenseNet, {"layers": (2, 0)}, r"DenseNet: layers\[1\] is 0"),
        (DenseNet, {"growth": 0}, "DenseNet: growth is 0"),
        (DenseNet, {"compression": 0}, r"DenseNet: compression is 0, expected in \(0, 1\]"),
        (DenseNet, {"compression": 1.5}, "DenseNet: compression is 1.5"),
        (DenseNet, {"dropout": -0.1}, "Dropout: p is -0.1"),
        (DenseNet, {"width": 0}, "width: got 0"),
        (DenseNetCIFAR, {"depth": 41}, r"depth is 41, expected 3 n \+ 4: 7, 10, 13, \.\.\."),
        (DenseNetCIFAR, {"depth": 43, "bottleneck": True}, r"depth is 43, expected 6 n \+ 4: 10, "),
        (DenseNetCIFAR, {"depth": 4}, r"depth is 4, expected 3 n \+ 4"),
    ],
)
def test_mistakes(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_every_builder_says_what_it_is():
    for name, builder in DENSENETS.items():
        assert "DenseNet" in builder.__doc__, name
    assert DENSENETS["densenet161"].__doc__.startswith("DenseNet-BC for ImageNet, 161 layers deep")


def twins(depth: int) -> tuple[Any, Any]:
    import torch
    import torchvision

    torch.manual_seed(0)
    with nn.init.skip_init():
        ours = create_model(f"densenet{depth}_torchvision")
    return ours, torchvision.models.get_model(f"densenet{depth}", weights=None)


# In float32 and training mode, at 32 x 32 to 96 x 96 pixels, PyTorch's gradients were 4 to 26 % of
# the largest value off those it has in float64, ours 3 to 22 %: ReLUs choose differently on values
# near 0. In float64 the two differ by 4e-10 at norm0.weight (later norms undo that scale, so its
# gradient is close to 0) and by 6e-12 elsewhere.
@needs_torch
@pytest.mark.parametrize(
    ("depth", "side"),
    [(121, 32), *(pytest.param(depth, 64, marks=pytest.mark.slow) for depth in TWINS)],
)
def test_equals_torchvision(depth, side):
    assert_equals_torchvision(*twins(depth), (4, 3, side, side), np.float64)


@needs_torch
@pytest.mark.parametrize(
    ("depth", "shape"),
    [
        (121, (2, 3, 64, 64)),
        *(pytest.param(d, (2, 3, 224, 224), marks=pytest.mark.slow) for d in TWINS),
    ],
)
def test_scores_equal_torchvisions_in_float32(depth, shape):
    import torch

    ours, theirs = twins(depth)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    for training in (False, True):
        with minicnn.no_grad(), torch.no_grad():
            scores = ours.train(training)(minicnn.tensor(images)).numpy()
            expected = theirs.train(training)(torch.from_numpy(images)).numpy()
        assert_close(scores, expected, 1e-4, f"scores, {training=}")
