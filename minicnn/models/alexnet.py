"""AlexNet, in the two groups in which the paper ran it, and the single tower that torchvision has.

    layer     kernel/stride/pad   groups   output      parameters          MACs
    conv1     11/4/0                       96x55x55        34,944   105,415,200
    LRN, max pooling 3/2                   96x27x27
    conv2     5/1/2                    2   256x27x27      307,456   223,948,800
    LRN, max pooling 3/2                   256x13x13
    conv3     3/1/1                        384x13x13      885,120   149,520,384
    conv4     3/1/1                    2   384x13x13      663,936   112,140,288
    conv5     3/1/1                    2   256x13x13      442,624    74,760,192
    max pooling 3/2                        256x6x6
    fc6       dropout behind it            4096        37,752,832    37,748,736
    fc7       dropout behind it            4096        16,781,312    16,777,216
    fc8                                    1000         4,097,000     4,096,000
                                                       60,965,224   724,406,816

ReLU follows every layer but the last. Pooling windows overlap (section 3.4). In conv2, conv4 and
conv5 half of the kernels see one half of the maps, the other half the other (section 3.2).

Differences from the paper:
- It says 224 x 224, from which 55 x 55 maps follow only with two pixels of padding that it does not
  mention. Here images are 227 x 227 without padding; `input_size=224` pads by two.
- Dropout scales when it trains instead of when it tests (section 4.2), the same on average.
- Response normalisation reaches across the two halves of the maps, as in Caffe. On the paper's two
  GPUs each half is normalised by itself: `lrn_groups=2`.

Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks", 2012, sections 3 to 5; torchvision's is that of Krizhevsky, "One weird trick for
parallelizing convolutional neural networks", 2014.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from minicnn import nn
from minicnn.functional._check import integer
from minicnn.models.classifier import Classifier, scaled
from minicnn.models.initialize import HE, Rules, initialize
from minicnn.models.sizes import Size, track_size
from minicnn.tensor import Tensor


class Conv(NamedTuple):
    """A convolution of the table, with ReLU; what it is split, normalised and pooled by.

    Attributes:
        split: whether each half of its kernels sees only one half of the maps.
        norm: whether response normalisation follows.
        pool: whether max pooling follows.
    """

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    split: bool = False
    norm: bool = False
    pool: bool = False


PAPER = (
    Conv(96, 11, stride=4, norm=True, pool=True),
    Conv(256, 5, padding=2, split=True, norm=True, pool=True),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1, split=True),
    Conv(256, 3, padding=1, split=True, pool=True),
)
# For 28 x 28 digits: a stem without stride, a third of the width, all the rest as it is.
SMALL = (
    Conv(32, 5, padding=2, norm=True, pool=True),
    Conv(64, 5, padding=2, split=True, norm=True, pool=True),
    Conv(96, 3, padding=1),
    Conv(96, 3, padding=1, split=True),
    Conv(64, 3, padding=1, split=True, pool=True),
)

# Section 5: the ones give those layers positive inputs to their ReLU from the start.
PAPER_INIT: Rules = {
    "features.conv[245].bias": 1.0,
    "classifier.fc[67].bias": 1.0,
    "*.bias": 0.0,
    "*.weight": {"name": "normal", "std": 0.01},
}


class AlexNet(Classifier):
    """The AlexNet of 2012, or one built like it.

    Args:
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair.
        width: multiplies the channels of every hidden layer.
        convs: the five convolutions, or others.
        hidden: outputs of fc6 and of fc7.
        groups: into how many groups the layers marked `split` are split; 1 joins them.
        lrn: whether responses are normalised.
        lrn_groups: over how many groups of channels, each by itself.
        overlapping: whether pooling windows are 3 x 3, else 2 x 2; they move by 2.
        dropout: probability, behind fc6 and fc7.
        init: rules for the first values, see `minicnn.models.initialize`.

    Attributes:
        features: conv1, relu1, norm1, pool1, conv2, ...
        classifier: fc6, relu6, drop6, fc7, relu7, drop7, fc8.

    Raises:
        ValueError: for arguments out of range, images too small for the layers, and in `forward`
            for images of another shape.
    """

    map_path = ("features",)

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 227,
        width: float = 1.0,
        *,
        convs: Sequence[Conv] = PAPER,
        hidden: int = 4096,
        groups: int = 2,
        lrn: bool = True,
        lrn_groups: int = 1,
        overlapping: bool = True,
        dropout: float = 0.5,
        init: Rules = PAPER_INIT,
    ):
        super().__init__(in_channels, num_classes, input_size)
        integer("AlexNet", groups, "groups", 1)
        layers: dict[str, nn.Module] = {}
        channels = in_channels
        for i, conv in enumerate(convs, start=1):
            # The padding that makes the paper's 224 x 224 come out as its table does.
            padding = (
                2 if conv.kernel == 11 and self.input_shape[1:] == (224, 224) else conv.padding
            )
            out = scaled(conv.channels, width, groups)
            layers[f"conv{i}"] = nn.Conv2d(
                channels, out, conv.kernel, conv.stride, padding,
                groups=groups if conv.split else 1,
            )  # fmt: skip
            layers[f"relu{i}"] = nn.ReLU()
            if conv.norm and lrn:
                layers[f"norm{i}"] = GroupedLRN(lrn_groups)
            if conv.pool:
                layers[f"pool{i}"] = nn.MaxPool2d(3 if overlapping else 2, 2)
            channels = out
        self.features = nn.Sequential(layers)
        inputs = channels * math.prod(self.map_size())
        hidden = scaled(hidden, width, groups)
        self.classifier = nn.Sequential(
            {
                "fc6": nn.Linear(inputs, hidden),
                "relu6": nn.ReLU(),
                "drop6": nn.Dropout(dropout),
                "fc7": nn.Linear(hidden, hidden),
                "relu7": nn.ReLU(),
                "drop7": nn.Dropout(dropout),
                "fc8": nn.Linear(hidden, num_classes),
            }
        )
        initialize(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes)."""
        self.check_images(images)
        return self.classifier(self.features(images).flatten(1))

    def notes(self) -> list[str]:
        """Return how the sizes of conv1 and of the first dense layer come about."""
        conv1, fc6 = self.features.conv1, self.classifier.fc6
        kernels, channels, side, _ = conv1.weight.shape
        before = track_size(nn.Sequential(*self.features[:-1]), self.input_shape[1:])
        after = self.map_size()
        maps = fc6.in_features // math.prod(after)
        return [
            f"conv1: {side} x {side} x {channels} x {kernels} = {conv1.weight.numel():,} weights "
            f"and {kernels} biases.",
            f"fc6: pooled maps, {after[0]} x {after[1]} x {maps} x {fc6.out_features} = "
            f"{fc6.weight.numel():,} weights. Without the pooling in front of it there would be "
            f"{before[0]} x {before[1]} x {maps} x {fc6.out_features} = "
            f"{math.prod(before) * maps * fc6.out_features:,}.",
        ]


class GroupedLRN(nn.LocalResponseNorm):
    """Response normalisation with the constants of section 3.3, within groups of channels."""

    def __init__(self, groups: int = 1):
        super().__init__(5, alpha=1e-4, beta=0.75, k=2.0, divide_alpha=False)
        self.groups = integer("GroupedLRN", groups, "groups", 1)

    def forward(self, input: Tensor) -> Tensor:
        if self.groups == 1:
            return super().forward(input)
        # Images do not touch each other, so a group may stand as an image of its own.
        batch, channels, height, width = input.shape
        apart = input.reshape(batch * self.groups, channels // self.groups, height, width)
        return super().forward(apart).reshape(input.shape)

    def extra_repr(self) -> str:
        text = super().extra_repr()
        return text if self.groups == 1 else f"{text}, groups={self.groups}"


class TorchvisionAlexNet(Classifier):
    """The AlexNet of torchvision: one narrower tower, its keys and its numbers.

    Differences from the paper's: 64, 192, 384, 256 and 256 kernels, all of which see all maps;
    images of 224 x 224, padded by 2; no response normalisation; dropout in front of fc6 and fc7
    rather than behind them; maps of any size are pooled to 6 x 6; PyTorch's first values.
    """

    any_size = True
    map_path = ("features", "avgpool")

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        dropout: float = 0.5,
    ):
        super().__init__(in_channels, num_classes, input_size)
        c1, c2, c3, c4, hidden = (scaled(c, width) for c in (64, 192, 384, 256, 4096))
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, c1, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c4, c4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.map_size()
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(c4 * 6 * 6, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes)."""
        self.check_images(images)
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def alexnet_small(
    in_channels: int = 1,
    num_classes: int = 10,
    input_size: int | Size = 28,
    width: float = 1.0,
    *,
    lrn: bool = True,
    overlapping: bool = True,
    dropout: float = 0.5,
    groups: int = 2,
    init: Rules = HE,
) -> AlexNet:
    """AlexNet for digits: two groups, response normalisation, overlapping pooling, dropout."""
    return AlexNet(
        in_channels, num_classes, input_size, width, convs=SMALL, hidden=256, groups=groups,
        lrn=lrn, overlapping=overlapping, dropout=dropout, init=init,
    )  # fmt: skip
