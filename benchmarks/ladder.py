"""Rung by rung: what each idea adds to the matrix product and to the convolution.

The rungs are those that a kernel's `algorithm=` takes, and the idea of each is the sentence in the
docstring of its file. Beside each rate stands its share of the machine's peak, which is measured:
multiply-adds on registers alone, as many independent ones as it takes to keep the units busy. The
other roof is the memory's: a copy of an array too large for any cache.

Rates count the operations of the definition. An algorithm that needs fewer of them, as Winograd's
does, can therefore pass the peak.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import operators
from benchmarks.kernels import DIRECTIONS, ours, set_threads
from benchmarks.layers import (
    LAYERS,
    Layer,
    arrays,
    check_data,
    check_forward,
    check_product,
    check_weight,
)
from benchmarks.timing import OURS, Case, Settings, Side, WrongResult, measure
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._tile import ROWS, VECTORS, multiply_tile, tile_columns
from minicnn.kernels._vector import LANES, load_vector, store_vector

LAYER = Layer("3x3, 64 channels", 2, 64, 56, 64, 3, padding=1)
NO_RUNG = "no rung"  # a name that none has
PANEL_DEPTH = 256  # of the tile's panels: 8 x 256 and 256 x 48 floats lie in the first two caches
CHAINS = 12  # of dependent multiply-adds, side by side
COPIED = 64 << 20  # floats, 256 MB


def rungs(kernel: Callable[..., Any]) -> list[str]:
    """Return the algorithms that a call takes, slow to fast: the refusal of a name lists them."""
    try:
        kernel(algorithm=NO_RUNG)
    except ValueError as error:
        return re.findall(r"'(\w+)'", str(error).partition("expected")[2])
    raise AssertionError(f"{kernel} takes any algorithm")


def ideas(module: Any) -> dict[str, str]:
    """Return the idea of each rung, from the chapter "Rungs" of a kernel file's docstring."""
    _, _, chapter = (inspect.getdoc(module) or "").partition("\nRungs")
    found: dict[str, str] = {}
    name = ""
    for line in chapter.splitlines()[1:]:
        if rung := re.match(r" {4}(\w+) {2,}(\S.*)", line):
            name = rung[1]
            found[name] = rung[2]
        elif name and re.match(r" {8,}\S", line):
            found[name] += " " + line.strip()
        elif found:
            break
    return found


def run(layer: Layer, size: int, scale: float, settings: Settings) -> Iterator[Case]:
    """Measure the roofs, the tile, the rungs of both kernels, and what memory bounds.

    Args:
        layer: the convolution.
        size: of the square matrices.
        scale: factor of the batches, the layer's and those of the operators bound by memory.
        settings: how to measure.
    """
    layer = layer.scaled(scale)
    set_threads(settings.threads)
    yield measure(peak_case(settings.threads), settings)
    yield measure(copy_case(), settings)
    yield measure(tile_case(settings.threads), settings)
    yield measure(product_case(size), settings)
    for direction in DIRECTIONS:
        yield measure(convolution_case(layer, direction), settings)
    for name, build in operators.plan(scale).items():
        if name.endswith(operators.FORWARD) and "+" not in name:
            case = build()
            case.sides = [side for side in case.sides if side.name == OURS]
            case.sides[0].name = name.removesuffix(" " + operators.FORWARD)
            yield measure(case, settings)


def find_layer(name: str) -> Layer:
    """Return a layer of the table by its name.

    Raises:
        ValueError: there is none.
    """
    for layer in LAYERS:
        if layer.name.lower() == name.lower():
            return layer
    raise ValueError(f"layer: got {name!r}, expected one of {', '.join(x.name for x in LAYERS)}")


def product_case(size: int) -> Case:
    """Return the product of two square matrices, a side for each rung."""
    from minicnn.kernels import gemm

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((size, size), np.float32) for _ in range(2))
    call: Callable[..., Any] = partial(gemm.gemm, a, b)
    return Case(
        f"product of {size} x {size}",
        [_rung_side(partial(call, algorithm=rung), rung) for rung in rungs(call)],
        lambda name, results: check_product(a, b, results[name]),
        "gemm",
        flops=2 * size**3,
        bytes=3 * 4 * size**2,
    )


def convolution_case(layer: Layer, direction: str) -> Case:
    """Return a convolution or one of its gradients, a side for each rung."""
    x, weight, grad = arrays(layer)
    checks: dict[str, Callable[[Any], None]] = {
        "forward": lambda result: check_forward(layer, x, weight, result),
        "data": lambda result: check_data(layer, grad, weight, result),
        "weight": lambda result: check_weight(layer, x, grad, result),
    }
    call: Callable[..., Any] = ours(layer, direction, x, weight, grad)
    return Case(
        f"conv {layer.name} {direction}",
        [_rung_side(partial(call, algorithm=rung), rung) for rung in rungs(call)],
        lambda name, results: checks[direction](results[name]),
        f"conv {direction}",
        flops=layer.flops,
        bytes=layer.bytes,
    )


def _rung_side(call: Callable[[], Any], rung: str) -> Side:
    """Return the side of a rung, missing where the kernel says that it is not for these shapes."""
    try:
        call()
    except ValueError as error:
        return Side(rung, missing=str(error))
    return Side(rung, call)


def peak_case(threads: int) -> Case:
    """Return multiply-adds on registers alone: 2 flops each, nothing is loaded in between."""
    repeats = 20_000
    numbers = np.linspace(0.5, 0.9, CHAINS * LANES, dtype=np.float32)
    out = np.zeros((threads, CHAINS * LANES), np.float32)

    def call() -> Any:
        multiply_add(numbers, repeats, out)
        return out

    def check(name: str, results: dict[str, Any]) -> None:
        # x = x / 2 + 1 / 4 settles at 1 / 2, whatever it starts from.
        if not np.allclose(results[name], 0.5):
            raise WrongResult("the sums do not settle where they should")

    flops = 2 * threads * repeats * CHAINS * LANES
    return Case("multiply-adds on registers", [Side("peak", call)], check, "roof", flops=flops)


def copy_case() -> Case:
    """Return the copy of an array that no cache holds: each byte is read once and written once."""
    source = np.ones(COPIED, np.float32)
    target = np.zeros_like(source)

    def call() -> Any:
        copy(source, target)
        return target

    def check(name: str, results: dict[str, Any]) -> None:
        if not np.array_equal(results[name], source):
            raise WrongResult("the copy differs")

    return Case("copy", [Side("copy", call)], check, "roof", bytes=2 * source.nbytes)


def tile_case(threads: int) -> Case:
    """Return the register tile on panels that lie in the caches: the GEMM without its packing."""
    rng = np.random.default_rng(0)
    width, repeats = tile_columns(np.dtype(np.float32)), 500
    a = rng.standard_normal(PANEL_DEPTH * ROWS).astype(np.float32)
    b = rng.standard_normal(PANEL_DEPTH * width).astype(np.float32)
    c = np.zeros((threads, ROWS * width), np.float32)

    def call() -> Any:
        repeat_tile(a, b, PANEL_DEPTH, repeats, c)
        return c

    def check(name: str, results: dict[str, Any]) -> None:
        for own in results[name]:
            product = own.reshape(ROWS, width)
            check_product(a.reshape(-1, ROWS).T, b.reshape(-1, width), product)

    return Case(
        f"register tile {ROWS} x {width}", [Side("tile", call)], check, "tile",
        flops=2 * threads * repeats * PANEL_DEPTH * ROWS * width,
    )  # fmt: skip


def table(run: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return the rows (case, rung, rate, share of the peak, idea), and set the run's two roofs."""
    sides = {s["name"]: (case, s) for case in run["cases"] for s in case["sides"]}
    (peak, of_peak), (copied, of_copy) = sides["peak"], sides["copy"]
    run["peak"] = peak["flops"] / of_peak["best"]
    run["bandwidth"] = copied["bytes"] / of_copy["best"]
    told = {stem: ideas(importlib.import_module(f"minicnn.kernels.{stem}"))
            for stem in ("gemm", "conv2d")}  # fmt: skip
    rows = [
        ("roofs", "peak", _rate(run["peak"]), "100 %", "multiply-adds on registers alone"),
        ("", "copy", f"{run['bandwidth'] / 1e9:.1f} GB/s", "", "every byte read and written"),
    ]
    for case in run["cases"]:
        ideas_here = told["gemm" if case["family"] == "gemm" else "conv2d"]
        for number, s in enumerate(case["sides"]):
            name = "" if number else case["name"]
            if case["family"] in ("roof", "memory-bound"):
                continue
            if "best" not in s:
                rows.append((name, s["name"], "", "", s.get("wrong") or s["missing"]))
                continue
            rate = case["flops"] / s["best"]
            idea = (
                "a tile's sums stay in registers; panels as packed, from the caches"
                if case["family"] == "tile"
                else ideas_here.get(s["name"], "")
            )
            rows.append((name, s["name"], _rate(rate), f"{rate / run['peak']:.0%}", idea))
    for case in run["cases"]:
        for s in case["sides"]:
            if case["family"] == "memory-bound" and "best" in s and case["bytes"]:
                moved = case["bytes"] / s["best"]
                share = f"{moved / run['bandwidth']:.0%} of copy"
                rows.append((case["name"], "", f"{moved / 1e9:.1f} GB/s", share, ""))
    return rows


def _rate(flops: float) -> str:
    return f"{flops / 1e9:.1f} GFLOP/s"


@jit
def multiply_add_chains(numbers, repeats, out):
    """Run 12 chains of x = x * half + quarter, each a register long."""
    half, quarter = numbers.dtype.type(0.5), numbers.dtype.type(0.25)
    a, b = load_vector(numbers, 0), load_vector(numbers, LANES)
    c, d = load_vector(numbers, 2 * LANES), load_vector(numbers, 3 * LANES)
    e, f = load_vector(numbers, 4 * LANES), load_vector(numbers, 5 * LANES)
    g, h = load_vector(numbers, 6 * LANES), load_vector(numbers, 7 * LANES)
    i, j = load_vector(numbers, 8 * LANES), load_vector(numbers, 9 * LANES)
    k, m = load_vector(numbers, 10 * LANES), load_vector(numbers, 11 * LANES)
    for _ in range(repeats):
        a, b, c = a * half + quarter, b * half + quarter, c * half + quarter
        d, e, f = d * half + quarter, e * half + quarter, f * half + quarter
        g, h, i = g * half + quarter, h * half + quarter, i * half + quarter
        j, k, m = j * half + quarter, k * half + quarter, m * half + quarter
    store_vector(out, 0, a), store_vector(out, LANES, b)
    store_vector(out, 2 * LANES, c), store_vector(out, 3 * LANES, d)
    store_vector(out, 4 * LANES, e), store_vector(out, 5 * LANES, f)
    store_vector(out, 6 * LANES, g), store_vector(out, 7 * LANES, h)
    store_vector(out, 8 * LANES, i), store_vector(out, 9 * LANES, j)
    store_vector(out, 10 * LANES, k), store_vector(out, 11 * LANES, m)


@parallel_jit
def multiply_add(numbers, repeats, out):
    for thread in prange(out.shape[0]):
        multiply_add_chains(numbers, repeats, out[thread])


@parallel_jit
def copy(source, target):
    for i in prange(source.size):
        target[i] = source[i]


@parallel_jit
def repeat_tile(a, b, depth, repeats, c):
    for thread in prange(c.shape[0]):
        for _ in range(repeats):
            width = c.shape[1] // ROWS
            multiply_tile(VECTORS, depth, a, 0, b, 0, c[thread], 0, width, False)
