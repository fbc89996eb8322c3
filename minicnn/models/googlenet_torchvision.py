"""The GoogLeNet of torchvision: its keys and its numbers.

Differences from the paper's:
- Batch norm with eps = 1e-3 follows every convolution, which has no bias; responses are not
  normalised.
- The windows of the third branch are 3x3, where the paper has 5x5: an error that the library's
  weights rely on.
- The pooling after inception4e is 2x2.
- Heads pool maps of any size to 4x4, the same for images of 224 x 224.
- Dropout in front of fc is 0.2.
- First values are drawn from the normal distribution of standard deviation 0.01; biases of dense
  layers are PyTorch's.
- On request, pixels that were normalised by ImageNet's statistics, as those of its other networks
  are, become (pixel - 0.5) / 0.5, as the authors of its weights had them.

It has 6,624,904 parameters without heads, 13,004,888 with them; 1,498,376,192 multiply-adds, in
training 1,506,748,416.
"""

from __future__ import annotations

from minicnn.creation import tensor
from minicnn.models.googlenet import PAPER, GoogLeNet, GoogLeNetOutputs, Pool
from minicnn.models.initialize import Rules
from minicnn.models.sizes import Size
from minicnn.nn import AdaptiveAvgPool2d, Module
from minicnn.tensor import Tensor

TABLE = PAPER._replace(layers={**PAPER.layers, "maxpool4": Pool(2)})
INIT: Rules = {"*.weight": {"name": "trunc_normal", "std": 0.01}}
# Of the pixels of ImageNet's training images: red, green, blue.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class TorchvisionGoogLeNet(GoogLeNet):
    """The GoogLeNet of torchvision: batch norm, 3x3 for 5x5, its keys and its numbers.

    Args:
        in_channels, num_classes, input_size, width, aux, dropout: as in `GoogLeNet`; training too
            takes images of any size.
        transform_input: whether to take pixels normalised by ImageNet's mean and standard deviation
            and to give those normalised by 0.5 and 0.5 to the layers, as the library does for the
            weights that it publishes.

    Raises:
        ValueError: for transform_input with other than three channels, and what `GoogLeNet` raises.
    """

    third_kernel = 3
    norm_eps = 1e-3

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 224,
        width: float = 1.0,
        *,
        aux: bool = True,
        dropout: float = 0.2,
        transform_input: bool = False,
    ):
        super().__init__(
            in_channels, num_classes, input_size, width, table=TABLE, aux=aux, lrn=False,
            dropout=dropout, batch_norm=True, init=INIT,
        )  # fmt: skip
        if transform_input and in_channels != 3:
            raise ValueError(
                f"TorchvisionGoogLeNet: in_channels is {in_channels}, but transform_input takes "
                "red, green and blue"
            )
        self.transform_input = transform_input
        if transform_input:
            scale = [[[s / 0.5]] for s in STD]
            shift = [[[(m - 0.5) / 0.5]] for m in MEAN]
            # Follow the network to its device and dtype; not in its files.
            self.register_buffer("scale", tensor(scale), persistent=False)
            self.register_buffer("shift", tensor(shift), persistent=False)

    def forward(self, images: Tensor) -> Tensor | GoogLeNetOutputs:
        """Map images (N, C, H, W) to scores (N, num_classes), in training to those of heads too."""
        self.check_images(images)
        if self.transform_input:
            images = images * self.scale + self.shift
        return super().forward(images)

    def _head_pool(self) -> Module:
        return AdaptiveAvgPool2d(4)
