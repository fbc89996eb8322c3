"""The layers: state and settings; each forward is one call of `minicnn.functional`.

Signatures, defaults, state-dict keys and initial distributions are PyTorch's. Constructors check
their arguments, so that a wrong setting is reported where it was written; shapes and dtypes of
inputs are checked by the function that is called.
"""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import DTypeLike

from minicnn import creation
from minicnn import functional as F
from minicnn.functional._check import integer, pair, probability
from minicnn.nn import init
from minicnn.nn.module import Module, Parameter
from minicnn.tensor import Tensor, float32

Size = int | tuple[int, int]
Pair = tuple[int, int]


class Identity(Module):
    """Return the input; stands where a network needs nothing. Arguments are ignored."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Flatten(Module):
    """Join dimensions, by default all but the batch's: (N, C, H, W) becomes (N, C*H*W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


# Weighted layers ---------------------------------------------------------------------------------


class _Weighted(Module):
    """What dense and convolutional layers share: weight, bias and their first values."""

    weight: Parameter
    bias: Parameter | None

    def _add_parameters(
        self, weight_shape: tuple[int, ...], outputs: int, bias: bool, dtype: DTypeLike | None
    ) -> None:
        dtype = float32 if dtype is None else dtype
        # The system hands out zeros by the page, when they are first touched: they cost nothing.
        make = creation.zeros if init.is_skipping() else creation.empty
        self.weight = Parameter(make(weight_shape, dtype=dtype))
        self.register_parameter("bias", Parameter(make(outputs, dtype=dtype)) if bias else None)
        if not init.is_skipping():
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-a, a), a = 1 / sqrt(fan_in), with the default generator."""
        # kaiming_uniform_ with a = sqrt(5) is that very distribution, and how PyTorch writes it.
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.calculate_fan(self.weight)[0])
            init.uniform_(self.bias, -bound, bound)


class Linear(_Weighted):
    """Apply y = x W^T + b to the last dimension; see `functional.linear`.

    Args:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
        bias: whether to add b.
        dtype: of the parameters, float32 if None.

    Attributes:
        weight: (out_features, in_features).
        bias: (out_features,) or None.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: DTypeLike | None = None,
    ):
        super().__init__()
        self.in_features = integer("Linear", in_features, "in_features", 1)
        self.out_features = integer("Linear", out_features, "out_features", 1)
        self._add_parameters((out_features, in_features), out_features, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class _Convolution(_Weighted):
    """The settings that Conv2d and ConvTranspose2d share."""

    output_padding: Pair = (0, 0)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        dilation: Size,
        groups: int,
        padding_mode: str,
    ):
        super().__init__()
        name = type(self).__name__
        self.in_channels = integer(name, in_channels, "in_channels", 1)
        self.out_channels = integer(name, out_channels, "out_channels", 1)
        self.kernel_size = pair(name, kernel_size, "kernel_size", 1)
        self.stride = pair(name, stride, "stride", 1)
        self.dilation = pair(name, dilation, "dilation", 1)
        self.groups = integer(name, groups, "groups", 1)
        for argument in ("in_channels", "out_channels"):
            if getattr(self, argument) % groups:
                raise ValueError(
                    f"{name}: groups is {groups}, which does not divide {argument}, "
                    f"{getattr(self, argument)}"
                )
        if padding_mode != "zeros":
            raise ValueError(f"{name}: padding_mode is {padding_mode!r}, expected 'zeros'")

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        defaults = {"padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1}
        for name, default in defaults.items():
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text if self.bias is not None else f"{text}, bias=False"


class Conv2d(_Convolution):
    """Correlate images with learned filters; see `functional.conv2d`.

    Args:
        in_channels, out_channels: channels of input and output.
        kernel_size, stride, padding, dilation: an integer or a (vertical, horizontal) pair; padding
            also "valid" (none) or "same" (the output keeps the input's size; stride 1 only).
        groups: divides the channels into groups that do not see each other.
        bias: whether to add one number to each output channel.
        padding_mode: only "zeros".
        dtype: of the parameters, float32 if None.

    Attributes:
        weight: (out_channels, in_channels / groups, kernel_h, kernel_w).
        bias: (out_channels,) or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, dilation, groups, padding_mode
        )
        if isinstance(padding, str) and padding not in ("valid", "same"):
            raise ValueError(
                f"Conv2d: padding is {padding!r}, expected 'valid', 'same', an integer or a pair"
            )
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f"Conv2d: padding 'same' needs stride 1, got {stride}")
        self.padding = (
            padding if isinstance(padding, str) else pair("Conv2d", padding, "padding", 0)
        )
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self._add_parameters(shape, out_channels, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )


class ConvTranspose2d(_Convolution):
    """Enlarge images: the adjoint of Conv2d in its input; see `functional.conv_transpose2d`.

    Args:
        in_channels, out_channels: channels of input and output.
        kernel_size, stride, padding, dilation: of the convolution whose adjoint this is.
        output_padding: rows and columns added at one side, to choose among the sizes that the
            convolution would map to the input's; less than stride or dilation.
        groups: divides the channels into groups that do not see each other.
        bias: whether to add one number to each output channel.
        padding_mode: only "zeros".
        dtype: of the parameters, float32 if None.

    Attributes:
        weight: (in_channels, out_channels / groups, kernel_h, kernel_w).
        bias: (out_channels,) or None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        *,
        dtype: DTypeLike | None = None,
    ):
        super().__init__(
            in_channels, out_channels, kernel_size, stride, dilation, groups, padding_mode
        )
        self.padding = pair("ConvTranspose2d", padding, "padding", 0)
        self.output_padding = pair("ConvTranspose2d", output_padding, "output_padding", 0)
        for extra, s, d in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra >= max(s, d):
                raise ValueError(
                    f"ConvTranspose2d: output_padding is {output_padding}, expected less than "
                    f"stride {stride} or dilation {dilation}"
                )
        shape = (in_channels, out_channels // groups, *self.kernel_size)
        self._add_parameters(shape, out_channels, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv_transpose2d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


# Pooling -----------------------------------------------------------------------------------------


class MaxPool2d(Module):
    """Take the largest value of each window; see `functional.max_pool2d`.

    Args:
        kernel_size: an integer or a (vertical, horizontal) pair, as are the next three.
        stride: kernel_size if None.
        padding: at most half of kernel_size; padded places never win.
        dilation: distance between the elements of a window.
        ceil_mode: let the last window reach over the edge.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        *,
        ceil_mode: bool = False,
    ):
        super().__init__()
        _check_window("MaxPool2d", kernel_size, stride, padding)
        pair("MaxPool2d", dilation, "dilation", 1)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return F.max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """Average each window; see `functional.avg_pool2d`.

    Args:
        kernel_size: an integer or a (vertical, horizontal) pair, as are the next two.
        stride: kernel_size if None.
        padding: at most half of kernel_size.
        ceil_mode: let the last window reach over the edge.
        count_include_pad: divide by the window with its padding rather than by the pixels in it.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        _check_window("AvgPool2d", kernel_size, stride, padding)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptivePool(Module):
    def __init__(self, output_size: int | None | tuple[int | None, int | None]):
        super().__init__()
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,)
        known = [size for size in sizes if size is not None]
        if len(sizes) > 2:
            raise ValueError(
                f"{type(self).__name__}: output_size is {output_size!r}, expected one size or two"
            )
        for size in known:
            integer(type(self).__name__, size, "output_size", 1)
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_AdaptivePool):
    """Average over windows chosen to give `output_size` (None keeps the input's size)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size)


class AdaptiveMaxPool2d(_AdaptivePool):
    """Take the maximum over windows chosen to give `output_size` (None keeps the input's size)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(input, self.output_size)


def _check_window(name: str, kernel_size: Any, stride: Any, padding: Any) -> None:
    kernel = pair(name, kernel_size, "kernel_size", 1)
    if stride is not None:
        pair(name, stride, "stride", 1)
    for size, width in zip(kernel, pair(name, padding, "padding", 0), strict=True):
        if width > size // 2:
            raise ValueError(
                f"{name}: padding is {padding}, expected at most half of kernel_size {kernel_size}"
            )


# Activations -------------------------------------------------------------------------------------


class ReLU(Module):
    """Apply max(0, x).

    Args:
        inplace: accepted and printed, so that PyTorch's models can be written as they are; the
            input is never overwritten.
    """

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """Apply x where x > 0, else negative_slope * x. `inplace` as in ReLU."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class Sigmoid(Module):
    """Apply 1 / (1 + exp(-x))."""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Tanh(Module):
    """Apply tanh(x)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class Softmax(Module):
    """Turn scores along `dim` into probabilities that sum to 1."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """Turn scores along `dim` into logarithms of probabilities."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Dropout(Module):
    """In training, set elements to 0 with probability p and scale the others by 1 / (1 - p).

    Draws come from the default generator. `inplace` as in ReLU.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        self.p = probability("Dropout", p)
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
