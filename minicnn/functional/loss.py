"""Losses."""

from __future__ import annotations

from typing import Any

from minicnn.autograd import Function
from minicnn.backend import is_array, on_device_of, to_device
from minicnn.functional._check import beside, floating, nonnegative, positional, probability
from minicnn.functional.activation import log_softmax
from minicnn.functional.arithmetic import abs_, div, where
from minicnn.functional.reduce import mean, sum
from minicnn.functional.shape import reshape
from minicnn.kernels import cross_entropy as kernels
from minicnn.kernels import smooth_l1 as smooth_l1_kernels
from minicnn.tensor import Tensor, as_array, int64


class CrossEntropyRows(Function):
    """The loss of every target from log-probabilities (N, C, L): linear, its adjoint below."""

    def forward(self, log_probs, *, target, weight, ignore_index, label_smoothing):
        self.options = {
            "target": target,
            "weight": weight,
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
        }
        self.classes = log_probs.shape[1]
        return kernels.cross_entropy_forward(
            log_probs, target, weight, ignore_index, label_smoothing
        )

    def backward(self, grad_output):
        return CrossEntropyRowsBackward.apply(grad_output, classes=self.classes, **self.options)


class CrossEntropyRowsBackward(Function):
    def forward(self, grad_output, *, classes, target, weight, ignore_index, label_smoothing):
        self.options = {
            "target": target,
            "weight": weight,
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
        }
        return kernels.cross_entropy_backward(
            grad_output, target, weight, ignore_index, label_smoothing, classes
        )

    def backward(self, grad_log_probs):
        return CrossEntropyRows.apply(grad_log_probs, **self.options)


class SmoothL1(Function):
    def forward(self, input, target, *, beta):
        self.beta = beta
        self.save(input, target)
        return smooth_l1_kernels.smooth_l1_forward(input, target, beta)

    def backward(self, grad_output):
        input, target = self.saved
        grad_input = SmoothL1Backward.apply(grad_output, input, target, beta=self.beta)
        return grad_input, -grad_input if self.needs_grad[1] else None


class SmoothL1Backward(Function):
    """grad_output times the slope, which itself has slope 1 / beta where |difference| < beta."""

    def forward(self, grad_output, input, target, *, beta):
        self.beta = beta
        self.save(grad_output, input, target)
        return smooth_l1_kernels.smooth_l1_backward(grad_output, input, target, beta)

    def backward(self, along):
        grad_output, input, target = self.saved
        curved = abs_(input - target) < self.beta
        bend = where(curved, along * grad_output / (self.beta or 1.0), 0.0)
        return SmoothL1Backward.apply(along, input, target, beta=self.beta), bend, -bend


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy of softmax(input) with the target classes.

    Args:
        input: logits (N, C), (N, C, d1, ...) or (C).
        target: class indices (N), (N, d1, ...) or a single one; or probabilities of the input's
            shape.
        weight: (C), the weight of each class; the mean is then divided by the targets' total
            weight.
        ignore_index: targets with this value count neither in the loss nor in the mean.
        reduction: "mean", "sum", or "none" for a loss the shape of the targets.
        label_smoothing: the share of every target that is spread evenly over all classes.

    Raises:
        ValueError: when shapes do not fit or a target is outside [0, C).
        TypeError: for wrong dtypes.
    """
    name = "cross_entropy"
    input = floating(name, input)
    if input.ndim == 0:
        raise ValueError(f"{name}: input has no dimensions, expected (N, C, ...) or (C)")
    dim = 1 if input.ndim > 1 else 0
    smoothing = probability(name, label_smoothing, "label_smoothing")
    _reduction(name, reduction)
    log_probs = log_softmax(input, dim)
    if isinstance(target, Tensor) and target.dtype.kind == "f":
        return _soft_targets(log_probs, target, weight, reduction, smoothing, dim)
    with on_device_of(log_probs.data):
        return _hard_targets(name, log_probs, target, weight, ignore_index, reduction, smoothing)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Return the negative log-likelihood of the targets; `input` holds log-probabilities.

    Arguments and errors as `cross_entropy`.
    """
    _reduction("nll_loss", reduction)
    log_probs = floating("nll_loss", input)
    with on_device_of(log_probs.data):
        return _hard_targets("nll_loss", log_probs, target, weight, ignore_index, reduction, 0.0)


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Return the squared differences, averaged, summed or one by one.

    Raises:
        ValueError: when the shapes differ.
    """
    input = floating("mse_loss", input)
    target = floating("mse_loss", target, "target", like=input)
    _reduction("mse_loss", reduction)
    if input.shape != target.shape:
        raise ValueError(f"mse_loss: target has shape {target.shape}, expected {input.shape}")
    difference = input - target
    return _reduce(difference * difference, reduction)


def smooth_l1_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """Return d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, d being input - target.

    With beta 0 this is |d|. Times beta it is PyTorch's huber_loss with delta = beta. Fast R-CNN's
    code writes sigma, beta = 1 / sigma^2.

    Args:
        input, target: of one shape.
        reduction: "mean", "sum", or "none" for one loss an element.
        beta: where squares end; not negative.

    Raises:
        ValueError: when the shapes differ, or for a negative beta.

    Source: Girshick, "Fast R-CNN", 2015, section 2.3.
    """
    name = "smooth_l1_loss"
    input = floating(name, input)
    target = floating(name, target, "target", like=input)
    _reduction(name, reduction)
    beta = nonnegative(name, beta, "beta")
    if input.shape != target.shape:
        raise ValueError(f"{name}: target has shape {target.shape}, expected {input.shape}")
    return _reduce(SmoothL1.apply(input, target, beta=beta), reduction)


def _hard_targets(
    name: str,
    log_probs: Tensor,
    target: Any,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    if log_probs.ndim == 0:
        raise ValueError(f"{name}: input has no dimensions, expected (N, C, ...) or (C)")
    classes = log_probs.shape[1 if log_probs.ndim > 1 else 0]
    batch = log_probs.shape[0] if log_probs.ndim > 1 else 1
    shape = (*log_probs.shape[:1], *log_probs.shape[2:]) if log_probs.ndim > 1 else ()
    labels = _labels(name, target, log_probs)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name}: target has dtype {labels.dtype}, expected integers")
    if labels.shape != shape:
        raise ValueError(
            f"{name}: target has shape {labels.shape}, expected {shape} for an input of "
            f"shape {log_probs.shape}"
        )
    wrong = (labels != ignore_index) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        first = int(labels[wrong].reshape(-1)[0])
        raise ValueError(
            f"{name}: target contains {first}, expected classes from 0 to "
            f"{classes - 1} or ignore_index {ignore_index}"
        )
    weights = _class_weights(name, weight, log_probs, classes)
    # A copy: the caller may change his labels before backward runs.
    length = labels.size // batch if batch else 0
    labels = labels.astype(int64).reshape(batch, length)
    rows = CrossEntropyRows.apply(
        reshape(log_probs, (batch, classes, length)),
        target=labels,
        weight=weights,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    if reduction == "none":
        return reshape(rows, shape)
    if reduction == "sum":
        return sum(rows)
    # A number of the host at once: each look at one of a GPU's waits for all that it has to do.
    weighed = kernels.cross_entropy_weights(labels, weights, ignore_index, log_probs.dtype)
    total = float(weighed.sum())
    return div(sum(rows), total) if total else sum(rows) * float("nan")


def _soft_targets(
    log_probs: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    label_smoothing: float,
    dim: int,
) -> Tensor:
    name = "cross_entropy"
    floating(name, target, "target", like=log_probs)
    if target.shape != log_probs.shape:
        raise ValueError(
            f"{name}: target probabilities have shape {target.shape}, expected {log_probs.shape}"
        )
    classes = log_probs.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / classes
    weights = _class_weights(name, weight, log_probs, classes)
    if weights is not None:
        target = target * Tensor(weights.reshape((classes,) + (1,) * (log_probs.ndim - dim - 1)))
    rows = -sum(target * log_probs, dim)
    if reduction == "mean":
        return div(sum(rows), log_probs.numel() // classes)
    return _reduce(rows, reduction)


def _labels(name: str, target: Any, log_probs: Tensor) -> Any:
    """Return the targets as an array beside the log-probabilities."""
    if not isinstance(target, Tensor) and not is_array(target):
        return to_device(as_array(target), log_probs.device)
    return beside(name, Tensor(target), "target", log_probs).data


def _class_weights(name: str, weight: Tensor | None, like: Tensor, classes: int) -> Any:
    if weight is None:
        return None
    floating(name, positional(name, weight, "weight"), "weight", like=like)
    if weight.shape != (classes,):
        raise ValueError(f"{name}: weight has shape {weight.shape}, expected ({classes},)")
    return weight.data


def _reduction(name: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return values
    return sum(values) if reduction == "sum" else mean(values)
