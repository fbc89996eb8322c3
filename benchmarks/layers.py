"""The convolutions and products of the networks, and how a result of one is checked.

    sum over o of sign[o] * output[n, o]  =  input[n] convolved with (sum of sign[o] * weight[o])

The check is Freivalds': multiply by random signs and add up along one axis, on both sides of the
equation. The right side then costs a fraction of the work, so that NumPy can do it in float64 at
full size, and every element of the result takes part: none can be wrong without the sum telling.
The data gradient is added up along the input channels, the weight gradient along the output
channels, within each group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.checks import compare

Array = NDArray[Any]


class Layer(NamedTuple):
    """A convolution of square images with square kernels."""

    name: str
    batch: int
    channels: int
    size: int
    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1

    @property
    def out_size(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        """Of the definition; an algorithm may need fewer."""
        taps = self.channels // self.groups * self.kernel**2
        return 2 * self.batch * self.out_channels * self.out_size**2 * taps

    @property
    def bytes(self) -> int:
        """Of the input, the weight and the output, each moved once, in float32."""
        images = self.batch * self.channels * self.size**2
        outputs = self.batch * self.out_channels * self.out_size**2
        taps = self.channels // self.groups * self.kernel**2
        return 4 * (images + outputs + self.out_channels * taps)

    @property
    def family(self) -> str:
        if self.stride == 1 and self.channels >= 16 and self.kernel in (3, 5):
            return f"{self.kernel}x{self.kernel}"
        return "1x1" if self.kernel == 1 else "strided or thin"

    def scaled(self, factor: float) -> Layer:
        """Return the layer with another batch."""
        return self._replace(batch=max(1, round(self.batch * factor)))


LAYERS = [
    Layer("AlexNet 1", 16, 3, 227, 96, 11, stride=4),
    Layer("AlexNet 2", 16, 96, 27, 256, 5, padding=2, groups=2),
    Layer("AlexNet 3", 16, 256, 13, 384, 3, padding=1),
    Layer("VGG 1_1", 4, 3, 224, 64, 3, padding=1),
    Layer("VGG 1_2", 4, 64, 224, 64, 3, padding=1),
    Layer("VGG 2_2", 4, 128, 112, 128, 3, padding=1),
    Layer("VGG 3_2", 8, 256, 56, 256, 3, padding=1),
    Layer("VGG 4_2", 8, 512, 28, 512, 3, padding=1),
    Layer("VGG 5", 8, 512, 14, 512, 3, padding=1),
    Layer("ResNet stem", 8, 3, 224, 64, 7, stride=2, padding=3),
    # PyTorch with one thread takes a slow path for 1x1 layers below 16 images.
    Layer("1x1 256 to 64", 16, 256, 56, 64, 1),
    Layer("1x1 1024 to 256", 16, 1024, 14, 256, 1),
    Layer("3x3 stride 2", 8, 128, 56, 128, 3, stride=2, padding=1),
    Layer("Inception 5x5", 8, 32, 28, 96, 5, padding=2),
    Layer("LeNet 1", 128, 1, 28, 20, 5),
    Layer("LeNet 2", 128, 20, 12, 50, 5),
]


class Product(NamedTuple):
    """A dense layer (batch, inputs) -> (batch, outputs), or a 1x1 convolution of an image."""

    name: str
    rows: int
    depth: int
    columns: int


# For each, x (rows, depth) times the weight (columns, depth) transposed, and both gradients.
PRODUCTS = [
    Product("AlexNet fc6", 64, 9216, 4096),
    Product("AlexNet fc7", 64, 4096, 4096),
    Product("VGG fc6", 16, 25088, 4096),
    Product("LeNet fc1", 128, 800, 500),
    Product("ResNet-50 fc", 16, 2048, 1000),
    Product("1x1 256 to 64", 3136, 256, 64),
    Product("1x1 1024 to 256", 3136, 1024, 256),
    Product("3x3 columns 512", 784, 4608, 512),
]


def arrays(layer: Layer) -> tuple[Array, Array, Array]:
    """Return an input, a weight and an output's gradient for a layer, float32."""
    rng = np.random.default_rng(0)
    taps = layer.channels // layer.groups, layer.kernel, layer.kernel
    shapes = (
        (layer.batch, layer.channels, layer.size, layer.size),
        (layer.out_channels, *taps),
        (layer.batch, layer.out_channels, layer.out_size, layer.out_size),
    )
    x, weight, grad = (rng.standard_normal(shape, np.float32) for shape in shapes)
    return x, weight / np.float32(np.sqrt(np.prod(taps))), grad


def check_forward(layer: Layer, x: Array, weight: Array, output: Array) -> None:
    """Raise WrongResult unless `output` is the convolution of `x` with `weight`."""
    signs, filters = _signs(layer.out_channels), _groups(weight, layer)
    projected = np.einsum("go,gocyx->gcyx", signs.reshape(layer.groups, -1), filters)
    expected = np.zeros((layer.batch, layer.groups, layer.out_size, layer.out_size))
    for ky, kx, window in _windows(layer, x):
        expected += np.einsum("ngcyx,gc->ngyx", window, projected[:, :, ky, kx])
    compare(_project(output, signs, layer.groups), expected)


def check_data(layer: Layer, grad: Array, weight: Array, grad_input: Array) -> None:
    """Raise WrongResult unless `grad_input` is the data gradient of `grad` and `weight`."""
    signs, filters = _signs(layer.channels), _groups(weight, layer)
    projected = np.einsum("gc,gocyx->goyx", signs.reshape(layer.groups, -1), filters)
    grads = grad.reshape(layer.batch, layer.groups, -1, *grad.shape[2:])
    side = layer.size + 2 * layer.padding
    expected = np.zeros((layer.batch, layer.groups, side, side))
    for ky, kx in np.ndindex(layer.kernel, layer.kernel):
        rows, columns = _places(layer, ky), _places(layer, kx)
        expected[:, :, rows, columns] += np.einsum("ngoyx,go->ngyx", grads, projected[:, :, ky, kx])
    inside = slice(layer.padding, layer.padding + layer.size)
    compare(_project(grad_input, signs, layer.groups), expected[:, :, inside, inside])


def check_weight(layer: Layer, x: Array, grad: Array, grad_weight: Array) -> None:
    """Raise WrongResult unless `grad_weight` is the weight gradient of `x` and `grad`."""
    signs = _signs(layer.out_channels)
    grads = _project(grad, signs, layer.groups)
    filters = _groups(grad_weight, layer)
    actual = np.einsum("go,gocyx->gcyx", signs.reshape(layer.groups, -1), filters)
    expected = np.empty((layer.groups, filters.shape[2], layer.kernel, layer.kernel))
    for ky, kx, window in _windows(layer, x):
        expected[:, :, ky, kx] = np.einsum("ngyx,ngcyx->gc", grads, window)
    compare(actual, expected)


def check_product(a: Array, b: Array, c: Array) -> None:
    """Raise WrongResult unless c = a @ b."""
    signs = _signs(b.shape[1])
    compare(c.astype(np.float64) @ signs, a.astype(np.float64) @ (b.astype(np.float64) @ signs))


def _signs(count: int) -> Array:
    return np.random.default_rng(1).choice([-1.0, 1.0], count)


def _groups(weight: Array, layer: Layer) -> Array:
    """Return the weight as (groups, outputs of a group, inputs of a group, ky, kx)."""
    return weight.reshape(layer.groups, -1, *weight.shape[1:])


def _project(maps: Array, signs: Array, groups: int) -> Array:
    """Add up the channels of each group with their signs: (N, C, H, W) to (N, groups, H, W)."""
    grouped = maps.reshape(maps.shape[0], groups, -1, *maps.shape[2:])
    return np.einsum("ngcyx,gc->ngyx", grouped, signs.reshape(groups, -1))


def _places(layer: Layer, tap: int) -> slice:
    """Return where, in the padded image, one row of the kernel lies for all outputs."""
    return slice(tap, tap + (layer.out_size - 1) * layer.stride + 1, layer.stride)


def _windows(layer: Layer, x: Array) -> Iterator[tuple[int, int, Array]]:
    """Yield for each tap what it sees, (N, groups, C / groups, out_y, out_x)."""
    pad = (layer.padding, layer.padding)
    padded = np.pad(x, ((0, 0), (0, 0), pad, pad))
    grouped = padded.reshape(layer.batch, layer.groups, -1, *padded.shape[2:])
    for ky, kx in np.ndindex(layer.kernel, layer.kernel):
        yield ky, kx, grouped[..., _places(layer, ky), _places(layer, kx)]
