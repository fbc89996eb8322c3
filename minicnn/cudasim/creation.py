"""Functions that make device arrays, and the two that cross between host and device.

Names, arguments and dtypes are CuPy's: plain Python numbers become float64 and int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.cudasim.array import IMPLICIT, call, device_dtype, ndarray, wrap
from minicnn.cudasim.devices import current
from minicnn.cudasim.storage import allocate


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    """Copy numbers, nested sequences, a NumPy array or a device array to the current device.

    A list may hold device arrays if it holds nothing else.

    Raises:
        TypeError: for sequences that mix device arrays with other things.
        ValueError: for dtypes that a kernel cannot hold.
    """
    if subok:
        raise NotImplementedError("subok is not supported")
    if isinstance(obj, ndarray):
        wanted = obj.dtype if dtype is None else dtype
        if obj._memory.device == current.number:
            made = obj.astype(wanted, order or "K", copy=bool(copy))
        else:
            made = obj.copy("K").astype(wanted, order or "K", copy=False)
        if copy is False and made is not obj:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
    else:
        values: NDArray = np.array(_host_sequence(obj), dtype)
        device_dtype(values.dtype)
        made = wrap(np.array(values, order=order or "K"), "K")  # type: ignore[call-overload]
    missing = ndmin - made.ndim
    return made.reshape((1,) * missing + made.shape) if missing > 0 else made


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    """Move values to the device; a device array of that dtype and order is returned as it is."""
    return array(a, dtype, copy, order or "K", blocking=blocking)


def asnumpy(
    a: Any,
    stream: Any = None,
    order: str = "C",
    out: NDArray | None = None,
    *,
    blocking: bool = True,
) -> NDArray:
    """Return a copy on the host of a device array, or anything else as NumPy reads it."""
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    values = np.asarray(a, order=order)  # type: ignore[call-overload]
    if out is None:
        return values
    out[...] = values
    return out


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """Return an array with at least one dimension whose elements lie in C order."""
    made = asarray(a, dtype, "C")
    return made.reshape(1) if made.ndim == 0 else made


def copy(a: ndarray, order: str = "K") -> ndarray:
    """Return a copy."""
    return a.copy(order)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Return an array whose bytes are not set; a kernel that reads them is reported."""
    return ndarray(shape, dtype, order=order)


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 0, dtype, order)


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    return full(shape, 1, dtype, order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """Return an array of one value, of the value's dtype if none is given."""
    value = fill_value._array if isinstance(fill_value, ndarray) else np.asarray(fill_value)
    wanted = device_dtype(value.dtype if dtype is None else dtype)
    values, block = allocate(shape, wanted, initialised=True, order=order)
    made = ndarray._made(values, block)
    made.fill(fill_value)
    return made


def empty_like(
    prototype: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    return _like(prototype, dtype, order, shape, initialised=False)


def zeros_like(
    a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    return full_like(a, 0, dtype, order, subok, shape)


def ones_like(
    a: ndarray, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    return full_like(a, 1, dtype, order, subok, shape)


def full_like(
    a: ndarray,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: Any = None,
    shape: Any = None,
) -> ndarray:
    """Return an array of one value with the shape and dtype of `a`."""
    made = _like(a, dtype, order, shape, initialised=True)
    made.fill(fill_value)
    return made


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    """Return start, start + step, ... below stop; with one argument, 0, 1, ... below it."""
    bounds = (0, start) if stop is None else (start, stop)
    return call(np.arange, *bounds, step, dtype=dtype)


def linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """Return `num` evenly spaced numbers, and with `retstep` their distance too."""
    made = call(
        np.linspace, start, stop, num, endpoint=endpoint, retstep=retstep, dtype=dtype, axis=axis
    )
    return (made[0], float(made[1])) if retstep else made


def eye(N: int, M: int | None = None, k: int = 0, dtype: Any = float, order: str = "C") -> ndarray:
    """Return ones on the k-th diagonal and zeros elsewhere, N by M."""
    return wrap(np.eye(N, M, k, dtype, order="F" if order == "F" else "C"), "K")


def identity(n: int, dtype: Any = float) -> ndarray:
    return eye(n, dtype=dtype)


def _like(a: ndarray, dtype: Any, order: str, shape: Any, *, initialised: bool) -> ndarray:
    if not isinstance(a, ndarray):
        raise TypeError(f"Unsupported type {type(a)}")
    wanted = a.dtype if dtype is None else device_dtype(dtype)
    # NumPy picks the strides, of memory it never touches.
    model = np.empty_like(a._array, wanted, order or "K", shape=shape)  # type: ignore[call-overload]
    strides = None if model.flags.c_contiguous else model.strides
    values, block = allocate(model.shape, wanted, initialised=initialised, strides=strides)
    return ndarray._made(values, block)


def _host_sequence(obj: Any) -> Any:
    """Bring a list of device arrays to the host; leave what holds none of them alone."""
    if not isinstance(obj, (list, tuple)) or not _holds_device_arrays(obj):
        return obj
    parts = []
    for part in obj:
        if isinstance(part, (list, tuple)):
            parts.append(_host_sequence(part))
        elif isinstance(part, ndarray):
            parts.append(part._array)
        else:
            raise TypeError(IMPLICIT)
    return parts


def _holds_device_arrays(obj: Any) -> bool:
    if isinstance(obj, (list, tuple)):
        return any(_holds_device_arrays(part) for part in obj)
    return isinstance(obj, ndarray)
