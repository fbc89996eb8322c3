"""LeNet as frameworks teach it, and LeNet-5 as the paper describes it.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86 (11), 1998, section II.
"""

from __future__ import annotations

import math

import numpy as np

from minicnn import functional as F
from minicnn import nn
from minicnn.models.classifier import Classifier
from minicnn.tensor import Tensor, float32


class LeNet(Classifier):
    """The LeNet of Caffe's and PyTorch's MNIST tutorials: 431,080 parameters at 28 x 28.

        conv1 20@5x5   pool1 2x2   conv2 50@5x5   pool2 2x2   fc1 500   fc2 num_classes

    Differences from the 1998 paper: wider layers; maximum pooling without parameters; full
    connections between the convolutions; ReLU for the squashing function; softmax scores for the
    RBF units; no third convolution. Caffe's net has the ReLU after fc1 only; here, as in PyTorch's,
    it follows each convolution as well. It stands behind the pooling, which gives the same values
    at a quarter of the work.

    Args:
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair, at least 16.

    Raises:
        ValueError: for arguments out of range, and for images of another shape.
    """

    map_path = ("conv1", "pool1", "conv2", "pool2")

    def __init__(
        self, in_channels: int = 1, num_classes: int = 10, input_size: int | tuple[int, int] = 28
    ):
        super().__init__(in_channels, num_classes, input_size)
        self.conv1 = nn.Conv2d(in_channels, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.relu2 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(50 * math.prod(self.map_size()), 500)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes)."""
        self.check_images(images)
        x = self.relu1(self.pool1(self.conv1(images)))
        x = self.relu2(self.pool2(self.conv2(x)))
        return self.fc2(self.relu3(self.fc1(self.flatten(x))))


# Table I of the paper: which of the 6 maps of S2 each of the 16 maps of C3 sees. First every run of
# three neighbours (the maps lie on a ring), then every run of four, some broken fours, and all.
C3_CONNECTIONS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# The codes of the output units 0 to 9: bitmaps of 7 x 12 pixels, in the manner of figure 3.
BITMAPS = """
    ..###..  ...#...  .#####.  .#####.  ....##.  #######  ..####.  #######  ..###..  ..###..
    .#...#.  ..##...  #.....#  #.....#  ...#.#.  #......  .#.....  ......#  .#...#.  .#...#.
    #.....#  .#.#...  ......#  ......#  ...#.#.  #......  #......  ......#  #.....#  #.....#
    #.....#  ...#...  ......#  ......#  ..#..#.  #......  #......  .....#.  #.....#  #.....#
    #.....#  ...#...  .....#.  .....#.  ..#..#.  ######.  #.####.  .....#.  .#...#.  #.....#
    #.....#  ...#...  ....#..  ..###..  .#...#.  ......#  ##....#  ....#..  ..###..  #....##
    #.....#  ...#...  ...#...  .....#.  .#...#.  ......#  #.....#  ....#..  .#...#.  .####.#
    #.....#  ...#...  ..#....  ......#  #....#.  ......#  #.....#  ...#...  #.....#  ......#
    #.....#  ...#...  .#.....  ......#  #######  ......#  #.....#  ...#...  #.....#  ......#
    #.....#  ...#...  #......  ......#  .....#.  ......#  #.....#  ..#....  #.....#  ......#
    .#...#.  ...#...  #......  #.....#  .....#.  #.....#  .#...#.  ..#....  .#...#.  .....#.
    ..###..  .#####.  #######  .#####.  .....#.  .#####.  ..###..  ..#....  ..###..  .####..
"""


class LeNet5(Classifier):
    """LeNet-5 as the 1998 paper describes it: 60,000 trainable parameters, 32 x 32 images.

        C1  6@28x28  convolution 5x5            156       C5  120@1x1  convolution 5x5    48,120
        S2  6@14x14  subsampling 2x2             12       F6  84       dense              10,164
        C3  16@10x10 partial convolution 5x5  1,516       out 10       RBF units, fixed codes
        S4  16@5x5   subsampling 2x2             32

    Every layer up to F6 ends in the squashing function 1.7159 tanh(2/3 x). Initial values are drawn
    from U(-2.4 / F, 2.4 / F), F being the inputs of the unit that the value belongs to (section
    II.B). An RBF unit gives the squared distance between F6 and its code, a stylised bitmap of its
    digit.

    Differences from the paper:
    - The scores are *minus* the distances, so that the largest wins. Cross-entropy of these scores
      is the paper's MAP criterion (eq. 9) without the constant e^-j of its "rubbish" class.
    - The bitmaps are drawn anew in the manner of figure 3, whose pixels the paper does not list;
      they stay fixed for good, where the paper says "at least initially".
    - The paper scales pixels so that white is -0.1 and black 1.175; that is left to the data's
      transform, as is the optimiser (there, a stochastic diagonal Levenberg-Marquardt method).

    Raises:
        ValueError: for images of another shape.
    """

    map_path = ("c1", "s2", "c3", "s4", "c5")

    def __init__(self) -> None:
        super().__init__(1, 10, 32)
        self.c1 = nn.Conv2d(1, 6, 5)
        self.squash1 = Squash()
        self.s2 = Subsampling(6)
        self.squash2 = Squash()
        self.c3 = PartialConv2d(C3_CONNECTIONS, 5)
        self.squash3 = Squash()
        self.s4 = Subsampling(16)
        self.squash4 = Squash()
        self.c5 = nn.Conv2d(16, 120, 5)
        self.squash5 = Squash()
        self.flatten = nn.Flatten()
        self.f6 = nn.Linear(120, 84)
        self.squash6 = Squash()
        self.output = RBFOutput(digit_codes())
        for layer, fan_in in ((self.c1, 25), (self.c5, 400), (self.f6, 120)):
            nn.init.uniform_(layer.weight, -2.4 / fan_in, 2.4 / fan_in)
            assert layer.bias is not None
            nn.init.uniform_(layer.bias, -2.4 / fan_in, 2.4 / fan_in)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 1, 32, 32) to scores (N, 10)."""
        self.check_images(images)
        x = self.squash2(self.s2(self.squash1(self.c1(images))))
        x = self.squash4(self.s4(self.squash3(self.c3(x))))
        x = self.flatten(self.squash5(self.c5(x)))
        return self.output(self.squash6(self.f6(x)))


class Squash(nn.Module):
    """Apply 1.7159 tanh(2/3 x), which maps 1 to 1 and -1 to -1 (appendix A of the paper)."""

    def forward(self, input: Tensor) -> Tensor:
        return 1.7159 * F.tanh(input * (2 / 3))


class Subsampling(nn.AvgPool2d):
    """Add up 2x2 windows, times a coefficient plus a bias of each channel: layers S2 and S4.

    Attributes:
        weight, bias: (channels,).
    """

    def __init__(self, channels: int):
        super().__init__(2)
        self.weight = nn.Parameter(np.empty(channels, float32))
        self.bias = nn.Parameter(np.empty(channels, float32))
        nn.init.uniform_(self.weight, -2.4 / 4, 2.4 / 4)
        nn.init.uniform_(self.bias, -2.4 / 4, 2.4 / 4)

    def forward(self, input: Tensor) -> Tensor:
        total = 4 * super().forward(input)
        return total * self.weight.reshape(-1, 1, 1) + self.bias.reshape(-1, 1, 1)


class PartialConv2d(nn.Conv2d):
    """A convolution whose output maps each see only some of the input maps: layer C3.

    The parameter holds the kernels that exist. For the computation they are put in their places in
    a dense weight, with zeros elsewhere: one convolution instead of one for each output map.

    Args:
        connections: for each output map, the input maps it sees.
        kernel_size: of every kernel.

    Attributes:
        weight: (connections in all, kernel_size, kernel_size), in the order of the table.
        bias: (output maps,).
    """

    def __init__(self, connections: tuple[tuple[int, ...], ...], kernel_size: int):
        in_channels = 1 + max(max(sources) for sources in connections)
        super().__init__(in_channels, len(connections), kernel_size)
        fan_in = np.array([len(sources) * kernel_size**2 for sources in connections])
        count = sum(len(sources) for sources in connections)
        # Kernel number of each (output, input) pair; pairs without one point at an extra kernel of
        # zeros.
        table = np.full((len(connections), in_channels), count)
        target = np.repeat(np.arange(len(connections)), [len(sources) for sources in connections])
        table[target, np.concatenate(connections)] = np.arange(count)
        self.register_buffer("table", Tensor(table), persistent=False)
        self.weight = nn.Parameter(np.empty((count, kernel_size, kernel_size), float32))
        assert self.bias is not None
        for parameter, fan in ((self.weight, fan_in[target][:, None, None]), (self.bias, fan_in)):
            nn.init.uniform_(parameter, -2.4, 2.4)
            parameter.data /= fan

    def forward(self, input: Tensor) -> Tensor:
        kernels_and_zeros = F.pad(self.weight, (0, 0, 0, 0, 0, 1))
        return F.conv2d(input, kernels_and_zeros[self.table], self.bias)


class RBFOutput(nn.Module):
    """Give minus the squared distance between the input and each of some fixed codes.

    Attributes:
        codes: (num_codes, features), a buffer.
    """

    def __init__(self, codes: np.ndarray):
        super().__init__()
        self.register_buffer("codes", Tensor(codes))

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, features) to (N, num_codes)."""
        difference = input.unsqueeze(1) - self.codes
        return -(difference * difference).sum(dim=2)


def digit_codes() -> np.ndarray:
    """Return the bitmaps of 0 to 9 as rows of (10, 84) float32: 1 is ink, -1 paper."""
    lines = [line.split() for line in BITMAPS.split("\n") if line]
    return np.array(
        [[1 if c == "#" else -1 for line in lines for c in line[digit]] for digit in range(10)],
        float32,
    )
