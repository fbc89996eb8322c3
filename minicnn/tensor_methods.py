"""The methods of Tensor that only call a function of `minicnn.functional`, from `+` to `x.T`."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from numpy.typing import DTypeLike

if TYPE_CHECKING:
    from minicnn.tensor import Tensor


def _functional() -> ModuleType:
    # The one import upwards: methods are shorthands for functions that stand on the Tensor.
    from minicnn import functional

    return functional


class TensorMethods:
    """Shorthands; arguments and results are those of the function of the same name."""

    def __add__(self, other: Any) -> Tensor:
        return _functional().add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _functional().add(other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _functional().sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _functional().sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _functional().mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _functional().mul(other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _functional().div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _functional().div(other, self)

    def __pow__(self, other: Any) -> Tensor:
        return _functional().pow(self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _functional().pow(other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return _functional().matmul(self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _functional().matmul(other, self)

    def __neg__(self) -> Tensor:
        return _functional().neg(self)

    def __abs__(self) -> Tensor:
        return _functional().abs(self)

    def __getitem__(self, index: Any) -> Tensor:
        return _functional().getitem(self, index)

    def cast(self, dtype: DTypeLike) -> Tensor:
        return _functional().cast(self, dtype)

    def to_device(self, device: str) -> Tensor:
        return _functional().to_device(self, device)

    def clone(self) -> Tensor:
        """Return a copy with the same history."""
        return _functional().clone(self)

    def exp(self) -> Tensor:
        return _functional().exp(self)

    def log(self) -> Tensor:
        return _functional().log(self)

    def sqrt(self) -> Tensor:
        return _functional().sqrt(self)

    def abs(self) -> Tensor:
        return _functional().abs(self)

    def pow(self, exponent: Any) -> Tensor:
        return _functional().pow(self, exponent)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        return _functional().clamp(self, min, max)

    def matmul(self, other: Any) -> Tensor:
        return _functional().matmul(self, other)

    def relu(self) -> Tensor:
        return _functional().relu(self)

    def sigmoid(self) -> Tensor:
        return _functional().sigmoid(self)

    def tanh(self) -> Tensor:
        return _functional().tanh(self)

    def softmax(self, dim: int) -> Tensor:
        return _functional().softmax(self, dim)

    def log_softmax(self, dim: int) -> Tensor:
        return _functional().log_softmax(self, dim)

    def sum(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return _functional().sum(self, dim, keepdim)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return _functional().mean(self, dim, keepdim)

    def var(self, dim: Any = None, correction: int = 1, keepdim: bool = False) -> Tensor:
        return _functional().var(self, dim, correction, keepdim)

    def std(self, dim: Any = None, correction: int = 1, keepdim: bool = False) -> Tensor:
        return _functional().std(self, dim, correction, keepdim)

    def max(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return _functional().max(self, dim, keepdim)

    def min(self, dim: int | None = None, keepdim: bool = False) -> Any:
        return _functional().min(self, dim, keepdim)

    def amax(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return _functional().amax(self, dim, keepdim)

    def amin(self, dim: Any = None, keepdim: bool = False) -> Tensor:
        return _functional().amin(self, dim, keepdim)

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        return _functional().argmax(self, dim, keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        return _functional().argmin(self, dim, keepdim)

    def sum_to(self, shape: Sequence[int]) -> Tensor:
        """Sum over the dimensions along which `shape` would be broadcast to this tensor's shape."""
        return _functional().sum_to(self, shape)

    def gather(self, dim: int, index: Any) -> Tensor:
        return _functional().gather(self, dim, index)

    def reshape(self, *shape: Any) -> Tensor:
        return _functional().reshape(self, as_shape(shape))

    def view(self, *shape: Any) -> Tensor:
        return _functional().reshape(self, as_shape(shape))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        return _functional().flatten(self, start_dim, end_dim)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        return _functional().transpose(self, dim0, dim1)

    def permute(self, *dims: Any) -> Tensor:
        return _functional().permute(self, as_shape(dims))

    def squeeze(self, dim: int | None = None) -> Tensor:
        return _functional().squeeze(self, dim)

    def unsqueeze(self, dim: int) -> Tensor:
        return _functional().unsqueeze(self, dim)

    def expand(self, *shape: Any) -> Tensor:
        return _functional().expand(self, as_shape(shape))

    @property
    def T(self: Any) -> Tensor:
        return self.permute(*reversed(range(self.ndim)))


def as_shape(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Read `f(2, 3)`, `f((2, 3))` and `f([2, 3])` alike."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        return tuple(sizes[0])
    return sizes
