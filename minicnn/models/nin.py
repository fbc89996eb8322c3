"""Network in Network: small dense networks slide over the maps, and the last maps are the classes.

    block   ImageNet                                 CIFAR
    1       11x11/4 96,  1x1 96,   1x1 96            5x5 pad 2 192, 1x1 160, 1x1 96
            max pooling 3/2                          max pooling 3/2, dropout
    2       5x5 pad 2 256, 1x1 256, 1x1 256          5x5 pad 2 192, 1x1 192, 1x1 192
            max pooling 3/2                          average pooling 3/2, dropout
    3       3x3 pad 1 384, 1x1 384, 1x1 384          3x3 pad 1 192, 1x1 192, 1x1 classes
            max pooling 3/2, dropout                 global average pooling
    4       3x3 pad 1 1024, 1x1 1024, 1x1 classes
            global average pooling
    parameters   7,595,176                           966,986, with 100 classes 984,356
    MACs         1,100,188,800 at 224 x 224          222,486,528 at 32 x 32

A block is an "mlpconv" (section 3.1): a convolution and two of 1x1, each with ReLU: at every place
the same three-layer perceptron. The last block gives one map a class; its mean is the class's score
(section 3.2), so there is no dense layer that could overfit, and a map shows where its class is.

Differences from the paper:
- It does not list its layers: these are those of the authors' definitions for Caffe, whose pooling
  windows may stick out on the right and below.
- It does not give first values either: here, He et al. 2015. ReLU follows the last layer too, as in
  the authors' definitions.
- Batch norm, of 2015, is off but in `nin_small`, where it saves epochs; `batch_norm=False` there
  too gives what the paper has.

Source: Lin, Chen and Yan, "Network in network", 2013, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from minicnn import nn
from minicnn.models.classifier import Classifier, scaled
from minicnn.models.initialize import HE, Rules, initialize
from minicnn.models.sizes import Size
from minicnn.tensor import Tensor


class Block(NamedTuple):
    """An mlpconv and what follows it.

    Attributes:
        channels: of its three layers; 0 stands for the number of classes.
        kernel, stride, padding: of the first; the others are 1x1.
        pool: "max" or "average", 3/2, or None.
        dropout: whether dropout follows.
    """

    channels: tuple[int, int, int]
    kernel: int
    stride: int = 1
    padding: int = 0
    pool: Literal["max", "average"] | None = None
    dropout: bool = False


IMAGENET = (
    Block((96, 96, 96), 11, stride=4, pool="max"),
    Block((256, 256, 256), 5, padding=2, pool="max"),
    Block((384, 384, 384), 3, padding=1, pool="max", dropout=True),
    Block((1024, 1024, 0), 3, padding=1),
)
CIFAR = (
    Block((192, 160, 96), 5, padding=2, pool="max", dropout=True),
    Block((192, 192, 192), 5, padding=2, pool="average", dropout=True),
    Block((192, 192, 0), 3, padding=1),
)
# For 28 x 28 digits: the CIFAR form at a quarter of its width.
SMALL = (
    Block((48, 40, 24), 5, padding=2, pool="max", dropout=True),
    Block((64, 64, 64), 5, padding=2, pool="average", dropout=True),
    Block((96, 96, 0), 3, padding=1),
)


class NiN(Classifier):
    """Network in Network, in the form for ImageNet or another.

    Args:
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair.
        width: multiplies the channels of every hidden layer.
        blocks: `IMAGENET`, `CIFAR` or others.
        dropout: probability, where a block says so.
        batch_norm: whether batch norm stands in front of each ReLU.
        init: rules for the first values, see `minicnn.models.initialize`.

    Attributes:
        features: conv1, relu_conv1, cccp1, relu_cccp1, cccp2, ..., named as in the authors' files
            (cccp: cascaded cross-channel parametric pooling, the paper's other view of a 1x1).
        pool: global average pooling.

    Raises:
        ValueError: for arguments out of range, images too small for the layers or of other
            channels.
    """

    any_size = True

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        blocks: Sequence[Block] = IMAGENET,
        dropout: float = 0.5,
        batch_norm: bool = False,
        init: Rules = HE,
    ):
        super().__init__(in_channels, num_classes, input_size)
        layers: dict[str, nn.Module] = {}
        channels = in_channels
        for i, block in enumerate(blocks, start=1):
            outs = [scaled(c, width) if c else num_classes for c in block.channels]
            layers.update(_mlpconv(i, channels, outs, block, batch_norm))
            if block.pool == "max":
                layers[f"pool{i}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            elif block.pool == "average":
                layers[f"pool{i}"] = nn.AvgPool2d(3, 2, ceil_mode=True)
            if block.dropout:
                layers[f"drop{i}"] = nn.Dropout(dropout)
            channels = outs[-1]
        self.features = nn.Sequential(layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.map_size()
        initialize(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes)."""
        self.check_images(images)
        return self.pool(self.features(images)).flatten(1)

    def notes(self) -> list[str]:
        """Return what a dense layer in place of global average pooling would hold."""
        height, width = self.map_size()
        maps = self.num_classes
        dense = height * width * maps * maps
        return [
            f"Global average pooling has no weights; a dense layer from its {height} x {width} x "
            f"{maps} maps to {maps} classes would have {dense:,}."
        ]


def _mlpconv(
    number: int, channels: int, outs: list[int], block: Block, batch_norm: bool
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the three layers of a block with what stands between them."""
    names = (f"conv{number}", f"cccp{2 * number - 1}", f"cccp{2 * number}")
    windows = ((block.kernel, block.stride, block.padding), (1, 1, 0), (1, 1, 0))
    for name, out, window in zip(names, outs, windows, strict=True):
        yield name, nn.Conv2d(channels, out, *window)
        if batch_norm:
            yield f"bn_{name}", nn.BatchNorm2d(out)
        yield f"relu_{name}", nn.ReLU()
        channels = out


def nin_cifar(
    in_channels: int = 3,
    num_classes: int = 10,
    input_size: int | Size = 32,
    width: float = 1.0,
    *,
    dropout: float = 0.5,
    batch_norm: bool = False,
    init: Rules = HE,
) -> NiN:
    """Network in Network for CIFAR-10, or CIFAR-100 with `num_classes=100`."""
    return NiN(
        in_channels, num_classes, input_size, width, blocks=CIFAR, dropout=dropout,
        batch_norm=batch_norm, init=init,
    )  # fmt: skip


def nin_small(
    in_channels: int = 1,
    num_classes: int = 10,
    input_size: int | Size = 28,
    width: float = 1.0,
    *,
    dropout: float = 0.25,
    batch_norm: bool = True,
    init: Rules = HE,
) -> NiN:
    """Network in Network for digits: three mlpconv blocks, a map a class, and batch norm.

    A quarter of the width spares a quarter of the maps, not half of them.
    """
    return NiN(
        in_channels, num_classes, input_size, width, blocks=SMALL, dropout=dropout,
        batch_norm=batch_norm, init=init,
    )  # fmt: skip
