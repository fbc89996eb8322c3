"""Cases of `im2col.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels.im2col import output_size

Pair = tuple[int, int]
Geometry = tuple[tuple[int, int, int, int], Pair, Pair, Pair, Pair]
Maker = Callable[[Rng, np.dtype], tuple[Any, ...]]

# The shape of the image, kernel, stride, padding, dilation.
GEOMETRIES: dict[str, Geometry] = {
    "3x3, padding 1": ((2, 3, 9, 8), (3, 3), (1, 1), (1, 1), (1, 1)),
    "stride 2, no padding": ((3, 2, 7, 10), (3, 2), (2, 2), (0, 0), (1, 1)),
    "all different": ((2, 3, 11, 9), (3, 2), (2, 3), (2, 1), (2, 3)),
    "more stride than kernel": ((1, 2, 9, 11), (1, 2), (3, 4), (0, 1), (1, 1)),
    "windows in the padding alone": ((1, 1, 2, 1), (2, 1), (1, 2), (3, 2), (1, 1)),
    "no image": ((0, 2, 5, 5), (3, 3), (1, 1), (0, 0), (1, 1)),
}


def _image(geometry: Geometry) -> Maker:
    shape, *rest = geometry

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        return (rng.standard_normal(shape).astype(dtype), *rest)

    return arguments


def _columns(geometry: Geometry) -> Maker:
    (batch, channels, height, width), kernel, stride, padding, dilation = geometry
    sizes = zip((height, width), kernel, stride, padding, dilation, strict=True)
    shape = (channels, *kernel, batch, *(output_size(*each) for each in sizes))

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        columns = rng.standard_normal(shape).astype(dtype)
        return columns, height, width, stride, padding, dilation

    return arguments


CASES = [
    Case(op, label, maker(geometry), exact=True, main=label == "3x3, padding 1")
    for label, geometry in GEOMETRIES.items()
    for op, maker in [("im2col", _image), ("col2im", _columns)]
]
