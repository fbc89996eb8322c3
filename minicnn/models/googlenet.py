"""GoogLeNet: blocks that see their maps through several windows at once, and heads on the way.

    layer         output           parameters           MACs
    conv1         64x112x112            9,472    118,013,952
    max pooling   64x56x56
    conv2         64x56x56              4,160     12,845,056
    conv3         192x56x56           110,784    346,816,512
    max pooling   192x28x28
    inception3a   256x28x28           163,696    128,049,152
    inception3b   480x28x28           388,736    304,267,264
    max pooling   480x14x14
    inception4a   512x14x14           376,176     73,608,192
    inception4b   512x14x14           449,160     87,908,352
    inception4c   512x14x14           510,104     99,850,240
    inception4d   528x14x14           605,376    118,515,712
    inception4e   832x14x14           868,352    169,996,288
    max pooling   832x7x7
    inception5a   832x7x7           1,043,456     51,079,168
    inception5b   1024x7x7          1,444,080     70,697,984
    avg pooling   1024x1x1
    fc            1000              1,025,000      1,024,000
                                    6,998,552  1,582,671,872
    aux1          1000              3,188,840      4,169,728
    aux2          1000              3,190,888      4,202,496
                                   13,378,280  1,591,044,096

A block has four branches, whose maps are concatenated: 1x1; 1x1 before 3x3; 1x1 before 5x5; 3x3 max
pooling before 1x1. ReLU follows every convolution. Two auxiliary heads, on the maps of 4a and 4d,
bring gradients to the middle of the network: 0.3 times the loss of each is added to that of the
scores. Only training runs them.

Differences from the paper:
- It does not tell its first values; here they are those of Caffe's replication: U(-a, a),
  a = sqrt(3 / fan_in), biases of 0.2, and of 0 in the layers that give scores.
- Nor the constants of response normalisation. Caffe's, again: 5 channels, alpha = 1e-4, divided by
  5, beta = 0.75, k = 1.
- Nor its padding. The sizes of its table follow from half a kernel around convolutions and the
  pooling within blocks, and from pooling between blocks whose last window may reach over the edge.
- Average pooling takes whole maps, 7x7 of images of 224 x 224, so that evaluation takes images of
  any size. Heads end in dense layers and train with images of the size that they are built for.
- Dropout scales when it trains instead of when it tests, the same on average.
- The parameters that its table prints are rounded, and those of some rows are not those of the
  layers beside them.

Source: Szegedy et al., "Going deeper with convolutions", 2014, sections 4 to 6 and table 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from minicnn import functional as F
from minicnn import nn
from minicnn.models.classifier import Classifier, scaled
from minicnn.models.initialize import HE, Rules, initialize
from minicnn.models.sizes import Size, smallest_size, track_size
from minicnn.tensor import Tensor


class Conv(NamedTuple):
    """A convolution between blocks; it pads by half its kernel."""

    channels: int
    kernel: int
    stride: int = 1


class Pool(NamedTuple):
    """Max pooling between blocks, every second pixel."""

    kernel: int = 3


class Norm(NamedTuple):
    """Response normalisation."""


class Block(NamedTuple):
    """The channels of an inception block, a row of the paper's table 1."""

    c1x1: int
    reduce_3x3: int
    c3x3: int
    reduce_5x5: int
    c5x5: int
    pool_proj: int


class Table(NamedTuple):
    """All that makes one network another.

    Attributes:
        layers: by name, in the order in which maps pass through them.
        heads: by name of a head, the layer whose maps it takes; in the order of the layers.
        head_maps: channels of a head's 1x1 convolution.
        head_hidden: outputs of its first dense layer.
    """

    layers: Mapping[str, Conv | Pool | Norm | Block]
    heads: Mapping[str, str]
    head_maps: int = 128
    head_hidden: int = 1024


# fmt: off
PAPER = Table(
    {
        "conv1": Conv(64, 7, stride=2),
        "maxpool1": Pool(), "norm1": Norm(),
        "conv2": Conv(64, 1),
        "conv3": Conv(192, 3),
        "norm2": Norm(), "maxpool2": Pool(),
        #                   1x1  reduce, 3x3  reduce, 5x5  pooled
        "inception3a": Block( 64,   96, 128,   16,  32,   32),
        "inception3b": Block(128,  128, 192,   32,  96,   64),
        "maxpool3": Pool(),
        "inception4a": Block(192,   96, 208,   16,  48,   64),
        "inception4b": Block(160,  112, 224,   24,  64,   64),
        "inception4c": Block(128,  128, 256,   24,  64,   64),
        "inception4d": Block(112,  144, 288,   32,  64,   64),
        "inception4e": Block(256,  160, 320,   32, 128,  128),
        "maxpool4": Pool(),
        "inception5a": Block(256,  160, 320,   32, 128,  128),
        "inception5b": Block(384,  192, 384,   48, 128,  128),
    },
    {"aux1": "inception4a", "aux2": "inception4d"},
)
# For 28 x 28 digits: a stem without strides, three stages on 14 x 14, 7 x 7 and 3 x 3.
SMALL = Table(
    {
        "conv1": Conv(24, 3),
        "maxpool1": Pool(), "norm1": Norm(),
        "conv2": Conv(24, 1),
        "conv3": Conv(48, 3),
        "norm2": Norm(),
        #                   1x1  reduce, 3x3  reduce, 5x5  pooled
        "inception3a": Block( 16,   16,  32,    8,  16,   16),
        "inception3b": Block( 24,   24,  40,    8,  16,   16),
        "maxpool3": Pool(),
        "inception4a": Block( 32,   24,  48,    8,  24,   24),
        "inception4b": Block( 40,   32,  64,    8,  24,   24),
        "maxpool4": Pool(),
        "inception5a": Block( 64,   40,  80,   12,  32,   32),
    },
    {"aux1": "inception4a", "aux2": "inception4b"},
    head_maps=32, head_hidden=128,
)
# fmt: on

CAFFE_INIT: Rules = {
    "fc.bias": 0.0,
    "*.fc2.bias": 0.0,
    "*.bias": 0.2,
    "*.weight": {"name": "caffe_xavier"},
}
AUX_WEIGHT = 0.3
AUX_DROPOUT = 0.7


class GoogLeNetOutputs(NamedTuple):
    """What training gets: (N, num_classes) scores of the network, of aux2 and of aux1."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class GoogLeNet(Classifier):
    """The GoogLeNet of 2014, or one built like it.

    Args:
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair; evaluation, and without
            heads training too, takes others.
        width: multiplies the channels of every hidden layer.
        table: the layers, and where heads are.
        aux: whether there are auxiliary heads.
        lrn: whether responses are normalised.
        dropout: probability in front of fc. Heads have their own, 0.7; where this is 0 they have
            none either.
        batch_norm: whether batch norm stands behind each convolution, in place of its bias.
        init: rules for the first values, see `minicnn.models.initialize`.

    Attributes:
        conv1, maxpool1, norm1, ..., inception5b: the layers of the table.
        aux1, aux2: the heads, if any.
        avgpool, dropout, fc: what makes scores of the last maps.

    Raises:
        ValueError: for arguments out of range, images too small for the layers or for a head, and
            in `forward` for images of other channels, too small, or in training of a size that
            the heads are not built for.
    """

    any_size = True
    # What torchvision's network has otherwise.
    third_kernel = 5
    norm_eps = 1e-5

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        table: Table = PAPER,
        aux: bool = True,
        lrn: bool = True,
        dropout: float = 0.4,
        batch_norm: bool = False,
        init: Rules = CAFFE_INIT,
    ):
        super().__init__(in_channels, num_classes, input_size)
        form = Form(width, batch_norm, self.norm_eps, self.third_kernel)
        channels = {}
        last = in_channels
        for name, row in table.layers.items():
            if lrn or not isinstance(row, Norm):
                last, layer = form.layer(row, last)
                self.add_module(name, layer)
                channels[name] = last
        self.map_path = tuple(channels)
        self.map_size()
        self.heads = dict(table.heads) if aux else {}
        for name, below in self.heads.items():
            size = self._head_size(name, below)
            self.add_module(
                name,
                AuxHead(
                    self._head_pool(),
                    form.conv(channels[below], table.head_maps, 1),
                    size,
                    scaled(table.head_hidden, width),
                    num_classes,
                    AUX_DROPOUT if dropout else 0.0,
                ),
            )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(last, num_classes)
        initialize(self, init)

    def forward(self, images: Tensor) -> Tensor | GoogLeNetOutputs:
        """Map images (N, C, H, W) to scores (N, num_classes), in training to those of heads too."""
        self.check_images(images)
        heads = {below: name for name, below in self.heads.items()} if self.training else {}
        scores = {}
        maps = images
        for name in self.map_path:
            maps = getattr(self, name)(maps)
            if name in heads:
                scores[heads[name]] = getattr(self, heads[name])(maps)
        logits = self.fc(self.dropout(self.avgpool(maps).flatten(1)))
        return GoogLeNetOutputs(logits, scores["aux2"], scores["aux1"]) if heads else logits

    def loss(self, output: Any, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of the scores, and 0.3 times that of each head's."""
        loss = super().loss(output, target, label_smoothing)
        if isinstance(output, GoogLeNetOutputs):
            for scores in output[1:]:
                loss = loss + AUX_WEIGHT * super().loss(scores, target, label_smoothing)
        return loss

    def notes(self) -> list[str]:
        """Return what the network has without its heads."""
        if not self.heads:
            return []
        total = sum(p.numel() for p in self.parameters())
        extra = sum(p.numel() for name in self.heads for p in getattr(self, name).parameters())
        return [
            f"{' and '.join(self.heads)}: heads that only training runs, with {extra:,} of the "
            f"parameters; the network without them has {total - extra:,}."
        ]

    def _head_pool(self) -> nn.Module:
        return nn.AvgPool2d(5, 3)

    def _head_size(self, name: str, below: str) -> Size:
        """Return the size of the maps that a head pools those of layer `below` to."""
        passed = self.map_path[: self.map_path.index(below) + 1]
        way = nn.Sequential(
            {layer: getattr(self, layer) for layer in passed}
            | {name: nn.Sequential({"pool": self._head_pool()})}
        )
        size = self.input_shape[1:]
        try:
            return track_size(way, size)
        except ValueError as error:
            height, width = smallest_size(way)
            raise ValueError(
                f"{type(self).__name__}: images of {size[0]} x {size[1]} are too small for the "
                f"auxiliary heads: {error}; the smallest that fit are {height} x {width}, without "
                "heads (aux=False) smaller ones do"
            ) from None


class Form(NamedTuple):
    """What all layers of a network share: see `GoogLeNet`."""

    width: float
    batch_norm: bool
    eps: float
    third_kernel: int

    def layer(self, row: Conv | Pool | Norm | Block, inputs: int) -> tuple[int, nn.Module]:
        """Return the channels that a layer of the table gives, and the layer."""
        if isinstance(row, Conv):
            channels = scaled(row.channels, self.width)
            return channels, self.conv(inputs, row.channels, row.kernel, row.stride)
        if isinstance(row, Block):
            block = Inception(inputs, row, self)
            return block.out_channels, block
        if isinstance(row, Pool):
            return inputs, nn.MaxPool2d(row.kernel, 2, ceil_mode=True)
        return inputs, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    def conv(self, inputs: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
        """Return a convolution to `channels` times the width, batch norm if wanted, and ReLU."""
        channels = scaled(channels, self.width)
        layers: dict[str, nn.Module] = {
            "conv": nn.Conv2d(
                inputs, channels, kernel, stride, kernel // 2, bias=not self.batch_norm
            )
        }  # fmt: skip
        if self.batch_norm:
            layers["bn"] = nn.BatchNorm2d(channels, eps=self.eps)
        return nn.Sequential(layers | {"relu": nn.ReLU()})


class Inception(nn.Module):
    """Four branches side by side, their maps concatenated; all keep the size of the maps.

    Args:
        inputs: channels of what comes in.
        row: channels of the branches.
        form: of the layers.

    Attributes:
        branch1, branch2, branch3, branch4: in the order of the table.
        out_channels: of what goes out.
    """

    def __init__(self, inputs: int, row: Block, form: Form):
        super().__init__()
        conv = form.conv
        self.branch1 = conv(inputs, row.c1x1, 1)
        self.branch2 = nn.Sequential(
            conv(inputs, row.reduce_3x3, 1), conv(scaled(row.reduce_3x3, form.width), row.c3x3, 3)
        )
        self.branch3 = nn.Sequential(
            conv(inputs, row.reduce_5x5, 1),
            conv(scaled(row.reduce_5x5, form.width), row.c5x5, form.third_kernel),
        )
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inputs, row.pool_proj, 1))
        self.out_channels = sum(
            scaled(c, form.width) for c in (row.c1x1, row.c3x3, row.c5x5, row.pool_proj)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, out_channels, H, W)."""
        return F.cat([branch(maps) for branch in self.children()], dim=1)


class AuxHead(nn.Module):
    """Scores from maps in the middle of the network.

    Args:
        pool: average pooling.
        conv: the 1x1 convolution behind it.
        size: of the pooled maps that fc1 is built for.
        hidden: outputs of fc1.
        num_classes: outputs of fc2.
        dropout: probability between the two.

    Raises:
        ValueError: in `forward`, for maps that are pooled to another size.
    """

    def __init__(
        self,
        pool: nn.Module,
        conv: nn.Sequential,
        size: Size,
        hidden: int,
        num_classes: int,
        dropout: float,
    ):
        super().__init__()
        self.size = size
        self.pool = pool
        self.conv = conv
        self.fc1 = nn.Linear(conv.conv.out_channels * math.prod(size), hidden)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, H, W) to scores (N, num_classes)."""
        pooled = self.pool(maps)
        if pooled.shape[2:] != self.size:
            raise ValueError(
                f"AuxHead: maps of {maps.shape[2]} x {maps.shape[3]} are pooled to "
                f"{pooled.shape[2]} x {pooled.shape[3]}, but fc1 is built for {self.size[0]} x "
                f"{self.size[1]}: train with images of the network's input_size, or build it with "
                "another, or with aux=False"
            )
        return self.fc2(self.dropout(self.relu(self.fc1(self.conv(pooled).flatten(1)))))


def googlenet_small(
    in_channels: int = 1,
    num_classes: int = 10,
    input_size: int | Size = 28,
    width: float = 1.0,
    *,
    aux: bool = True,
    lrn: bool = True,
    dropout: float = 0.4,
    batch_norm: bool = True,
    init: Rules = HE,
) -> GoogLeNet:
    """GoogLeNet for digits: five blocks, both heads, and, unlike the paper's, batch norm."""
    return GoogLeNet(
        in_channels, num_classes, input_size, width, table=SMALL, aux=aux, lrn=lrn,
        dropout=dropout, batch_norm=batch_norm, init=init,
    )  # fmt: skip
