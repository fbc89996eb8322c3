"""Convolution, transposed convolution, and the weight gradient that both share.

The three operations below are the three ways to hold one argument of the same trilinear form free,
so the derivative of each is made of the other two, and derivatives of every order follow:

    Conv2d:           input, weight       -> output
    ConvTranspose2d:  output, weight      -> input
    Conv2dWeight:     input, output       -> weight
"""

from __future__ import annotations

from dataclasses import dataclass

from minicnn.autograd import Function
from minicnn.functional._check import Pair, dimensions, floating, integer, pair
from minicnn.functional.reduce import sum
from minicnn.kernels import conv2d as kernels
from minicnn.kernels.im2col import output_size
from minicnn.tensor import Tensor


@dataclass(frozen=True)
class Geometry:
    """How windows lie on the image; the same for a convolution and its derivatives."""

    kernel_size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def steps(self) -> tuple[Pair, Pair, Pair, int]:
        return self.stride, self.padding, self.dilation, self.groups


class Conv2d(Function):
    def forward(self, input, weight, bias, *, geometry):
        self.save(input, weight)
        self.geometry, self.size = geometry, input.shape[2:]
        return kernels.conv2d_forward(input, weight, bias, *geometry.steps)

    def backward(self, grad_output):
        input, weight = self.saved
        need_input, need_weight, need_bias = self.needs_grad
        options = {"geometry": self.geometry}
        return (
            ConvTranspose2d.apply(grad_output, weight, None, size=self.size, **options)
            if need_input
            else None,
            Conv2dWeight.apply(input, grad_output, **options) if need_weight else None,
            sum(grad_output, (0, 2, 3)) if need_bias else None,
        )


class ConvTranspose2d(Function):
    """The data gradient of Conv2d, as an operation of its own; `size` is that of its output."""

    def forward(self, input, weight, bias, *, size, geometry):
        self.save(input, weight)
        self.geometry = geometry
        output = kernels.conv2d_backward_data(input, weight, *size, *geometry.steps)
        if bias is not None:
            output += bias[:, None, None]
        return output

    def backward(self, grad_output):
        input, weight = self.saved
        need_input, need_weight, need_bias = self.needs_grad
        options = {"geometry": self.geometry}
        return (
            Conv2d.apply(grad_output, weight, None, **options) if need_input else None,
            Conv2dWeight.apply(grad_output, input, **options) if need_weight else None,
            sum(grad_output, (0, 2, 3)) if need_bias else None,
        )


class Conv2dWeight(Function):
    """The weight gradient of Conv2d as a function of the input and the output's gradient."""

    def forward(self, input, grad_output, *, geometry):
        self.save(input, grad_output)
        self.geometry, self.size = geometry, input.shape[2:]
        return kernels.conv2d_backward_weight(
            input, grad_output, geometry.kernel_size, *geometry.steps
        )

    def backward(self, grad_weight):
        input, grad_output = self.saved
        need_input, need_grad_output = self.needs_grad
        options = {"geometry": self.geometry}
        return (
            ConvTranspose2d.apply(grad_output, grad_weight, None, size=self.size, **options)
            if need_input
            else None,
            Conv2d.apply(input, grad_weight, None, **options) if need_grad_output else None,
        )


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve images with kernels (a cross-correlation: the kernel is not flipped).

    out_h = floor((height + 2 padding - dilation (kernel_h - 1) - 1) / stride) + 1, out_w likewise.

    Args:
        input: (N, C, height, width).
        weight: (C_out, C / groups, kernel_h, kernel_w).
        bias: (C_out), or None.
        stride, padding, dilation: an integer or a (vertical, horizontal) pair; padding also
            "valid", or "same" with stride 1 and windows of odd extent.
        groups: both channel counts are divisible by it; each group sees its own input channels.

    Returns:
        A tensor (N, C_out, out_h, out_w).

    Raises:
        ValueError: when shapes or sizes do not fit.
        TypeError: for integers or mixed dtypes.
    """
    name = "conv2d"
    geometry = _geometry(name, input, weight, stride, padding, dilation, groups)
    channels, (out_channels, group_channels) = input.shape[1], weight.shape[:2]
    if channels != group_channels * geometry.groups or out_channels % geometry.groups:
        raise ValueError(
            f"{name}: input of shape {input.shape} and weight of shape {weight.shape} do not fit "
            f"with groups={geometry.groups}: expected C = weight.shape[1] * groups, and C_out "
            "divisible by groups"
        )
    _bias(name, bias, input, out_channels)
    sizes = zip(
        input.shape[2:], geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation,
        strict=True,
    )  # fmt: skip
    if min(output_size(*each) for each in sizes) < 1:
        raise ValueError(
            f"{name}: the kernel {geometry.kernel_size} with dilation {geometry.dilation} is "
            f"larger than the input {input.shape[2:]} with padding {geometry.padding}"
        )
    return Conv2d.apply(input, weight, bias, geometry=geometry)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    output_padding: int | Pair = 0,
    groups: int = 1,
    dilation: int | Pair = 1,
) -> Tensor:
    """Apply the transpose of a convolution: what conv2d does to gradients, as an operation.

    out_h = (height - 1) stride - 2 padding + dilation (kernel_h - 1) + output_padding + 1.

    Args:
        input: (N, C, height, width).
        weight: (C, C_out / groups, kernel_h, kernel_w): the weight of the convolution it
            transposes.
        bias: (C_out), or None.
        stride, padding, dilation, groups: those of that convolution.
        output_padding: rows and columns added at the bottom and right, less than stride or
            dilation.

    Returns:
        A tensor (N, C_out, out_h, out_w).

    Raises:
        ValueError: when shapes or sizes do not fit.
        TypeError: for integers or mixed dtypes.
    """
    name = "conv_transpose2d"
    geometry = _geometry(name, input, weight, stride, padding, dilation, groups)
    extra = pair(name, output_padding, "output_padding", 0)
    channels, out_channels = input.shape[1], weight.shape[1] * geometry.groups
    if channels != weight.shape[0] or channels % geometry.groups:
        raise ValueError(
            f"{name}: input of shape {input.shape} and weight of shape {weight.shape} do not fit "
            f"with groups={geometry.groups}: expected C = weight.shape[0], divisible by groups"
        )
    _bias(name, bias, input, out_channels)
    size = []
    for axis in (0, 1):
        step, d = geometry.stride[axis], geometry.dilation[axis]
        if extra[axis] >= max(step, d):
            raise ValueError(
                f"{name}: output_padding is {extra}, expected less than the stride or the dilation"
            )
        length = (input.shape[2 + axis] - 1) * step - 2 * geometry.padding[axis]
        size.append(length + d * (geometry.kernel_size[axis] - 1) + extra[axis] + 1)
    if min(size) < 1:
        raise ValueError(f"{name}: the output would have the size {tuple(size)}")
    return ConvTranspose2d.apply(input, weight, bias, size=tuple(size), geometry=geometry)


def _geometry(
    name: str, input: Tensor, weight: Tensor, stride: object, padding: object, dilation: object,
    groups: object,
) -> Geometry:  # fmt: skip
    """Check what conv2d and conv_transpose2d have in common."""
    input = floating(name, input)
    weight = floating(name, weight, "weight", like=input)
    dimensions(name, input, 4, "(N, C, height, width)")
    dimensions(name, weight, 4, "(channels, channels / groups, kernel_h, kernel_w)", "weight")
    if 0 in weight.shape:
        raise ValueError(f"{name}: weight has shape {weight.shape}, expected no empty dimension")
    kernel_size = (weight.shape[2], weight.shape[3])
    steps = pair(name, stride, "stride", 1)
    spread = pair(name, dilation, "dilation", 1)
    if padding == "valid":
        padding = 0
    elif padding == "same":
        extents = [d * (k - 1) for d, k in zip(spread, kernel_size, strict=True)]
        if steps != (1, 1) or any(extent % 2 for extent in extents):
            raise ValueError(
                f"{name}: padding 'same' needs stride 1 and windows of odd extent, "
                f"got stride {steps}, kernel {kernel_size}, dilation {spread}"
            )
        padding = tuple(extent // 2 for extent in extents)
    border = pair(name, padding, "padding", 0)
    return Geometry(kernel_size, steps, border, spread, integer(name, groups, "groups", 1))


def _bias(name: str, bias: Tensor | None, input: Tensor, out_channels: int) -> None:
    if bias is None:
        return
    floating(name, bias, "bias", like=input)
    if bias.shape != (out_channels,):
        raise ValueError(f"{name}: bias has shape {bias.shape}, expected ({out_channels},)")
