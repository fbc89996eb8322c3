"""DenseNet: in a dense block every layer sees the maps of all layers before it.

    densenet121   kernel/stride/pad      maps        size      parameters           MACs
    conv0         7/2/3                    64    112x112            9,408    118,013,952
    norm0, relu0                                                      128
    pool0         3/2/1                    64      56x56
    denseblock1   6 x (1x1, 3x3)          256      56x56          335,040  1,040,449,536
    transition1   1x1, average 2/2        128      28x28           33,280    102,760,448
    denseblock2   12 x (1x1, 3x3)         512      28x28          919,680    712,900,608
    transition2   1x1, average 2/2        256      14x14          132,096    102,760,448
    denseblock3   24 x (1x1, 3x3)        1024      14x14        2,837,760    549,126,144
    transition3   1x1, average 2/2        512        7x7          526,336    102,760,448
    denseblock4   16 x (1x1, 3x3)        1024        7x7        2,158,080    104,366,080
    norm5, relu5                                                    2,048
    classifier    global average, dense  1000                   1,025,000      1,024,000
                                                                7,978,856  2,834,161,664

Every convolution but the first is one of H: BN, ReLU, convolution, in this order (section 3). A
layer of a block adds k maps, the growth rate, to those that it gets, so that maps grow linearly
with depth and a block's parameters with its square. B, the bottleneck: a 1x1 convolution to 4 k
maps comes first. C, compression: a transition keeps the share theta of the maps. The networks for
ImageNet have both, with theta = 0.5; for CIFAR there is the plain form as well.

Differences from the paper:
- Its tables leave out the BN and ReLU behind conv0 and in front of the global pooling, which its
  authors' code has.
- First values are He's, N(0, sqrt(2 / fan_in)), which the paper names. Its authors' code has
  fan_out instead, and uniform values in the dense layer.
- Two switches take away what the paper adds: with `batch_norm=False` convolutions have biases
  instead, with `skip=False` a layer sees only the k maps of the one before it, and only k maps
  leave a block.

torchvision's networks, `..._torchvision`, have the same layers and the same counts; there is no 264
among them. Differences: the dense layer starts from U(-a, a), a = 1 / sqrt(fan_in); dropout, where
one asks for it, stands behind the 3x3 convolutions of the blocks only, in the paper behind every
convolution but the first (section 4.2). The keys of both are torchvision's.

Source: Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks", 2016,
sections 3 and 4, tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from minicnn import functional as F
from minicnn import nn
from minicnn.functional._check import integer
from minicnn.models.classifier import Classifier, scaled, variant
from minicnn.models.initialize import HE, Rules, initialize
from minicnn.models.sizes import Size
from minicnn.tensor import Tensor

Layers = dict[str, nn.Module]


class Stem(NamedTuple):
    """The first convolution.

    Attributes:
        kernel, stride: of it; it pads by half its kernel.
        channels: its maps; 2 k if None.
        pool: whether BN, ReLU and max pooling 3/2 follow.
    """

    kernel: int
    stride: int = 1
    channels: int | None = None
    pool: bool = False


IMAGENET_STEM = Stem(7, stride=2, pool=True)
# For 28 x 28 digits: without its stride, the pooling leaves 14 x 14 maps to the first block.
SMALL_STEM = Stem(3, pool=True)


# For 28 x 28 digits: without its stride, the pooling leaves 14 x 14 maps to the first block.
SMALL_STEM = Stem(3, pool=True)

TORCHVISION_INIT: Rules = {"features.*.weight": HE["*.weight"], "*.bias": 0.0}


class Form(NamedTuple):
    """What all layers of a network share; the arguments of `DenseNet` have the same names."""

    growth: int
    bottleneck: bool
    skip: bool
    batch_norm: bool
    dropout: float
    dropout_1x1: bool

    def layer(self, inputs: int) -> nn.Sequential:
        """Return a layer of a block, which makes `growth` maps of `inputs`."""
        if not self.bottleneck:
            return nn.Sequential(self.composite("1", inputs, self.growth, 3))
        middle = 4 * self.growth
        return nn.Sequential(
            self.composite("1", inputs, middle, 1) | self.composite("2", middle, self.growth, 3)
        )

    def transition(self, inputs: int, outputs: int) -> nn.Sequential:
        """Return what stands between two blocks and halves the size of the maps."""
        return nn.Sequential(self.composite("", inputs, outputs, 1) | {"pool": nn.AvgPool2d(2)})

    def composite(self, number: str, inputs: int, outputs: int, kernel: int) -> Layers:
        """Return H of section 3: BN, ReLU, convolution; and dropout where there is any."""
        layers = self.norm_relu(number, inputs)
        layers[f"conv{number}"] = nn.Conv2d(
            inputs, outputs, kernel, padding=kernel // 2, bias=not self.batch_norm
        )
        if self.dropout != 0 and (kernel > 1 or self.dropout_1x1):
            layers[f"drop{number}"] = nn.Dropout(self.dropout)
        return layers

    def norm_relu(self, number: str, channels: int) -> Layers:
        """Return BN and ReLU."""
        norm: Layers = {f"norm{number}": nn.BatchNorm2d(channels)} if self.batch_norm else {}
        return norm | {f"relu{number}": nn.ReLU()}


class DenseBlock(nn.Module):
    """A dense block: denselayer1, denselayer2, ..., each on the maps of all before it.

    The maps so far are one tensor, to which each layer's are appended. Concatenating them again
    takes as much copying as handing a list to every layer, since batch norm needs them in one
    piece, and saves the last copy.

    Args:
        count: of layers.
        inputs: channels of what comes in.
        form: of the layers.

    Attributes:
        out_channels: of what goes out.
    """

    def __init__(self, count: int, inputs: int, form: Form):
        super().__init__()
        self.skip = form.skip
        for i in range(1, count + 1):
            self.add_module(f"denselayer{i}", form.layer(inputs))
            inputs = inputs + form.growth if form.skip else form.growth
        self.out_channels = inputs

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, out_channels, H, W)."""
        for layer in self.children():
            new = layer(maps)
            maps = F.cat([maps, new], dim=1) if self.skip else new
        return maps

    def extra_repr(self) -> str:
        return "" if self.skip else "skip=False"


class DenseNet(Classifier):
    """DenseNet-BC for ImageNet, 121 layers deep, or a DenseNet built like it.

    Args:
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair; others are taken too.
        width: multiplies the growth rate, and with it the maps of every hidden layer.
        layers: how many each dense block has.
        growth: k, the maps that a layer adds.
        stem: the first convolution.
        bottleneck: whether each 3x3 convolution has a 1x1 to 4 k maps in front.
        compression: theta, the share of the maps that a transition keeps.
        skip: whether a layer sees the maps of all layers before it in its block, else of the last.
        batch_norm: whether to normalise.
        dropout: probability, behind every convolution but the first. The paper has 0.2 where
            images are not augmented, else none.
        dropout_1x1: whether dropout is behind 1x1 convolutions too.
        init: rules for the first values, see `minicnn.models.initialize`.

    Attributes:
        features: conv0, norm0, relu0, pool0, denseblock1, transition1, denseblock2, ..., and a last
            norm and relu.
        avgpool: global pooling.
        classifier: the dense layer.

    Raises:
        ValueError: for arguments out of range, images too small for the layers, and in `forward`
            for images of other channels or too small.
    """

    any_size = True

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        layers: Sequence[int] = (6, 12, 24, 16),
        growth: int = 32,
        stem: Stem = IMAGENET_STEM,
        bottleneck: bool = True,
        compression: float = 0.5,
        skip: bool = True,
        batch_norm: bool = True,
        dropout: float = 0.0,
        dropout_1x1: bool = True,
        init: Rules = HE,
    ):
        super().__init__(in_channels, num_classes, input_size)
        name = type(self).__name__
        if not layers:
            raise ValueError(f"{name}: layers is {layers!r}, expected one or more blocks")
        if not 0 < compression <= 1:
            raise ValueError(f"{name}: compression is {compression!r}, expected in (0, 1]")
        k = scaled(integer(name, growth, "growth", 1), width)
        form = Form(k, bottleneck, skip, batch_norm, dropout, dropout_1x1)
        channels = 2 * k if stem.channels is None else scaled(stem.channels, width)
        features: Layers = {
            "conv0": nn.Conv2d(
                in_channels, channels, stem.kernel, stem.stride, stem.kernel // 2,
                bias=not batch_norm,
            )
        }  # fmt: skip
        if stem.pool:
            features |= form.norm_relu("0", channels) | {"pool0": nn.MaxPool2d(3, 2, 1)}
        for i, count in enumerate(layers, start=1):
            if i > 1:
                kept = max(1, int(compression * channels))
                features[f"transition{i - 1}"] = form.transition(channels, kept)
                channels = kept
            block = DenseBlock(integer(name, count, f"layers[{i - 1}]", 1), channels, form)
            features[f"denseblock{i}"] = block
            channels = block.out_channels
        features |= form.norm_relu(str(len(layers) + 1), channels)
        self.features = nn.Sequential(features)
        self.map_size()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        initialize(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes)."""
        self.check_images(images)
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


class DenseNetCIFAR(DenseNet):
    """DenseNet for 32 x 32 images: three blocks with the same number of layers.

    The plain form has 16 maps behind the first convolution, 3x3, and transitions that keep all
    maps; BC, which is `bottleneck=True, compression=0.5`, has 2 k. Arguments are those of
    `DenseNet`, and:

    Args:
        depth: layers in all, dense one and transitions included: 3 n + 4, or 6 n + 4 with
            bottlenecks.

    Raises:
        ValueError: a depth that is not of that form, and what `DenseNet` raises.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        input_size: int | Size = 32,
        width: float = 1.0,
        *,
        depth: int = 40,
        growth: int = 12,
        bottleneck: bool = False,
        compression: float = 1.0,
        skip: bool = True,
        batch_norm: bool = True,
        dropout: float = 0.0,
        init: Rules = HE,
    ):
        step = 6 if bottleneck else 3
        count, rest = divmod(integer("DenseNetCIFAR", depth, "depth", 1) - 4, step)
        if rest or count < 1:
            raise ValueError(
                f"DenseNetCIFAR: depth is {depth}, expected {step} n + 4: "
                f"{', '.join(str(step * n + 4) for n in (1, 2, 3))}, ..."
            )
        both = bottleneck and compression < 1
        super().__init__(
            in_channels, num_classes, input_size, width, layers=[count] * 3, growth=growth,
            stem=Stem(3, channels=None if both else 16), bottleneck=bottleneck,
            compression=compression, skip=skip, batch_norm=batch_norm, dropout=dropout, init=init,
        )  # fmt: skip


def densenet_small(
    in_channels: int = 1,
    num_classes: int = 10,
    input_size: int | Size = 28,
    width: float = 1.0,
    *,
    skip: bool = True,
    batch_norm: bool = True,
    dropout: float = 0.0,
    init: Rules = HE,
) -> DenseNet:
    """DenseNet-BC for digits: 40 layers of 12 maps, in three blocks on 14 x 14, 7 x 7 and 3 x 3."""
    return DenseNet(
        in_channels, num_classes, input_size, width, layers=(6, 6, 6), growth=12, stem=SMALL_STEM,
        skip=skip, batch_norm=batch_norm, dropout=dropout, init=init,
    )  # fmt: skip


# Layers of the blocks, and growth rate.
IMAGENET: dict[int, tuple[tuple[int, ...], int]] = {
    121: ((6, 12, 24, 16), 32),
    169: ((6, 12, 32, 32), 32),
    201: ((6, 12, 48, 32), 32),
    264: ((6, 12, 64, 48), 32),
    161: ((6, 12, 36, 24), 48),
}
BC = {"bottleneck": True, "compression": 0.5}

DENSENETS: dict[str, Callable[..., DenseNet]] = {
    **{
        f"densenet{depth}": variant(
            f"DenseNet-BC for ImageNet, {depth} layers deep, k = {growth}.",
            DenseNet, layers=layers, growth=growth,
        )
        for depth, (layers, growth) in IMAGENET.items()
    },
    **{
        f"densenet{depth}_torchvision": variant(
            f"DenseNet-{depth} with torchvision's first values.",
            DenseNet, layers=layers, growth=growth, dropout_1x1=False, init=TORCHVISION_INIT,
        )
        for depth, (layers, growth) in IMAGENET.items() if depth != 264
    },
    **{
        f"densenet{depth}_k{growth}": variant(
            f"DenseNet for CIFAR, {depth} layers deep, k = {growth}.",
            DenseNetCIFAR, depth=depth, growth=growth,
        )
        for depth, growth in ((40, 12), (100, 12), (100, 24))
    },
    **{
        f"densenet_bc{depth}_k{growth}": variant(
            f"DenseNet-BC for CIFAR, {depth} layers deep, k = {growth}.",
            DenseNetCIFAR, depth=depth, growth=growth, **BC,
        )
        for depth, growth in ((100, 12), (250, 24), (190, 40))
    },
    "densenet_small": densenet_small,
}  # fmt: skip
