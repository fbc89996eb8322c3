"""Initialisers: fill a parameter in place with constants or with draws from a named distribution.

A dense weight is (out, in); a convolution's is (out, in / groups, kernel_h, kernel_w), so that

    fan_in  = size(1) * kernel_h * kernel_w        inputs of one output unit
    fan_out = size(0) * kernel_h * kernel_w        outputs that one input unit feeds

For ConvTranspose2d, whose weight is (in, out / groups, ...), PyTorch reads the same two sizes,
which exchanges the two names; minicnn does so too, to start from the same distributions.

    xavier_uniform_    U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out))     Glorot & Bengio 2010
    xavier_normal_     N(0, gain * sqrt(2 / (fan_in + fan_out)))             Glorot & Bengio 2010
    caffe_xavier_      U(-a, a), a = sqrt(3 / fan_in)                        Caffe's "xavier"
    kaiming_uniform_   U(-a, a), a = gain * sqrt(3 / fan)                    He et al. 2015
    kaiming_normal_    N(0, gain / sqrt(fan))                                He; Caffe's "msra"

N(mean, std) takes the standard deviation. Every function returns the tensor it filled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from minicnn.grad_mode import no_grad
from minicnn.random import Generator, default_generator
from minicnn.tensor import Tensor

Fan = Literal["fan_in", "fan_out"]

_skipping = False

_LINEAR = ("linear", "conv2d", "conv_transpose2d", "sigmoid")


@contextmanager
def skip_init() -> Iterator[None]:
    """Build networks whose weights will be replaced: within, new layers draw none and hold zeros.

    That saves seconds where a network has a hundred million weights that `load_state_dict` fills,
    or of which only the shapes are asked for.
    """
    global _skipping
    before, _skipping = _skipping, True
    try:
        yield
    finally:
        _skipping = before


def is_skipping() -> bool:
    """Return whether new layers draw no values, see `skip_init`."""
    return _skipping


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor that keeps the scale of activations through a nonlinearity.

    Args:
        nonlinearity: "linear", "conv2d", "conv_transpose2d", "sigmoid", "tanh", "relu",
            "leaky_relu" or "selu".
        param: the negative slope of "leaky_relu", 0.01 if None.

    Raises:
        ValueError: for any other name.
    """
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3.0
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1.0 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4.0
    known = ", ".join((*_LINEAR, "tanh", "relu", "leaky_relu", "selu"))
    raise ValueError(f"nonlinearity: got {nonlinearity!r}, expected one of {known}")


def calculate_fan(tensor: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight.

    Raises:
        ValueError: when it has fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"tensor: got shape {tensor.shape}, but fan_in and fan_out need at least 2 dimensions"
        )
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    with no_grad():
        return tensor.fill_(val)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with ones on its diagonal and zeros elsewhere."""
    if tensor.ndim != 2:
        raise ValueError(f"tensor: got shape {tensor.shape}, expected 2 dimensions")
    with no_grad():
        return tensor.copy_(np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight so that it passes as many channels through unchanged as it can.

    Args:
        tensor: (out, in / groups, kernel_h, kernel_w).
        groups: each group of output channels passes on its own input channels.
    """
    if tensor.ndim != 4:
        raise ValueError(f"tensor: got shape {tensor.shape}, expected 4 dimensions")
    if groups < 1 or tensor.shape[0] % groups:
        raise ValueError(f"groups: got {groups}, which does not divide {tensor.shape[0]} channels")
    out_channels, in_channels, kernel_h, kernel_w = tensor.shape
    per_group = out_channels // groups
    passed = np.arange(min(per_group, in_channels))
    values = np.zeros(tensor.shape)
    for group in range(groups):
        values[group * per_group + passed, passed, kernel_h // 2, kernel_w // 2] = 1
    with no_grad():
        return tensor.copy_(values)


def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with draws from U(a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with draws from N(mean, std)."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with draws from N(mean, std) on condition that they lie in [a, b].

    Drawn by rejection: from the normal itself where [a, b] is wide; where it is narrower than one
    standard deviation, from U(a, b), each draw accepted in proportion to its density.

    Args:
        a: the smallest value, as it stands (not in standard deviations).
        b: the largest value.

    Raises:
        ValueError: when [a, b] is empty or more than two standard deviations away from the mean.
    """
    if not a < b or std <= 0:
        raise ValueError(f"trunc_normal_: got a={a}, b={b}, std={std}, expected a < b and std > 0")
    if mean < a - 2 * std or mean > b + 2 * std:
        raise ValueError(f"mean: got {mean}, expected one within 2 std ({std}) of [{a}, {b}]")
    draw = (generator or default_generator).numpy
    peak = min(max(mean, a), b)
    values = np.empty(tensor.numel())
    filled = 0
    while filled < values.size:
        wanted = values.size - filled
        if b - a > std:
            drawn = draw.normal(mean, std, wanted)
            accepted = (a <= drawn) & (drawn <= b)
        else:
            drawn = draw.uniform(a, b, wanted)
            log_density = ((peak - mean) ** 2 - (drawn - mean) ** 2) / (2 * std**2)
            accepted = draw.random(wanted) <= np.exp(log_density)
        kept = drawn[accepted]
        values[filled : filled + kept.size] = kept
        filled += kept.size
    with no_grad():
        return tensor.copy_(values.reshape(tensor.shape))


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with U(-a, a), a = gain * sqrt(6 / (fan_in + fan_out)); Glorot & Bengio 2010, eq. 16."""
    bound = gain * math.sqrt(6.0 / sum(calculate_fan(tensor)))
    return uniform_(tensor, -bound, bound, generator=generator)


def xavier_normal_(
    tensor: Tensor, gain: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with N(0, gain * sqrt(2 / (fan_in + fan_out))); Glorot & Bengio 2010, eq. 12."""
    std = gain * math.sqrt(2.0 / sum(calculate_fan(tensor)))
    return normal_(tensor, 0.0, std, generator=generator)


def caffe_xavier_(tensor: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Fill with U(-a, a), a = sqrt(3 / fan_in): what Caffe calls "xavier"."""
    bound = math.sqrt(3.0 / calculate_fan(tensor)[0])
    return uniform_(tensor, -bound, bound, generator=generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Fan = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with U(-bound, bound), bound = gain * sqrt(3 / fan); He et al. 2015.

    Args:
        a: the negative slope of the leaky ReLU that follows (0 for ReLU).
        mode: "fan_in" keeps the scale of activations, "fan_out" that of gradients.
        nonlinearity: what follows; see `calculate_gain`.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator=generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Fan = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with N(0, gain / sqrt(fan)); He et al. 2015. Arguments as in `kaiming_uniform_`."""
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return normal_(tensor, 0.0, std, generator=generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with a matrix, first dimension by all others, whose rows or columns are orthonormal.

    Args:
        tensor: at least 2 dimensions; a convolution's weight counts as (out, in * kernel_h *
            kernel_w).
        gain: a factor on all values.

    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", 2013.
    """
    calculate_fan(tensor)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    draws = (generator or default_generator).numpy.standard_normal((rows, columns))
    tall = draws if rows >= columns else draws.T
    q, r = np.linalg.qr(tall)
    # Signs from the diagonal of r make the draw uniform over all orthogonal matrices (Mezzadri
    # 2007).
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
    values = q if rows >= columns else q.T
    with no_grad():
        return tensor.copy_(gain * values.reshape(tensor.shape))


def _kaiming_std(tensor: Tensor, a: float, mode: Fan, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode: got {mode!r}, expected 'fan_in' or 'fan_out'")
    fan_in, fan_out = calculate_fan(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)
