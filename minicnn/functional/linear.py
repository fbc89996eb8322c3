"""Matrix products."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Function
from minicnn.functional._check import beside, dimensions, floating
from minicnn.functional.reduce import sum
from minicnn.functional.shape import reshape, transpose, unsqueeze
from minicnn.kernels import gemm as kernels
from minicnn.tensor import Tensor


class MatMul(Function):
    """Stacked matrices (*, M, K) @ (*, K, N); the stacks broadcast."""

    broadcasts = True

    def forward(self, a, b):
        self.save(a, b)
        return kernels.matmul(a, b)

    def backward(self, grad_output):
        a, b = self.saved
        need_a, need_b = self.needs_grad
        return (
            grad_output @ transpose(b, -1, -2) if need_a else None,
            transpose(a, -1, -2) @ grad_output if need_b else None,
        )


class Linear(Function):
    def forward(self, input, weight, bias):
        self.save(input, weight)
        output = kernels.gemm(input, weight.T)
        if bias is not None:
            output += bias
        return output

    def backward(self, grad_output):
        input, weight = self.saved
        need_input, need_weight, need_bias = self.needs_grad
        return (
            grad_output @ weight if need_input else None,
            grad_output.T @ input if need_weight else None,
            sum(grad_output, 0) if need_bias else None,
        )


def matmul(a: Any, b: Any) -> Tensor:
    """Multiply vectors, matrices or stacks of matrices, with NumPy's and PyTorch's rules.

    Raises:
        ValueError: when the inner sizes differ or an operand has no dimensions.
    """
    a, b = (x if isinstance(x, Tensor) else Tensor(x) for x in (a, b))
    beside("matmul", b, "b", a, "a")
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else -1]:
        raise ValueError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit: inner sizes must be equal"
        )
    # A vector takes part as a one-row or one-column matrix; that dimension is dropped again.
    left = unsqueeze(a, 0) if a.ndim == 1 else a
    right = unsqueeze(b, 1) if b.ndim == 1 else b
    product = MatMul.apply(left, right)
    shape = product.shape
    rows = shape[-2:-1] if a.ndim > 1 else ()
    columns = shape[-1:] if b.ndim > 1 else ()
    return reshape(product, (*shape[:-2], *rows, *columns)) if 1 in (a.ndim, b.ndim) else product


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply input @ weight^T + bias.

    Args:
        input: (*, in_features).
        weight: (out_features, in_features).
        bias: (out_features), or None.

    Returns:
        A tensor (*, out_features).

    Raises:
        ValueError: when the sizes do not fit.
        TypeError: for integers or mixed dtypes.
    """
    input = floating("linear", input)
    weight = floating("linear", weight, "weight", like=input)
    dimensions("linear", weight, 2, "(out_features, in_features)", "weight")
    out_features, in_features = weight.shape
    if input.ndim == 0 or input.shape[-1] != in_features:
        raise ValueError(
            f"linear: input has shape {input.shape}, expected (*, {in_features}) for this weight"
        )
    if bias is not None:
        bias = floating("linear", bias, "bias", like=input)
        if bias.shape != (out_features,):
            raise ValueError(f"linear: bias has shape {bias.shape}, expected ({out_features},)")
    if input.ndim == 2:
        return Linear.apply(input, weight, bias)
    rows = reshape(input, (_rows(input), in_features))
    return reshape(Linear.apply(rows, weight, bias), (*input.shape[:-1], out_features))


def _rows(input: Tensor) -> int:
    rows = 1
    for n in input.shape[:-1]:
        rows *= n
    return rows
