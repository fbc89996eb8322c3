"""Cases of `winograd.cu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minicnn.kernelcheck.case import Case, Rng


class Geometry(NamedTuple):
    """The sizes of a convolution."""

    batch: int
    channels: int
    height: int
    width: int
    out_channels: int
    kernel: int
    padding: tuple[int, int]
    groups: int = 1

    @property
    def output(self) -> tuple[int, int, int, int]:
        """Shape of the output."""
        lengths = (
            size + 2 * border - self.kernel + 1
            for size, border in zip((self.height, self.width), self.padding, strict=True)
        )
        return (self.batch, self.out_channels, *lengths)  # type: ignore[return-value]

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """Shape of the weight."""
        return self.out_channels, self.channels // self.groups, self.kernel, self.kernel


GEOMETRIES = {
    "one pixel": Geometry(1, 1, 1, 1, 1, 3, (1, 1)),
    "3x3, tiles over the border": Geometry(2, 3, 7, 6, 5, 3, (1, 1)),
    "3x3, no padding, groups": Geometry(2, 4, 9, 5, 6, 3, (0, 0), 2),
    "3x3, two paddings": Geometry(1, 3, 5, 6, 2, 3, (0, 2)),
    "5x5, tiles over the border": Geometry(2, 3, 5, 6, 4, 5, (2, 2)),
    "5x5, two paddings, groups": Geometry(1, 4, 6, 5, 6, 5, (4, 1), 2),
    "no image": Geometry(0, 3, 5, 5, 2, 3, (1, 1)),
}
MAIN = Geometry(2, 16, 16, 16, 16, 3, (1, 1))


def _forward(g: Geometry, rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    input = rng.standard_normal((g.batch, g.channels, g.height, g.width)).astype(dtype)
    weight, bias = rng.standard_normal(g.weight), rng.standard_normal(g.out_channels)
    return input, weight.astype(dtype), bias.astype(dtype), g.padding, g.groups


def _data(g: Geometry, rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    grad, weight = rng.standard_normal(g.output), rng.standard_normal(g.weight)
    return grad.astype(dtype), weight.astype(dtype), g.height, g.width, g.padding, g.groups


def _weight(g: Geometry, rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    input = rng.standard_normal((g.batch, g.channels, g.height, g.width)).astype(dtype)
    grad = rng.standard_normal(g.output).astype(dtype)
    return input, grad, (g.kernel, g.kernel), g.padding, g.groups


OPS: dict[str, Callable[[Geometry, Rng, np.dtype], tuple[Any, ...]]] = {
    "winograd_forward": _forward,
    "winograd_backward_data": _data,
    "winograd_backward_weight": _weight,
}


# A case for each instantiation of the product that the host can choose: the rows a thread takes,
# and one number or 16 bytes at a time.
def _one_product(rows: int, wide: bool, data: bool) -> Geometry:
    size, other = (8, 4) if wide else (4, 3)
    channels, out_channels = (rows, other) if data else (other, rows)
    return Geometry(1, channels, size, size, out_channels, 3, (1, 1))


INSTANTIATIONS = {
    op: {
        f"{rows} rows, {'wide' if wide else 'narrow'}": _one_product(rows, wide, data)
        for rows in (12, 60)
        for wide in (False, True)
    }
    for op, data in (
        ("winograd_forward", False),
        ("winograd_backward_data", True),
        ("winograd_backward_weight", False),
    )
}


def _case(op: str, rung: str, label: str, geometry: Geometry, main: bool = False) -> Case:
    batch, _, out_h, out_w = geometry.output
    pixels = batch * out_h * out_w
    products = pixels * geometry.out_channels * geometry.channels // geometry.groups
    length = pixels if op == "winograd_backward_weight" else geometry.channels * geometry.kernel**2
    if op == "winograd_backward_data":
        length = geometry.out_channels * geometry.kernel**2
    return Case(
        op,
        f"{rung}: {label}",
        lambda rng, dtype: OPS[op](geometry, rng, dtype),
        options={"algorithm": rung},
        device_options={"algorithm": "staged"},
        # Sums grow like the square root of their length, and so do the transforms' errors.
        atol=(1e-5 * max(length, 1) ** 0.5, 1e-13 * max(length, 1) ** 0.5),
        flops=lambda *arguments, **options: 2 * products * geometry.kernel**2,
        main=main,
    )


CASES = [
    _case(op, "staged", label, geometry)
    for op in OPS
    for label, geometry in {**GEOMETRIES, **INSTANTIATIONS[op]}.items()
]
CASES += [_case(op, "fused", "main", MAIN, main=True) for op in OPS]
