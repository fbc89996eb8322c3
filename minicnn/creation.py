"""Functions that make tensors from numbers, shapes or chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minicnn.backend import array_module, get_array_module, on_device, on_device_of, to_device
from minicnn.random import Generator, default_generator
from minicnn.tensor import Tensor, as_array, float32
from minicnn.tensor_methods import as_shape


def tensor(
    data: Any,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
    *,
    device: str | None = None,
) -> Tensor:
    """Copy `data` (an array, a tensor, nested sequences, a number) into a new tensor.

    Without `device` it is where `data` is.
    """
    array = as_array(data, dtype)
    with on_device_of(array):
        array = array.copy()
    return Tensor(array if device is None else to_device(array, device), requires_grad)


def from_numpy(array: NDArray) -> Tensor:
    """Return a tensor that shares memory with `array`.

    Raises:
        TypeError: when `array` is not a NumPy array.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array: got {type(array).__name__}, expected a NumPy array")
    return Tensor(array)


def empty(
    *shape: Any, dtype: DTypeLike = float32, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    """Return a tensor whose values are whatever the memory holds."""
    return Tensor(_made("empty", device, as_shape(shape), dtype), requires_grad)


def zeros(
    *shape: Any, dtype: DTypeLike = float32, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    return Tensor(_made("zeros", device, as_shape(shape), dtype), requires_grad)


def ones(
    *shape: Any, dtype: DTypeLike = float32, device: str = "cpu", requires_grad: bool = False
) -> Tensor:
    return Tensor(_made("ones", device, as_shape(shape), dtype), requires_grad)


def full(
    shape: Any,
    value: float,
    *,
    dtype: DTypeLike = float32,
    device: str = "cpu",
    requires_grad: bool = False,
) -> Tensor:
    return Tensor(_made("full", device, shape, value, dtype), requires_grad)


def zeros_like(other: Tensor, requires_grad: bool = False) -> Tensor:
    """Return zeros of another tensor's shape, dtype and device."""
    with on_device_of(other.data):
        return Tensor(get_array_module(other.data).zeros_like(other.data), requires_grad)


def ones_like(other: Tensor, requires_grad: bool = False) -> Tensor:
    """Return ones of another tensor's shape, dtype and device."""
    with on_device_of(other.data):
        return Tensor(get_array_module(other.data).ones_like(other.data), requires_grad)


def arange(*args: float, dtype: DTypeLike | None = None, device: str = "cpu") -> Tensor:
    """Return `arange(stop)`, `arange(start, stop)` or `arange(start, stop, step)`."""
    array = np.arange(*args, dtype=dtype)
    if dtype is None and array.dtype.kind == "f":
        array = array.astype(float32)
    return Tensor(to_device(array, device))


def rand(
    *shape: Any,
    dtype: DTypeLike = float32,
    device: str = "cpu",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Return draws from U(0, 1), made on the host and so the same on every device."""
    draws = (generator or default_generator).numpy.random(as_shape(shape))
    return Tensor(to_device(np.asarray(draws, dtype), device), requires_grad)


def randn(
    *shape: Any,
    dtype: DTypeLike = float32,
    device: str = "cpu",
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Return draws from the standard normal distribution, the same on every device."""
    draws = (generator or default_generator).numpy.standard_normal(as_shape(shape))
    return Tensor(to_device(np.asarray(draws, dtype), device), requires_grad)


def _made(function: str, device: str, *args: Any) -> Any:
    """Return the array that a function of the device's array module makes, on that device."""
    xp = array_module(device)
    with on_device(device):
        return getattr(xp, function)(*args)
