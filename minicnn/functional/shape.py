"""Reshaping, slicing, joining: operations that move values without changing them."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn.autograd import Function
from minicnn.backend import get_array_module, is_array, on_device_of, to_device, to_host
from minicnn.functional._check import beside, dimension, integer, positional
from minicnn.kernels import concatenate as concatenate_kernels
from minicnn.kernels import pad as pad_kernels
from minicnn.tensor import Tensor, as_array, int64

PAD_BORDER = {
    "reflect": (pad_kernels.pad_reflect_forward, pad_kernels.pad_reflect_backward),
    "replicate": (pad_kernels.pad_replicate_forward, pad_kernels.pad_replicate_backward),
}


class Reshape(Function):
    view = True

    def forward(self, a, *, shape):
        self.shape = a.shape
        return a.reshape(shape)

    def backward(self, grad_output):
        return reshape(grad_output, self.shape)


class Permute(Function):
    view = True

    def forward(self, a, *, dims):
        self.dims = dims
        return a.transpose(dims)

    def backward(self, grad_output):
        inverse = [0] * len(self.dims)
        for position, d in enumerate(self.dims):
            inverse[d] = position
        return permute(grad_output, inverse)


class Expand(Function):
    view = True
    broadcasts = True

    def forward(self, a, *, shape):
        return get_array_module(a).broadcast_to(a, shape)

    def backward(self, grad_output):
        return grad_output


class GetItem(Function):
    def forward(self, a, *, index):
        self.shape, self.index = a.shape, index
        # Of one element NumPy makes a number, but CuPy a view.
        return a[index].copy() if _is_basic(index) else a[index]

    def backward(self, grad_output):
        return PutItem.apply(grad_output, index=self.index, shape=self.shape)


class View(GetItem):
    """Basic slicing: the result shares memory with the input."""

    view = True

    def forward(self, a, *, index):
        self.shape, self.index = a.shape, index
        return a[index]


class PutItem(Function):
    """Zeros of `shape` with values added at `index`: the adjoint of indexing.

    On a GPU, CuPy adds with atomics: where indices repeat, the last bits depend on the moment.
    """

    def forward(self, values, *, index, shape):
        self.index = index
        xp = get_array_module(values)
        output = xp.zeros(shape, values.dtype)
        if _is_basic(index):
            output[index] = values
        else:
            xp.add.at(output, index, values)
        return output

    def backward(self, grad_output):
        return getitem(grad_output, self.index)


class Gather(Function):
    def forward(self, a, *, dim, index):
        self.dim, self.index, self.shape = dim, index, a.shape
        return a[_along(index, dim)]

    def backward(self, grad_output):
        return Scatter.apply(grad_output, dim=self.dim, index=self.index, shape=self.shape)


class Scatter(Function):
    """Zeros of `shape` with values added at `index` along `dim`: the adjoint of gather.

    On a GPU, CuPy adds with atomics: where indices repeat, the last bits depend on the moment.
    """

    def forward(self, values, *, dim, index, shape):
        self.dim, self.index = dim, index
        xp = get_array_module(values)
        output = xp.zeros(shape, values.dtype)
        xp.add.at(output, _along(index, dim), values)
        return output

    def backward(self, grad_output):
        return gather(grad_output, self.dim, Tensor._wrap(self.index))


class Concatenate(Function):
    def forward(self, *arrays, dim):
        self.dim = dim
        self.sizes = [a.shape[dim] for a in arrays]
        dtypes = {a.dtype for a in arrays}
        if len(dtypes) == 1 and arrays[0].dtype.kind == "f":
            return concatenate_kernels.concatenate(*arrays, dim=dim)
        return get_array_module(arrays[0]).concatenate(arrays, axis=dim)

    def backward(self, grad_output):
        return split(grad_output, self.sizes, self.dim)


class Pad(Function):
    def forward(self, a, *, widths, value):
        self.inside = tuple(
            slice(before, before + n) for (before, _), n in zip(widths, a.shape, strict=True)
        )
        if a.dtype.kind == "f":
            return pad_kernels.pad_constant(a, widths, value)
        return get_array_module(a).pad(a, widths, constant_values=value)

    def backward(self, grad_output):
        return getitem(grad_output, self.inside)


class PadBorder(Function):
    """Padding with values of the input itself."""

    def forward(self, a, *, widths, mode):
        self.widths, self.mode = widths, mode
        if a.dtype.kind == "f":
            return PAD_BORDER[mode][0](a, widths)
        return get_array_module(a).pad(a, widths, mode="edge" if mode == "replicate" else mode)

    def backward(self, grad_output):
        return PadBorderBackward.apply(grad_output, widths=self.widths, mode=self.mode)


class PadBorderBackward(Function):
    """The adjoint of PadBorder, and PadBorder its own: padding is linear."""

    def forward(self, grad_output, *, widths, mode):
        self.widths, self.mode = widths, mode
        return PAD_BORDER[mode][1](grad_output, widths)

    def backward(self, grad_input):
        return PadBorder.apply(grad_input, widths=self.widths, mode=self.mode)


class Flip(Function):
    def forward(self, a, *, dims):
        self.dims = dims
        return get_array_module(a).flip(a, dims)

    def backward(self, grad_output):
        return flip(grad_output, self.dims)


def reshape(input: Tensor, shape: int | Sequence[int]) -> Tensor:
    """Return the same values in another shape; one size may be -1.

    Raises:
        ValueError: when the number of values differs.
    """
    input = positional("reshape", input)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    known = math.prod(n for n in sizes if n != -1)
    free = sizes.count(-1)
    fits = known == input.numel() if not free else known > 0 and input.numel() % known == 0
    if free > 1 or builtins.min(sizes, default=0) < -1 or not fits:
        raise ValueError(f"reshape: a tensor of shape {input.shape} cannot take the shape {sizes}")
    return Reshape.apply(input, shape=sizes)


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the dimensions from `start_dim` to `end_dim` (both included) into one."""
    input = positional("flatten", input)
    start = dimension("flatten", start_dim, input.ndim)
    end = dimension("flatten", end_dim, input.ndim)
    if start > end:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    joined = math.prod(input.shape[start : end + 1])
    return reshape(input, (*input.shape[:start], joined, *input.shape[end + 1 :]))


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Reorder the dimensions: dimension i of the result is dimension dims[i] of the input."""
    input = positional("permute", input)
    order = [dimension("permute", d, input.ndim) for d in dims]
    if sorted(order) != list(range(input.ndim)):
        raise ValueError(f"permute: dims is {tuple(dims)}, expected each of {input.ndim} once")
    return Permute.apply(input, dims=tuple(order))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two dimensions."""
    input = positional("transpose", input)
    order = list(range(input.ndim))
    a, b = (dimension("transpose", d, input.ndim) for d in (dim0, dim1))
    if order:
        order[a], order[b] = order[b], order[a]
    return Permute.apply(input, dims=tuple(order))


def squeeze(input: Tensor, dim: int | None = None) -> Tensor:
    """Drop dimension `dim` if its size is 1, or all dimensions of size 1."""
    input = positional("squeeze", input)
    chosen = range(input.ndim) if dim is None else [dimension("squeeze", dim, input.ndim)]
    kept = tuple(n for d, n in enumerate(input.shape) if d not in chosen or n != 1)
    return reshape(input, kept)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Insert a dimension of size 1 at `dim`."""
    input = positional("unsqueeze", input)
    d = dimension("unsqueeze", dim, input.ndim + 1)
    return reshape(input, (*input.shape[:d], 1, *input.shape[d:]))


def expand(input: Tensor, shape: Sequence[int]) -> Tensor:
    """Broadcast to `shape` without copying; -1 keeps a size.

    Raises:
        ValueError: when the shapes do not broadcast.
    """
    input = positional("expand", input)
    lead = len(shape) - input.ndim
    sizes = tuple(
        input.shape[d - lead] if n == -1 and d >= lead else n for d, n in enumerate(shape)
    )
    tail = zip(input.shape, sizes[builtins.max(lead, 0) :], strict=False)
    if (
        lead < 0
        or builtins.min(sizes, default=0) < 0
        or builtins.any(m not in (1, n) for m, n in tail)
    ):
        raise ValueError(
            f"expand: a tensor of shape {input.shape} cannot be expanded to {tuple(shape)}"
        )
    return input if sizes == input.shape else Expand.apply(input, shape=sizes)


def getitem(input: Tensor, index: Any) -> Tensor:
    """Index like NumPy: integers, slices, None, `...`, masks, integer arrays or tensors."""
    index = plain_index(index, positional("getitem", input))
    kind = View if _is_basic(index) and not _picks_one(index, input.ndim) else GetItem
    return kind.apply(input, index=index)


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """Take values along `dim`: output[i, j] = input[i, index[i, j]] for dim 1, and so on.

    Raises:
        ValueError: when `index` has another number of dimensions or points outside.
    """
    input, index = positional("gather", input), positional("gather", index, "index")
    beside("gather", index, "index", input)
    dim = dimension("gather", dim, input.ndim)
    if index.ndim != input.ndim or index.dtype.kind not in "iu":
        raise ValueError(
            f"gather: index is {index.dtype} of shape {index.shape}, "
            f"expected integers with {input.ndim} dimensions"
        )
    with on_device_of(index.data):
        if index.numel() and not 0 <= index.data.min() <= index.data.max() < input.shape[dim]:
            raise ValueError(f"gather: index must lie between 0 and {input.shape[dim] - 1}")
    return Gather.apply(input, dim=dim, index=index.data)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along an existing dimension.

    Raises:
        ValueError: when the list is empty or other sizes differ.
    """
    tensors = [positional("cat", t, f"tensors[{i}]") for i, t in enumerate(tensors)]
    if not tensors:
        raise ValueError("cat: got no tensors, expected at least one")
    for i, t in enumerate(tensors):
        beside("cat", t, f"tensors[{i}]", tensors[0], "tensors[0]")
    dim = dimension("cat", dim, tensors[0].ndim)
    rest = [(*t.shape[:dim], *t.shape[dim + 1 :]) for t in tensors]
    for i, t in enumerate(tensors):
        if t.ndim != tensors[0].ndim or rest[i] != rest[0]:
            raise ValueError(
                f"cat: tensors[{i}] has shape {t.shape}, "
                f"expected that of tensors[0], {tensors[0].shape}, but for dimension {dim}"
            )
    return Concatenate.apply(*tensors, dim=dim)


def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along an existing dimension; the same as `cat`."""
    return cat(tensors, dim)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new dimension."""
    return cat([unsqueeze(t, dim) for t in tensors], dim)


def split(input: Tensor, sizes: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Cut into pieces of the given sizes (the last may be smaller if one size is given).

    Raises:
        ValueError: when the sizes do not add up to the dimension's length.
    """
    input = positional("split", input)
    dim = dimension("split", dim, input.ndim)
    length = input.shape[dim]
    if isinstance(sizes, int):
        step = integer("split", sizes, "sizes", 1)
        sizes = [builtins.min(step, length - start) for start in range(0, length, step)]
    if builtins.sum(sizes) != length:
        raise ValueError(f"split: sizes {list(sizes)} do not add up to {length}")
    lead = (slice(None),) * dim
    ends = np.cumsum(sizes).tolist()
    return tuple(
        getitem(input, (*lead, slice(end - n, end))) for n, end in zip(sizes, ends, strict=True)
    )


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Cut into at most `chunks` pieces of equal size, the last possibly smaller."""
    chunks = integer("chunk", chunks, "chunks", 1)
    length = positional("chunk", input).shape[dimension("chunk", dim, input.ndim)]
    return split(input, builtins.max(1, -(-length // chunks)), dim)


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Add a border: `pad` is (left, right, top, bottom, ...), last dimension first.

    Args:
        input: a tensor of any shape and dtype.
        pad: pairs for as many of the last dimensions as there are to pad.
        mode: "constant" (of `value`), "reflect" (the values mirrored, the edge not repeated) or
            "replicate" (the edge repeated).
        value: of the constant border; None is 0.

    Raises:
        ValueError: for negative or unpaired widths, or more than the tensor has dimensions; for a
            mirrored border as wide as the tensor, or a repeated one of nothing.
    """
    input = positional("pad", input)
    if mode not in ("constant", *PAD_BORDER):
        modes = ", ".join(map(repr, ("constant", *PAD_BORDER)))
        raise ValueError(f"pad: mode is {mode!r}, expected one of {modes}")
    if mode != "constant" and value:
        raise ValueError(f"pad: value is {value!r}, expected none in mode {mode!r}")
    widths = [integer("pad", w, "pad", 0) for w in pad]
    if len(widths) % 2 or len(widths) // 2 > input.ndim:
        raise ValueError(
            f"pad: pad is {tuple(pad)}, expected pairs for at most {input.ndim} dimensions"
        )
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)]
    outer = [(0, 0)] * (input.ndim - len(pairs))
    every = tuple(outer + pairs[::-1])
    if mode == "constant":
        return Pad.apply(input, widths=every, value=0 if value is None else value)
    for length, around in zip(input.shape, every, strict=True):
        widest = builtins.max(around)
        if widest and (length == 0 or mode == "reflect" and widest >= length):
            raise ValueError(
                f"pad: pad is {tuple(pad)}, too wide for mode {mode!r} and shape {input.shape}"
            )
    return PadBorder.apply(input, widths=every, mode=mode)


def flip(input: Tensor, dims: Sequence[int]) -> Tensor:
    """Reverse the order of values along `dims`."""
    input = positional("flip", input)
    return Flip.apply(input, dims=tuple(dimension("flip", d, input.ndim) for d in dims))


def one_hot(target: Tensor, num_classes: int) -> Tensor:
    """Return int64 rows with a 1 at each target; shape (*, num_classes).

    Raises:
        ValueError: when a target lies outside [0, num_classes).
    """
    labels = as_array(target)
    num_classes = integer("one_hot", num_classes, "num_classes", 1)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"one_hot: target has dtype {labels.dtype}, expected integers")
    with on_device_of(labels):
        if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(f"one_hot: target must lie between 0 and {num_classes - 1}")
        classes = get_array_module(labels).arange(num_classes)
        return Tensor((labels[..., None] == classes).astype(int64))


def plain_index(index: Any, input: Tensor) -> Any:
    """Replace tensors and lists in an index of `input` by copies that later changes do not reach.

    Raises:
        IndexError: on a device, when the index points outside; NumPy sees that by itself.
    """
    plain = _on_host(index)
    if input.device == "cpu" or _is_basic(plain):
        return plain
    # CuPy wraps an index around that points outside. NumPy, given the shape alone, refuses it.
    np.broadcast_to(np.False_, input.shape)[plain]
    return _on_device(plain, input.device)


def _on_host(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_on_host(i) for i in index)
    if isinstance(index, (Tensor, list)) or is_array(index):
        return np.array(to_host(as_array(index)))
    return index


def _on_device(index: Any, device: str) -> Any:
    if isinstance(index, tuple):
        return tuple(_on_device(i, device) for i in index)
    return to_device(index, device) if is_array(index) else index


def _is_basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return not builtins.any(is_array(i) or isinstance(i, bool) for i in parts)


def _picks_one(index: Any, ndim: int) -> bool:
    """Whether a basic index leaves no dimension: NumPy then returns a number, not a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return len(parts) == ndim and builtins.all(isinstance(i, (int, np.integer)) for i in parts)


def _along(index: Any, dim: int) -> tuple[Any, ...]:
    """Return the full index whose part along `dim` is `index`, as np.take_along_axis makes it."""
    grid = []
    for d, n in enumerate(index.shape):
        along = [-1 if d == axis else 1 for axis in range(index.ndim)]
        grid.append(get_array_module(index).arange(n).reshape(along))
    grid[dim] = index
    return tuple(grid)
