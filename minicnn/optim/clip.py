"""Gradient clipping: bound all gradients together by their norm, or each value by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minicnn.backend import get_array_module, on_device_of
from minicnn.grad_mode import no_grad
from minicnn.tensor import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients by one factor, in place, so that their norm is at most `max_norm`.

    The factor is min(1, max_norm / (norm + 1e-6)), as in PyTorch.

    Args:
        parameters: those whose `.grad` counts; without one they are passed over.
        max_norm: the largest norm of all gradients taken as one vector.
        norm_type: p of the p-norm; math.inf for the largest absolute value.
        error_if_nonfinite: raise on a NaN or infinite norm rather than scale by it.

    Returns:
        The norm before clipping, a tensor without dimensions.

    Raises:
        ValueError: when `max_norm` is negative or `norm_type` is not positive.
        RuntimeError: see `error_if_nonfinite`; no gradient has been changed then.

    Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks",
    2013.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm: got {max_norm}, expected a number of at least 0")
    if not norm_type > 0:
        raise ValueError(f"norm_type: got {norm_type}, expected a number above 0")
    grads = _grads(parameters)
    norms = [_norm(grad.data, norm_type) for grad in grads]
    total = float(np.linalg.norm(np.array(norms, np.float64), norm_type)) if norms else 0.0
    if error_if_nonfinite and not math.isfinite(total):
        raise RuntimeError(f"clip_grad_norm_: the norm of the gradients is {total}")
    factor = max_norm / (total + 1e-6)
    # Written so that a NaN norm makes the gradients NaN instead of leaving them as they are.
    if not factor >= 1:
        with no_grad():
            for grad in grads:
                grad.mul_(factor)
    result = Tensor(np.asarray(total, grads[0].dtype if grads else np.float32))
    return result.to_device(grads[0].device) if grads else result


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Cut every gradient value, in place, to [-clip_value, clip_value].

    Args:
        parameters: those whose `.grad` is cut; without one they are passed over.
        clip_value: the largest absolute value.

    Raises:
        ValueError: when `clip_value` is negative.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_value: got {clip_value}, expected a number of at least 0")
    for grad in _grads(parameters):
        with on_device_of(grad.data):
            get_array_module(grad.data).clip(grad.data, -clip_value, clip_value, out=grad.data)
        grad.bump_version()


def _norm(values: Any, p: float) -> float:
    """Return the p-norm of an array of any device, summed in float64: squares overflow early."""
    with on_device_of(values):
        if p == math.inf:
            return float(abs(values).max()) if values.size else 0.0
        wide = values.astype(np.float64)
        return float((abs(wide) ** p).sum()) ** (1 / p)


def _grads(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [tensor.grad for tensor in tensors if tensor.grad is not None]
