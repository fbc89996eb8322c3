"""AlexNet in two towers on two devices, as the paper trained it on two GPUs of 3 GB each.

    layer              a tower's kernels    sees
    conv1                     48            the images
    LRN, pooling
    conv2                    128            its own maps
    LRN, pooling
    conv3                    192            the maps of both towers
    conv4                    192            its own maps
    conv5, pooling           128            its own maps
    fc6                     2048            the maps of both towers
    fc7                     2048            the outputs of both towers
    fc8             half of the classes     the outputs of both towers

Every device holds half of the kernels of each layer (section 3.2, figure 2). The towers talk only
in front of conv3 and of the three dense layers: each gets a copy of what the other has made.
In between they compute side by side where the devices do. Each tower normalises its own maps.

It is the same function as `AlexNet(groups=2, lrn_groups=2)` on one device: `from_alexnet` and
`to_alexnet` turn one into the other. Scores are the same bits wherever a kernel sums an output in
an order that does not depend on how many outputs there are. The gradient of what both towers have
seen is a sum of two halves, and so differs in its rounding: a step of training is that of one
device within 5e-6 of a tensor's largest value in float32, within 1e-14 in float64.

Differences from the paper: those of `minicnn.models.alexnet`, but for the response normalisation,
which is the paper's here. Each tower draws its own dropout, which on one device is one draw: equal
in distribution.

Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks", 2012, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minicnn import nn
from minicnn.backend import check_device
from minicnn.functional import cat
from minicnn.grad_mode import no_grad
from minicnn.models.alexnet import PAPER, PAPER_INIT, AlexNet, Conv, GroupedLRN
from minicnn.models.classifier import Classifier
from minicnn.models.initialize import Rules
from minicnn.models.sizes import Size
from minicnn.tensor import Tensor

Pair = tuple[Tensor, Tensor]


class Tower(nn.Module):
    """One half of the kernels of every layer of an AlexNet; the weights are not filled.

    Args:
        whole: the network that it is half of.
        half: which half, 0 or 1.

    Attributes:
        features, classifier: layers as `AlexNet` names them.
    """

    def __init__(self, whole: AlexNet, half: int):
        super().__init__()
        layers: dict[str, nn.Module] = {}
        with nn.init.skip_init():
            for name, layer in whole.features.named_children():
                if isinstance(layer, nn.Conv2d):
                    layers[name] = nn.Conv2d(
                        layer.in_channels // layer.groups, layer.out_channels // 2,
                        layer.kernel_size, layer.stride, layer.padding,
                    )  # fmt: skip
                elif isinstance(layer, GroupedLRN):
                    layers[name] = GroupedLRN()
                elif isinstance(layer, nn.MaxPool2d):
                    layers[name] = nn.MaxPool2d(layer.kernel_size, layer.stride)
                else:
                    layers[name] = nn.ReLU()
            self.features = nn.Sequential(layers)
            layers = {}
            for name, layer in whole.classifier.named_children():
                if isinstance(layer, nn.Linear):
                    own = _half(layer.out_features, half)
                    layers[name] = nn.Linear(layer.in_features, own.stop - own.start)
                else:
                    layers[name] = nn.Dropout(layer.p) if name.startswith("drop") else nn.ReLU()
            self.classifier = nn.Sequential(layers)

    @property
    def device(self) -> str:
        return self.classifier.fc8.weight.device


class AlexNetTwoDevices(Classifier):
    """AlexNet whose two towers are on two devices.

    Images may be on any device, scores are on the first tower's. `.to(device)` brings both towers
    to one device; `place` takes them apart again.

    Args:
        in_channels, num_classes, input_size, width, convs, hidden, lrn, overlapping, dropout, init:
            see `AlexNet`.
        devices: of the first and of the second tower; they may be one.

    Attributes:
        towers: the two halves.

    Raises:
        ValueError: for arguments out of range, a device that cannot be used, fewer than two
            classes, and in `forward` for images of another shape.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1000,
        input_size: int | Size = 227,
        width: float = 1.0,
        *,
        devices: Sequence[str] = ("cuda:0", "cuda:1"),
        convs: Sequence[Conv] = PAPER,
        hidden: int = 4096,
        lrn: bool = True,
        overlapping: bool = True,
        dropout: float = 0.5,
        init: Rules = PAPER_INIT,
    ):
        super().__init__(in_channels, num_classes, input_size)
        if self.num_classes < 2:
            raise ValueError(
                f"AlexNetTwoDevices: num_classes is {num_classes}, expected at least 2, one a tower"
            )
        devices = _two_devices(devices)
        self._options: dict[str, Any] = {
            "in_channels": in_channels, "num_classes": num_classes, "input_size": input_size,
            "width": width, "convs": tuple(convs), "hidden": hidden, "groups": 2, "lrn": lrn,
            "lrn_groups": 2, "overlapping": overlapping, "dropout": dropout,
        }  # fmt: skip
        whole = AlexNet(**self._options, init=init)
        self.towers = nn.ModuleList([Tower(whole, 0), Tower(whole, 1)])
        self._split(whole)
        self.place(devices)

    @classmethod
    def from_alexnet(
        cls, model: AlexNet, devices: Sequence[str] = ("cuda:0", "cuda:1")
    ) -> AlexNetTwoDevices:
        """Return the two halves of a network, which stays as it is.

        Args:
            model: an AlexNet with two groups, of kernels and of response normalisation.
            devices: see the class.

        Raises:
            ValueError: for another number of groups, or a device that cannot be used.
        """
        options = _options(model)
        with nn.init.skip_init():
            made = cls(**options, devices=("cpu", "cpu"))
        made.to(model.classifier.fc8.weight.dtype)
        made._split(model)
        made.train(model.training)
        return made.place(devices)

    def to_alexnet(self) -> AlexNet:
        """Return one network with the weights of both towers, on the CPU."""
        with nn.init.skip_init():
            whole = AlexNet(**self._options).to(self.towers[0].classifier.fc8.weight.dtype)
        first, second = (dict(tower.named_parameters()) for tower in self.towers)
        with no_grad():
            for name, parameter in whole.named_parameters():
                parameter.copy_(cat([first[name].cpu(), second[name].cpu()]))
        return whole.train(self.training)

    @property
    def devices(self) -> tuple[str, str]:
        """Where the towers are."""
        first, second = self.towers
        return first.device, second.device

    def place(self, devices: Sequence[str]) -> AlexNetTwoDevices:
        """Move the first tower to the first device and the second to the second; return self."""
        for tower, device in zip(self.towers, _two_devices(devices), strict=True):
            tower.to(device)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to scores (N, num_classes) on the first tower's device."""
        self.check_images(images)
        first, second = self.towers
        maps = images.to(first.device), images.to(second.device)
        for i, layers in enumerate(zip(first.features, second.features, strict=True)):
            if i and self._sees_both(i):
                maps = self._exchanged(maps)
            maps = layers[0](maps[0]), layers[1](maps[1])
        outputs = maps[0].flatten(1), maps[1].flatten(1)
        for layers in zip(first.classifier, second.classifier, strict=True):
            if isinstance(layers[0], nn.Linear):
                outputs = self._exchanged(outputs)
            outputs = layers[0](outputs[0]), layers[1](outputs[1])
        return cat([outputs[0], outputs[1].to(first.device)], 1)

    def _sees_both(self, i: int) -> bool:
        """Whether layer `i`, not the first, is a convolution that takes the maps of both towers."""
        layer = self.towers[0].features[i]
        if not isinstance(layer, nn.Conv2d):
            return False
        before = [x for x in self.towers[0].features[:i] if isinstance(x, nn.Conv2d)]
        return layer.in_channels == 2 * before[-1].out_channels

    def _exchanged(self, halves: Pair) -> Pair:
        """Give each tower both halves, its own and a copy of the other's, in one order."""
        first, second = halves
        return (
            cat([first, second.to(first.device)], 1),
            cat([first.to(second.device), second], 1),
        )

    def _split(self, whole: AlexNet) -> None:
        """Copy to each tower its half of the weights."""
        with no_grad():
            for half, tower in enumerate(self.towers):
                own = dict(tower.named_parameters())
                for name, parameter in whole.named_parameters():
                    own[name].copy_(parameter.detach()[_half(len(parameter), half)])

    def map_size(self, size: Size | None = None) -> Size:
        """Return the size of the last map, the same in both towers; see `Classifier.map_size`."""
        with nn.init.skip_init():
            return AlexNet(**self._options).map_size(size)


def _half(count: int, half: int) -> slice:
    """Return which of `count` kernels a tower has; of an odd number the first has one more."""
    middle = (count + 1) // 2
    return slice(0, middle) if half == 0 else slice(middle, count)


def _two_devices(devices: Sequence[str]) -> tuple[str, str]:
    if isinstance(devices, str) or len(devices) != 2:
        raise ValueError(f"devices: got {devices!r}, expected two names, one a tower")
    first, second = devices
    return check_device(first), check_device(second)


def _options(model: AlexNet) -> dict[str, Any]:
    """Read from the layers of a network how it was built."""
    convs, layers = [], dict(model.features.named_children())
    names = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d)]
    for name in names:
        layer, number = layers[name], name.removeprefix("conv")
        if layer.groups not in (1, 2):
            raise ValueError(f"model: {name} has {layer.groups} groups, expected at most 2")
        norm = layers.get(f"norm{number}")
        if norm is not None and norm.groups != 2:
            raise ValueError(
                f"model: norm{number} has {norm.groups} groups, expected 2: build the network with "
                "lrn_groups=2, since each tower normalises its own maps"
            )
        convs.append(
            Conv(
                layer.out_channels, layer.kernel_size[0], layer.stride[0], layer.padding[0],
                layer.groups == 2, norm is not None, f"pool{number}" in layers,
            )
        )  # fmt: skip
    if all(not conv.split for conv in convs):
        raise ValueError("model: no layer has 2 groups, expected a network with groups=2")
    pools = [layer for layer in layers.values() if isinstance(layer, nn.MaxPool2d)]
    channels, height, width = model.input_shape
    return {
        "in_channels": channels, "num_classes": model.num_classes, "input_size": (height, width),
        "convs": convs, "hidden": model.classifier.fc6.out_features,
        "lrn": any(conv.norm for conv in convs),
        "overlapping": not pools or pools[0].kernel_size in (3, (3, 3)),
        "dropout": model.classifier.drop6.p,
    }  # fmt: skip
