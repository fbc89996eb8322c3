"""Kernel by kernel: the convolutions of the networks, their products, and what memory bounds.

All sides run in this process and take turns. The result of each is first held to a float64 oracle
in NumPy, PyTorch's as much as ours.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from typing import Any

import numpy as np

from benchmarks import operators
from benchmarks.gpu import gpu_side
from benchmarks.layers import (
    LAYERS,
    PRODUCTS,
    Layer,
    Product,
    arrays,
    check_data,
    check_forward,
    check_product,
    check_weight,
)
from benchmarks.operators import NO_TORCH
from benchmarks.timing import OURS, Case, Settings, Side, measure

CHANNELS_LAST = "PyTorch channels_last"
DIRECTIONS = ("forward", "data", "weight")


def plan(scale: float = 1.0) -> dict[str, Callable[[], Case]]:
    """Return every case by name, each to be built when it is its turn.

    Args:
        scale: factor of all batches.
    """
    planned: dict[str, Callable[[], Case]] = {}
    for layer in LAYERS:
        for direction in DIRECTIONS:
            if layer.channels > 3 or direction != "data":  # images need no gradient
                build = partial(convolution_case, layer.scaled(scale), direction)
                planned[f"conv {layer.name} {direction}"] = build
    for product in PRODUCTS:
        rows = max(1, round(product.rows * scale))
        for direction in DIRECTIONS:
            build = partial(product_case, product._replace(rows=rows), direction)
            planned[f"gemm {product.name} {direction}"] = build
    return planned | operators.plan(scale)


def select(planned: dict[str, Any], patterns: tuple[str, ...]) -> dict[str, Any]:
    """Return the cases whose names match one of the patterns, or contain it; all for none.

    Raises:
        ValueError: for a pattern that matches nothing.
    """
    names = set()
    for pattern in patterns:
        found = [n for n in planned if fnmatch(n.lower(), f"*{pattern.lower()}*")]
        if not found:
            raise ValueError(f"only: got {pattern!r}, which is in no name; {', '.join(planned)}")
        names |= set(found)
    return {name: build for name, build in planned.items() if not patterns or name in names}


def run(patterns: tuple[str, ...], scale: float, settings: Settings) -> Iterator[Case]:
    """Measure the chosen cases, one after the other."""
    set_threads(settings.threads)
    for build in select(plan(scale), patterns).values():
        yield measure(build(), settings)


def set_threads(count: int) -> None:
    """Let every library in this process use `count` threads.

    Raises:
        ValueError: for more than the machine has.
    """
    import minicnn

    minicnn.set_num_threads(count)
    if importlib.util.find_spec("torch") is not None:
        import torch

        torch.set_num_threads(count)


def convolution_case(layer: Layer, direction: str) -> Case:
    """Return a convolution, or one of its two gradients, on each side."""
    x, weight, grad = arrays(layer)
    checks: dict[str, Callable[[Any], None]] = {
        "forward": lambda result: check_forward(layer, x, weight, result),
        "data": lambda result: check_data(layer, grad, weight, result),
        "weight": lambda result: check_weight(layer, x, grad, result),
    }
    sides = [Side(OURS, ours(layer, direction, x, weight, grad))]
    if importlib.util.find_spec("torch") is None:
        sides += [Side(name, missing=NO_TORCH) for name in ("PyTorch", CHANNELS_LAST)]
    else:
        for name in ("PyTorch", CHANNELS_LAST):
            call = _torch(layer, direction, x, weight, grad, name == CHANNELS_LAST)
            sides.append(Side(name, call))
    sides.append(gpu_side(partial(ours, layer, direction), x, weight, grad))
    return Case(
        f"conv {layer.name} {direction}",
        sides,
        lambda name, results: checks[direction](np.asarray(results[name])),
        f"{layer.family} {direction}",
        flops=layer.flops,
        bytes=layer.bytes,
        note="PyTorch takes a slow path for 1x1 layers below 16 images with one thread"
        if layer.kernel == 1 and layer.batch < 16
        else "",
    )


def ours(
    layer: Layer, direction: str, x: Any, weight: Any, grad: Any, algorithm: str | None = None
) -> Callable[[], Any]:
    """Return a call of our kernel; `algorithm` is a rung."""
    from minicnn.kernels import conv2d

    stride, padding = (layer.stride, layer.stride), (layer.padding, layer.padding)
    steps: tuple[Any, ...] = stride, padding, (1, 1), layer.groups
    if direction == "forward":
        return partial(conv2d.conv2d_forward, x, weight, None, *steps, algorithm=algorithm)
    if direction == "data":
        sizes = layer.size, layer.size
        return partial(
            conv2d.conv2d_backward_data, grad, weight, *sizes, *steps, algorithm=algorithm
        )
    kernel = layer.kernel, layer.kernel
    return partial(conv2d.conv2d_backward_weight, x, grad, kernel, *steps, algorithm=algorithm)


def _torch(
    layer: Layer, direction: str, x: Any, weight: Any, grad: Any, channels_last: bool
) -> Callable[[], Any]:
    import torch

    order = torch.channels_last if channels_last else torch.contiguous_format
    x, weight, grad = (torch.from_numpy(a).to(memory_format=order) for a in (x, weight, grad))
    if direction == "forward":
        steps = layer.stride, layer.padding, 1, layer.groups
        return partial(torch.conv2d, x, weight, None, *steps)
    wanted = [direction == "data", direction == "weight", False]
    place = 0 if direction == "data" else 1
    pairs = [layer.stride] * 2, [layer.padding] * 2, [1, 1], False, [0, 0], layer.groups

    def gradient() -> Any:
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *pairs, wanted)[place]

    return gradient


def product_case(product: Product, direction: str) -> Case:
    """Return a dense layer's product, or one of its two gradients, on each side."""
    from minicnn.kernels.gemm import gemm

    rng = np.random.default_rng(0)
    rows, depth, columns = product.rows, product.depth, product.columns
    x, weight, grad = (
        rng.standard_normal(shape, np.float32)
        for shape in ((rows, depth), (columns, depth), (rows, columns))
    )
    a, b = {"forward": (x, weight.T), "data": (grad, weight), "weight": (grad.T, x)}[direction]
    sides = [Side(OURS, partial(gemm, a, b)), Side("NumPy", partial(np.matmul, a, b))]
    if importlib.util.find_spec("torch") is None:
        sides.append(Side("PyTorch", missing=NO_TORCH))
    else:
        import torch

        factors = torch.from_numpy(a), torch.from_numpy(b)
        sides.append(Side("PyTorch", partial(torch.matmul, *factors)))
    sides.append(gpu_side(partial(partial, gemm), a, b))
    return Case(
        f"gemm {product.name} {direction}",
        sides,
        lambda name, results: check_product(a, b, np.asarray(results[name])),
        f"product {direction}",
        flops=2 * rows * depth * columns,
        bytes=4 * (a.size + b.size + a.shape[0] * b.shape[1]),
    )
