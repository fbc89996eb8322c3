"""Tensor: an array, the gradient that belongs to it, and its place in the record of operations.

Everything that computes is a function of `minicnn.functional`; the methods that only call one are
in `minicnn.tensor_methods`. How gradients travel is told in `minicnn.autograd`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minicnn.autograd import Function, root_gradient, run_backward
from minicnn.backend import (
    DEVICES,
    check_device,
    device_of,
    get_array_module,
    is_array,
    mixed_devices,
    on_device_of,
    to_device,
    to_host,
)
from minicnn.grad_mode import is_grad_enabled
from minicnn.random import Generator, default_generator
from minicnn.tensor_methods import TensorMethods

float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
uint8 = np.dtype(np.uint8)
bool_ = np.dtype(np.bool_)

_FLOATS = (float32, float64)

Scalar = float  # inside the class, `float` is a method


def as_array(data: Any, dtype: DTypeLike | None = None) -> Any:
    """Return `data` as an array; plain Python floats become float32, plain integers int64.

    An array stays on its device; what was none becomes one of NumPy's.

    Raises:
        TypeError: when the values are not booleans, integers, or float32 / float64 numbers.
    """
    if isinstance(data, Tensor):
        data = data.data
    typed = isinstance(data, np.generic) or is_array(data)
    try:
        with on_device_of(data):
            array = get_array_module(data).asarray(data, dtype)
    except (ValueError, TypeError) as error:
        raise TypeError(f"data: cannot be read as an array ({error})") from error
    if not typed and dtype is None:
        if array.dtype == float64:
            array = array.astype(float32)
        elif array.dtype.kind == "i":
            array = array.astype(int64)
    if array.dtype.kind not in "biu" and array.dtype not in _FLOATS:
        raise TypeError(
            f"data: got dtype {array.dtype}, expected float32, float64, an integer type or bool"
        )
    return array


class Tensor(TensorMethods):
    """A multi-dimensional array with automatic differentiation; names and behaviour are PyTorch's.

    Args:
        data: an array (shared, not copied), a nested sequence of numbers, or a number.
        requires_grad: collect the gradient with respect to this tensor in `.grad`.

    Attributes:
        data: the values, an array. Assigning to it, like every in-place method, counts as a change.
        grad: the accumulated gradient, a Tensor, or None.

    Raises:
        TypeError: for values that are not numbers, or `requires_grad` on integers.
    """

    # NumPy leaves `array + tensor` to the tensor.
    __array_ufunc__ = None

    grad: Tensor | None = None
    _requires_grad = False
    _node: Function | None = None
    _index = 0
    _hooks: Any = MappingProxyType({})

    def __init__(self, data: Any, requires_grad: bool = False):
        # A view, so that no two tensors hold the same array object: autograd tells them apart by
        # it.
        self._data = as_array(data).view()
        self._version = [0]
        if requires_grad:
            self.requires_grad = True

    @classmethod
    def _wrap(cls, array: Any) -> Tensor:
        """Make a tensor around a kernel's result, without the checks that user data needs."""
        tensor = Tensor.__new__(Tensor)
        # NumPy makes scalars where CuPy makes arrays without dimensions.
        is_scalar = type(array) is not np.ndarray and isinstance(array, (np.generic, int, float))
        tensor._data = np.asarray(array) if is_scalar else array
        tensor._version = [0]
        return tensor

    # The value ---------------------------------------------------------------------------------

    @property
    def data(self) -> NDArray:
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        self._data = as_array(array).view()
        self._version[0] += 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def device(self) -> str:
        """Where the values are: "cpu", "cuda", "cuda:1", ... or "cuda:sim", "cuda:sim:1", ..."""
        return device_of(self._data)

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the length of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self._data.ndim

    def numel(self) -> int:
        return int(self._data.size)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a tensor without dimensions")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def item(self) -> Any:
        """Return the only element as a Python number.

        Raises:
            ValueError: when there is not exactly one element.
        """
        if self.numel() != 1:
            raise ValueError(f"item: got a tensor of shape {self.shape}, expected one element")
        return self._data.item()

    def __float__(self) -> Scalar:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __index__(self) -> int:
        if self.dtype.kind not in "iu":
            raise TypeError(f"a {self.dtype} tensor cannot be used as an index")
        return int(self.item())

    def tolist(self) -> Any:
        return self._data.tolist()

    def numpy(self) -> NDArray:
        """Return the values as a NumPy array that shares memory with the tensor.

        A change made through that array goes unseen by the in-place guards; `copy()` it to be safe.

        Raises:
            TypeError: when the values are on another device than the CPU.
        """
        if self.device != "cpu":
            raise TypeError(
                f"numpy: can't convert a tensor on {self.device!r} to NumPy; "
                "use Tensor.cpu() to copy it to host memory first"
            )
        return self._data

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        return np.array(self.numpy(), dtype, copy=copy)

    def __repr__(self) -> str:
        text = np.array2string(to_host(self._data), separator=", ", prefix="tensor(", precision=4)
        extra = "" if self.dtype in (float32, int64, bool_) else f", dtype={self.dtype}"
        extra += "" if self.device == "cpu" else f", device={self.device!r}"
        if self._node is not None:
            extra += f", grad_fn={self._node.name}"
        elif self._requires_grad:
            extra += ", requires_grad=True"
        return f"tensor({text}{extra})"

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("only leaf tensors can be deep-copied; detach() the others first")
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        with on_device_of(self._data):
            copied._data, copied._version = self._data.copy(), [0]
        copied._requires_grad = self._requires_grad
        copied.grad = None if self.grad is None else self.grad.detach().clone()
        return copied

    def __getstate__(self) -> dict[str, Any]:
        if not self.is_leaf:
            raise RuntimeError("only leaf tensors can be pickled; detach() the others first")
        state = {"data": to_host(self._data), "device": self.device, "grad": self.grad}
        return {**state, "requires_grad": self._requires_grad}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._data, self._version = to_device(state["data"], state["device"]), [0]
        self._requires_grad, self.grad = state["requires_grad"], state["grad"]

    # Gradients ---------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad or self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self._node is not None:
            if not value:
                raise RuntimeError(
                    "requires_grad of a computed tensor cannot be cleared; detach() it"
                )
            return
        if value and self.dtype not in _FLOATS:
            raise TypeError(
                f"requires_grad: got a {self.dtype} tensor, expected float32 or float64"
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by the user rather than computed with gradients recorded."""
        return self._node is None

    @property
    def grad_fn(self) -> Function | None:
        return self._node

    def backward(
        self,
        gradient: Tensor | NDArray | None = None,
        retain_graph: bool | None = None,
        create_graph: bool = False,
    ) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it was computed from.

        Args:
            gradient: the upstream gradient, of this tensor's shape; may be left out for one
                element.
            retain_graph: keep the saved values for another backward; the default is `create_graph`.
            create_graph: record this pass too, so that gradients can be differentiated again.

        Raises:
            RuntimeError: when nothing requires a gradient, the graph was freed, or a saved value
                was changed in place (the message names the operation).
        """
        run_backward(
            [self],
            [root_gradient(self, gradient)],
            retain_graph=create_graph if retain_graph is None else retain_graph,
            create_graph=create_graph,
        )

    def detach(self) -> Tensor:
        """Return a tensor that shares this one's memory but not its history."""
        tensor = Tensor._wrap(self._data.view())
        tensor._version = self._version
        return tensor

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Handle:
        """Call `hook(grad)` whenever the gradient of this tensor has been computed.

        What the hook returns, unless None, takes the gradient's place.

        Raises:
            RuntimeError: when the tensor does not require a gradient.
        """
        if not self.requires_grad:
            raise RuntimeError("register_hook: the tensor does not require a gradient")
        if self._node is None and isinstance(self._hooks, MappingProxyType):
            self._hooks = {}
        owner = self if self._node is None else self._node
        hooks = owner._hooks.setdefault(self._index, [])
        hooks.append(hook)
        return Handle(hooks, hook)

    def retain_grad(self) -> None:
        """Fill `.grad` of this computed tensor too."""
        if self._node is None:
            return

        def keep(grad: Tensor) -> None:
            self.grad = grad.clone() if self.grad is None else self.grad + grad

        self.register_hook(keep)

    # Changes in place --------------------------------------------------------------------------

    def bump_version(self) -> None:
        """Note a change made directly in `.data`, for the in-place guards."""
        self._version[0] += 1

    def _writable(self, name: str, *operands: Any) -> NDArray:
        recorded = (self, *(x for x in operands if isinstance(x, Tensor)))
        if is_grad_enabled() and any(x.requires_grad for x in recorded):
            raise RuntimeError(
                f"{name}: a change in place cannot be recorded for gradients; use the form that "
                "returns a new tensor, or no_grad() if no gradient is wanted"
            )
        self._version[0] += 1
        return self._data

    def _operand(self, name: str, value: Any) -> Any:
        """Return what NumPy or its like computes with beside `self.data`: an array or a number."""
        if isinstance(value, (list, tuple)):
            return to_device(as_array(value), self.device)
        array = value.data if isinstance(value, Tensor) else value
        if is_array(array) and device_of(array) != self.device:
            raise mixed_devices(name, "other", device_of(array), "the tensor", self.device)
        return array

    def add_(self, other: Any, *, alpha: Scalar = 1) -> Tensor:
        operand = self._operand("add_", other)
        data = self._writable("add_", other)
        with on_device_of(data):
            data += operand if alpha == 1 else alpha * operand
        return self

    def sub_(self, other: Any, *, alpha: Scalar = 1) -> Tensor:
        return self.add_(other, alpha=-alpha)

    def mul_(self, other: Any) -> Tensor:
        operand = self._operand("mul_", other)
        data = self._writable("mul_", other)
        with on_device_of(data):
            data *= operand
        return self

    def div_(self, other: Any) -> Tensor:
        operand = self._operand("div_", other)
        data = self._writable("div_", other)
        with on_device_of(data):
            data /= operand
        return self

    def copy_(self, other: Any) -> Tensor:
        """Copy values in from any device, broadcast and cast to this tensor's dtype."""
        source = other.data if isinstance(other, Tensor) else other
        array = source if is_array(source) else as_array(source)
        data = self._writable("copy_", other)
        self._write(data, ..., to_device(array, self.device))
        return self

    def fill_(self, value: Any) -> Tensor:
        operand = self._operand("fill_", value)
        self._write(self._writable("fill_"), ..., operand)
        return self

    def zero_(self) -> Tensor:
        return self.fill_(0)

    def uniform_(
        self, low: Scalar = 0.0, high: Scalar = 1.0, *, generator: Generator | None = None
    ) -> Tensor:
        """Fill with draws from U(low, high), made on the host and so the same on every device."""
        draws = (generator or default_generator).numpy.uniform(low, high, self.shape)
        self._write(self._writable("uniform_"), ..., to_device(np.asarray(draws), self.device))
        return self

    def normal_(
        self, mean: Scalar = 0.0, std: Scalar = 1.0, *, generator: Generator | None = None
    ) -> Tensor:
        """Fill with draws from N(mean, std), `std` being the standard deviation; see `uniform_`."""
        draws = (generator or default_generator).numpy.normal(mean, std, self.shape)
        self._write(self._writable("normal_"), ..., to_device(np.asarray(draws), self.device))
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        from minicnn.functional import plain_index

        operand, place = self._operand("index assignment", value), plain_index(index, self)
        self._write(self._writable("index assignment", value), place, operand)

    @staticmethod
    def _write(data: Any, place: Any, values: Any) -> None:
        with on_device_of(data):
            data[place] = values

    def _in_place(self, method: str, plain: str, other: Any) -> Tensor:
        # `x += y` on a computed tensor binds the name to x + y; nobody else sees the difference.
        recorded = any(isinstance(x, Tensor) and x.requires_grad for x in (self, other))
        if is_grad_enabled() and recorded and not (self.is_leaf and self.requires_grad):
            return getattr(self, plain)(other)
        return getattr(self, method)(other)

    def __iadd__(self, other: Any) -> Tensor:
        return self._in_place("add_", "__add__", other)

    def __isub__(self, other: Any) -> Tensor:
        return self._in_place("sub_", "__sub__", other)

    def __imul__(self, other: Any) -> Tensor:
        return self._in_place("mul_", "__mul__", other)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._in_place("div_", "__truediv__", other)

    # Comparison --------------------------------------------------------------------------------

    def __eq__(self, other: Any) -> Tensor:  # type: ignore[override]
        return _compare(operator.eq, self, other)

    def __ne__(self, other: Any) -> Tensor:  # type: ignore[override]
        return _compare(operator.ne, self, other)

    def __lt__(self, other: Any) -> Tensor:
        return _compare(operator.lt, self, other)

    def __le__(self, other: Any) -> Tensor:
        return _compare(operator.le, self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _compare(operator.gt, self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _compare(operator.ge, self, other)

    def __invert__(self) -> Tensor:
        with on_device_of(self._data):
            return Tensor._wrap(~self._data)

    def __and__(self, other: Any) -> Tensor:
        return _compare(operator.and_, self, other)

    def __or__(self, other: Any) -> Tensor:
        return _compare(operator.or_, self, other)

    def all(self) -> Tensor:
        with on_device_of(self._data):
            return Tensor._wrap(self._data.all())

    def any(self) -> Tensor:
        with on_device_of(self._data):
            return Tensor._wrap(self._data.any())

    # Conversion --------------------------------------------------------------------------------

    def to(
        self, *targets: Any, device: str | None = None, dtype: DTypeLike | None = None
    ) -> Tensor:
        """Return this tensor on another device or in another dtype; itself if nothing changes.

        Gradients travel back the same way.

        Args:
            targets: a device, a dtype, both, or a tensor whose device and dtype are meant.
        """
        device, dtype = read_targets(targets, device, dtype)
        result = self if dtype is None else self.cast(dtype)
        return result if device is None else result.to_device(device)

    def cpu(self) -> Tensor:
        """Return this tensor in the host's memory."""
        return self.to_device("cpu")

    def cuda(self) -> Tensor:
        """Return this tensor on the GPU."""
        return self.to_device("cuda")

    def float(self) -> Tensor:
        return self.to(float32)

    def double(self) -> Tensor:
        return self.to(float64)

    def long(self) -> Tensor:
        return self.to(int64)

    def contiguous(self) -> Tensor:
        """Return this tensor if its memory is C-contiguous, else a copy that is."""
        return self if self._data.flags.c_contiguous else self.clone()


class Handle:
    """What registering a hook returns; `remove()` takes the hook away again."""

    def __init__(self, hooks: list[Any], hook: Any):
        self._hooks = hooks
        self._hook = hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


def read_targets(
    targets: tuple[Any, ...], device: str | None = None, dtype: DTypeLike | None = None
) -> tuple[str | None, DTypeLike | None]:
    """Read what `.to` takes: a device, a dtype, both, or a tensor that has both.

    Raises:
        ValueError: for a device that is unknown or that this installation cannot use.
    """
    for target in targets:
        if isinstance(target, Tensor):
            device, dtype = target.device, target.dtype
        elif isinstance(target, str) and (target in DEVICES or not hasattr(np, target)):
            device = target
        else:
            dtype = target
    return None if device is None else check_device(device), dtype


def _compare(compare: Callable[[Any, Any], Any], a: Tensor, b: Any) -> Any:
    operand = a._operand(compare.__name__.strip("_"), b)
    with on_device_of(a.data):
        return Tensor._wrap(compare(a.data, operand))
