"""Pooling over regions of interest: RoI pooling with whole pixels, RoIAlign between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minicnn.autograd import Function
from minicnn.backend import on_device_of
from minicnn.creation import empty, full
from minicnn.functional._check import Pair, dimensions, floating, integer, pair
from minicnn.functional.shape import cat
from minicnn.kernels import roi_align as align_kernels
from minicnn.kernels import roi_pool as pool_kernels
from minicnn.tensor import Tensor

FARTHEST = 2**29  # coordinates are cast to int32, and sums of two must fit


class RoiPool(Function):
    def forward(self, input, *, rois, output_size, spatial_scale):
        self.scale, self.size = spatial_scale, _batch_and_pixels(input)
        output, argmax = pool_kernels.roi_pool_forward(input, rois, output_size, spatial_scale)
        self.save(rois, argmax)
        return output

    def backward(self, grad_output):
        rois, argmax = self.saved
        return RoiPoolBackward.apply(
            grad_output,
            rois=rois.data,
            argmax=argmax.data,
            spatial_scale=self.scale,
            size=self.size,
        )


class RoiPoolBackward(Function):
    """Add every gradient to the pixel that won its bin."""

    def forward(self, grad_output, *, rois, argmax, spatial_scale, size):
        self.scale = spatial_scale
        self.save(rois, argmax)
        return pool_kernels.roi_pool_backward(grad_output, rois, argmax, spatial_scale, size)

    def backward(self, grad_input):
        rois, argmax = self.saved
        return RoiPoolGather.apply(
            grad_input, rois=rois.data, argmax=argmax.data, spatial_scale=self.scale
        )


class RoiPoolGather(Function):
    """Read each bin's winner: the adjoint of RoiPoolBackward."""

    def forward(self, input, *, rois, argmax, spatial_scale):
        self.scale, self.size = spatial_scale, _batch_and_pixels(input)
        self.save(rois, argmax)
        return pool_kernels.roi_pool_gather(input, rois, argmax)

    def backward(self, grad_output):
        rois, argmax = self.saved
        return RoiPoolBackward.apply(
            grad_output,
            rois=rois.data,
            argmax=argmax.data,
            spatial_scale=self.scale,
            size=self.size,
        )


class RoiAlign(Function):
    def forward(self, input, *, rois, output_size, rule):
        self.rule, self.size = rule, _batch_and_pixels(input)
        self.save(rois)
        return align_kernels.roi_align_forward(input, rois, output_size, *rule)

    def backward(self, grad_output):
        (rois,) = self.saved
        return RoiAlignBackward.apply(grad_output, rois=rois.data, rule=self.rule, size=self.size)


class RoiAlignBackward(Function):
    """The adjoint of RoiAlign, and RoiAlign its own: sampling is linear."""

    def forward(self, grad_output, *, rois, rule, size):
        self.rule, self.output_size = rule, grad_output.shape[2:]
        self.save(rois)
        scale, samples, aligned = rule
        return align_kernels.roi_align_backward(grad_output, rois, scale, samples, aligned, size)

    def backward(self, grad_input):
        (rois,) = self.saved
        return RoiAlign.apply(
            grad_input, rois=rois.data, output_size=self.output_size, rule=self.rule
        )


def roi_pool(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Pair,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Take the maximum of each of out_h x out_w bins that share out each region of interest.

    The ends of a region are scaled and rounded to whole pixels, halves away from zero, and both
    count: from x1 to x2 there are x2 - x1 + 1 pixels. Bins are rounded outwards and overlap by a
    pixel where their size is no whole number; what lies outside of the image is cut off, and a bin
    of nothing else is 0. A region with its ends the wrong way round is one pixel.

    Args:
        input: (N, C, height, width).
        boxes: (K, 5), each row the index of an image in the batch, x1, y1, x2, y2; or a list of
            (L, 4) boxes without index, a tensor for each image. They receive no gradient.
        output_size: an integer or a (vertical, horizontal) pair.
        spatial_scale: what coordinates are multiplied by to become pixels of the input, such as
            1 / 16 behind four poolings.

    Returns:
        A tensor (K, C, out_h, out_w).

    Raises:
        ValueError: when shapes do not fit, boxes name an image that is not there, or coordinates
            are not finite.
        TypeError: for integers, or boxes of another dtype.

    Girshick, "Fast R-CNN", 2015, section 2.1.
    """
    name = "roi_pool"
    rois, size, scale = _arguments(name, input, boxes, output_size, spatial_scale)
    return RoiPool.apply(input, rois=rois, output_size=size, spatial_scale=scale)


def roi_align(
    input: Tensor,
    boxes: Tensor | Sequence[Tensor],
    output_size: int | Pair,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Take the mean of bilinear samples in each of out_h x out_w bins of each region of interest.

    Nothing is rounded: bins and samples lie where they lie, between pixels. A sample more than one
    pixel outside of the image counts as 0, others as the nearest pixels.

    Args:
        input, boxes, output_size, spatial_scale: as in `roi_pool`; but ends are points, so that
            from x1 to x2 the length is x2 - x1.
        sampling_ratio: samples along each axis of a bin; if not positive, ceil(bin size).
        aligned: shift the regions by half a pixel, since pixel i reaches from i to i + 1 and its
            value belongs to its centre. Without it, regions are at least one pixel long.

    Returns:
        A tensor (K, C, out_h, out_w).

    Raises:
        ValueError, TypeError: as `roi_pool`.

    He et al., "Mask R-CNN", 2017, section 3.
    """
    name = "roi_align"
    rois, size, scale = _arguments(name, input, boxes, output_size, spatial_scale)
    samples = integer(name, sampling_ratio, "sampling_ratio", -1)
    rule = scale, samples, bool(aligned)
    return RoiAlign.apply(input, rois=rois, output_size=size, rule=rule)


def _arguments(
    name: str, input: Tensor, boxes: Any, output_size: Any, spatial_scale: Any
) -> tuple[Any, Pair, float]:
    """Return the regions (K, 5) as an array, the output's size and the scale, all checked."""
    dimensions(name, floating(name, input), 4, "(N, C, height, width)")
    if 0 in input.shape[2:]:
        raise ValueError(f"{name}: input has shape {input.shape}, expected at least one pixel")
    size = pair(name, output_size, "output_size", 1)
    if not isinstance(spatial_scale, (int, float)) or not 0 < spatial_scale < math.inf:
        raise ValueError(f"{name}: spatial_scale is {spatial_scale!r}, expected a positive number")
    if isinstance(boxes, (list, tuple)):
        boxes = _with_index(name, boxes, input)
    floating(name, boxes, "boxes", like=input)
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ValueError(
            f"{name}: boxes have shape {boxes.shape}, expected (K, 5): the index of an image, "
            "x1, y1, x2, y2"
        )
    with on_device_of(input.data):
        _check_values(name, boxes.data, input.shape[0], float(spatial_scale))
    return boxes.data, size, float(spatial_scale)


def _with_index(name: str, boxes: Sequence[Any], input: Tensor) -> Tensor:
    """Join a list of boxes (L, 4), one tensor an image, to rois (K, 5)."""
    if len(boxes) != input.shape[0]:
        raise ValueError(
            f"{name}: boxes has {len(boxes)} tensors, expected {input.shape[0]}, one an image"
        )
    rows = [empty(0, 5, dtype=input.dtype, device=input.device)]
    for i, some in enumerate(boxes):
        floating(name, some, f"boxes[{i}]", like=input)
        dimensions(name, some, 2, "(L, 4)", f"boxes[{i}]")
        if some.shape[1] != 4:
            raise ValueError(f"{name}: boxes[{i}] has shape {some.shape}, expected (L, 4)")
        index = full((len(some), 1), i, dtype=input.dtype, device=input.device)
        rows.append(cat([index, some.detach()], 1))
    return cat(rows)


def _check_values(name: str, rois: Any, batch: int, scale: float) -> None:
    """Raise ValueError unless the kernels can use every number; NaN passes no comparison."""
    if len(rois) == 0:
        return
    low, high = float(rois[:, 0].min()), float(rois[:, 0].max())
    if not 0 <= low <= high < batch:
        raise ValueError(
            f"{name}: boxes name images {low:g} to {high:g}, expected 0 to {batch - 1}"
        )
    low, high = float(rois[:, 1:].min()), float(rois[:, 1:].max())
    limit = FARTHEST / max(scale, 1.0)
    if not -limit < low <= high < limit:
        raise ValueError(
            f"{name}: boxes have coordinates from {low:g} to {high:g}, expected finite ones less "
            f"than {limit:g} from zero"
        )


def _batch_and_pixels(images: Any) -> tuple[int, int, int]:
    batch, _, height, width = images.shape
    return batch, height, width
