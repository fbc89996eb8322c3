"""Maximum and average pooling over sliding or adaptive windows."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Function
from minicnn.functional._check import Pair, dimensions, floating, pair
from minicnn.kernels import adaptive_pool as adaptive_kernels
from minicnn.kernels import pool as kernels
from minicnn.tensor import Tensor


class MaxPool2d(Function):
    def forward(self, input, *, window):
        self.size = input.shape[2:]
        output, argmax = self.pool(input, window)
        self.save(argmax)
        return output

    def backward(self, grad_output):
        (argmax,) = self.saved
        return MaxPool2dBackward.apply(
            grad_output, argmax=argmax.data, size=self.size, window=self.window
        )

    def pool(self, input, window):
        self.window = window[:4]
        return kernels.max_pool2d_forward(input, *window)


class AdaptiveMaxPool2d(MaxPool2d):
    """Other windows, the same winners: only the pooling itself differs."""

    def pool(self, input, window):
        self.window = None
        return adaptive_kernels.adaptive_max_pool2d_forward(input, window)


class MaxPool2dBackward(Function):
    """Add every gradient to the pixel that won its window."""

    def forward(self, grad_output, *, argmax, size, window):
        self.window = window
        self.save(argmax)
        height, width = size
        return kernels.max_pool2d_backward(grad_output, argmax, height, width, window)

    def backward(self, grad_input):
        (argmax,) = self.saved
        return MaxPool2dGather.apply(grad_input, argmax=argmax.data, window=self.window)


class MaxPool2dGather(Function):
    """Read each window's winner: the adjoint of MaxPool2dBackward."""

    def forward(self, input, *, argmax, window):
        self.size, self.window = input.shape[2:], window
        self.save(argmax)
        return kernels.max_pool2d_gather(input, argmax)

    def backward(self, grad_output):
        (argmax,) = self.saved
        return MaxPool2dBackward.apply(
            grad_output, argmax=argmax.data, size=self.size, window=self.window
        )


class AvgPool2d(Function):
    def forward(self, input, *, window):
        self.window, self.size = window, input.shape[2:]
        return kernels.avg_pool2d_forward(input, *window)

    def backward(self, grad_output):
        return AvgPool2dBackward.apply(grad_output, size=self.size, window=self.window)


class AvgPool2dBackward(Function):
    """The adjoint of AvgPool2d, and AvgPool2d its own: averaging is linear."""

    def forward(self, grad_output, *, size, window):
        self.window = window
        return kernels.avg_pool2d_backward(grad_output, *size, *window)

    def backward(self, grad_input):
        return AvgPool2d.apply(grad_input, window=self.window)


class AdaptiveAvgPool2d(Function):
    def forward(self, input, *, output_size):
        self.size = input.shape[2:]
        return adaptive_kernels.adaptive_avg_pool2d_forward(input, output_size)

    def backward(self, grad_output):
        return AdaptiveAvgPool2dBackward.apply(grad_output, size=self.size)


class AdaptiveAvgPool2dBackward(Function):
    def forward(self, grad_output, *, size):
        self.output_size = grad_output.shape[2:]
        return adaptive_kernels.adaptive_avg_pool2d_backward(grad_output, *size)

    def backward(self, grad_input):
        return AdaptiveAvgPool2d.apply(grad_input, output_size=self.output_size)


def max_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """Take the maximum of each window; its gradient goes to the first maximum in row-major order.

    out_h = floor((height + 2 padding - dilation (kernel_h - 1) - 1) / stride) + 1, with `ceil_mode`
    rounded up, less a last window that would begin beyond the image and its left padding. Padding
    counts as -inf.

    Args:
        input: (N, C, height, width).
        kernel_size, stride, padding, dilation: an integer or a (vertical, horizontal) pair; the
            default stride is the kernel size; padding is at most half the kernel.

    Returns:
        A tensor (N, C, out_h, out_w).

    Raises:
        ValueError: when sizes do not fit.
        TypeError: for integers.
    """
    name = "max_pool2d"
    window = _window(name, input, kernel_size, stride, padding, dilation, ceil_mode)
    return MaxPool2d.apply(input, window=(*window, bool(ceil_mode)))


def avg_pool2d(
    input: Tensor,
    kernel_size: int | Pair,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Take the average of each window.

    The divisor is the number of positions inside the padded image (the overhang of `ceil_mode`
    never counts), or inside the image proper with `count_include_pad=False`. Sizes and errors as
    `max_pool2d`.
    """
    name = "avg_pool2d"
    *window, _ = _window(name, input, kernel_size, stride, padding, 1, ceil_mode)
    return AvgPool2d.apply(input, window=(*window, bool(ceil_mode), bool(count_include_pad)))


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Average over out_h x out_w windows that cover the image evenly.

    Window i spans rows floor(i * height / out_h) to ceil((i + 1) * height / out_h).

    Args:
        input: (N, C, height, width).
        output_size: an integer or a pair (out_h, out_w), where None keeps the input's size.
    """
    bins = _output_size("adaptive_avg_pool2d", input, output_size)
    return AdaptiveAvgPool2d.apply(input, output_size=bins)


def adaptive_max_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Take the maximum over out_h x out_w windows; windows as in `adaptive_avg_pool2d`."""
    bins = _output_size("adaptive_max_pool2d", input, output_size)
    return AdaptiveMaxPool2d.apply(input, window=bins)


def _window(
    name: str, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool,
) -> tuple[Pair, Pair, Pair, Pair]:  # fmt: skip
    dimensions(name, floating(name, input), 4, "(N, C, height, width)")
    kernel = pair(name, kernel_size, "kernel_size", 1)
    steps = kernel if stride is None else pair(name, stride, "stride", 1)
    border = pair(name, padding, "padding", 0)
    spread = pair(name, dilation, "dilation", 1)
    if border[0] > kernel[0] // 2 or border[1] > kernel[1] // 2:
        raise ValueError(
            f"{name}: padding is {border}, expected at most half of the kernel {kernel}"
        )
    sizes = zip(input.shape[2:], kernel, steps, border, spread, strict=True)
    if min(kernels.pool_output_size(*each, ceil_mode) for each in sizes) < 1:
        raise ValueError(
            f"{name}: the kernel {kernel} with dilation {spread} is larger than the input "
            f"{input.shape[2:]} with padding {border}"
        )
    return kernel, steps, border, spread


def _output_size(name: str, input: Tensor, output_size: Any) -> Pair:
    dimensions(name, floating(name, input), 4, "(N, C, height, width)")
    if 0 in input.shape[2:]:
        raise ValueError(f"{name}: input has shape {input.shape}, expected at least one pixel")
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(wanted) == 2:
        wanted = [n if n is not None else input.shape[2 + i] for i, n in enumerate(wanted)]
    return pair(name, wanted, "output_size", 1)
