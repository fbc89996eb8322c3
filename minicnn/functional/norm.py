"""Batch normalisation and local response normalisation."""

from __future__ import annotations

import math
from typing import Any

from minicnn.autograd import Function
from minicnn.backend import get_array_module, on_device_of
from minicnn.creation import full, zeros_like
from minicnn.functional._check import floating, integer
from minicnn.functional.reduce import mean, sum, var
from minicnn.functional.shape import pad, reshape
from minicnn.grad_mode import no_grad
from minicnn.kernels import batchnorm as kernels
from minicnn.kernels import lrn as lrn_kernels
from minicnn.tensor import Tensor


class BatchNorm(Function):
    """Normalise by the input's own statistics, which move when it does."""

    def forward(self, input, weight, bias, *, output, mean, variance, eps):
        """Keep the `output`, which comes with the statistics."""
        self.eps = eps
        self.save(input, weight, mean, variance)
        return output

    def backward(self, grad_output):
        input, weight, mean, variance = self.saved
        statistics = {"mean": mean.data, "variance": variance.data, "eps": self.eps}
        return BatchNormBackward.apply(grad_output, input, weight, **statistics)


class BatchNormBackward(Function):
    """The gradients of input, weight and bias.

    With xhat the normalised input, r = 1 / sqrt(variance + eps), <t> the mean of t over a channel
    and P t = t - <t> - xhat <t xhat>, they are weight r P grad_output, sum(grad_output xhat) and
    sum(grad_output). P is its own adjoint. The input acts through xhat, whose derivative is r P,
    and through r, whose derivative is -r^2 xhat / count.
    """

    def forward(self, grad_output, input, weight, *, mean, variance, eps):
        self.eps = eps
        self.save(grad_output, input, weight)
        return kernels.batch_norm_gradients(grad_output, input, mean, variance, weight, eps)

    def backward(self, along_input, along_weight, along_bias):
        grad_output, input, weight = self.saved
        dims = (0, *range(2, input.ndim))
        channel = (input.shape[1], *(1 for _ in dims[1:]))
        along_input = _or_zeros(along_input, input)
        along_weight = reshape(_or_zeros(along_weight, weight), channel)
        along_bias = reshape(_or_zeros(along_bias, weight), channel)

        def average(values):
            return mean(values, dims, keepdim=True)

        def project(values):
            return values - average(values) - xhat * average(values * xhat)

        inverse = (var(input, dims, 0, keepdim=True) + self.eps) ** -0.5
        xhat = (input - average(input)) * inverse
        scale = reshape(weight, channel) * inverse
        along = project(along_input)
        # The derivatives of along_input * grad_input + along_weight * grad_weight + ... in xhat
        # and in weight * r.
        in_xhat = along_weight * grad_output - scale * (
            along_input * average(grad_output * xhat) + grad_output * average(along_input * xhat)
        )
        in_scale = sum(along * grad_output, dims, keepdim=True)
        count = math.prod(input.shape[d] for d in dims)
        return (
            scale * along + along_weight * xhat + along_bias,
            inverse * project(in_xhat) - in_scale * scale * inverse * xhat / count,
            reshape(in_scale * inverse, weight.shape),
        )


class Normalize(Function):
    """Normalise by statistics that are constants: linear in the input, and in weight and bias."""

    def forward(self, input, weight, bias, *, mean, variance, eps):
        self.eps = eps
        self.save(input, weight, mean, variance)
        return kernels.batch_norm_forward(input, mean, variance, weight, bias, eps)

    def backward(self, grad_output):
        input, weight, mean, variance = self.saved
        need_input, *need_sums = self.needs_grad
        grad_input = grad_weight = grad_bias = None
        if need_input:
            grad_input = _scale(grad_output, weight, variance.data, self.eps)
        if any(need_sums):
            grad_weight, grad_bias = NormalizeSums.apply(
                grad_output, input, mean=mean.data, variance=variance.data, eps=self.eps
            )
        return grad_input, grad_weight, grad_bias


class NormalizeSums(Function):
    """sum(grad_output * xhat) and sum(grad_output) a channel: the adjoint in weight and bias."""

    def forward(self, grad_output, input, *, mean, variance, eps):
        self.eps = eps
        self.save(grad_output, input, mean, variance)
        return kernels.batch_norm_sums(grad_output, input, mean, variance, eps)

    def backward(self, along_weight, along_bias):
        grad_output, input, mean, variance = self.saved
        along_weight, along_bias = _or_zeros(along_weight, mean), _or_zeros(along_bias, mean)
        statistics = {"mean": mean.data, "variance": variance.data, "eps": self.eps}
        return (
            Normalize.apply(input, along_weight, along_bias, **statistics),
            _scale(grad_output, along_weight, variance.data, self.eps),
        )


class LocalResponseNorm(Function):
    def forward(self, input, *, size, alpha, beta, k):
        self.options = {"size": size, "alpha": alpha, "beta": beta, "k": k}
        output, scale = lrn_kernels.lrn_forward(input, size, alpha, beta, k)
        self.save(input, output, scale)
        return output

    def backward(self, grad_output):
        input, output, scale = self.saved
        return LocalResponseNormBackward.apply(
            grad_output, input, output=output.data, scale=scale.data, **self.options
        )


class LocalResponseNormBackward(Function):
    """grad_output s^-beta - 2 alpha beta input W*(grad_output input s^(-beta - 1)).

    W sums the window of each channel, W* (its adjoint) the channels in whose window each lies;
    s = k + alpha W(input^2).
    """

    def forward(self, grad_output, input, *, output, scale, size, alpha, beta, k):
        self.options = size, alpha, beta, k
        self.save(grad_output, input)
        return lrn_kernels.lrn_backward(grad_output, input, output, scale, size, alpha, beta)

    def backward(self, along):
        grad_output, input = self.saved
        size, alpha, beta, k = self.options
        before, after = size // 2, (size - 1) // 2
        scale = alpha * _window_sum(input * input, before, after) + k
        power = scale**-beta
        steep = power / scale
        met = _window_sum(along * input, before, after)
        in_scale = grad_output * steep * ((2 * alpha * (beta + 1)) * input * met / scale - along)
        pulled = grad_output * steep * met
        pulled = pulled + along * _window_sum(grad_output * input * steep, after, before)
        return (
            along * power - (2 * alpha * beta) * input * steep * met,
            (2 * alpha * beta) * (input * _window_sum(in_scale, after, before) - pulled),
        )


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return (input - mean) / sqrt(variance + eps) * weight + bias, channel by channel.

    In training, mean and (biased) variance are those of the input over all dimensions but the
    channels', and the running ones are updated in place, the variance by the unbiased estimate:

        running <- (1 - momentum) * running + momentum * that of the batch

    Otherwise the running ones take their place. This is PyTorch's dialect; in others `momentum` is
    what the running value keeps, 0.9.

    Args:
        input: (N, C, *).
        running_mean, running_var: (C); None in training to keep no record.
        weight, bias: (C); 1 and 0 if None.
        momentum: the share of the new value.
        eps: keeps the root away from 0; positive in training.

    Raises:
        ValueError: when shapes do not fit, for a negative eps, or in training when a channel has
            only one value.
        TypeError: for wrong dtypes.

    Source: Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", 2015.
    """
    name = "batch_norm"
    input = floating(name, input)
    if input.ndim < 2:
        raise ValueError(f"{name}: input has shape {input.shape}, expected (N, C, ...)")
    if not eps >= 0 or (training and eps == 0):
        wanted = "a positive number in training" if training else "a number not below 0"
        raise ValueError(f"{name}: eps is {eps!r}, expected {wanted}")
    running = {"running_mean": running_mean, "running_var": running_var}
    for argument, value in running.items():
        if value is not None:
            _check_channels(name, value, argument, input)
        elif not training:
            raise ValueError(f"{name}: {argument} is None, expected a Tensor outside training")
    scale = _per_channel(name, weight, "weight", input, 1.0)
    shift = _per_channel(name, bias, "bias", input, 0.0)
    if running_mean is not None and running_var is not None and not training:
        constants = {"mean": running_mean.data, "variance": running_var.data, "eps": float(eps)}
        return Normalize.apply(input, scale, shift, **constants)
    count = input.shape[0] * math.prod(input.shape[2:])
    if count == 1:
        raise ValueError(
            f"{name}: input has shape {input.shape}, expected more than 1 value per channel "
            "in training"
        )
    with on_device_of(input.data):
        arrays = input.data, scale.data, shift.data
        output, mean, variance = kernels.batch_norm_train(*arrays, float(eps))
    with no_grad():
        # A batch without values says nothing.
        if running_mean is not None and count:
            running_mean.mul_(1 - momentum).add_(Tensor._wrap(mean), alpha=momentum)
        if running_var is not None and count:
            unbiased = momentum * count / (count - 1)
            running_var.mul_(1 - momentum).add_(Tensor._wrap(variance), alpha=unbiased)
    results = {"output": output, "mean": mean, "variance": variance}
    return BatchNorm.apply(input, scale, shift, **results, eps=float(eps))


def local_response_norm(
    input: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    divide_alpha: bool = True,
) -> Tensor:
    """Return input / (k + a * sum of input^2 over `size` neighbouring channels) ** beta.

    The window reaches from size // 2 channels before to (size - 1) // 2 after; what lies outside
    counts as 0. In PyTorch's and Caffe's dialect, the default, a = alpha / size. In the AlexNet
    paper's a = alpha: its layer is `local_response_norm(input, 5, 1e-4, 0.75, 2.0,
    divide_alpha=False)`, five times as strong as the default form with the same alpha.

    Args:
        input: (N, C, d1, ...).
        size: of the window.
        alpha, beta, k: see the formula.
        divide_alpha: whether to divide alpha by size.

    Raises:
        ValueError: for another number of dimensions or a size below 1.

    Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks",
    2012, section 3.3.
    """
    name = "local_response_norm"
    input = floating(name, input)
    if input.ndim < 3:
        raise ValueError(f"{name}: input has shape {input.shape}, expected (N, C, d1, ...)")
    size = integer(name, size, "size", 1)
    factor = alpha / size if divide_alpha else alpha
    return LocalResponseNorm.apply(
        input, size=size, alpha=float(factor), beta=float(beta), k=float(k)
    )


def _per_channel(
    name: str, value: Tensor | None, argument: str, input: Tensor, default: float
) -> Tensor:
    """Return a tensor with one number a channel; `default` in all where there is none."""
    if value is not None:
        return _check_channels(name, value, argument, input)
    return full(input.shape[1:2], default, dtype=input.dtype, device=input.device)


def _check_channels(name: str, value: Tensor, argument: str, input: Tensor) -> Tensor:
    value = floating(name, value, argument, like=input)
    if value.shape != input.shape[1:2]:
        raise ValueError(f"{name}: {argument} has shape {value.shape}, expected {input.shape[1:2]}")
    return value


def _scale(input: Tensor, weight: Tensor, variance: Any, eps: float) -> Tensor:
    """Return input * weight / sqrt(variance + eps): what Normalize does without mean and bias."""
    with on_device_of(variance):
        nothing = get_array_module(variance).zeros_like(variance)
    return Normalize.apply(
        input, weight, Tensor._wrap(nothing), mean=nothing, variance=variance, eps=eps
    )


def _or_zeros(value: Tensor | None, like: Tensor) -> Tensor:
    return value if value is not None else zeros_like(like)


def _window_sum(input: Tensor, before: int, after: int) -> Tensor:
    """Add to each channel the `before` preceding and the `after` following ones."""
    channels = input.shape[1]
    padded = pad(input, (*[0] * (2 * input.ndim - 4), before, after))
    total = padded[:, :channels]
    for shift in range(1, before + after + 1):
        total = total + padded[:, shift : shift + channels]
    return total
