"""Elementwise arithmetic with NumPy's broadcasting and dtype promotion."""

from __future__ import annotations

from typing import Any

from minicnn import backend
from minicnn.autograd import Function
from minicnn.backend import get_array_module
from minicnn.functional._check import beside, positional
from minicnn.tensor import Tensor, as_array


class Elementwise(Function):
    """Gradients come in the broadcast shape; the engine sums them back to each input's."""

    broadcasts = True


class Add(Elementwise):
    def forward(self, a, b):
        return a + b

    def backward(self, grad_output):
        return grad_output, grad_output


class Sub(Elementwise):
    def forward(self, a, b):
        return a - b

    def backward(self, grad_output):
        return grad_output, -grad_output


class Mul(Elementwise):
    def forward(self, a, b):
        self.save(a, b)
        return a * b

    def backward(self, grad_output):
        a, b = self.saved
        need_a, need_b = self.needs_grad
        return grad_output * b if need_a else None, grad_output * a if need_b else None


class Div(Elementwise):
    def forward(self, a, b):
        self.save(a, b)
        return a / b

    def backward(self, grad_output):
        a, b = self.saved
        need_a, need_b = self.needs_grad
        return (
            grad_output / b if need_a else None,
            -grad_output * a / (b * b) if need_b else None,
        )


class Pow(Elementwise):
    def forward(self, a, b):
        self.save(a, b)
        return a**b

    def backward(self, grad_output):
        a, b = self.saved
        need_a, need_b = self.needs_grad
        grad_a = grad_b = None
        if need_a:
            # At b = 0 the derivative is 0 for every a; a ** -1 would make 0 * inf at a = 0.
            lowered = where(b == 0, 1.0, b - 1) if isinstance(b, Tensor) else b - 1 if b else 1.0
            grad_a = where(b == 0, 0.0, grad_output * b * a**lowered)
        if need_b:
            # 0 ** b is flat for b > 0: its derivative is 0, although log(0) is not finite.
            flat = (b >= 0) & (a == 0)
            grad_b = grad_output * where(flat, 0.0, a**b * log(where(flat, 1.0, a)))
        return grad_a, grad_b


class Neg(Function):
    def forward(self, a):
        return -a

    def backward(self, grad_output):
        return -grad_output


class Exp(Function):
    def forward(self, a):
        output = get_array_module(a).exp(a)
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.saved
        return grad_output * output


class Log(Function):
    def forward(self, a):
        self.save(a)
        return get_array_module(a).log(a)

    def backward(self, grad_output):
        (a,) = self.saved
        return grad_output / a


class Sqrt(Function):
    def forward(self, a):
        output = get_array_module(a).sqrt(a)
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.saved
        return grad_output / (2 * output)


class Abs(Function):
    def forward(self, a):
        self.save(a)
        return abs(a)

    def backward(self, grad_output):
        (a,) = self.saved
        return grad_output * Tensor(get_array_module(a.data).sign(a.data))


class Maximum(Elementwise):
    def forward(self, a, b):
        xp = get_array_module(a, b)
        self.save(a, b)
        return xp.maximum(a, b)

    def backward(self, grad_output):
        a, b = self.saved
        # Where both are equal each takes half, as in PyTorch.
        share = where(a == b, 0.5, (a > b).to(grad_output.dtype))
        return grad_output * share, grad_output * (1 - share)


class Where(Elementwise):
    def forward(self, condition, a, b):
        self.save(condition)
        return get_array_module(condition).where(condition, a, b)

    def backward(self, grad_output):
        (condition,) = self.saved
        _, need_a, need_b = self.needs_grad
        return (
            None,
            where(condition, grad_output, 0.0) if need_a else None,
            where(condition, 0.0, grad_output) if need_b else None,
        )


class Cast(Function):
    def forward(self, a, *, dtype):
        self.dtype = a.dtype
        return a.astype(dtype)

    def backward(self, grad_output):
        return cast(grad_output, self.dtype)


class ToDevice(Function):
    def forward(self, a, *, device):
        self.device = backend.device_of(a)
        return backend.to_device(a, device)

    def backward(self, grad_output):
        return to_device(grad_output, self.device)


class Clone(Function):
    def forward(self, a):
        # C order whatever the input's: this is also how a strided view becomes contiguous.
        return a.copy(order="C")

    def backward(self, grad_output):
        return grad_output


def add(a: Any, b: Any) -> Tensor:
    """Add two tensors, or a tensor and a number."""
    return Add.apply(*_operands("add", a, b))


def sub(a: Any, b: Any) -> Tensor:
    """Subtract `b` from `a`."""
    return Sub.apply(*_operands("sub", a, b))


def mul(a: Any, b: Any) -> Tensor:
    """Multiply two tensors, or a tensor and a number."""
    return Mul.apply(*_operands("mul", a, b))


def div(a: Any, b: Any) -> Tensor:
    """Divide `a` by `b`; integers give floats, as in NumPy."""
    return Div.apply(*_operands("div", a, b))


def pow(a: Any, b: Any) -> Tensor:
    """Raise `a` to the power `b`."""
    a, b = _operands("pow", a, b)
    if not isinstance(b, Tensor) and b == 2:
        return mul(a, a)
    return Pow.apply(a, b)


def neg(a: Tensor) -> Tensor:
    """Return `-a`."""
    return Neg.apply(positional("neg", a))


def exp(a: Tensor) -> Tensor:
    """Return e ** a."""
    return Exp.apply(positional("exp", a))


def log(a: Tensor) -> Tensor:
    """Return the natural logarithm."""
    return Log.apply(positional("log", a))


def sqrt(a: Tensor) -> Tensor:
    """Return the square root."""
    return Sqrt.apply(positional("sqrt", a))


def abs_(a: Tensor) -> Tensor:
    """Return the absolute value; the derivative at 0 is 0."""
    return Abs.apply(positional("abs", a))


def maximum(a: Any, b: Any) -> Tensor:
    """Return the larger of each pair; NaN wins."""
    return Maximum.apply(*_operands("maximum", a, b))


def minimum(a: Any, b: Any) -> Tensor:
    """Return the smaller of each pair; NaN wins."""
    a, b = _operands("minimum", a, b)
    like = a if isinstance(a, Tensor) else b
    return neg(maximum(neg(_tensor(a, like)), neg(_tensor(b, like))))


def clamp(a: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """Limit every value to [min, max]; gradients pass where the value lies inside, ends included.

    Raises:
        ValueError: when neither bound is given.
    """
    if min is None and max is None:
        raise ValueError("clamp: got neither min nor max, expected at least one")
    a = positional("clamp", a)
    if min is not None:
        a = where(a < min, min, a)
    return a if max is None else where(a > max, max, a)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """Take `a` where `condition` holds and `b` elsewhere."""
    like = next((x for x in (condition, a, b) if isinstance(x, Tensor)), None)
    mask = _tensor(condition, like)
    if mask.dtype != bool:
        raise TypeError(f"where: condition has dtype {mask.dtype}, expected bool")
    a, b = (x if isinstance(x, (int, float)) else _tensor(x, like) for x in (a, b))
    for argument, x in (("a", a), ("b", b)):
        if isinstance(x, Tensor):
            beside("where", x, argument, mask, "condition")
    return Where.apply(mask.data, a, b)


def cast(a: Tensor, dtype: Any) -> Tensor:
    """Return `a` in another dtype; itself if it has it already.

    Raises:
        TypeError: for a dtype that tensors cannot have.
    """
    dtype = as_array([], dtype).dtype
    return a if a.dtype == dtype else Cast.apply(a, dtype=dtype)


def to_device(a: Tensor, device: str) -> Tensor:
    """Return `a` on another device; itself if it is there already.

    Raises:
        ValueError: for a device that is unknown or that this installation cannot use.
    """
    device = backend.check_device(device)
    return a if positional("to_device", a).device == device else ToDevice.apply(a, device=device)


def clone(a: Tensor) -> Tensor:
    """Return a copy in C order; gradients pass through."""
    return Clone.apply(positional("clone", a))


def _tensor(value: Any, like: Tensor | None) -> Tensor:
    """Wrap what is no Tensor; lists and numbers, which are on no device, go to that of `like`."""
    if isinstance(value, Tensor):
        return value
    tensor = Tensor(value)
    if like is None or backend.is_array(value):
        return tensor
    return to_device(tensor, like.device)


def _operands(name: str, a: Any, b: Any) -> tuple[Any, Any]:
    """Keep Python numbers as they are, so that they do not widen a dtype; wrap arrays and lists."""
    like = a if isinstance(a, Tensor) else b if isinstance(b, Tensor) else None
    a, b = (x if isinstance(x, (Tensor, int, float)) else _tensor(x, like) for x in (a, b))
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return Tensor(a), b
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a, b
    beside(name, b, "b", a, "a")
    if a.shape != b.shape:
        for m, n in zip(reversed(a.shape), reversed(b.shape), strict=False):
            if m != n and 1 not in (m, n):
                raise ValueError(
                    f"{name}: shapes {a.shape} and {b.shape} cannot be broadcast together"
                )
    return a, b
