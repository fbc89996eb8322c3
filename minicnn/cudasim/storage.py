"""NumPy arrays whose bytes lie in the device's arena, and what of them has been written.

The arena knows of each byte whether anybody wrote it, so that a kernel which reads an `empty`
array is caught. Kernels mark what they write themselves; what NumPy writes on the device's behalf
is marked here, by runs of neighbouring bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import minicnn.cudasim.memory as memory
from minicnn.cudasim.devices import current


class Allocation:
    """A block of the arena; it is freed when no array looks into it any more.

    Attributes:
        device: the number of the device that it is on: the one current when it is made.
        initialised: whether every byte is known to have been written.
    """

    __slots__ = ("__weakref__", "_free", "address", "device", "initialised", "nbytes")

    def __init__(self, nbytes: int, initialised: bool):
        self.address = memory.allocate(nbytes, initialised)
        self.nbytes = nbytes
        self.device = current.number
        self.initialised = initialised
        # Kept, because module globals may be gone when the interpreter ends.
        self._free = memory.free

    def __del__(self) -> None:
        if hasattr(self, "_free"):
            self._free(self.address)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "data": (self.address, False),
            "shape": (self.nbytes,),
            "typestr": "|u1",
        }

    def mark(self, array: NDArray, index: Any = ...) -> None:
        """Note that `array[index]`, a view of this block, has been written."""
        if self.initialised or not array.size:
            return
        address = array.ctypes.data
        if index is ... and array.flags.forc:
            memory.mark_initialised(address, array.nbytes)
            self.initialised = array.nbytes == self.nbytes
            return
        for start, length in _runs(_offsets(array)[index], array.itemsize):
            memory.mark_initialised(address + start, length)


def allocate(
    shape: Any,
    dtype: np.dtype,
    *,
    initialised: bool,
    order: str = "C",
    strides: tuple[int, ...] | None = None,
) -> tuple[NDArray, Allocation]:
    """Return an array in the arena, its bytes not yet set, and the block it lies in.

    Args:
        shape: a size or several.
        dtype: of the elements.
        initialised: whether the caller is about to write all of it.
        order: "C" or "F".
        strides: of an array whose elements fill the block in another order than these two.

    Raises:
        ValueError: for negative sizes.
    """
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    nbytes = dtype.itemsize
    for size in sizes:
        if size < 0:
            raise ValueError("Negative dimensions are not allowed")
        nbytes *= int(size)
    block = Allocation(nbytes, initialised)
    raw: NDArray = np.asarray(block)
    if strides is None:
        return np.ndarray(sizes, dtype, raw, order="F" if order == "F" else "C"), block
    return np.ndarray(sizes, dtype, raw, strides=strides), block


def _offsets(array: NDArray) -> NDArray[np.int64]:
    """Return where each element begins, in bytes from the first one."""
    offsets = np.zeros(array.shape, np.int64)
    for axis, (size, stride) in enumerate(zip(array.shape, array.strides, strict=True)):
        shape = [1] * array.ndim
        shape[axis] = size
        offsets += (np.arange(size) * stride).reshape(shape)
    return offsets


def _runs(offsets: Any, itemsize: int) -> list[tuple[int, int]]:
    """Join elements that lie side by side into (first byte, number of bytes)."""
    starts = np.unique(offsets)
    if not starts.size:
        return []
    breaks = np.flatnonzero(np.diff(starts) > itemsize)
    first = starts[np.concatenate(([0], breaks + 1))]
    last = starts[np.concatenate((breaks, [starts.size - 1]))]
    return [(int(a), int(b - a) + itemsize) for a, b in zip(first, last, strict=True)]
