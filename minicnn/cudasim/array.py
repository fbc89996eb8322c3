"""The device array: a NumPy array in the arena behind CuPy's rules for mixing host and device.

Without those rules a simulation proves little: code that hands a NumPy array to a kernel, or adds
one to a device array, would run here and fail on a GPU. So whatever CuPy refuses is refused, in
CuPy's words where it has some:

    np.asarray(x), np.add(x, host)   TypeError: say x.get() or asarray(host)
    x[1:3] = host                    ValueError; x[...] = 0 and x.set(host) are right
    x.sum()                          a device array without dimensions, never a NumPy scalar
    x == y                           a device array, so `if x == y` copies one value to the host
    x + 1 where x is on device 1     ValueError unless that is current; x.copy() brings it over

In three things the look-alike is stricter, since CuPy goes wrong without a word: an integer array
used as an index must stay inside (CuPy wraps it around), the results of `broadcast_to` cannot be
written to, and integers cannot be raised to negative powers.

The values are computed by NumPy, on the host. Denormals are kept where a GPU would flush them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.cudasim.devices import check_current
from minicnn.cudasim.storage import Allocation, allocate

SUPPORTED = frozenset("?bhilqBHILQefdFD")
IMPLICIT = (
    "Implicit conversion to a NumPy array is not allowed. "
    "Please use `.get()` to construct a NumPy array explicitly."
)
# The comparisons of things that equal no number: plain objects, and None.
_NEVER_EQUAL = (object.__eq__, type(None).__eq__)
_SCALARS = (bool, int, float, complex, np.generic)


def device_dtype(dtype: Any) -> np.dtype:
    """Return `dtype` as a NumPy dtype.

    Raises:
        ValueError: for objects, strings and other things that a kernel cannot hold.
    """
    resolved = np.dtype(dtype)
    if resolved.char not in SUPPORTED or not resolved.isnative:
        raise ValueError(f"Unsupported dtype {resolved}")
    return resolved


def host(value: Any) -> Any:
    """Return what NumPy computes with: the array behind a device array, or a number.

    Raises:
        TypeError: for NumPy arrays, lists and everything else that is not on the device.
    """
    if isinstance(value, ndarray):
        return value._array
    if isinstance(value, _SCALARS):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def operand(value: Any) -> Any:
    """Return what `host` does, of arrays on the current device alone.

    Raises:
        TypeError: see `host`.
        ValueError: for an array of another device.
    """
    return value._here() if isinstance(value, ndarray) else host(value)


def wrap(result: Any, order: str = "C") -> Any:
    """Copy what NumPy computed to the device: an array, a number, or a tuple or list of them.

    Args:
        result: of a NumPy function.
        order: of the elements in memory, "C" as for most of CuPy's results, or "K" to keep it.
    """
    if isinstance(result, (tuple, list)):
        return type(result)(wrap(part) for part in result)
    computed = np.asarray(result)
    keep = order == "K" and not computed.flags.c_contiguous
    array, block = allocate(
        computed.shape,
        device_dtype(computed.dtype),
        initialised=True,
        strides=np.empty_like(computed).strides if keep else None,
    )
    array[...] = computed
    return ndarray._made(array, block)


def call(function: Callable[..., Any], *arguments: Any, out: Any = None, **options: Any) -> Any:
    """Call a NumPy function with the arrays behind device arrays; no warnings, as on a GPU.

    Args:
        function: of NumPy.
        arguments: device arrays and numbers.
        out: the device array to write to; None makes a new one.
        options: passed on as they are.
    """
    values = [operand(value) for value in arguments]
    with np.errstate(all="ignore"):
        if out is None:
            return wrap(function(*values, **options))
        target = out[0] if isinstance(out, tuple) else out
        if not isinstance(target, ndarray):
            raise TypeError(f"Unsupported type {type(target)}")
        function(*values, out=target._here(), **options)
    target._memory.mark(target._array)
    return target


class Flags:
    """How an array's elements lie in memory."""

    __slots__ = ("c_contiguous", "f_contiguous", "owndata")

    def __init__(self, array: ndarray):
        self.c_contiguous = array._array.flags.c_contiguous
        self.f_contiguous = array._array.flags.f_contiguous
        self.owndata = array.base is None

    @property
    def fnc(self) -> bool:
        return self.f_contiguous and not self.c_contiguous

    @property
    def forc(self) -> bool:
        return self.f_contiguous or self.c_contiguous

    def __getitem__(self, name: str) -> bool:
        if name not in ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA"):
            raise KeyError(f"{name} is not defined for ndarray.flags")
        return getattr(self, name.lower())

    def __repr__(self) -> str:
        names = ("C_CONTIGUOUS", "F_CONTIGUOUS", "OWNDATA")
        return "\n".join(f"  {name} : {self[name]}" for name in names)


class MemoryPointer:
    """An address on the device.

    Attributes:
        ptr: the address, as an integer.
        device_id: the number of the device.
    """

    __slots__ = ("device_id", "mem", "ptr")

    def __init__(self, address: int, mem: Allocation):
        self.ptr = address
        self.mem = mem
        self.device_id = mem.device

    def __int__(self) -> int:
        return self.ptr


def _operators(function: np.ufunc) -> tuple[Any, Any, Any]:
    """Return the methods for x + y, y + x and x += y of one NumPy function."""

    def forward(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(other) else call(function, self, other)

    def reflected(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(other) else call(function, other, self)

    def in_place(self: ndarray, other: Any) -> Any:
        return NotImplemented if _defers(other) else call(function, self, other, out=self)

    return forward, reflected, in_place


def _comparison(function: np.ufunc) -> Any:
    def compare(self: ndarray, other: Any) -> Any:
        if _defers(other):
            return NotImplemented
        if function in (np.equal, np.not_equal) and type(other).__eq__ in _NEVER_EQUAL:
            return wrap(np.full(self.shape, function is np.not_equal))
        # The one place where CuPy takes a NumPy array, if it has no dimensions.
        if isinstance(other, np.ndarray) and other.ndim == 0:
            other = other.item()
        return call(function, self, other)

    return compare


def _defers(other: Any) -> bool:
    """Whether the other operand of an operator wants to do the work itself."""
    unknown = object()
    protocol = getattr(other, "__array_ufunc__", unknown)
    if protocol is not unknown:
        return protocol is None
    return getattr(other, "__array_priority__", 0) > ndarray.__array_priority__


class ndarray:
    """An array on the simulated device; names and behaviour are those of `cupy.ndarray`.

    Args:
        shape: its sizes.
        dtype: of its elements.
        order: "C" or "F".

    Its bytes are not set: a kernel that reads them first is reported in check mode.
    """

    __slots__ = ("__weakref__", "_array", "_memory", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    _array: NDArray
    _memory: Allocation
    base: ndarray | None

    def __init__(self, shape: Any, dtype: Any = float, *, order: str = "C"):
        array, block = allocate(shape, device_dtype(dtype), initialised=False, order=order)
        self._array, self._memory, self.base = array, block, None

    @classmethod
    def _made(cls, array: NDArray, block: Allocation) -> ndarray:
        """Return a device array around NumPy's view of a block."""
        made = cls.__new__(cls)
        made._array, made._memory, made.base = array, block, None
        return made

    def _view(self, array: NDArray) -> ndarray:
        """Return a device array that shares this one's memory."""
        made = self._made(array, self._memory)
        made.base = self if self.base is None else self.base
        return made

    def _view_or_copy(self, array: NDArray) -> ndarray:
        """Return what NumPy made of this array: a view if it is one."""
        shared = not array.size or np.may_share_memory(array, self._array)
        if not shared:
            check_current(self._memory.device)
        return self._view(array) if shared else wrap(array)

    def _here(self) -> NDArray:
        """Return the array behind this one, to compute with: its device must be the current one."""
        check_current(self._memory.device)
        return self._array

    # What it is --------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def itemsize(self) -> int:
        return self._array.itemsize

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        return self._array.strides

    @property
    def flags(self) -> Flags:
        return Flags(self)

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self._array.ctypes.data, self._memory)

    @property
    def device(self) -> Any:
        from minicnn.cudasim.cuda import Device

        return Device(self._memory.device)

    # To the host and back ----------------------------------------------------------------------

    def get(
        self,
        stream: Any = None,
        order: str = "C",
        out: NDArray | None = None,
        blocking: bool = True,
    ) -> NDArray:
        """Return a copy on the host.

        Args:
            stream: ignored, as `blocking` is: one launch ends before the next begins.
            order: "C", "F", or "A" for "F" if the array lies so.
            out: the NumPy array to copy to.
        """
        if out is None:
            return np.array(
                self._array, order="C" if order == "C" else "F" if order == "F" else "A"
            )
        if not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        if out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if out.shape != self.shape:
            raise ValueError(
                f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}"
            )
        out[...] = self._array
        return out

    def set(self, arr: NDArray, stream: Any = None) -> None:
        """Copy a NumPy array of the same shape and dtype in."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self._array.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        self._array[...] = arr
        self._memory.mark(self._array)

    def item(self) -> Any:
        """Return the only element as a Python number."""
        return self._array.item()

    def tolist(self) -> Any:
        return self._array.tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self._array.tobytes("F" if order == "F" else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        raise TypeError(IMPLICIT)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Let np.exp(x) mean exp(x); NumPy arrays among the arguments are refused there."""
        mine = getattr(sys.modules[__package__], ufunc.__name__, None)
        function = mine if method == "__call__" else getattr(mine, method, None)
        if function is None:
            return NotImplemented
        return function(*inputs, **options)

    def __array_function__(
        self, func: Any, types: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        """Let np.sum(x) mean sum(x), as CuPy does."""
        mine: Any = sys.modules[__package__]
        for name in (*func.__module__.split(".")[1:], func.__name__):
            mine = getattr(mine, name, None)
        known = all(issubclass(kind, (ndarray, np.ndarray)) for kind in types)
        return mine(*args, **kwargs) if known and mine is not None else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_host, (self.get(order="A"),)

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> ndarray:
        with self.device:
            return self.copy()

    def __int__(self) -> int:
        return int(self._array)

    def __float__(self) -> float:
        return float(self._array)

    def __complex__(self) -> complex:
        return complex(self._array)

    def __bool__(self) -> bool:
        if self.size == 0:
            warnings.warn(
                "The truth value of an empty array is ambiguous. Returning False, but in future "
                "this will result in an error. Use `array.size > 0` to check that an array is not "
                "empty.",
                DeprecationWarning,
                stacklevel=2,
            )
            return False
        if self.size > 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. "
                "Use a.any() or a.all()"
            )
        return bool(self._array)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[ndarray]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __repr__(self) -> str:
        return repr(self._array)

    def __str__(self) -> str:
        return str(self._array)

    def __format__(self, spec: str) -> str:
        return format(self._array[()] if self.ndim == 0 else self._array, spec)

    # Indexing ----------------------------------------------------------------------------------

    def __getitem__(self, slices: Any) -> ndarray:
        index, advanced = _plain_index(slices)
        picked = (self._here() if advanced else self._array)[index]
        return wrap(picked) if advanced else self._view(picked)

    def __setitem__(self, slices: Any, value: Any) -> None:
        index, advanced = _plain_index(slices)
        if isinstance(value, ndarray):
            source = value._here()
        elif advanced:
            source = np.asarray(value, self.dtype)
        else:
            source = self._number(value)
        self._here()[index] = source
        if advanced:
            self._memory.mark(self._array, index)
        else:
            self._memory.mark(self._array[index])

    def _scatter(self, function: np.ufunc, slices: Any, value: Any) -> None:
        """Apply a function in place at an index whose places may repeat."""
        index, _ = _plain_index(slices)
        source = value._here() if isinstance(value, ndarray) else np.asarray(value, self.dtype)
        with np.errstate(all="ignore"):
            function.at(self._here(), index, source.astype(self.dtype, copy=False))
        self._memory.mark(self._array, index)

    def _number(self, value: Any) -> NDArray:
        """Return one number in this array's dtype, for filling."""
        if isinstance(value, ndarray):
            if value.shape != ():
                raise ValueError("non-scalar cupy.ndarray cannot be used for fill")
            return value._array.astype(self.dtype)
        number = np.asarray(value, self.dtype)
        if number.shape != ():
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        return number

    def fill(self, value: Any) -> None:
        """Set every element to one number."""
        self._here()[...] = self._number(value)
        self._memory.mark(self._array)

    def take(self, indices: Any, axis: int | None = None, out: ndarray | None = None) -> ndarray:
        plain = indices._here() if isinstance(indices, ndarray) else np.asarray(indices, int)
        return call(np.take, self, out=out, indices=plain, axis=axis)

    def nonzero(self) -> tuple[ndarray, ...]:
        if self.ndim == 0:
            raise ValueError("Calling nonzero on 0d arrays is not allowed.")
        return wrap(self._here().nonzero())

    # Another shape or dtype --------------------------------------------------------------------

    @property
    def T(self) -> ndarray:
        return self._view(self._array.T)

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> ndarray:
        sizes = shape[0] if len(shape) == 1 else shape
        array = self._array.reshape(sizes, order="F" if order == "F" else "C")
        if copy:
            return wrap(array)  # on the current device, as all copies
        made = self._view_or_copy(array)
        if copy is False and made.base is None:
            raise ValueError("Unable to avoid creating a copy while reshaping.")
        return made

    def ravel(self, order: str = "C") -> ndarray:
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> ndarray:
        return wrap(self._here().flatten("F" if order == "F" else "C"))

    def transpose(self, *axes: Any) -> ndarray:
        return self._view(self._array.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> ndarray:
        return self._view(self._array.swapaxes(axis1, axis2))

    def squeeze(self, axis: Any = None) -> ndarray:
        return self._view(self._array.squeeze(axis))

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ndarray:
        return self._view(self._array.diagonal(offset, axis1, axis2))

    def view(self, dtype: Any = None) -> ndarray:
        return self._view(self._array.view() if dtype is None else self._array.view(dtype))

    def repeat(self, repeats: Any, axis: int | None = None) -> ndarray:
        return call(np.repeat, self, repeats=repeats, axis=axis)

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: Any = None,
        copy: bool = True,
    ) -> ndarray:
        """Return the values in another dtype; itself if `copy` is False and nothing changes."""
        if casting is not None or subok is not None:
            name = "subok" if casting is None else "casting"
            raise TypeError(f"{name} is not supported yet")
        cast = self._array.astype(device_dtype(dtype), order=order, copy=copy)  # type: ignore[call-overload]
        if cast is self._array:
            return self
        check_current(self._memory.device)
        return wrap(cast, "K")

    def copy(self, order: str = "C") -> ndarray:
        """Return a copy on the current device, from whichever this array is on."""
        return wrap(self._array.copy(order), "K")  # type: ignore[arg-type]

    # Arithmetic --------------------------------------------------------------------------------

    __add__, __radd__, __iadd__ = _operators(np.add)
    __sub__, __rsub__, __isub__ = _operators(np.subtract)
    __mul__, __rmul__, __imul__ = _operators(np.multiply)
    __truediv__, __rtruediv__, __itruediv__ = _operators(np.true_divide)
    __floordiv__, __rfloordiv__, __ifloordiv__ = _operators(np.floor_divide)
    __mod__, __rmod__, __imod__ = _operators(np.remainder)
    __pow__, __rpow__, __ipow__ = _operators(np.power)
    __and__, __rand__, __iand__ = _operators(np.bitwise_and)
    __or__, __ror__, __ior__ = _operators(np.bitwise_or)
    __xor__, __rxor__, __ixor__ = _operators(np.bitwise_xor)
    __lshift__, __rlshift__, __ilshift__ = _operators(np.left_shift)
    __rshift__, __rrshift__, __irshift__ = _operators(np.right_shift)
    __matmul__, __rmatmul__, _ = _operators(np.matmul)
    __lt__ = _comparison(np.less)
    __le__ = _comparison(np.less_equal)
    __gt__ = _comparison(np.greater)
    __ge__ = _comparison(np.greater_equal)
    __eq__ = _comparison(np.equal)
    __ne__ = _comparison(np.not_equal)

    def __neg__(self) -> ndarray:
        return call(np.negative, self)

    def __pos__(self) -> ndarray:
        return call(np.positive, self)

    def __abs__(self) -> ndarray:
        return call(np.absolute, self)

    def __invert__(self) -> ndarray:
        return call(np.invert, self)

    # Reductions and orders ---------------------------------------------------------------------

    def sum(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return _reduce(np.sum, self, axis, out=out, dtype=dtype, keepdims=keepdims)

    def prod(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return _reduce(np.prod, self, axis, out=out, dtype=dtype, keepdims=keepdims)

    def mean(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return _quiet(np.mean, self, axis, out=out, dtype=dtype, keepdims=keepdims)

    def var(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: int = 0,
        keepdims: bool = False,
    ) -> Any:
        return _quiet(np.var, self, axis, out=out, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def std(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: int = 0,
        keepdims: bool = False,
    ) -> Any:
        return _quiet(np.std, self, axis, out=out, dtype=dtype, ddof=ddof, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _reduce(np.max, self, axis, out=out, keepdims=keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _reduce(np.min, self, axis, out=out, keepdims=keepdims)

    def argmax(
        self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Any:
        return _index_of(np.argmax, self, axis, out, dtype, keepdims)

    def argmin(
        self, axis: Any = None, out: Any = None, dtype: Any = None, keepdims: bool = False
    ) -> Any:
        return _index_of(np.argmin, self, axis, out, dtype, keepdims)

    def all(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _reduce(np.all, self, axis, out=out, keepdims=keepdims)

    def any(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _reduce(np.any, self, axis, out=out, keepdims=keepdims)

    def cumsum(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        return call(np.cumsum, self, out=out, axis=axis, dtype=dtype)

    def cumprod(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        return call(np.cumprod, self, out=out, axis=axis, dtype=dtype)

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Any:
        low, high = (None if bound is None else operand(bound) for bound in (min, max))
        return call(np.clip, self, out=out, a_min=low, a_max=high)

    def round(self, decimals: int = 0, out: Any = None) -> Any:
        return call(np.round, self, out=out, decimals=decimals)

    def dot(self, b: Any, out: Any = None) -> Any:
        return call(np.dot, self, b, out=out)

    def trace(
        self, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
    ) -> Any:
        return call(np.trace, self, out=out, offset=offset, axis1=axis1, axis2=axis2, dtype=dtype)

    def sort(self, axis: int = -1) -> None:
        """Sort in place."""
        self._here().sort(axis)

    def argsort(self, axis: Any = -1) -> ndarray:
        return call(np.argsort, self, axis=axis, kind="stable")


def _plain_index(slices: Any) -> tuple[Any, bool]:
    """Return an index for NumPy and whether it holds arrays, so that the result is a copy."""
    parts = list(slices) if isinstance(slices, tuple) else [slices]
    advanced = False
    for i, part in enumerate(parts):
        if part is None or part is Ellipsis or isinstance(part, slice):
            continue
        if isinstance(part, ndarray):
            parts[i] = part._here()
        elif isinstance(part, (bool, np.bool_)) or not np.isscalar(part):
            parts[i] = np.asarray(part)
            if isinstance(part, (list, tuple)) and not parts[i].size:
                parts[i] = parts[i].astype(np.int32)
        else:
            continue
        advanced = True
        if parts[i].dtype.kind not in "biu":
            raise IndexError(
                "arrays used as indices must be of integer or boolean type. "
                f"(actual: {parts[i].dtype.type})"
            )
    # With it, NumPy returns a view, not a number, where an index leaves no dimension.
    if not advanced and all(part is not Ellipsis for part in parts):
        parts.append(Ellipsis)
    return tuple(parts), advanced


def _reduce(function: Any, a: ndarray, axis: Any, **options: Any) -> Any:
    """Call a reduction. An array without dimensions has an axis 0 for NumPy, but not for CuPy."""
    if a.ndim == 0 and axis not in (None, ()):
        raise np.exceptions.AxisError(axis[0] if isinstance(axis, tuple) else axis, 0)
    return call(function, a, axis=axis, **options)


def _quiet(function: Any, a: ndarray, axis: Any, **options: Any) -> Any:
    """Call a reduction that says by a warning what CuPy says by a NaN alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return _reduce(function, a, axis, **options)


def _index_of(function: Any, a: ndarray, axis: Any, out: Any, dtype: Any, keepdims: bool) -> Any:
    found = _reduce(function, a, axis, out=out, keepdims=keepdims)
    return found if dtype is None or out is not None else found.astype(dtype, copy=False)


def _from_host(array: NDArray) -> ndarray:
    return wrap(array, "K")
