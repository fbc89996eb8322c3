"""Sums, means, extremes and variances over chosen dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.autograd import Function
from minicnn.backend import get_array_module, on_device_of
from minicnn.functional._check import dimension, positional
from minicnn.functional.arithmetic import div, log, sqrt
from minicnn.functional.arithmetic import exp as exp_
from minicnn.functional.shape import expand, gather, reshape, squeeze, unsqueeze
from minicnn.kernels._sum import sum_around
from minicnn.tensor import Tensor

Dims = tuple[int, ...]


class Sum(Function):
    def forward(self, a, *, dims):
        self.shape = a.shape
        total = sum_around(a, dims) if get_array_module(a) is np else None
        return a.sum(axis=dims, keepdims=True) if total is None else total

    def backward(self, grad_output):
        return expand(grad_output, self.shape)


class Amax(Function):
    def forward(self, a, *, dims):
        output = a.max(axis=dims, keepdims=True)
        self.dims = dims
        self.save(a, output)
        return output

    def backward(self, grad_output):
        a, output = self.saved
        ties = (a == output).to(grad_output.dtype)
        return ties * (grad_output / sum(ties, self.dims, keepdim=True))


def sum(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """Sum over `dim`, one or several dimensions, or over all of them."""
    input, dims = positional("sum", input), _dims("sum", input, dim)
    return _drop(Sum.apply(input, dims=dims), dims, keepdim)


def mean(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """Average over `dim`; integers give floats."""
    input = positional("mean", input)
    return div(sum(input, dim, keepdim), _count(input, _dims("mean", input, dim)))


def var(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    correction: int = 1,
    keepdim: bool = False,
) -> Tensor:
    """Return the variance: the squared deviations' sum divided by count - correction.

    `correction=1` is the unbiased estimate (PyTorch's default), 0 the population's variance.
    """
    input = positional("var", input)
    dims = _dims("var", input, dim)
    deviation = input - mean(input, dims, keepdim=True)
    divisor = _count(input, dims) - correction
    return div(sum(deviation * deviation, dims, keepdim), divisor if divisor > 0 else float("nan"))


def std(
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    correction: int = 1,
    keepdim: bool = False,
) -> Tensor:
    """Return the standard deviation, the root of `var`."""
    return sqrt(var(input, dim, correction, keepdim))


def amax(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """Return the largest value; the gradient is shared evenly between equal ones."""
    input = positional("amax", input)
    dims = _filled_dims("amax", input, dim)
    return _drop(Amax.apply(input, dims=dims), dims, keepdim)


def amin(input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """Return the smallest value; the gradient is shared evenly between equal ones."""
    return -amax(-positional("amin", input), dim, keepdim)


def max(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the largest value, or with `dim` the pair (values, indices of the first largest)."""
    if dim is None:
        return amax(input)
    return _select("max", input, argmax(input, dim, keepdim=True), dim, keepdim)


def min(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """Return the smallest value, or with `dim` the pair (values, indices of the first smallest)."""
    if dim is None:
        return amin(input)
    return _select("min", input, argmin(input, dim, keepdim=True), dim, keepdim)


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the index of the first largest value along `dim`, or in the flattened tensor."""
    return _arg("argmax", input, dim, keepdim)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Return the index of the first smallest value along `dim`, or in the flattened tensor."""
    return _arg("argmin", input, dim, keepdim)


def logsumexp(input: Tensor, dim: int | Sequence[int], keepdim: bool = False) -> Tensor:
    """Return log(sum(exp(input))) over `dim`, computed without overflow."""
    input = positional("logsumexp", input)
    dims = _filled_dims("logsumexp", input, dim)
    xp = get_array_module(input.data)
    with on_device_of(input.data):
        largest = input.data.max(axis=dims, keepdims=True)
        shift = Tensor(xp.where(xp.isfinite(largest), largest, 0))
    return _drop(log(sum(exp_(input - shift), dims, keepdim=True)) + shift, dims, keepdim)


def sum_to(input: Tensor, shape: Sequence[int]) -> Tensor:
    """Sum over the dimensions along which `shape` would be broadcast to the input's shape."""
    shape = tuple(shape)
    if input.shape == shape:
        return input
    lead = input.ndim - len(shape)
    dims = [
        *range(lead),
        *(lead + i for i, n in enumerate(shape) if n == 1 != input.shape[lead + i]),
    ]
    return reshape(sum(input, dims, keepdim=True), shape)


def _dims(name: str, input: Tensor, dim: Any) -> Dims:
    if dim is None:
        return tuple(range(input.ndim))
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    indices = tuple(dimension(name, d, input.ndim) for d in dims)
    if len(set(indices)) != len(indices):
        raise ValueError(f"{name}: dim is {dim!r}, expected each dimension at most once")
    return indices if input.ndim else ()


def _filled_dims(name: str, input: Tensor, dim: Any) -> Dims:
    dims = _dims(name, input, dim)
    if _count(input, dims) == 0:
        raise ValueError(f"{name}: got shape {input.shape}, expected at least one value to reduce")
    return dims


def _count(input: Tensor, dims: Dims) -> int:
    count = 1
    for d in dims:
        count *= input.shape[d]
    return count


def _drop(reduced: Tensor, dims: Dims, keepdim: bool) -> Tensor:
    if keepdim or not dims:
        return reduced
    return reshape(reduced, tuple(n for d, n in enumerate(reduced.shape) if d not in dims))


def _arg(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    array = positional(name, input).data
    _filled_dims(name, input, dim)
    xp = get_array_module(array)
    # CuPy knows no axis 0 of a number.
    axis = None if dim is None or not input.ndim else dimension(name, dim, input.ndim)
    with on_device_of(array):
        index = getattr(xp, name)(array, axis=axis)
    if axis is None:
        return Tensor._wrap(index)
    return unsqueeze(Tensor._wrap(index), axis) if keepdim else Tensor._wrap(index)


def _select(
    name: str, input: Tensor, index: Tensor, dim: int, keepdim: bool
) -> tuple[Tensor, Tensor]:
    if input.ndim == 0:
        return input, index
    dim = dimension(name, dim, input.ndim)
    values = gather(input, dim, index)
    return (values, index) if keepdim else (squeeze(values, dim), squeeze(index, dim))
