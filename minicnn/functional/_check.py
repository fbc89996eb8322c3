"""The checks that every function makes before it calls a kernel, each with the same wording."""

from __future__ import annotations

import operator
from typing import Any

from minicnn.backend import mixed_devices, on_one_device
from minicnn.tensor import Tensor, float32, float64

Pair = tuple[int, int]


def positional(name: str, value: Any, argument: str = "input") -> Tensor:
    """Return `value` if it is a Tensor.

    Raises:
        TypeError: naming the function, the argument and what came instead.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {argument} is a {type(value).__name__}, expected a Tensor")
    return value


def floating(
    name: str, value: Any, argument: str = "input", *, like: Tensor | None = None
) -> Tensor:
    """Return `value` if it is a float32 or float64 Tensor, of dtype and device of `like`."""
    tensor = positional(name, value, argument)
    if tensor.dtype not in (float32, float64):
        raise TypeError(f"{name}: {argument} has dtype {tensor.dtype}, expected float32 or float64")
    if like is not None and tensor.dtype != like.dtype:
        raise TypeError(
            f"{name}: {argument} has dtype {tensor.dtype}, expected {like.dtype} like the input"
        )
    return tensor if like is None else beside(name, tensor, argument, like)


def beside(name: str, tensor: Tensor, argument: str, like: Tensor, other: str = "input") -> Tensor:
    """Return `tensor` if it is on the device of `like`.

    Raises:
        RuntimeError: naming the function, both arguments and both devices.
    """
    if not on_one_device(tensor.data, like.data):
        raise mixed_devices(name, argument, tensor.device, other, like.device)
    return tensor


def dimensions(name: str, tensor: Tensor, ndim: int, layout: str, argument: str = "input") -> None:
    """Raise ValueError unless `tensor` has `ndim` dimensions, described by `layout`."""
    if tensor.ndim != ndim:
        raise ValueError(f"{name}: {argument} has shape {tensor.shape}, expected {layout}")


def integer(name: str, value: Any, argument: str, minimum: int) -> int:
    """Return `value` as an int of at least `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = minimum - 1
    if number < minimum or isinstance(value, bool):
        raise ValueError(
            f"{name}: {argument} is {value!r}, expected an integer of at least {minimum}"
        )
    return number


def pair(name: str, value: Any, argument: str, minimum: int) -> Pair:
    """Read an integer or a (vertical, horizontal) pair of them, each at least `minimum`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name}: {argument} is {value!r}, expected an integer or a pair of them")
    vertical, horizontal = (integer(name, v, argument, minimum) for v in values)
    return vertical, horizontal


def dimension(name: str, dim: Any, ndim: int) -> int:
    """Return `dim`, counted from the end if negative, as an index into `ndim` dimensions."""
    try:
        index = operator.index(dim)
    except TypeError:
        raise ValueError(f"{name}: dim is {dim!r}, expected an integer") from None
    if not -max(ndim, 1) <= index < max(ndim, 1):
        raise ValueError(
            f"{name}: dim is {index}, expected one of the {ndim} dimensions of the input"
        )
    return index % max(ndim, 1)


def probability(name: str, value: Any, argument: str = "p") -> float:
    """Return `value` as a float between 0 and 1."""
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name}: {argument} is {value!r}, expected a number between 0 and 1")
    return float(value)


def nonnegative(name: str, value: Any, argument: str) -> float:
    """Return `value` as a float that is not below 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ValueError(f"{name}: {argument} is {value!r}, expected a number not below 0")
    return float(value)
