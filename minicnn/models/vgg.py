"""VGG: blocks of 3x3 convolutions, the same network from 11 to 19 layers deep.

    block  output        A     A-LRN   B     C       D       E
    1      64x224x224    3     3 LRN   3 3   3 3     3 3     3 3
    2      128x112x112   3     3       3 3   3 3     3 3     3 3
    3      256x56x56     3 3   3 3     3 3   3 3 1   3 3 3   3 3 3 3
    4      512x28x28     3 3   3 3     3 3   3 3 1   3 3 3   3 3 3 3
    5      512x14x14     3 3   3 3     3 3   3 3 1   3 3 3   3 3 3 3

    then fc6 4096, fc7 4096, fc8 1000; dropout behind the first two

    configuration   layers   parameters             MACs
    A, A-LRN            11   132,863,336    7,609,090,048
    B                   13   133,047,848   11,308,466,176
    C                   16   133,638,952   11,770,888,192
    D                   16   138,357,544   15,470,264,320
    E                   19   143,667,240   19,632,062,464

Columns are configurations; their numbers are the kernels of the convolutions, 3 for 3x3, which move
by 1 and are padded so that maps keep their size. Max pooling 2x2 follows each block, ReLU every
layer but the last. Two 3x3 layers see what one 5x5 sees, three what one 7x7 sees, with fewer
weights and more ReLUs (section 2.3): between 128 channels, 2 * 3 * 3 * 128 * 128 = 294,912 weights
against 5 * 5 * 128 * 128 = 409,600.

Differences from the paper:
- All weights are drawn from the normal distribution of variance 0.01, a standard deviation of 0.1
  (section 3.1). The paper does so with A and starts deeper networks from layers of a trained A; its
  authors found later that Glorot and Bengio's values make that unnecessary: `init=GLOROT`.
- Dropout scales when it trains instead of when it tests, the same on average.
- Images have one size. The paper tests on larger ones too, with its dense layers read as
  convolutions (section 3.2).

Batch norm came a year later. The networks named `..._bn` are not the paper's but what libraries
made of it: batch norm between convolution and ReLU, torchvision's first values.

torchvision's networks have the same layers and counts. Differences, under the names
`..._torchvision`: images of any size, whose maps are pooled to 7x7; He's first values for
convolutions, a standard deviation of 0.01 in the dense layers; keys by number.

Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image
recognition", 2014, sections 2 and 3 and table 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from minicnn import nn
from minicnn.models.classifier import Classifier, scaled, variant
from minicnn.models.initialize import HE, Rules, initialize
from minicnn.models.sizes import Size
from minicnn.tensor import Tensor


class Config(NamedTuple):
    """A column of the table.

    Attributes:
        kernels: of the convolutions, block by block.
        lrn: whether response normalisation follows the first of them.
        channels: that the convolutions of each block give.
        hidden: outputs of fc6 and of fc7.
    """

    kernels: tuple[tuple[int, ...], ...]
    lrn: bool = False
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: int = 4096


CONFIGS = {
    "A": Config(((3,), (3,), (3, 3), (3, 3), (3, 3))),
    "A-LRN": Config(((3,), (3,), (3, 3), (3, 3), (3, 3)), lrn=True),
    "B": Config(((3, 3), (3, 3), (3, 3), (3, 3), (3, 3))),
    "C": Config(((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1))),
    "D": Config(((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))),
    "E": Config(((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3))),
}
# For 28 x 28 digits: the first three blocks of D at a quarter of their width.
SMALL = Config(((3, 3), (3, 3), (3, 3, 3)), channels=(16, 32, 64), hidden=256)

PAPER_INIT: Rules = {"*.bias": 0.0, "*.weight": {"name": "normal", "std": 0.1}}
GLOROT: Rules = {"*.bias": 0.0, "*.weight": {"name": "xavier_uniform"}}
TORCHVISION_INIT: Rules = {
    "*.bias": 0.0,
    "features.*": {"name": "kaiming_normal", "mode": "fan_out", "nonlinearity": "relu"},
    "classifier.*": {"name": "normal", "std": 0.01},
}


class VGG(Classifier):
    """One of the networks of 2014, or one built like it.

    Args:
        config: a name of `CONFIGS`, or a column of one's own.
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair.
        width: multiplies the channels of every hidden layer.
        batch_norm: whether batch norm stands between each convolution and its ReLU.
        lrn: whether response normalisation follows the first convolution; None leaves it to the
            configuration.
        dropout: probability, behind fc6 and fc7.
        init: rules for the first values, see `minicnn.models.initialize`.

    Attributes:
        features: conv1_1, bn1_1, relu1_1, norm1, conv1_2, ..., pool1, conv2_1, ...
        classifier: fc6, relu6, drop6, fc7, relu7, drop7, fc8.

    Raises:
        ValueError: for arguments out of range, images too small for the layers, and in `forward`
            for images of another shape.
    """

    def __init__(
        self,
        config: str | Config = "D",
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        batch_norm: bool = False,
        lrn: bool | None = None,
        dropout: float = 0.5,
        init: Rules = PAPER_INIT,
    ):
        super().__init__(in_channels, num_classes, input_size)
        config = _found(config)
        if lrn is not None:
            config = config._replace(lrn=lrn)
        self.features = nn.Sequential(dict(_layers(in_channels, config, width, batch_norm)))
        inputs = scaled(config.channels[-1], width) * math.prod(self.map_size())
        hidden = scaled(config.hidden, width)
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
        """Return what small kernels save, and where the parameters are."""
        return _notes(self, self.map_size())


class TorchvisionVGG(Classifier):
    """The VGG of torchvision: maps of any size are pooled to 7x7; its keys and its first values.

    Arguments as in `VGG`; torchvision has the configurations A, B, D and E.
    """

    any_size = True
    map_path = ("features", "avgpool")

    def __init__(
        self,
        config: str | Config = "D",
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        batch_norm: bool = False,
        dropout: float = 0.5,
        init: Rules = TORCHVISION_INIT,
    ):
        super().__init__(in_channels, num_classes, input_size)
        config = _found(config)
        layers = _layers(in_channels, config, width, batch_norm)
        self.features = nn.Sequential(*(layer for _, layer in layers))
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        inputs = scaled(config.channels[-1], width) * math.prod(self.map_size())
        hidden = scaled(config.hidden, width)
        self.classifier = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip
        initialize(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes)."""
        self.check_images(images)
        return self.classifier(self.avgpool(self.features(images)).flatten(1))

    def notes(self) -> list[str]:
        """Return what small kernels save, and where the parameters are."""
        return _notes(self, self.map_size())


def _found(config: str | Config) -> Config:
    """Return a configuration by its name.

    Raises:
        ValueError: an unknown name, or kernels and channels of different lengths.
    """
    if isinstance(config, str):
        if config not in CONFIGS:
            raise ValueError(f"config: got {config!r}, expected one of {', '.join(CONFIGS)}")
        return CONFIGS[config]
    if not config.kernels or len(config.kernels) != len(config.channels):
        raise ValueError(
            f"config: got kernels of {len(config.kernels)} blocks and channels of "
            f"{len(config.channels)}, expected as many of both, and at least one"
        )
    return config


def _layers(
    in_channels: int, config: Config, width: float, batch_norm: bool
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of all blocks with their names."""
    channels = in_channels
    for i, (kernels, outputs) in enumerate(zip(config.kernels, config.channels, strict=True), 1):
        out = scaled(outputs, width)
        for j, kernel in enumerate(kernels, 1):
            yield f"conv{i}_{j}", nn.Conv2d(channels, out, kernel, padding=kernel // 2)
            if batch_norm:
                yield f"bn{i}_{j}", nn.BatchNorm2d(out)
            yield f"relu{i}_{j}", nn.ReLU()
            if config.lrn and i == j == 1:
                # The constants of AlexNet's paper, to which section 2.1 refers.
                norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, divide_alpha=False)
                yield "norm1", norm
            channels = out
        yield f"pool{i}", nn.MaxPool2d(2)


def _notes(model: VGG | TorchvisionVGG, size: Size) -> list[str]:
    """Compute the notes from the shapes of the layers.

    Args:
        size: of the maps that the first dense layer gets.
    """
    convs = [layer for layer in model.features if isinstance(layer, nn.Conv2d)]
    widths = list(dict.fromkeys(conv.out_channels for conv in convs))
    channels = widths[min(1, len(widths) - 1)]  # of the second block, 128 in the paper
    square = channels * channels
    notes = [
        f"Two 3 x 3 layers of {channels} channels see 5 x 5 pixels and have 2 x 3 x 3 x {channels} "
        f"x {channels} = {2 * 9 * square:,} weights; one 5 x 5 layer has {25 * square:,}. Three "
        f"see 7 x 7 with {3 * 9 * square:,}; one 7 x 7 layer has {49 * square:,}."
    ]
    pointwise = [conv for conv in convs if conv.kernel_size == (1, 1)]
    if pointwise:
        weights = sum(conv.weight.numel() for conv in pointwise)
        notes.append(
            f"{len(pointwise)} convolutions are 1 x 1 and have {weights:,} weights; as 3 x 3 they "
            f"would have {9 * weights:,}."
        )
    dense = [layer for layer in model.classifier if isinstance(layer, nn.Linear)]
    first, total = dense[0], sum(parameter.numel() for parameter in model.parameters())
    share = sum(parameter.numel() for parameter in model.classifier.parameters()) / total
    notes.append(
        f"The first dense layer has {size[0]} x {size[1]} x "
        f"{first.in_features // math.prod(size)} x {first.out_features} = "
        f"{first.weight.numel():,} weights; the {len(dense)} dense layers hold {share:.0%} of the "
        f"network's {total:,} parameters."
    )
    return notes


def vgg_small(
    in_channels: int = 1,
    num_classes: int = 10,
    input_size: int | Size = 28,
    width: float = 1.0,
    *,
    batch_norm: bool = True,
    lrn: bool = False,
    dropout: float = 0.5,
    init: Rules = HE,
) -> VGG:
    """VGG for digits: three blocks of 3x3 convolutions, two hidden dense layers, batch norm."""
    return VGG(
        SMALL, in_channels, num_classes, input_size, width,
        batch_norm=batch_norm, lrn=lrn, dropout=dropout, init=init,
    )  # fmt: skip


PAPER = {
    "vgg11": "A", "vgg11_lrn": "A-LRN", "vgg13": "B", "vgg16_1x1": "C", "vgg16": "D", "vgg19": "E",
}  # fmt: skip
LIBRARIES = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}

VGGS: dict[str, Callable[..., Classifier]] = {
    **{
        name: variant(f"VGG of the paper, configuration {config}.", VGG, config)
        for name, config in PAPER.items()
    },
    **{
        f"{name}_bn": variant(
            f"VGG with batch norm, which the paper has not; configuration {config}.",
            VGG, config, batch_norm=True, init=TORCHVISION_INIT,
        )
        for name, config in LIBRARIES.items()
    },
    **{
        f"{name}{suffix}_torchvision": variant(
            f"{name}{suffix} of torchvision, with its keys.",
            TorchvisionVGG, config, batch_norm=suffix == "_bn",
        )
        for suffix in ("", "_bn")
        for name, config in LIBRARIES.items()
    },
    "vgg_small": vgg_small,
}  # fmt: skip
