"""Layers of detectors and segmenters: regions of interest, and resizing."""

from __future__ import annotations

from collections.abc import Sequence

from minicnn import functional as F
from minicnn.functional._check import integer, pair
from minicnn.nn.module import Module
from minicnn.tensor import Tensor

Size = int | tuple[int, int]
Factor = float | tuple[float, float]


class RoIPool(Module):
    """Take the maximum of each bin of each region of interest; see `functional.roi_pool`.

    Args:
        output_size: an integer or a (vertical, horizontal) pair.
        spatial_scale: what coordinates are multiplied by to become pixels of the input.
    """

    def __init__(self, output_size: Size, spatial_scale: float):
        super().__init__()
        pair("RoIPool", output_size, "output_size", 1)
        self.output_size = output_size
        self.spatial_scale = spatial_scale

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        return F.roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class RoIAlign(Module):
    """Take the mean of samples in each bin of each region; see `functional.roi_align`.

    Args:
        output_size, spatial_scale: as in RoIPool.
        sampling_ratio: samples along each axis of a bin; if not positive, ceil(bin size).
        aligned: shift the regions by half a pixel.
    """

    def __init__(
        self, output_size: Size, spatial_scale: float, sampling_ratio: int, aligned: bool = False
    ):
        super().__init__()
        pair("RoIAlign", output_size, "output_size", 1)
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = integer("RoIAlign", sampling_ratio, "sampling_ratio", -1)
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor | Sequence[Tensor]) -> Tensor:
        return F.roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}"
        )


class Upsample(Module):
    """Resize images; see `functional.interpolate`, whose arguments these are."""

    def __init__(
        self,
        size: Size | None = None,
        scale_factor: Factor | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ):
        super().__init__()
        if size is not None:
            pair("Upsample", size, "size", 1)
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        if self.scale_factor is not None:
            return f"scale_factor={self.scale_factor}, mode={self.mode!r}"
        return f"size={self.size}, mode={self.mode!r}"
