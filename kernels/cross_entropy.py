"""Cross-entropy of log-probabilities and a target class, and its gradient.

    loss[n, x]    = (1 - s) * w[t] * -log_probs[n, t, x]
                    + s / C * sum over c of w[c] * -log_probs[n, c, x]      0 where t = ignore_index
    weights[n, x] = w[t]                                                    0 where t = ignore_index
        t = target[n, x], w = weight (all ones by default), s = label_smoothing

    grad_log_probs[n, c, x] = -grad_output[n, x] * w[c] * ((1 - s if c = t else 0) + s / C)

The loss is linear in the log-probabilities: softmax has its own kernel, and the gradient depends on
no log-probability. Smoothing is PyTorch's: weights multiply the smoothed part class by class, and
the mean divides by the sum of `weights`, those of the targets alone.

Index letters: `n` the example, `c` the class, `x` the pixel (only one where the input is a matrix).
Log-probabilities are (N, C, L); target, loss and weights are (N, L). One iteration computes one
(n, x). Sums run in float64.

Bytes moved: forward one log-probability for each loss, with smoothing all C of them; backward one
write for each log-probability. Two or three flops for each element moved.

Source: Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016, section 7
(label smoothing).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray


def cross_entropy_forward_reference(
    log_probs: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """Define the loss by plain loops, in float64: cross-entropy with a smoothed target."""
    batch, classes, pixels = log_probs.shape
    loss = np.zeros((batch, pixels))
    for n, i in np.ndindex(batch, pixels):
        if target[n, i] == ignore_index:
            continue
        for c in range(classes):
            wanted = label_smoothing / classes + (1 - label_smoothing) * (c == target[n, i])
            if wanted > 0:
                class_weight = 1.0 if weight is None else float(weight[c])
                loss[n, i] -= wanted * class_weight * float(log_probs[n, c, i])
    return loss


def cross_entropy_backward_reference(
    grad_output: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    num_classes: int,
) -> Array:
    """Define the gradient by plain loops, in float64."""
    batch, pixels = target.shape
    grad_log_probs = np.zeros((batch, num_classes, pixels))
    for n, c, i in np.ndindex(*grad_log_probs.shape):
        if target[n, i] != ignore_index:
            wanted = label_smoothing / num_classes + (1 - label_smoothing) * (c == target[n, i])
            class_weight = 1.0 if weight is None else float(weight[c])
            grad_log_probs[n, c, i] = -wanted * class_weight * float(grad_output[n, i])
    return grad_log_probs


def cross_entropy_weights_reference(
    target: Array, weight: Array | None, ignore_index: int
) -> Array:
    """Define the weights of the targets by plain loops, in float64."""
    weights = np.zeros(target.shape)
    for n, i in np.ndindex(*target.shape):
        if target[n, i] != ignore_index:
            weights[n, i] = 1.0 if weight is None else weight[target[n, i]]
    return weights


def cross_entropy_forward(
    log_probs: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
) -> Array:
    """Return the loss (N, L) of log-probabilities (N, C, L) at targets (N, L), not reduced."""
    xp = array_module("cross_entropy_forward", log_probs)
    _, classes, pixels = log_probs.shape
    if weight is None:
        weight = xp.ones(classes, log_probs.dtype)
    loss = empty(xp, target.shape, log_probs.dtype)
    inputs = contiguous(log_probs), contiguous(target), contiguous(weight)
    options = ignore_index, float(label_smoothing)
    if xp is np:
        cross_entropy_forward_cpu(*inputs, *options, loss)
    else:
        arguments = *inputs, classes, pixels, *options, loss
        launch("cross_entropy", "cross_entropy_forward_cuda", loss.size, *arguments)
    return loss


def cross_entropy_backward(
    grad_output: Array,
    target: Array,
    weight: Array | None,
    ignore_index: int,
    label_smoothing: float,
    num_classes: int,
) -> Array:
    """Return the gradient (N, C, L) of the log-probabilities."""
    xp = array_module("cross_entropy_backward", grad_output)
    batch, pixels = target.shape
    if weight is None:
        weight = xp.ones(num_classes, grad_output.dtype)
    grad_log_probs = empty(xp, (batch, num_classes, pixels), grad_output.dtype)
    inputs = contiguous(grad_output), contiguous(target), contiguous(weight)
    options = ignore_index, float(label_smoothing)
    if xp is np:
        cross_entropy_backward_cpu(*inputs, *options, grad_log_probs)
    else:
        arguments = *inputs, num_classes, pixels, *options, grad_log_probs
        launch("cross_entropy", "cross_entropy_backward_cuda", grad_log_probs.size, *arguments)
    return grad_log_probs


def cross_entropy_weights(
    target: Array, weight: Array | None, ignore_index: int, dtype: np.dtype
) -> Array:
    """Return the weight (N, L) of every target; it is 0 where the target is ignored."""
    xp = array_module("cross_entropy_weights", target)
    if weight is None:
        return (target != ignore_index).astype(dtype)
    weights = empty(xp, target.shape, dtype)
    arguments = contiguous(target), contiguous(weight), ignore_index, weights
    if xp is np:
        cross_entropy_weights_cpu(*arguments)
    else:
        launch("cross_entropy", "cross_entropy_weights_cuda", weights.size, *arguments)
    return weights


@parallel_jit
def cross_entropy_forward_cpu(log_probs, target, weight, ignore_index, label_smoothing, loss):
    batch, classes, pixels = log_probs.shape
    for i in prange(batch * pixels):
        n = i // pixels
        x = i % pixels
        t = target[n, x]
        if t == ignore_index:
            loss[n, x] = 0
            continue
        total = -np.float64(weight[t]) * log_probs[n, t, x]
        # Not multiplied by a smoothing of 0: log-probabilities of minus infinity would become NaN.
        if label_smoothing > 0:
            smooth = 0.0
            for c in range(classes):
                smooth -= np.float64(weight[c]) * log_probs[n, c, x]
            total = (1.0 - label_smoothing) * total + label_smoothing / classes * smooth
        loss[n, x] = total


@parallel_jit
def cross_entropy_backward_cpu(
    grad_output, target, weight, ignore_index, label_smoothing, grad_log_probs
):
    batch, classes, pixels = grad_log_probs.shape
    for i in prange(batch * pixels):
        n = i // pixels
        x = i % pixels
        t = target[n, x]
        for c in range(classes):
            grad_log_probs[n, c, x] = 0
        if t == ignore_index:
            continue
        if label_smoothing > 0:
            share = -np.float64(grad_output[n, x]) * label_smoothing / classes
            for c in range(classes):
                grad_log_probs[n, c, x] = share * weight[c]
        grad_log_probs[n, t, x] -= (1.0 - label_smoothing) * grad_output[n, x] * weight[t]


@parallel_jit
def cross_entropy_weights_cpu(target, weight, ignore_index, weights):
    batch, pixels = target.shape
    for i in prange(batch * pixels):
        n = i // pixels
        x = i % pixels
        weights[n, x] = 0 if target[n, x] == ignore_index else weight[target[n, x]]
