"""Every differentiable operation with inputs to check it on; behind `minicnn gradcheck`.

Inputs stay clear of kinks by construction: where order matters (maxima, ReLU, |x|) the values are a
shuffled, evenly spaced ladder, so that no two are closer than a hundred steps of the finite
difference. Every tensor an operation takes is among its inputs, so that all of them can be moved to
another device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import minicnn.functional as F
from minicnn.gradcheck import GradcheckError, gradcheck, gradgradcheck
from minicnn.random import Generator
from minicnn.tensor import Tensor

Rng = np.random.Generator
Case = Callable[[Rng], tuple[Callable[..., Any], list[Any]]]


@dataclass(frozen=True)
class OpResult:
    """How one operation did: worst relative errors of its first and second derivatives."""

    name: str
    max_error: float
    second_error: float
    comparisons: int
    ok: bool
    message: str


def normal(rng: Rng, *shape: int) -> Tensor:
    """Return standard normal values that require a gradient."""
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def positive(rng: Rng, *shape: int) -> Tensor:
    """Return values between 0.5 and 2."""
    return Tensor(rng.uniform(0.5, 2, shape), requires_grad=True)


def ladder(rng: Rng, *shape: int) -> Tensor:
    """Return distinct values between -2 and 2, evenly spaced and shuffled, none of them 0."""
    count = int(np.prod(shape))
    values = (np.arange(count) + 0.5) / count * 4 - 2 + 0.5 / count
    return Tensor(rng.permutation(values).reshape(shape), requires_grad=True)


def _unary(
    fn: Callable[[Tensor], Any], values: Callable[..., Tensor] = normal, *shape: int
) -> Case:
    return lambda rng: (fn, [values(rng, *(shape or (3, 4)))])


def _binary(fn: Callable[[Tensor, Tensor], Any], a: Any = normal, b: Any = normal) -> Case:
    return lambda rng: (fn, [a(rng, 3, 1, 4), b(rng, 2, 1)])


def _conv(**options: Any) -> Case:
    groups = options.get("groups", 1)
    return lambda rng: (
        lambda x, w, b: F.conv2d(x, w, b, **options),
        [normal(rng, 2, 4, 7, 6), normal(rng, 6, 4 // groups, 3, 2), normal(rng, 6)],
    )


def _conv_transpose(**options: Any) -> Case:
    groups = options.get("groups", 1)
    return lambda rng: (
        lambda x, w, b: F.conv_transpose2d(x, w, b, **options),
        [normal(rng, 2, 4, 4, 3), normal(rng, 4, 6 // groups, 3, 2), normal(rng, 6)],
    )


def _cross_entropy(**options: Any) -> Case:
    def case(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
        target = Tensor(rng.integers(0, 5, (4, 3)))
        target[0, 0] = -100
        weight = Tensor(rng.uniform(0.5, 2, 5)) if options.get("weighted") else None
        rest = {k: v for k, v in options.items() if k != "weighted"}
        return (
            lambda x, target, weight: F.cross_entropy(x, target, weight, **rest),
            [normal(rng, 4, 5, 3), target, weight],
        )

    return case


def _batch_norm(*shape: int, training: bool) -> Case:
    def case(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
        channels = shape[1]
        mean, var = Tensor(rng.standard_normal(channels)), Tensor(rng.uniform(0.5, 2, channels))
        inputs = [normal(rng, *shape), mean, var, normal(rng, channels), normal(rng, channels)]
        return lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b, training), inputs

    return case


def _smooth_l1(beta: float) -> Case:
    # Differences on a ladder, which no rung of -beta, 0 or beta touches.
    def case(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
        target = normal(rng, 3, 4)
        input = Tensor(target.data + ladder(rng, 3, 4).data, requires_grad=True)
        return lambda x, y: F.smooth_l1_loss(x, y, beta=beta), [input, target]

    return case


def _soft_cross_entropy(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
    target = F.softmax(normal(rng, 4, 5), 1).detach()
    return (
        lambda x, target: F.cross_entropy(x, target, label_smoothing=0.1),
        [normal(rng, 4, 5), target],
    )


def _nll(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
    return F.nll_loss, [normal(rng, 4, 5), Tensor(rng.integers(0, 5, 4))]


def _gather(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
    index = Tensor(rng.integers(0, 4, (3, 5)))
    return lambda x, index: F.gather(x, 1, index), [normal(rng, 3, 4), index]


def _roi(fn: Callable[..., Any], values: Callable[..., Tensor], *options: Any) -> Case:
    """Three regions in two images: one over the border, one small, and one outside."""
    boxes = np.array([[1, -3.1, 2.3, 6.2, 8.4], [0, 1.2, 1.1, 1.9, 3.3], [1, 60, 60, 70, 70.0]])
    return lambda rng: (
        lambda x, boxes: fn(x, boxes, *options),
        [values(rng, 2, 2, 5, 6), Tensor(boxes)],
    )


def _where(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
    return F.where, [Tensor(rng.random((3, 4)) < 0.5), normal(rng, 3, 4), normal(rng, 4)]


def _dropout(rng: Rng) -> tuple[Callable[..., Any], list[Any]]:
    return lambda x: F.dropout(x, 0.4, generator=Generator(1)), [normal(rng, 5, 6)]


OPS: dict[str, Case] = {
    "add": _binary(F.add),
    "sub": _binary(F.sub),
    "mul": _binary(F.mul),
    "div": _binary(F.div, b=positive),
    "pow": _binary(F.pow, a=positive),
    "neg": _unary(F.neg),
    "exp": _unary(F.exp),
    "log": _unary(F.log, positive),
    "sqrt": _unary(F.sqrt, positive),
    "abs": _unary(F.abs, ladder),
    "maximum": lambda rng: (
        lambda x: F.maximum(x[0], x[1]),
        [ladder(rng, 2, 3, 4)],
    ),
    "minimum": lambda rng: (lambda x: F.minimum(x[0], x[1]), [ladder(rng, 2, 3, 4)]),
    "clamp": _unary(lambda x: F.clamp(x, -1.01, 0.77), ladder),
    "where": _where,
    "cast": _unary(lambda x: F.cast(x, np.float64) * 2),
    "clone": _unary(F.clone),
    "to_device": _unary(lambda x: F.to_device(x, "cpu") * 2),
    "sum": _unary(lambda x: F.sum(x, (0, 2)), normal, 2, 3, 4),
    "mean": _unary(lambda x: F.mean(x, 1, keepdim=True)),
    "var": _unary(lambda x: F.var(x, 1)),
    "std": _unary(lambda x: F.std(x, 0)),
    "amax": _unary(lambda x: F.amax(x, 1), ladder),
    "amin": _unary(lambda x: F.amin(x, (0, 1)), ladder),
    "max": _unary(lambda x: F.max(x, 1)[0], ladder),
    "min": _unary(lambda x: F.min(x, 0)[0], ladder),
    "logsumexp": _unary(lambda x: F.logsumexp(x, 1)),
    "sum_to": _unary(lambda x: F.sum_to(x, (3, 1))),
    "reshape": _unary(lambda x: F.reshape(x, (2, -1))),
    "flatten": _unary(lambda x: F.flatten(x, 1), normal, 2, 3, 2),
    "permute": _unary(lambda x: F.permute(x, (2, 0, 1)), normal, 2, 3, 4),
    "transpose": _unary(lambda x: F.transpose(x, 0, 1)),
    "squeeze": _unary(lambda x: F.squeeze(x, 1), normal, 3, 1, 4),
    "unsqueeze": _unary(lambda x: F.unsqueeze(x, 1)),
    "expand": _unary(lambda x: F.expand(x, (2, 3, 4)), normal, 3, 1),
    "getitem slice": _unary(lambda x: x[1:, ::-2]),
    "getitem array": _unary(lambda x: x[[0, 2, 2], [1, 3, 3]]),
    "gather": _gather,
    "cat": lambda rng: (lambda a, b: F.cat([a, b], 1), [normal(rng, 2, 3), normal(rng, 2, 1)]),
    "concatenate": lambda rng: (
        lambda a, b: F.concatenate([a, b]),
        [normal(rng, 2, 3), normal(rng, 1, 3)],
    ),
    "stack": lambda rng: (lambda a, b: F.stack([a, b], 1), [normal(rng, 2, 3), normal(rng, 2, 3)]),
    "split": _unary(lambda x: F.split(x, [1, 3], 1)),
    "chunk": _unary(lambda x: F.chunk(x, 2, 1)),
    "pad": _unary(lambda x: F.pad(x, (1, 2, 0, 1), value=0.5)),
    "pad reflect": _unary(lambda x: F.pad(x, (2, 1, 0, 2, 1, 0), "reflect"), normal, 2, 3, 4),
    "pad replicate": _unary(lambda x: F.pad(x, (2, 5, 0, 2, 1, 0), "replicate"), normal, 2, 3, 4),
    "flip": _unary(lambda x: F.flip(x, (1,))),
    "matmul": lambda rng: (F.matmul, [normal(rng, 2, 1, 3, 4), normal(rng, 3, 4, 2)]),
    "matmul vector": lambda rng: (F.matmul, [normal(rng, 4), normal(rng, 3, 4, 2)]),
    "linear": lambda rng: (F.linear, [normal(rng, 3, 4), normal(rng, 2, 4), normal(rng, 2)]),
    "conv2d": _conv(),
    "conv2d strided": _conv(stride=(2, 1), padding=(1, 2), dilation=(2, 1), groups=2),
    "conv_transpose2d": _conv_transpose(),
    "conv_transpose2d strided": _conv_transpose(
        stride=(3, 2), padding=(1, 0), output_padding=(2, 1), dilation=(1, 2), groups=2
    ),
    "max_pool2d": _unary(
        lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0), ceil_mode=True), ladder, 2, 2, 6, 5
    ),
    "avg_pool2d": _unary(
        lambda x: F.avg_pool2d(x, (3, 2), 2, (1, 1), ceil_mode=True), normal, 2, 2, 6, 5
    ),
    "avg_pool2d no pad": _unary(
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), normal, 2, 2, 6, 5
    ),
    "adaptive_avg_pool2d": _unary(lambda x: F.adaptive_avg_pool2d(x, (3, 2)), normal, 2, 2, 7, 5),
    "adaptive_max_pool2d": _unary(lambda x: F.adaptive_max_pool2d(x, (3, 2)), ladder, 2, 2, 7, 5),
    "roi_pool": _roi(F.roi_pool, ladder, (3, 2), 0.5),
    "roi_align": _roi(F.roi_align, normal, (2, 3), 0.7),
    "roi_align aligned": _roi(F.roi_align, normal, 2, 0.5, 2, True),
    "interpolate nearest": _unary(lambda x: F.interpolate(x, (7, 2)), normal, 2, 2, 4, 5),
    "interpolate exact": _unary(
        lambda x: F.interpolate(x, None, (0.6, 1.7), "nearest-exact"), normal, 1, 2, 5, 4
    ),
    "interpolate bilinear": _unary(
        lambda x: F.interpolate(x, scale_factor=(1.7, 0.6), mode="bilinear"), normal, 2, 2, 4, 5
    ),
    "interpolate bilinear corners": _unary(
        lambda x: F.interpolate(x, (7, 1), mode="bilinear", align_corners=True), normal, 2, 2, 4, 5
    ),
    "relu": _unary(F.relu, ladder),
    "leaky_relu": _unary(lambda x: F.leaky_relu(x, 0.1), ladder),
    "sigmoid": _unary(F.sigmoid),
    "tanh": _unary(F.tanh),
    "softmax": _unary(lambda x: F.softmax(x, 1), normal, 2, 4, 3),
    "log_softmax": _unary(lambda x: F.log_softmax(x, 1), normal, 2, 4, 3),
    "dropout": _dropout,
    "cross_entropy": _cross_entropy(),
    "cross_entropy weighted": _cross_entropy(weighted=True, label_smoothing=0.1),
    "cross_entropy soft": _soft_cross_entropy,
    "nll_loss": _nll,
    "batch_norm": _batch_norm(3, 2, 2, 3, training=True),
    "batch_norm evaluation": _batch_norm(3, 2, 2, 3, training=False),
    "local_response_norm": _unary(
        lambda x: F.local_response_norm(x, 3, 0.9, 0.75, 1.0), normal, 2, 5, 2, 2
    ),
    "local_response_norm even": _unary(
        lambda x: F.local_response_norm(x, 4, 0.7, 0.5, 2.0, divide_alpha=False), normal, 2, 6, 3
    ),
    "smooth_l1_loss": _smooth_l1(0.7),
    "smooth_l1_loss beta 0": _smooth_l1(0.0),
    "mse_loss": lambda rng: (F.mse_loss, [normal(rng, 3, 4), normal(rng, 3, 4)]),
}


def check_op(name: str, seed: int = 0, device: str = "cpu") -> OpResult:
    """Check the first and second derivatives of one operation of `OPS` on a device.

    Raises:
        ValueError: for a name that is not in `OPS`.
    """
    if name not in OPS:
        raise ValueError(f"op: got {name!r}, expected one of {', '.join(OPS)}")
    fn, inputs = OPS[name](np.random.default_rng(seed))
    try:
        first = gradcheck(fn, inputs, seed=seed, device=device)
        second = gradgradcheck(fn, inputs, seed=seed, device=device)
    except GradcheckError as error:
        return OpResult(name, float("nan"), float("nan"), 0, False, str(error))
    comparisons = first.comparisons + second.comparisons
    return OpResult(name, first.error, second.error, comparisons, True, "")
