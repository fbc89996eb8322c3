"""Functions of whole arrays: shapes, joining, picking, sorting, reducing, products.

Names, arguments and results are CuPy's: reductions return device arrays without dimensions, and
NumPy arrays are refused wherever an array is computed with.
"""

from __future__ import annotations

import builtins
import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.cudasim.array import call, host, ndarray, operand, wrap
from minicnn.cudasim.creation import arange
from minicnn.cudasim.ufuncs import isnan


def get_array_module(*args: Any) -> ModuleType:
    """Return this look-alike if any argument is one of its arrays, NumPy otherwise."""
    return sys.modules[__package__] if builtins.any(isinstance(a, ndarray) for a in args) else np


def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """Return the dtype that NumPy's promotion rules give to device arrays, numbers and dtypes."""
    return np.result_type(*(x._array if isinstance(x, ndarray) else x for x in arrays_and_dtypes))


def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """Return whether values of one dtype, or of a device array, may become another dtype."""
    return np.can_cast(from_.dtype if isinstance(from_, ndarray) else from_, to, casting)


def may_share_memory(a: ndarray, b: ndarray, max_work: Any = None) -> bool:
    """Return whether the bytes of two arrays lie in ranges that overlap."""
    return np.may_share_memory(host(a), host(b), max_work)


def shares_memory(a: ndarray, b: ndarray, max_work: Any = None) -> bool:
    """Return whether two arrays have a byte in common."""
    return np.shares_memory(host(a), host(b), max_work)


# Shapes ------------------------------------------------------------------------------------------


def reshape(a: ndarray, newshape: Any, order: str = "C", *, copy: bool | None = None) -> ndarray:
    return a.reshape(newshape, order=order, copy=copy)


def ravel(a: ndarray, order: str = "C") -> ndarray:
    return a.ravel(order)


def transpose(a: ndarray, axes: Any = None) -> ndarray:
    return a.transpose(axes)


def swapaxes(a: ndarray, axis1: int, axis2: int) -> ndarray:
    return a.swapaxes(axis1, axis2)


def moveaxis(a: ndarray, source: Any, destination: Any) -> ndarray:
    return a._view(np.moveaxis(a._array, source, destination))


def expand_dims(a: ndarray, axis: Any) -> ndarray:
    return a._view(np.expand_dims(a._array, axis))


def squeeze(a: ndarray, axis: Any = None) -> ndarray:
    return a.squeeze(axis)


def broadcast_to(array: ndarray, shape: Any) -> ndarray:
    """Return a view in another shape, which cannot be written to."""
    return array._view(np.broadcast_to(host(array), shape))


def broadcast_arrays(*args: ndarray) -> tuple[ndarray, ...]:
    """Return views of a common shape, which cannot be written to."""
    shape = np.broadcast_shapes(*(a.shape for a in args))
    return tuple(broadcast_to(a, shape) for a in args)


def atleast_1d(*arys: ndarray) -> Any:
    made = [a.reshape(1) if a.ndim == 0 else a for a in arys]
    return made[0] if len(made) == 1 else made


def flip(a: ndarray, axis: Any = None) -> ndarray:
    return a._view(np.flip(host(a), axis))


def roll(a: ndarray, shift: Any, axis: Any = None) -> ndarray:
    return call(np.roll, a, shift=shift, axis=axis)


def pad(array: ndarray, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> ndarray:
    """Add a border; `pad_width` lies on the host, as in CuPy."""
    return call(np.pad, array, pad_width=pad_width, mode=mode, **kwargs)


def tile(A: ndarray, reps: Any) -> ndarray:
    return call(np.tile, A, reps=reps)


def repeat(a: ndarray, repeats: Any, axis: int | None = None) -> ndarray:
    return a.repeat(repeats, axis)


def diagonal(a: ndarray, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
    return a.diagonal(offset, axis1, axis2)


def tril(m: ndarray, k: int = 0) -> ndarray:
    return call(np.tril, m, k=k)


def triu(m: ndarray, k: int = 0) -> ndarray:
    return call(np.triu, m, k=k)


# Joining and splitting ---------------------------------------------------------------------------


def concatenate(
    tup: Any, axis: int | None = 0, out: Any = None, *, dtype: Any = None,
    casting: Any = "same_kind",
) -> ndarray:  # fmt: skip
    """Join arrays along an existing axis.

    Raises:
        TypeError: for things that are not device arrays.
    """
    arrays = [operand(a) for a in tup]
    if not builtins.all(isinstance(a, ndarray) for a in tup):
        raise TypeError("Only cupy arrays can be concatenated")

    def join(out: NDArray | None = None) -> NDArray:
        return np.concatenate(arrays, axis, out, dtype=dtype, casting=casting)

    return call(join, out=out)


def stack(
    tup: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = "same_kind"
) -> ndarray:
    """Join arrays of one shape along a new axis."""
    return concatenate([expand_dims(a, axis) for a in tup], axis, out, dtype=dtype, casting=casting)


def vstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> ndarray:
    rows = [a.reshape(1, -1) if a.ndim < 2 else a for a in tup]
    return concatenate(rows, 0, dtype=dtype, casting=casting)


def hstack(tup: Any, *, dtype: Any = None, casting: Any = "same_kind") -> ndarray:
    arrays = [atleast_1d(a) for a in tup]
    axis = 0 if arrays[0].ndim == 1 else 1
    return concatenate(arrays, axis, dtype=dtype, casting=casting)


def split(ary: ndarray, indices_or_sections: Any, axis: int = 0) -> list[ndarray]:
    """Cut into views, at indices or into so many equal parts."""
    return [ary._view(part) for part in np.split(host(ary), indices_or_sections, axis)]


# Picking and writing -----------------------------------------------------------------------------


def where(condition: ndarray, x: Any = None, y: Any = None) -> Any:
    """Take `x` where `condition` holds and `y` elsewhere; alone, return where it holds."""
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return nonzero(condition)
    return call(np.where, condition.astype(bool, copy=False), x, y)


def nonzero(a: ndarray) -> tuple[ndarray, ...]:
    return a.nonzero()


def flatnonzero(a: ndarray) -> ndarray:
    return a.ravel().nonzero()[0]


def argwhere(a: ndarray) -> ndarray:
    return call(np.argwhere, a)


def take(a: ndarray, indices: Any, axis: int | None = None, out: Any = None) -> ndarray:
    return a.take(indices, axis, out)


def take_along_axis(a: ndarray, indices: ndarray, axis: int | None) -> ndarray:
    """Return a[i, indices[i, j]] for axis 1, and so on.

    Raises:
        IndexError: for indices that are not integers or lie outside.
        ValueError: for another number of dimensions.
    """
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if axis is None:
        a, axis = a.ravel(), 0
    if a.ndim != indices.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    axis = range(a.ndim)[axis]
    index = [
        indices if d == axis else arange(n).reshape((1,) * d + (n,) + (1,) * (a.ndim - d - 1))
        for d, n in enumerate(a.shape)
    ]
    return a[tuple(index)]


def copyto(dst: ndarray, src: Any, casting: Any = "same_kind", where: Any = None) -> None:
    """Copy a device array or a number into `dst`, where `where` holds if it is given."""
    chosen = True if where is None else operand(where)
    np.copyto(operand(dst), operand(src), casting, chosen)
    dst._memory.mark(dst._array, ... if where is None else np.broadcast_to(chosen, dst.shape))


def clip(a: ndarray, a_min: Any, a_max: Any, out: Any = None) -> ndarray:
    return a.clip(a_min, a_max, out)


def around(a: ndarray, decimals: int = 0, out: Any = None) -> ndarray:
    return a.round(decimals, out)


# Sorting and counting ----------------------------------------------------------------------------


def sort(a: ndarray, axis: int | None = -1, kind: Any = None) -> ndarray:
    return call(np.sort, a, axis=axis, kind=kind)


def argsort(a: ndarray, axis: int | None = -1, kind: Any = None) -> ndarray:
    return a.argsort(axis)


def unique(
    ar: ndarray,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
) -> Any:
    return call(
        np.unique, ar, return_index=return_index, return_inverse=return_inverse,
        return_counts=return_counts, axis=axis, equal_nan=equal_nan,
    )  # fmt: skip


def searchsorted(a: ndarray, v: ndarray, side: Any = "left", sorter: Any = None) -> ndarray:
    return call(
        np.searchsorted, a, v, side=side, sorter=None if sorter is None else operand(sorter)
    )


def bincount(x: ndarray, weights: Any = None, minlength: int | None = None) -> ndarray:
    """Count each value of an integer array, or add up the weights that go with it."""
    if minlength is not None and minlength < 0:
        raise ValueError("minlength must be non-negative")
    given = None if weights is None else operand(weights)
    return call(np.bincount, x, weights=given, minlength=minlength or 0)


def count_nonzero(a: ndarray, axis: Any = None) -> ndarray:
    return call(np.count_nonzero, a, axis=axis)


# Reductions --------------------------------------------------------------------------------------


def sum(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> ndarray:
    return a.sum(axis, dtype, out, keepdims)


def prod(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> ndarray:
    return a.prod(axis, dtype, out, keepdims)


def mean(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> ndarray:
    return a.mean(axis, dtype, out, keepdims)


def var(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0,
    keepdims: bool = False,
) -> ndarray:  # fmt: skip
    return a.var(axis, dtype, out, ddof, keepdims)


def std(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0,
    keepdims: bool = False,
) -> ndarray:  # fmt: skip
    return a.std(axis, dtype, out, ddof, keepdims)


def max(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return a.max(axis, out, keepdims)


def min(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return a.min(axis, out, keepdims)


amax, amin = max, min


def argmax(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> ndarray:
    return a.argmax(axis, out, dtype, keepdims)


def argmin(
    a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> ndarray:
    return a.argmin(axis, out, dtype, keepdims)


def all(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return a.all(axis, out, keepdims)


def any(a: ndarray, axis: Any = None, out: Any = None, keepdims: bool = False) -> ndarray:
    return a.any(axis, out, keepdims)


def cumsum(a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None) -> ndarray:
    return a.cumsum(axis, dtype, out)


def cumprod(a: ndarray, axis: Any = None, dtype: Any = None, out: Any = None) -> ndarray:
    return a.cumprod(axis, dtype, out)


def trace(
    a: ndarray, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None,
    out: Any = None,
) -> ndarray:  # fmt: skip
    return a.trace(offset, axis1, axis2, dtype, out)


def isclose(
    a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> ndarray:
    return call(np.isclose, a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)


def allclose(
    a: Any, b: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> ndarray:
    return isclose(a, b, rtol, atol, equal_nan).all()


def array_equal(a1: ndarray, a2: ndarray, equal_nan: bool = False) -> ndarray:
    """Return whether shapes and values are equal, as a device array."""
    if a1.shape != a2.shape:
        return wrap(np.False_)
    same = a1 == a2
    return (same | isnan(a1) & isnan(a2) if equal_nan else same).all()


# Products ----------------------------------------------------------------------------------------


def matmul(
    x1: Any, x2: Any, /, out: Any = None, *, casting: Any = "same_kind", dtype: Any = None
) -> ndarray:
    """Multiply matrices, or stacks of them."""
    return call(np.matmul, x1, x2, out=out, casting=casting, dtype=dtype)


def dot(a: ndarray, b: ndarray, out: Any = None) -> ndarray:
    return a.dot(b, out)


def outer(a: ndarray, b: ndarray, out: Any = None) -> ndarray:
    return call(np.outer, a, b, out=out)


def tensordot(a: ndarray, b: ndarray, axes: Any = 2) -> ndarray:
    return call(np.tensordot, a, b, axes=axes)


def einsum(*operands: Any, **kwargs: Any) -> ndarray:
    """Sum products as the string in `operands[0]` says."""
    subscripts, *arrays = operands
    return call(lambda *values: np.einsum(subscripts, *values, **kwargs), *arrays)
