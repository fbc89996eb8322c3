"""ResNet: blocks that add to their input what they have learned, for ImageNet and for CIFAR.

    stage    output    18           34           50             101            152
    conv1    112x112   7x7/2 64, then max pooling 3/2
    layer1   56x56     2 (3 3) 64   3 (3 3) 64   3 (1 3 1) 64   3 (1 3 1) 64   3 (1 3 1) 64
    layer2   28x28     2      128   4      128   4        128   4        128   8        128
    layer3   14x14     2      256   6      256   6        256   23       256   36       256
    layer4   7x7       2      512   3      512   3        512   3        512   3        512
             1x1       global average pooling, fc 1000
    parameters         11,689,512   21,797,672     25,557,032     44,549,160     60,192,808
    MACs, millions          1,814        3,664          3,858          7,570         11,282

    CIFAR    32x32     3x3 16, then n (3 3) 16       6n + 2 layers
             16x16     n (3 3) 32
             8x8       n (3 3) 64, global average pooling, fc 10

(3 3) is a basic block of two 3x3 layers, (1 3 1) a bottleneck whose last layer has four times as
many channels. Batch norm follows every convolution, which has no bias, and ReLU follows that and
the sum of a block, x + F(x). Where a stage begins, maps shrink by a stride of 2 and the shortcut
must change with them (section 3.3 and table 3):

    A   every second pixel, new channels zero: no parameters     what its networks for CIFAR have
    B   a 1x1 convolution where the shape changes                what its deeper ones have
    C   a 1x1 convolution in every shortcut

Differences from the paper:
- ResNet-18 and 34 have shortcuts of kind B, as the deeper ones and as torchvision; its table 2 has
  them with kind A (`shortcut="A"`: 11,515,688 and 21,623,848 parameters), its table 3 compares.
- Batch norm keeps running averages; the paper's released networks have their statistics computed
  anew after training.

torchvision's networks, `..._torchvision`, put a bottleneck's stride on its 3x3 layer ("v1.5": the
same parameters, 6 % more multiply-adds) and scale first values by the outputs of a layer instead of
its inputs; keys are the same.

Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015, sections 3
and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from minicnn import functional as F
from minicnn import nn
from minicnn.functional._check import integer
from minicnn.models.classifier import Classifier, scaled, variant
from minicnn.models.initialize import HE, Rules, initialize
from minicnn.models.sizes import Size
from minicnn.tensor import Tensor

SHORTCUTS = ("A", "B", "C")
TORCHVISION_INIT: Rules = {
    pattern: {"name": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu"}
    for pattern in ("conv1.weight", "layer*.weight")
}


class _Block(nn.Module):
    """What both kinds of block share: the shortcut and the sum.

    Attributes:
        skip: whether there is a shortcut.
        downsample: what stands in it; None for the identity.
    """

    expansion = 1

    def _add_shortcut(
        self, channels: int, out_channels: int, stride: int, shortcut: str, skip: bool,
        batch_norm: bool,
    ) -> None:  # fmt: skip
        """Assign the shortcut, last of all, where the keys have it."""
        self.skip = skip
        self.downsample: nn.Module | None = None
        changes = stride != 1 or channels != out_channels
        if skip and shortcut == "A" and changes:
            self.downsample = PadShortcut(channels, out_channels, stride)
        elif skip and (shortcut == "C" or (shortcut == "B" and changes)):
            self.downsample = nn.Sequential(
                _conv(channels, out_channels, 1, stride, batch_norm),
                _norm(out_channels, batch_norm),
            )

    def branch(self, input: Tensor) -> Tensor:
        """Compute F(x)."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        residual = self.branch(input)
        if not self.skip:
            return self.relu(residual)
        identity = input if self.downsample is None else self.downsample(input)
        return self.relu(residual + identity)


class BasicBlock(_Block):
    """Two 3x3 layers (figure 5, left).

    Args:
        in_channels: of the input.
        channels: of both layers.
        stride: of the first.
        shortcut: "A", "B" or "C".
        skip: whether there is a shortcut at all.
        batch_norm: whether batch norm follows the convolutions; without it they have biases.
    """

    map_path = ("conv1", "conv2")

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "B",
        skip: bool = True, batch_norm: bool = True,
    ):  # fmt: skip
        super().__init__()
        self.conv1 = _conv(in_channels, channels, 3, stride, batch_norm)
        self.bn1 = _norm(channels, batch_norm)
        self.relu = nn.ReLU()
        self.conv2 = _conv(channels, channels, 3, 1, batch_norm)
        self.bn2 = _norm(channels, batch_norm)
        self._add_shortcut(in_channels, channels, stride, shortcut, skip, batch_norm)

    def branch(self, input: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(input)))
        return self.bn2(self.conv2(x))


class Bottleneck(_Block):
    """A 1x1 layer that narrows, a 3x3 layer, a 1x1 layer that widens by four (figure 5, right).

    Args:
        in_channels: of the input.
        channels: of the first two layers.
        stride: of the first, or of the 3x3 layer if `stride_in_3x3`.
        shortcut, skip, batch_norm: as in `BasicBlock`.
        stride_in_3x3: torchvision's place of the stride.
    """

    expansion = 4
    map_path = ("conv1", "conv2", "conv3")

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, shortcut: str = "B",
        skip: bool = True, batch_norm: bool = True, *, stride_in_3x3: bool = False,
    ):  # fmt: skip
        wide = channels * self.expansion
        super().__init__()
        first, second = (1, stride) if stride_in_3x3 else (stride, 1)
        self.conv1 = _conv(in_channels, channels, 1, first, batch_norm)
        self.bn1 = _norm(channels, batch_norm)
        self.conv2 = _conv(channels, channels, 3, second, batch_norm)
        self.bn2 = _norm(channels, batch_norm)
        self.conv3 = _conv(channels, wide, 1, 1, batch_norm)
        self.bn3 = _norm(wide, batch_norm)
        self.relu = nn.ReLU()
        self._add_shortcut(in_channels, wide, stride, shortcut, skip, batch_norm)

    def branch(self, input: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(input)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))


class PadShortcut(nn.Module):
    """Shortcut A: take every stride-th pixel and append channels of zeros."""

    map_path = ()

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.added = integer("PadShortcut", out_channels - in_channels, "added channels", 0)
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        seen = input[:, :, :: self.stride, :: self.stride]
        return F.pad(seen, (0, 0, 0, 0, 0, self.added))

    def extra_repr(self) -> str:
        return f"{self.added} channels added, stride={self.stride}"


class _Residual(Classifier):
    """What the networks for ImageNet and CIFAR share: stages of blocks and the end.

    Attributes:
        conv1, bn1: the first layer.
        layer1, layer2, ...: the stages, each a Sequential of blocks.
        fc: the scores.
    """

    any_size = True

    def _add_stages(
        self, channels: int, widths: Sequence[int], counts: Sequence[int],
        block: Callable[..., Any], expansion: int,
    ) -> int:  # fmt: skip
        """Assign layer1, layer2, ... and return the channels of the last."""
        for i, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
            blocks = []
            for j in range(count):
                stride = 2 if i > 1 and j == 0 else 1
                blocks.append(block(channels, width, stride))
                channels = width * expansion
            setattr(self, f"layer{i}", nn.Sequential(*blocks))
        return channels

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes)."""
        self.check_images(images)
        x = images
        for name in self.map_path:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))


class ResNet(_Residual):
    """A residual network for ImageNet.

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair.
        width: multiplies the channels of every hidden layer.
        shortcut: "A", "B" or "C", see above.
        skip: whether blocks have shortcuts; without them, the paper's plain networks.
        batch_norm: whether batch norm follows the convolutions.
        stride_in_3x3: whether a bottleneck's stride is on its 3x3 layer, as in torchvision.
        zero_init_residual: whether the last batch norm of a block begins at zero, and so the block
            as the identity.
        init: rules for the first values, see `minicnn.models.initialize`.

    Raises:
        ValueError: for arguments out of range, images too small for the layers or of other
            channels.
    """

    map_path = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        shortcut: str = "B",
        skip: bool = True,
        batch_norm: bool = True,
        stride_in_3x3: bool = False,
        zero_init_residual: bool = False,
        init: Rules = HE,
    ):
        super().__init__(in_channels, num_classes, input_size)
        if depth not in COUNTS:
            known = ", ".join(map(str, COUNTS))
            raise ValueError(f"ResNet: depth is {depth!r}, expected one of {known}")
        kind = BasicBlock if depth < 50 else Bottleneck
        options: dict[str, Any] = _block_options("ResNet", shortcut, skip, batch_norm)
        if kind is Bottleneck:
            options["stride_in_3x3"] = stride_in_3x3
        first, *_ = widths = [scaled(channels, width) for channels in (64, 128, 256, 512)]
        self.conv1 = _conv(in_channels, first, 7, 2, batch_norm)
        self.bn1 = _norm(first, batch_norm)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        last = self._add_stages(
            first, widths, COUNTS[depth], partial(kind, **options), kind.expansion
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, num_classes)
        self.map_size()
        initialize(self, init)
        if zero_init_residual and batch_norm:
            for block in self.modules():
                if isinstance(block, _Block):
                    nn.init.zeros_((block.bn3 if kind is Bottleneck else block.bn2).weight)

    def notes(self) -> list[str]:
        """Return what the narrow middle of a bottleneck saves."""
        if not isinstance(self.layer1[-1], Bottleneck):
            return []
        narrow, wide, _, _ = self.layer1[-1].conv1.weight.shape
        saved = wide * narrow + 9 * narrow * narrow + narrow * wide
        return [
            f"A bottleneck of layer1 has {wide} x {narrow} + 9 x {narrow} x {narrow} + {narrow} x "
            f"{wide} = {saved:,} weights; two 3 x 3 layers of {wide} channels would have "
            f"{2 * 9 * wide * wide:,}."
        ]


class ResNetCIFAR(_Residual):
    """A residual network for CIFAR, or for digits: three stages on maps that shrink by two.

    Args:
        depth: 6n + 2, such as 20, 32, 44, 56, 110 or 1202.
        in_channels, num_classes, input_size, width: as in `ResNet`.
        widths: channels of the stages.
        stem_stride: of the first convolution, 1 in the paper.
        shortcut, skip, batch_norm, init: as in `ResNet`; the paper's shortcut is "A" here.

    Raises:
        ValueError: for arguments out of range, or images of other channels.
    """

    map_path = ("conv1", "bn1", "relu", "layer1", "layer2", "layer3")

    def __init__(
        self,
        depth: int = 20,
        in_channels: int = 3,
        num_classes: int = 10,
        input_size: int | Size = 32,
        width: float = 1.0,
        *,
        widths: tuple[int, int, int] = (16, 32, 64),
        stem_stride: int = 1,
        shortcut: str = "A",
        skip: bool = True,
        batch_norm: bool = True,
        init: Rules = HE,
    ):
        super().__init__(in_channels, num_classes, input_size)
        if integer("ResNetCIFAR", depth, "depth", 8) % 6 != 2:
            raise ValueError(f"ResNetCIFAR: depth is {depth}, expected 6n + 2, such as 20 or 56")
        options = _block_options("ResNetCIFAR", shortcut, skip, batch_norm)
        first, *_ = channels = [scaled(c, width) for c in widths]
        self.conv1 = _conv(in_channels, first, 3, stem_stride, batch_norm)
        self.bn1 = _norm(first, batch_norm)
        self.relu = nn.ReLU()
        counts = [(depth - 2) // 6] * 3
        last = self._add_stages(first, channels, counts, partial(BasicBlock, **options), 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(last, num_classes)
        initialize(self, init)


COUNTS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}  # fmt: skip


def _block_options(name: str, shortcut: str, skip: bool, batch_norm: bool) -> dict[str, Any]:
    if shortcut not in SHORTCUTS:
        raise ValueError(
            f"{name}: shortcut is {shortcut!r}, expected one of {', '.join(SHORTCUTS)}"
        )
    return {"shortcut": shortcut, "skip": bool(skip), "batch_norm": bool(batch_norm)}


def _conv(in_channels: int, channels: int, kernel: int, stride: int, batch_norm: bool) -> nn.Conv2d:
    """Return a convolution that keeps the size of maps but for its stride."""
    return nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=not batch_norm)


def _norm(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def resnet_small(
    in_channels: int = 1,
    num_classes: int = 10,
    input_size: int | Size = 28,
    width: float = 1.0,
    *,
    shortcut: str = "A",
    skip: bool = True,
    batch_norm: bool = True,
    init: Rules = HE,
) -> ResNetCIFAR:
    """ResNet for digits: the CIFAR form, 14 layers deep, with a stride of 2 in its first."""
    return ResNetCIFAR(
        14, in_channels, num_classes, input_size, width, stem_stride=2, shortcut=shortcut,
        skip=skip, batch_norm=batch_norm, init=init,
    )  # fmt: skip


RESNETS: dict[str, Callable[..., Classifier]] = {
    **{
        f"resnet{depth}": variant(f"ResNet-{depth} for ImageNet.", ResNet, depth)
        for depth in COUNTS
    },
    **{
        f"resnet{depth}_torchvision": variant(
            f"ResNet-{depth} of torchvision: stride on the 3x3 layer, its first values.",
            ResNet, depth, stride_in_3x3=True, init=TORCHVISION_INIT,
        )
        for depth in COUNTS
    },
    **{
        f"resnet{depth}": variant(f"ResNet-{depth} for CIFAR.", ResNetCIFAR, depth)
        for depth in (20, 32, 44, 56, 110, 1202)
    },
    "resnet_small": resnet_small,
}  # fmt: skip
