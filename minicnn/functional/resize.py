"""Resizing of images: nearest pixel or bilinear interpolation."""

from __future__ import annotations

import math
from typing import Any

from minicnn.autograd import Function
from minicnn.functional._check import Pair, dimensions, floating, pair
from minicnn.kernels import resize as kernels
from minicnn.tensor import Tensor

MODES = ("nearest", "nearest-exact", "bilinear")


class ResizeNearest(Function):
    def forward(self, input, *, output_size, factor, exact):
        self.size, self.rule = input.shape[2:], (factor, exact)
        return kernels.resize_nearest_forward(input, output_size, factor, exact)

    def backward(self, grad_output):
        factor, exact = self.rule
        return ResizeNearestBackward.apply(
            grad_output, input_size=self.size, factor=factor, exact=exact
        )


class ResizeNearestBackward(Function):
    """The adjoint of ResizeNearest, and ResizeNearest its own: resizing is linear."""

    def forward(self, grad_output, *, input_size, factor, exact):
        self.size, self.rule = grad_output.shape[2:], (factor, exact)
        return kernels.resize_nearest_backward(grad_output, input_size, factor, exact)

    def backward(self, grad_input):
        factor, exact = self.rule
        return ResizeNearest.apply(grad_input, output_size=self.size, factor=factor, exact=exact)


class ResizeBilinear(Function):
    def forward(self, input, *, output_size, factor, align_corners):
        self.size, self.rule = input.shape[2:], (factor, align_corners)
        return kernels.resize_bilinear_forward(input, output_size, factor, align_corners)

    def backward(self, grad_output):
        factor, align_corners = self.rule
        return ResizeBilinearBackward.apply(
            grad_output, input_size=self.size, factor=factor, align_corners=align_corners
        )


class ResizeBilinearBackward(Function):
    """The adjoint of ResizeBilinear, and ResizeBilinear its own."""

    def forward(self, grad_output, *, input_size, factor, align_corners):
        self.size, self.rule = grad_output.shape[2:], (factor, align_corners)
        return kernels.resize_bilinear_backward(grad_output, input_size, factor, align_corners)

    def backward(self, grad_input):
        factor, align_corners = self.rule
        return ResizeBilinear.apply(
            grad_input, output_size=self.size, factor=factor, align_corners=align_corners
        )


def interpolate(
    input: Tensor,
    size: int | Pair | None = None,
    scale_factor: float | tuple[float, float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
) -> Tensor:
    """Resize images to `size`, or by `scale_factor` to floor(scale_factor * old size).

    Pixels are squares: those of the output cover the same picture as those of the input, and each
    takes its value from around its centre. With `align_corners` the centres of the outermost pixels
    are kept in place instead.

    Args:
        input: (N, C, height, width).
        size, scale_factor: one of the two, each a number or a (vertical, horizontal) pair.
        mode: "nearest" (the pixel at floor(out * old size / new size), as PyTorch has always had
            it), "nearest-exact" (the pixel whose centre is nearest) or "bilinear".
        align_corners: for "bilinear" only; None is False.
        recompute_scale_factor: derive the distance of samples from the two sizes, as with `size`,
            rather than from `scale_factor`, which may differ where that was rounded.

    Returns:
        A tensor (N, C, out_h, out_w).

    Raises:
        ValueError: when not exactly one of size and scale_factor is given, or settings do not fit.
        TypeError: for integers.
    """
    name = "interpolate"
    dimensions(name, floating(name, input), 4, "(N, C, height, width)")
    if mode not in MODES:
        raise ValueError(f"{name}: mode is {mode!r}, expected one of {', '.join(map(repr, MODES))}")
    if align_corners is not None and mode != "bilinear":
        raise ValueError(
            f"{name}: align_corners is {align_corners!r}, expected None for mode {mode!r}"
        )
    if 0 in input.shape[2:]:
        raise ValueError(f"{name}: input has shape {input.shape}, expected at least one pixel")
    output_size, factor = _sizes(name, input.shape[2:], size, scale_factor)
    if recompute_scale_factor:
        if factor is None:
            raise ValueError(f"{name}: recompute_scale_factor is for scale_factor, got size")
        factor = None
    if mode == "bilinear":
        return ResizeBilinear.apply(
            input, output_size=output_size, factor=factor, align_corners=bool(align_corners)
        )
    exact = mode == "nearest-exact"
    return ResizeNearest.apply(input, output_size=output_size, factor=factor, exact=exact)


def _sizes(
    name: str, old: tuple[int, ...], size: Any, scale_factor: Any
) -> tuple[Pair, tuple[float, float] | None]:
    """Return the output's size, and the factors if those were given."""
    if (size is None) == (scale_factor is None):
        got = "neither" if size is None else "both"
        raise ValueError(f"{name}: got {got} of size and scale_factor, expected one of them")
    if size is not None:
        return pair(name, size, "size", 1), None
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * 2
    good = [isinstance(f, (int, float)) and 0 < f < math.inf for f in factors]
    if len(factors) != 2 or not all(good):
        raise ValueError(
            f"{name}: scale_factor is {scale_factor!r}, expected a positive number or a pair"
        )
    out_h, out_w = (math.floor(n * f) for n, f in zip(old, factors, strict=True))
    if out_h < 1 or out_w < 1:
        raise ValueError(
            f"{name}: scale_factor {scale_factor!r} leaves {(out_h, out_w)} pixels of {old}"
        )
    return (out_h, out_w), (float(factors[0]), float(factors[1]))
