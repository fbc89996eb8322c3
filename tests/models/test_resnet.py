"""ResNet: the counts of the paper and of torchvision, its shortcuts, and torchvision's twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.gradcheck import gradcheck
from minicnn.models import ResNet, ResNetCIFAR, create_model
from minicnn.models.resnet import BasicBlock, Bottleneck, PadShortcut
from minicnn.summary import summarize
from tests.models.against_torchvision import assert_equals_torchvision
from tests.needs import needs_torch

PARAMETERS = {
    18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808,
}  # fmt: skip
MACS = {
    "resnet18": 1_814_073_344, "resnet34": 3_663_761_408, "resnet50": 3_857_973_248,
    "resnet101": 7_570_194_432, "resnet152": 11_282_415_616,
    "resnet50_torchvision": 4_089_184_256, "resnet101_torchvision": 7_801_405_440,
    "resnet152_torchvision": 11_513_626_624,
}  # fmt: skip
CIFAR = {
    20: (269_722, 40_551_040), 32: (464_154, 68_862_592), 44: (658_586, 97_174_144),
    56: (853_018, 125_485_696), 110: (1_727_962, 252_887_680), 1202: (19_421_274, 2_829_238_912),
}  # fmt: skip


def unfilled(name: str, **options: Any) -> Any:
    with nn.init.skip_init():
        return create_model(name, **options)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("depth", PARAMETERS)
def test_parameters(depth):
    for name in (f"resnet{depth}", f"resnet{depth}_torchvision"):
        assert count(unfilled(name)) == PARAMETERS[depth]


@pytest.mark.parametrize("name", MACS)
def test_multiply_adds(name):
    model = unfilled(name)
    assert summarize(model, model.input_shape).total_macs == MACS[name]


def test_shortcut_a_has_no_parameters_and_c_projects_everywhere():
    a18, a34 = (unfilled(name, shortcut="A") for name in ("resnet18", "resnet34"))
    assert (count(a18), count(a34)) == (11_515_688, 21_623_848)
    assert summarize(a18, a18.input_shape).total_macs == 1_794_805_760
    assert summarize(a34, a34.input_shape).total_macs == 3_644_493_824
    assert PARAMETERS[34] - count(a34) == 173_824
    blocks = [m for m in unfilled("resnet18", shortcut="C").modules() if isinstance(m, BasicBlock)]
    assert len(blocks) == 8
    assert all(isinstance(block.downsample, nn.Sequential) for block in blocks)


def test_resnet50_by_part():
    model = unfilled("resnet50_torchvision")
    parts = [count(getattr(model, name)) for name in ("conv1", "bn1", "layer1", "layer2")]
    assert parts == [9_408, 128, 215_808, 1_219_584]
    assert [count(getattr(model, name)) for name in ("layer3", "layer4", "fc")] == [
        7_098_368, 14_964_736, 2_049_000,
    ]  # fmt: skip
    fields = {row.name: row.receptive_field for row in summarize(model, model.input_shape).rows}
    ends = ("layer1.2.relu", "layer2.3.relu", "layer3.5.relu", "layer4.2.relu")
    assert [fields[name] for name in ends] == [(35, 35), (91, 91), (267, 267), (427, 427)]


@pytest.mark.parametrize("depth", CIFAR)
def test_cifar(depth):
    model = unfilled(f"resnet{depth}")
    assert count(model) == CIFAR[depth][0]
    # Each layer is 3x3 on maps whose sides and channels are known; the dense one has 64 x 10.
    n = (depth - 2) // 6
    stages = [(3, 16, 32, 1), (16, 16, 32, 2 * n)]
    stages += [(16, 32, 16, 1), (32, 32, 16, 2 * n - 1), (32, 64, 8, 1), (64, 64, 8, 2 * n - 1)]
    macs = 640 + sum(9 * c * o * side**2 * layers for c, o, side, layers in stages)
    assert macs == CIFAR[depth][1]
    if depth < 100:
        assert summarize(model, model.input_shape).total_macs == macs
    assert count(unfilled("resnet20", shortcut="B")) == 272_474


def test_a_bottlenecks_notes():
    note = unfilled("resnet50").notes()[0]
    assert "256 x 64 + 9 x 64 x 64 + 64 x 256 = 69,632 weights" in note
    assert "256 channels would have 1,179,648" in note
    assert unfilled("resnet18").notes() == []


def test_shortcut_a_by_hand():
    images = minicnn.randn(2, 3, 5, 6, dtype=np.float64)
    result = PadShortcut(3, 5, 2)(images).numpy()
    assert result.shape == (2, 5, 3, 3)
    np.testing.assert_array_equal(result[:, :3], images.numpy()[:, :, ::2, ::2])
    assert not result[:, 3:].any()
    images.requires_grad_()
    assert gradcheck(PadShortcut(3, 5, 2), images)


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_a_block_adds_its_branch_to_its_shortcut(kind, shortcut):
    minicnn.manual_seed(0)
    block = kind(4, 4, 2, shortcut).eval()
    x = minicnn.randn(2, 4, 6, 6)
    branch, identity = block.branch(x).numpy(), block.downsample(x).numpy()
    np.testing.assert_allclose(block(x).numpy(), np.maximum(branch + identity, 0), rtol=1e-6)
    same = kind(4 * kind.expansion, 4, 1, shortcut).eval()
    assert (same.downsample is None) == (shortcut != "C")
    y = minicnn.randn(2, 4 * kind.expansion, 6, 6)
    if shortcut != "C":
        expected = np.maximum(same.branch(y).numpy() + y.numpy(), 0)
        np.testing.assert_allclose(same(y).numpy(), expected, rtol=1e-6)


def test_a_bottlenecks_stride_is_on_the_1x1_layer_in_the_paper():
    paper, library = (Bottleneck(4, 4, 2, stride_in_3x3=in_3x3) for in_3x3 in (False, True))
    assert (paper.conv1.stride, paper.conv2.stride) == ((2, 2), (1, 1))
    assert (library.conv1.stride, library.conv2.stride) == ((1, 1), (2, 2))


def test_a_plain_network_differs_by_the_shortcuts_alone():
    minicnn.manual_seed(0)
    residual = create_model("resnet20").eval()
    plain = create_model("resnet20", skip=False).eval()
    plain.load_state_dict(residual.state_dict())
    block, twin = residual.layer1[0], plain.layer1[0]
    x = minicnn.randn(1, 16, 8, 8)
    np.testing.assert_array_equal(twin(x).numpy(), np.maximum(block.branch(x).numpy(), 0))
    assert count(create_model("resnet18", width=0.1, skip=False)) == count(
        create_model("resnet18", width=0.1, shortcut="A")
    )


def test_without_batch_norm_convolutions_have_biases():
    model = create_model("resnet_small", batch_norm=False)
    assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    loss = F.cross_entropy(model(minicnn.randn(2, 1, 28, 28)), minicnn.tensor([1, 2]))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_first_values():
    minicnn.manual_seed(0)
    paper = create_model("resnet50", width=0.5)
    library = create_model("resnet50_torchvision", width=0.5)
    for model, fan in ((paper, 1), (library, 0)):
        weight = model.layer3[0].conv2.weight
        expected = (2 / (weight.shape[fan] * 9)) ** 0.5
        assert weight.numpy().std() == pytest.approx(expected, rel=0.02)
        assert (model.layer3[0].bn2.weight.numpy() == 1).all()
    down = library.layer2[0].downsample[0].weight  # 128 -> 256, where the two fans differ
    assert down.numpy().std() == pytest.approx((2 / down.shape[0]) ** 0.5, rel=0.02)
    zero = create_model("resnet18_torchvision", width=0.1, zero_init_residual=True)
    assert not zero.layer2[1].bn2.weight.numpy().any()


def test_images_of_any_size_are_taken_and_wrong_arguments_refused():
    model = create_model("resnet_small")
    for side in (28, 32, 9):
        assert model(minicnn.zeros(1, 1, side, side)).shape == (1, 10)
    with pytest.raises(ValueError, match=r"\(1, 3, 28, 28\), expected \(N, 1, height, width\)"):
        model(minicnn.zeros(1, 3, 28, 28))
    with pytest.raises(ValueError, match="depth is 21, expected 6n"):
        ResNetCIFAR(21)
    with pytest.raises(ValueError, match="depth is 20, expected one of 18, 34, 50, 101, 152"):
        ResNet(20)
    with pytest.raises(ValueError, match="shortcut is 'D', expected one of A, B, C"):
        ResNet(18, shortcut="D")


# In float32 the gradients of deep networks with batch norm on few values are mostly rounding, on
# either side; see `assert_equals_torchvision`.
@needs_torch
@pytest.mark.parametrize(
    "depth", [18, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 50, 101, 152))]
)
def test_equals_torchvision(depth):
    import torch
    import torchvision

    torch.manual_seed(0)
    twin = torchvision.models.get_model(f"resnet{depth}", weights=None)
    ours = unfilled(f"resnet{depth}_torchvision")
    assert_equals_torchvision(ours, twin, (4, 3, 64, 64), np.float64)
