"""Cases of `conv2d.cu`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels.im2col import output_size

# Shape of the input, output channels, kernel, and then stride, padding, dilation, groups. Tiles
# have 16, 32, 64 or 128 channels and 128 positions, slabs a depth of 16.
Geometry = tuple[Any, ...]


def _pointwise(channels: int, out_channels: int, size: tuple[int, int]) -> Geometry:
    return ((2, channels, *size), out_channels, (1, 1), (1, 1), (0, 0), (1, 1), 1)


GEOMETRIES: dict[str, Geometry] = {
    "3x3, padding 1": ((2, 3, 9, 8), 5, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "one pixel": ((1, 1, 1, 1), 1, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "all different": ((3, 4, 11, 9), 6, (3, 2), (2, 3), (2, 1), (2, 3), 2),
    "stride meets dilation": ((2, 2, 10, 13), 3, (3, 4), (4, 2), (1, 2), (2, 2), 1),
    "more stride than kernel": ((2, 2, 9, 11), 2, (1, 2), (3, 4), (0, 1), (1, 1), 1),
    "more stride than pixels": ((1, 2, 2, 3), 2, (2, 2), (5, 4), (1, 1), (1, 1), 1),
    "a group a channel": ((2, 5, 6, 6), 5, (3, 3), (1, 1), (1, 1), (1, 1), 5),
    "no image": ((0, 2, 5, 5), 4, (3, 3), (1, 1), (0, 0), (1, 1), 2),
}
# Several tiles in every direction, with edges and aligned; each has its number of rows a thread.
TILES: dict[str, Geometry] = {
    "edges of tiles": ((3, 20, 7, 7), 35, (3, 3), (1, 1), (1, 1), (1, 1), 1),
    "aligned": ((1, 36, 12, 12), 68, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "cut sum": ((5, 2, 12, 12), 4, (2, 2), (1, 1), (1, 1), (1, 1), 1),
    "wide": ((1, 130, 2, 3), 132, (1, 1), (1, 1), (0, 0), (1, 1), 1),
}
# A case for each instantiation that the host can choose: the rows a thread takes, and whether 16
# bytes are stored at a time, which what lies along a row of C decides.
INSTANTIATIONS: dict[str, dict[str, Geometry]] = {
    op: {
        f"{rows} rows, {'wide' if wide else 'narrow'}": geometry(rows, wide)
        for rows in (12, 28, 60, 124)
        for wide in (False, True)
    }
    for op, geometry in {
        "conv2d_forward": lambda rows, wide: _pointwise(3, rows, (2, 6) if wide else (3, 3)),
        "conv2d_backward_data": lambda rows, wide: _pointwise(rows, 3, (2, 6) if wide else (3, 3)),
        "conv2d_backward_weight": lambda rows, wide: _pointwise(4 if wide else 3, rows, (3, 3)),
    }.items()
}
# 128 rows of the tile and 128 columns, most of them full.
MAIN: Geometry = ((1, 8, 4, 32), 128, (3, 3), (1, 1), (1, 1), (1, 1), 1)
MAIN_DATA: Geometry = ((1, 128, 4, 32), 8, (3, 3), (1, 1), (1, 1), (1, 1), 1)


def _output_shape(geometry: Geometry) -> tuple[int, ...]:
    (batch, _, *size), out_channels, *steps, _ = geometry
    return (batch, out_channels, *(output_size(*each) for each in zip(size, *steps, strict=True)))


def _normal(rng: Rng, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def _weight_shape(geometry: Geometry) -> tuple[int, ...]:
    shape, out_channels, kernel, *_, groups = geometry
    return (out_channels, shape[1] // groups, *kernel)


def _forward(geometry: Geometry, rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    input = _normal(rng, geometry[0], dtype)
    weight = _normal(rng, _weight_shape(geometry), dtype)
    return input, weight, _normal(rng, (geometry[1],), dtype), *geometry[3:]


def _data(geometry: Geometry, rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    grad_output = _normal(rng, _output_shape(geometry), dtype)
    weight = _normal(rng, _weight_shape(geometry), dtype)
    return grad_output, weight, *geometry[0][2:], *geometry[3:]


def _weight(geometry: Geometry, rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    input = _normal(rng, geometry[0], dtype)
    return input, _normal(rng, _output_shape(geometry), dtype), *geometry[2:]


OPS = {
    "conv2d_forward": _forward,
    "conv2d_backward_data": _data,
    "conv2d_backward_weight": _weight,
}


# References for the larger arguments of stride 1, dilation 1 and one group, on which plain loops
# take half a second: one product of matrices, in float64, for each place of the kernel.


def _places(kernel: Any, height: int, width: int) -> Iterator[tuple[Any, Any]]:
    """Yield each place of the kernel with the `height` x `width` pixels that it meets."""
    for ky, kx in np.ndindex(*kernel):
        yield (..., ky, kx), (..., slice(ky, ky + height), slice(kx, kx + width))


def _pad(image: np.ndarray, padding: Any) -> np.ndarray:
    pad_y, pad_x = padding
    return np.pad(image.astype(np.float64), ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))


def _forward_by_matrices(input, weight, bias, stride, padding, dilation, groups):
    assert (*stride, *dilation, groups) == (1, 1, 1, 1, 1)
    padded = _pad(input, padding)
    height, width = (padded.shape[i] - weight.shape[i] + 1 for i in (2, 3))
    output = np.zeros((len(input), len(weight), height, width)) + bias[:, None, None]
    for place, part in _places(weight.shape[2:], height, width):
        output += np.einsum("oc,nchw->nohw", weight[place], padded[part], optimize=True)
    return output


def _data_by_matrices(grad_output, weight, height, width, stride, padding, dilation, groups):
    assert (*stride, *dilation, groups) == (1, 1, 1, 1, 1)
    grads = grad_output.astype(np.float64)
    padded = _pad(np.zeros((len(grads), weight.shape[1], height, width)), padding)
    for place, part in _places(weight.shape[2:], *grads.shape[2:]):
        padded[part] += np.einsum("oc,nohw->nchw", weight[place], grads, optimize=True)
    return padded[..., padding[0] : padding[0] + height, padding[1] : padding[1] + width]


def _weight_by_matrices(input, grad_output, kernel, stride, padding, dilation, groups):
    assert (*stride, *dilation, groups) == (1, 1, 1, 1, 1)
    padded, grads = _pad(input, padding), grad_output.astype(np.float64)
    grad_weight = np.zeros((grads.shape[1], input.shape[1], *kernel))
    for place, part in _places(kernel, *grads.shape[2:]):
        grad_weight[place] = np.einsum("nohw,nchw->oc", grads, padded[part], optimize=True)
    return grad_weight


BY_MATRICES: dict[str, Any] = {
    "conv2d_forward": _forward_by_matrices,
    "conv2d_backward_data": _data_by_matrices,
    "conv2d_backward_weight": _weight_by_matrices,
}


def _case(
    op: str, rung: str, label: str, geometry: Geometry, main: bool = False, large: bool = False
) -> Case:
    (_, group_channels, kernel_h, kernel_w), output = (
        _weight_shape(geometry),
        _output_shape(geometry),
    )
    products = group_channels * kernel_h * kernel_w * output[0] * output[1] * output[2] * output[3]
    length = {
        "conv2d_forward": group_channels * kernel_h * kernel_w,
        "conv2d_backward_data": geometry[1] // geometry[-1] * kernel_h * kernel_w,
        "conv2d_backward_weight": output[0] * output[2] * output[3],
    }[op]
    return Case(
        op,
        f"{rung}: {label}",
        lambda rng, dtype: OPS[op](geometry, rng, dtype),
        # The CPU's fastest has Winograd's rounding errors, which would hide a wrong sum.
        options={"algorithm": "im2col"},
        device_options={"algorithm": rung},
        reference=BY_MATRICES[op] if large else None,
        # Each of `length` additions rounds a sum that grows like its square root.
        atol=(2e-6 + 2e-7 * length, 1e-14 + 4e-16 * length),
        flops=lambda *arguments, algorithm: 2 * products,
        main=main,
    )


CASES: list[Case] = []
for _op in OPS:
    CASES += [_case(_op, "implicit", label, g) for label, g in GEOMETRIES.items()]
    for _label, _geometry in {**TILES, **INSTANTIATIONS[_op]}.items():
        CASES.append(_case(_op, "implicit", _label, _geometry, large=True))
    for _rung in ("direct", "im2col"):
        CASES += [
            _case(_op, _rung, label, GEOMETRIES[label])
            for label in ("3x3, padding 1", "all different", "more stride than kernel", "no image")
        ]
    _main = MAIN_DATA if _op == "conv2d_backward_data" else MAIN
    for _rung in ("direct", "implicit"):
        CASES.append(_case(_op, _rung, "main", _main, main=True, large=True))
