"""Operators that are bound by memory, and optimisers: what each computes, and what it should.

Names and arguments are PyTorch's on both sides, so that one line says the work of both. A forward
pass is one call; a backward pass is the gradient of a graph that is kept, so that only it is timed.
What a result should be is written in NumPy, in float64.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.checks import compare
from benchmarks.timing import OURS, Case, Side, WrongResult

Array = NDArray[Any]

NO_TORCH = "PyTorch is not installed"
FORWARD, BACKWARD = "forward", "backward"
LRN = (5, 1e-4, 0.75, 2.0)
EPS = 1e-5


@dataclass(frozen=True)
class Library:
    """What both libraries have, under the names that they give it."""

    name: str
    root: Any
    functional: Any
    optim: Any

    def tensor(self, array: Array, requires_grad: bool = False) -> Any:
        """Return a tensor of its own with the values of `array`."""
        copy = array.copy()
        made = self.root.from_numpy(copy) if self.name != OURS else self.root.tensor(copy)
        return made.requires_grad_() if requires_grad else made

    def grad(self, output: Any, inputs: Sequence[Any], grad_output: Any) -> Sequence[Any]:
        """Return the gradients of a graph and keep it."""
        grad = self.root.grad if self.name == OURS else self.root.autograd.grad
        return grad(output, inputs, grad_output, retain_graph=True)


def libraries() -> list[Library | None]:
    """Return ours and PyTorch, None where that is not installed."""
    import minicnn
    import minicnn.functional
    import minicnn.optim

    ours = Library(OURS, minicnn, minicnn.functional, minicnn.optim)
    if importlib.util.find_spec("torch") is None:
        return [ours, None]
    import torch

    return [ours, Library("PyTorch", torch, torch.nn.functional, torch.optim)]


@dataclass(frozen=True)
class Operator:
    """An operator of `Library`s.

    Attributes:
        name: of the case.
        call: (library, tensors...) -> tensor.
        arrays: the values of its floating arguments.
        forward: what it should return, of the arrays in float64.
        backward: the gradients it should return, of grad_output and the arrays; None if the pass
            back is not measured.
        rereads: whether the gradient needs the input or the output again.
        flops: of the forward pass, an element of the input, counted by hand.
    """

    name: str
    call: Callable[..., Any]
    arrays: tuple[Array, ...]
    forward: Callable[..., Array]
    backward: Callable[..., Sequence[Array]] | None = None
    rereads: bool = True
    flops: int = 1


def plan(scale: float) -> dict[str, Callable[[], Case]]:
    """Return the cases by name, each to be built when it is its turn: their arrays are large.

    Args:
        scale: of the batch, 1 for the sizes of a real network.
    """
    found = libraries()
    planned: dict[str, Callable[[], Case]] = {}
    for name, (build, has_backward) in OPERATORS.items():

        def make(case: Callable[..., Case], build: Any = build) -> Case:
            return case(build(scale), found)

        planned[f"{name} {FORWARD}"] = partial(make, forward_case)
        if has_backward:
            planned[f"{name} {BACKWARD}"] = partial(make, backward_case)
    for name, whole in {"dropout forward": _dropout, "SGD step": _sgd, "Adam step": _adam}.items():
        planned[name] = partial(whole, scale, found)
    return planned


def forward_case(operator: Operator, found: Sequence[Library | None]) -> Case:
    """Return the case of a forward pass."""
    expected = operator.forward(*(x.astype(np.float64) for x in operator.arrays))

    def side(library: Library) -> Callable[[], Any]:
        return partial(operator.call, library, *map(library.tensor, operator.arrays))

    def check(name: str, results: dict[str, Any]) -> None:
        compare(_numpy(results[name]), expected)

    size = sum(x.size for x in operator.arrays)
    return Case(
        f"{operator.name} {FORWARD}", _sides(found, side), check, "memory-bound",
        flops=operator.flops * size, bytes=4 * (size + expected.size),
    )  # fmt: skip


def backward_case(operator: Operator, found: Sequence[Library | None]) -> Case:
    """Return the case of a backward pass alone."""
    assert operator.backward is not None
    shape = operator.forward(*(x.astype(np.float64) for x in operator.arrays)).shape
    upstream = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    expected = operator.backward(*(x.astype(np.float64) for x in (upstream, *operator.arrays)))

    def side(library: Library) -> Callable[[], Any]:
        inputs = [library.tensor(x, requires_grad=True) for x in operator.arrays]
        output = operator.call(library, *inputs)
        return partial(library.grad, output, inputs, library.tensor(upstream))

    def check(name: str, results: dict[str, Any]) -> None:
        for number, (actual, wanted) in enumerate(zip(results[name], expected, strict=True)):
            compare(_numpy(actual), wanted, what=f"gradient {number}")

    size = sum(x.size for x in operator.arrays)
    return Case(
        f"{operator.name} {BACKWARD}", _sides(found, side), check, "memory-bound",
        bytes=4 * (size * (2 if operator.rereads else 1) + upstream.size),
    )  # fmt: skip


def _sides(
    found: Sequence[Library | None], build: Callable[[Library], Callable[[], Any]]
) -> list[Side]:
    return [
        Side("PyTorch", missing=NO_TORCH) if library is None else Side(library.name, build(library))
        for library in found
    ]


def _numpy(tensor: Any) -> Array:
    return tensor.detach().numpy()


def _normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _maps(scale: float) -> Array:
    """Return the maps that most operators get: 51 MB at full size, far beyond the caches."""
    return _normal(max(1, round(16 * scale)), 64, 112, 112)


def _relu(scale: float) -> Operator:
    return Operator(
        "ReLU", lambda lib, x: lib.functional.relu(x), (_maps(scale),),
        lambda x: np.maximum(x, 0), lambda g, x: [g * (x > 0)],
    )  # fmt: skip


def _max_pool_2(scale: float) -> Operator:
    return Operator(
        "max pooling 2x2", lambda lib, x: lib.functional.max_pool2d(x, 2), (_maps(scale),),
        lambda x: _pooled(x, 2, 2, 0), lambda g, x: [_unpooled(g, x, 2, 2, 0)], rereads=False,
    )  # fmt: skip


def _max_pool_3(scale: float) -> Operator:
    return Operator(
        "max pooling 3x3/2", lambda lib, x: lib.functional.max_pool2d(x, 3, 2, 1), (_maps(scale),),
        lambda x: _pooled(x, 3, 2, 1), lambda g, x: [_unpooled(g, x, 3, 2, 1)],
        rereads=False, flops=2,
    )  # fmt: skip


def _batch_norm(scale: float) -> Operator:
    weight = np.random.default_rng(3).uniform(0.5, 1.5, 64).astype(np.float32)
    bias = np.random.default_rng(4).standard_normal(64).astype(np.float32)
    return Operator(
        "batch norm", _normalize, (_maps(scale), weight, bias), _normalized, _normalized_gradients,
        flops=7,
    )  # fmt: skip


def _batch_norm_relu(scale: float) -> Operator:
    plain = _batch_norm(scale)
    return Operator(
        "batch norm + ReLU", lambda lib, *inputs: lib.functional.relu(_normalize(lib, *inputs)),
        plain.arrays, lambda *inputs: np.maximum(_normalized(*inputs), 0),
        lambda g, *inputs: _normalized_gradients(g * (_normalized(*inputs) > 0), *inputs), flops=8,
    )  # fmt: skip


def _lrn(scale: float) -> Operator:
    maps = _normal(max(1, round(16 * scale)), 96, 55, 55)
    return Operator(
        "response norm", lambda lib, x: lib.functional.local_response_norm(x, *LRN), (maps,),
        _responses, lambda g, x: [_response_gradient(g, x)], flops=12,
    )  # fmt: skip


def _cross_entropy(scale: float) -> Operator:
    scores = _normal(max(2, round(128 * scale)), 1000)
    target = np.random.default_rng(5).integers(0, 1000, len(scores))
    rows = np.arange(len(scores))

    def loss(x: Array) -> Array:
        return np.mean(np.log(np.exp(x).sum(1)) - x[rows, target])

    def gradient(g: Array, x: Array) -> list[Array]:
        share = np.exp(x) / np.exp(x).sum(1, keepdims=True)
        share[rows, target] -= 1
        return [g * share / len(x)]

    return Operator(
        "softmax cross-entropy",
        lambda lib, x: lib.functional.cross_entropy(x, lib.tensor(target)),
        (scores,), loss, gradient, flops=12,
    )  # fmt: skip


def _cat(scale: float) -> Operator:
    batch = max(1, round(16 * scale))
    return Operator(
        "concatenation", lambda lib, *maps: lib.root.cat(maps, 1),
        tuple(_normal(batch, channels, 28, 28) for channels in (128, 192, 96, 64)),
        lambda *maps: np.concatenate(maps, 1), flops=0,
    )  # fmt: skip


def _normalize(library: Library, x: Any, weight: Any, bias: Any) -> Any:
    return library.functional.batch_norm(x, None, None, weight, bias, training=True, eps=EPS)


def _standardized(x: Array) -> tuple[Array, Array]:
    axes = (0, 2, 3)
    deviation = np.sqrt(x.var(axes, keepdims=True) + EPS)
    return (x - x.mean(axes, keepdims=True)) / deviation, deviation


def _normalized(x: Array, weight: Array, bias: Array) -> Array:
    return _standardized(x)[0] * weight[:, None, None] + bias[:, None, None]


def _normalized_gradients(g: Array, x: Array, weight: Array, bias: Array) -> list[Array]:
    axes = (0, 2, 3)
    standard, deviation = _standardized(x)
    along, plain = (g * standard).mean(axes, keepdims=True), g.mean(axes, keepdims=True)
    grad_input = weight[:, None, None] / deviation * (g - plain - standard * along)
    return [grad_input, (g * standard).sum(axes), g.sum(axes)]


def _windows(x: Array, kernel: int, stride: int, padding: int) -> Iterator[tuple[Any, Array]]:
    """Yield each tap's place in the padded image and the maps that it sees."""
    edges = (padding, padding)
    padded = np.pad(x, ((0, 0), (0, 0), edges, edges), constant_values=-np.inf)
    out = (padded.shape[-1] - kernel) // stride + 1
    for ky, kx in np.ndindex(kernel, kernel):
        rows, columns = (slice(k, k + (out - 1) * stride + 1, stride) for k in (ky, kx))
        yield (..., rows, columns), padded[..., rows, columns]


def _pooled(x: Array, kernel: int, stride: int, padding: int) -> Array:
    best: Any = -np.inf
    for _, window in _windows(x, kernel, stride, padding):
        best = np.maximum(best, window)
    return best


def _unpooled(g: Array, x: Array, kernel: int, stride: int, padding: int) -> Array:
    """Give each window's gradient to its first maximum."""
    best, size = _pooled(x, kernel, stride, padding), x.shape[-1] + 2 * padding
    canvas, given = np.zeros((*x.shape[:2], size, size)), np.zeros(g.shape, bool)
    for place, window in _windows(x, kernel, stride, padding):
        chosen = (window == best) & ~given
        canvas[place] += g * chosen
        given |= chosen
    return canvas[..., padding : size - padding, padding : size - padding]


def _neighbours(x: Array) -> Array:
    """Add up the channels in the window of each."""
    total, reach = np.zeros_like(x), LRN[0] // 2
    for shift in range(-reach, reach + 1):
        first, last = max(0, shift), min(0, shift) or None
        total[:, max(0, -shift) : -shift if shift > 0 else None] += x[:, first:last]
    return total


def _responses(x: Array) -> Array:
    size, alpha, beta, k = LRN
    return x * (k + alpha / size * _neighbours(x * x)) ** -beta


def _response_gradient(g: Array, x: Array) -> Array:
    size, alpha, beta, k = LRN
    scale = k + alpha / size * _neighbours(x * x)
    shared = _neighbours(g * x * scale ** (-beta - 1))
    return g * scale**-beta - 2 * alpha / size * beta * x * shared


def _dropout(scale: float, found: Sequence[Library | None]) -> Case:
    """Return the case of dropout, whose draws differ from side to side."""
    x = _normal(max(1, round(64 * scale)), 9216)

    def side(library: Library) -> Callable[[], Any]:
        return partial(library.functional.dropout, library.tensor(x), 0.5, True)

    def check(name: str, results: dict[str, Any]) -> None:
        y = _numpy(results[name])
        kept = y != 0
        compare(y, 2 * x * kept)
        if not abs(kept.mean() - 0.5) < 5 * 0.5 / np.sqrt(x.size):
            raise WrongResult(f"a share of {kept.mean():.3f} is kept, expected 0.5")

    return Case("dropout forward", _sides(found, side), check, "memory-bound",
                flops=x.size, bytes=8 * x.size)  # fmt: skip


def _optimizer_case(
    name: str, scale: float, found: Sequence[Library | None], options: dict[str, Any],
    expected: Callable[[Array, Array], Array], moved: int,
) -> Case:  # fmt: skip
    """Return the case of an optimiser's step on one large parameter; its first step is checked."""
    rng = np.random.default_rng(0)
    count = max(1000, round(30_000_000 * scale))
    values, gradient = (rng.standard_normal(count, np.float32) for _ in range(2))

    def side(library: Library, **more: Any) -> Callable[[], Any]:
        parameter = library.tensor(values, requires_grad=True)
        parameter.grad = library.tensor(gradient)
        optimizer = getattr(library.optim, name)([parameter], **options, **more)

        def step() -> Any:
            optimizer.step()
            return parameter

        return step

    def check(name: str, results: dict[str, Any]) -> None:
        wanted = expected(values.astype(np.float64), gradient.astype(np.float64))
        compare(_numpy(results[name]) - values, wanted - values, tolerance=1e-3)

    sides = _sides(found, side)
    if found[1] is not None:
        sides.append(Side("PyTorch fused", side(found[1], fused=True)))
    return Case(f"{name} step", sides, check, "memory-bound", bytes=4 * moved * count)


def _sgd(scale: float, found: Sequence[Library | None]) -> Case:
    lr, decay = 0.01, 1e-4
    options = {"lr": lr, "momentum": 0.9, "weight_decay": decay}
    return _optimizer_case(
        "SGD", scale, found, options, lambda p, g: p - lr * (g + decay * p), moved=5
    )


def _adam(scale: float, found: Sequence[Library | None]) -> Case:
    lr, eps = 1e-3, 1e-8
    return _optimizer_case(
        "Adam", scale, found, {"lr": lr, "eps": eps},
        lambda p, g: p - lr * g / (np.abs(g) + eps), moved=7,
    )  # fmt: skip


# The operators, and whether the pass back is a measurement of its own.
OPERATORS: dict[str, tuple[Callable[[float], Operator], bool]] = {
    "ReLU": (_relu, True),
    "max pooling 2x2": (_max_pool_2, True),
    "max pooling 3x3/2": (_max_pool_3, True),
    "batch norm": (_batch_norm, True),
    "batch norm + ReLU": (_batch_norm_relu, True),
    "response norm": (_lrn, True),
    "softmax cross-entropy": (_cross_entropy, True),
    "concatenation": (_cat, False),
}
