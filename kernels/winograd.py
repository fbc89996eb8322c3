"""Convolution with fewer multiplications: Winograd's F(4x4, 3x3) and F(2x2, 5x5), stride 1.

    output = A^T [sum over c of (G weight[o, c] G^T) * (B^T tile[c] B)] A        for each tile

An output tile of step x step pixels (4 for a 3x3 kernel, 2 for a 5x5) needs an input tile of 6 x 6.
Both it and the weight are transformed; then 36 products a channel do the work of 144 or 100. The
sum over channels is in the middle, so that the 36 places xi of a tile are 36 matrix products:

    forward   M[xi]  (C_out, tiles) = U[xi] (C_out, C) @ V[xi] (C, tiles)
    data      forward, of grad_output, with the weight's channels swapped and its taps reversed
    weight    dU[xi] (C_out, C) = dM[xi] (C_out, tiles) @ V[xi]^T (tiles, C)

        V = B^T tile B      U = G weight G^T      output tile = A^T M A
                       dweight = G^T dU G                  dM = A dtile A^T

The gradient of the weight is the forward pass read backwards: each step is linear, and its
transpose takes the gradient along. `_cook_toom.py` has the matrices and where they come from.

Rungs, with the idea each adds:
    staged   the three steps above, one after the other, on all tiles: V and M go through memory.
             The only one on CUDA devices, where the products are one launch for all 36
    fused    tiles are transformed, multiplied and transformed back while they are in a cache, in
             registers that hold a lane for each tile: `_winograd.py`. The default on the CPU

Flops: 2 N C_out C out_h out_w / groups times 36 / 16 or 36 / 4, if the tiles fit the image, and for
each tile and channel about 200 for each transform. V and M have 36 / 16 or 36 / 4 times the
elements of the images.

Numerics: transforms add and subtract numbers that are larger than the result. In float32 the
largest error is about 2e-5 of the output's scale with 512 channels, where the definition has 1e-6;
1e-4 is the bound that tests hold it to. Where a tile meets NaN or infinity, all of its outputs may
become NaN.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._cook_toom import (
    FILTER_DIVISORS,
    FILTER_MATRICES,
    INPUT_MATRIX,
    OUTPUT_MATRICES,
    TILE,
)
from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import constants, launch
from minicnn.kernels._winograd import XI, convolve
from minicnn.kernels._winograd_weight import weight_gradient
from minicnn.kernels.gemm import pack_width

Array = NDArray
Pair = tuple[int, int]

# As the kernels take them: G for kernels of size 3 and 5, A^T for 4 x 4 and 2 x 2 outputs.
B_T = INPUT_MATRIX
G_3, G_5 = (FILTER_MATRICES[kernel] / FILTER_DIVISORS[:, None] for kernel in (3, 5))
G_T_3, G_T_5 = G_3.T.copy(), G_5.T.copy()
A_T_4, A_T_2 = OUTPUT_MATRICES[3], OUTPUT_MATRICES[5]
A_4, A_2 = A_T_4.T.copy(), A_T_2.T.copy()

SLICE = 1 << 28  # elements of the transformed images that exist at once


def winograd_forward_reference(
    input: Array, weight: Array, bias: Array | None, padding: Pair, groups: int
) -> Array:
    """Define the forward pass tile by tile, in float64."""
    kernel = weight.shape[2]
    g, a_t = _matrices(kernel)
    output = np.zeros(_output_shape(input, weight.shape[0], kernel, padding))
    tiles = _reference_tiles(input, output.shape[2:], padding, kernel)
    group_outputs = weight.shape[0] // groups
    for n, o, tile_y, tile_x in np.ndindex(*output.shape[:2], *tiles.shape[2:4]):
        m = np.zeros((TILE, TILE))
        for c in range(weight.shape[1]):
            d = tiles[n, o // group_outputs * weight.shape[1] + c, tile_y, tile_x]
            m += (g @ weight[o, c] @ g.T) * (B_T @ d @ B_T.T)
        part = _tile_of(output, n, o, tile_y, tile_x, len(a_t))
        part += (a_t @ m @ a_t.T)[: part.shape[0], : part.shape[1]]
        part += 0.0 if bias is None else float(bias[o])
    return output


def winograd_backward_data_reference(
    grad_output: Array, weight: Array, height: int, width: int, padding: Pair, groups: int
) -> Array:
    """Define the data gradient as the forward pass of the turned weight, in float64."""
    out_channels, group_channels, kernel, _ = weight.shape
    by_group = weight.reshape(groups, out_channels // groups, group_channels, kernel, kernel)
    turned = by_group.swapaxes(1, 2)[..., ::-1, ::-1].reshape(
        -1, *by_group.shape[1:2], kernel, kernel
    )
    border = kernel - 1 - padding[0], kernel - 1 - padding[1]
    return winograd_forward_reference(grad_output, turned, None, border, groups)


def winograd_backward_weight_reference(
    input: Array, grad_output: Array, kernel_size: Pair, padding: Pair, groups: int
) -> Array:
    """Define the weight gradient tile by tile, in float64: the transpose of the forward pass."""
    kernel = kernel_size[0]
    g, a_t = _matrices(kernel)
    group_channels, group_outputs = input.shape[1] // groups, grad_output.shape[1] // groups
    grad_weight = np.zeros((grad_output.shape[1], group_channels, *kernel_size))
    tiles = _reference_tiles(input, grad_output.shape[2:], padding, kernel)
    for o, c in np.ndindex(*grad_weight.shape[:2]):
        u = np.zeros((TILE, TILE))
        for n, tile_y, tile_x in np.ndindex(len(input), *tiles.shape[2:4]):
            d = tiles[n, o // group_outputs * group_channels + c, tile_y, tile_x]
            part = _tile_of(grad_output, n, o, tile_y, tile_x, len(a_t))
            grad = np.zeros((len(a_t), len(a_t)))
            grad[: part.shape[0], : part.shape[1]] = part
            u += (a_t.T @ grad @ a_t) * (B_T @ d @ B_T.T)
        grad_weight[o, c] = g.T @ u @ g
    return grad_weight


def winograd_forward(
    input: Array,
    weight: Array,
    bias: Array | None,
    padding: Pair,
    groups: int,
    *,
    algorithm: str | None = None,
) -> Array:
    """Convolve (N, C, H, W) with (C_out, C / groups, k, k), k = 3 or 5, stride and dilation 1.

    `padding` is at most k - 1. `algorithm` is a rung: "staged", on the CPU also "fused"; None is
    the best.
    """
    xp = array_module("winograd_forward", input)
    input, weight = contiguous(input), contiguous(weight)
    kernel = weight.shape[2]
    output = empty(xp, _output_shape(input, weight.shape[0], kernel, padding), input.dtype)
    bias = xp.zeros(weight.shape[0], input.dtype) if bias is None else contiguous(bias)
    if _rung(xp, algorithm) == "fused":
        convolve(input, weight, bias, padding, groups, False, output)
        return output
    filters = _transform_weight(xp, weight, groups, False)
    for images in _slices(input, output, kernel):
        tiles = _transform_input(xp, input[images], output[images], padding, kernel)
        products = _multiply(xp, filters, tiles, groups)
        grid = _grid(output, kernel)
        _run(
            xp, winograd_output_cpu, products[0].size, (products, bias, *grid[:2]),
            output[images], sizes=output[images].shape, constants=grid[2:],
        )  # fmt: skip
    return output


def winograd_backward_data(
    grad_output: Array,
    weight: Array,
    height: int,
    width: int,
    padding: Pair,
    groups: int,
    *,
    algorithm: str | None = None,
) -> Array:
    """Return the gradient (N, C, height, width) of the input; arguments as of `winograd_forward`.

    It is a convolution of grad_output with k - 1 - padding.
    """
    xp = array_module("winograd_backward_data", grad_output)
    grad_output, weight = contiguous(grad_output), contiguous(weight)
    kernel, channels = weight.shape[2], weight.shape[1] * groups
    border = kernel - 1 - padding[0], kernel - 1 - padding[1]
    grad_input = empty(xp, (grad_output.shape[0], channels, height, width), grad_output.dtype)
    bias = xp.zeros(channels, grad_output.dtype)
    if _rung(xp, algorithm) == "fused":
        convolve(grad_output, weight, bias, border, groups, True, grad_input)
        return grad_input
    filters = _transform_weight(xp, weight, groups, True)
    for images in _slices(grad_output, grad_input, kernel):
        tiles = _transform_input(xp, grad_output[images], grad_input[images], border, kernel)
        products = _multiply(xp, filters, tiles, groups)
        grid = _grid(grad_input, kernel)
        _run(
            xp, winograd_output_cpu, products[0].size, (products, bias, *grid[:2]),
            grad_input[images], sizes=grad_input[images].shape, constants=grid[2:],
        )  # fmt: skip
    return grad_input


def winograd_backward_weight(
    input: Array,
    grad_output: Array,
    kernel_size: Pair,
    padding: Pair,
    groups: int,
    *,
    algorithm: str | None = None,
) -> Array:
    """Return the gradient (C_out, C / groups, k, k) of the weight; see `winograd_forward`."""
    xp = array_module("winograd_backward_weight", input)
    input, grad_output = contiguous(input), contiguous(grad_output)
    kernel, out_channels = kernel_size[0], grad_output.shape[1]
    shape = out_channels, input.shape[1] // groups, *kernel_size
    grad_weight = xp.zeros(shape, input.dtype)
    if _rung(xp, algorithm) == "fused":
        weight_gradient(input, grad_output, padding, groups, grad_weight)
        return grad_weight
    for images in _slices(input, grad_output, kernel):
        tiles = _transform_input(xp, input[images], grad_output[images], padding, kernel)
        grid = _grid(grad_output, kernel)
        count = tiles.shape[2]
        grads = xp.empty((XI, out_channels, count), input.dtype)
        _run(
            xp, winograd_grad_output_cpu, out_channels * count, (grad_output[images], *grid[:2]),
            grads, sizes=grad_output[images].shape, constants=grid[2:],
        )  # fmt: skip
        products = _multiply(xp, grads, tiles, groups, transposed=True)
        part = xp.empty(shape, input.dtype)
        _run(
            xp, winograd_grad_filter_cpu, products[0].size, (products,), part,
            template=(kernel,),
        )  # fmt: skip
        grad_weight += part
    return grad_weight


def _matrices(kernel: int) -> tuple[Array, Array]:
    """Return G and A^T for a kernel size."""
    return (G_3, A_T_4) if kernel == 3 else (G_5, A_T_2)


def _output_shape(
    input: Array, out_channels: int, kernel: int, padding: Pair
) -> tuple[int, int, int, int]:
    height, width = (input.shape[i + 2] + 2 * padding[i] - kernel + 1 for i in (0, 1))
    return input.shape[0], out_channels, height, width


def _reference_tiles(input: Array, size: Any, padding: Pair, kernel: int) -> Array:
    """Return all tiles (N, C, tiles_y, tiles_x, 6, 6) of the input, zero outside the image."""
    step = TILE + 1 - kernel
    tiles_y, tiles_x = (-(-length // step) for length in size)
    batch, channels, height, width = input.shape
    tiles = np.zeros((batch, channels, tiles_y, tiles_x, TILE, TILE))
    for tile_y, tile_x, i, j in np.ndindex(*tiles.shape[2:]):
        y, x = tile_y * step + i - padding[0], tile_x * step + j - padding[1]
        if 0 <= y < height and 0 <= x < width:
            tiles[:, :, tile_y, tile_x, i, j] = input[:, :, y, x]
    return tiles


def _tile_of(array: Array, n: int, o: int, tile_y: int, tile_x: int, step: int) -> Array:
    """Return a view of an output tile, as much as there is of it at the border."""
    y, x = tile_y * step, tile_x * step
    return array[n, o, y : y + step, x : x + step]


def _rung(xp: Any, algorithm: str | None) -> str:
    """Return the rung to take, by default the fastest there is.

    Raises:
        ValueError: when there is no such rung for the arrays of `xp`.
    """
    rungs = ("staged", "fused") if xp is np else ("staged",)
    if algorithm is not None and algorithm not in rungs:
        expected = " or ".join(map(repr, rungs))
        raise ValueError(f"algorithm: got {algorithm!r}, expected {expected}")
    return algorithm or rungs[-1]


# The steps of the staged rung.


def _run(
    xp: Any,
    kernel: Any,
    total: int,
    arguments: tuple[Any, ...],
    result: Array,
    *,
    sizes: tuple[int, ...] = (),
    constants: tuple[int, ...] = (),
    template: tuple[int, ...] = (),
    per_block: int | None = None,
) -> None:
    """Run a kernel, or its twin on a CUDA device.

    The twin is told `sizes` that arrays know here; `constants` are its template's last parameters.
    """
    if xp is np:
        kernel(*arguments, *constants, result)
        return
    name = kernel.__name__.removesuffix("_cpu") + "_cuda"
    launch(
        "winograd", name, total, *arguments, *sizes, result, per_block=per_block,
        template=(*template, *constants),
    )  # fmt: skip


def _slices(input: Array, output: Array, kernel: int) -> Iterator[slice]:
    """Cut the batch into slices whose transformed images have at most SLICE elements."""
    tiles_y, tiles_x, _ = _grid(output, kernel)
    image = XI * max(1, tiles_y * tiles_x * max(input.shape[1], output.shape[1]))
    step = max(1, SLICE // image)
    for start in range(0, input.shape[0], step):
        yield slice(start, start + step)


def _grid(output: Array, kernel: int) -> tuple[int, int, int]:
    """Return how many tiles an image has, down and across, and their size."""
    step = TILE + 1 - kernel
    return -(-output.shape[2] // step), -(-output.shape[3] // step), step


def _transform_weight(xp: Any, weight: Array, groups: int, swapped: bool) -> Array:
    """Return U (36, groups, filters of a group, channels of a group)."""
    outputs, channels = weight.shape[0] // groups, weight.shape[1]
    rows, depth = (channels, outputs) if swapped else (outputs, channels)
    transformed = xp.empty((XI, groups * rows, depth), weight.dtype)
    _run(
        xp, winograd_filter_cpu, groups * rows * depth, (weight, groups, int(swapped)), transformed,
        sizes=(rows, depth), template=(weight.shape[2],),
    )  # fmt: skip
    return transformed


def _transform_input(xp: Any, input: Array, output: Array, padding: Pair, kernel: int) -> Array:
    """Return V (36, C, tiles) of the tiles that make the outputs."""
    grid = _grid(output, kernel)
    channels, count = input.shape[1], input.shape[0] * grid[0] * grid[1]
    transformed = xp.empty((XI, channels, count), input.dtype)
    _run(
        xp, winograd_input_cpu, channels * count, (input, *padding, *grid), transformed,
        sizes=input.shape,
    )  # fmt: skip
    return transformed


def _multiply(xp: Any, a: Array, b: Array, groups: int, transposed: bool = False) -> Array:
    """Multiply, for each of 36 places and each group, a's rows with b's, transposed or not.

    a is (36, rows, depth) and b (36, depth, columns), or (36, columns, depth) if transposed; each
    axis of rows and b's second one has the groups side by side.
    """
    rows, inner = a.shape[1] // groups, b.shape[1] // groups
    matrices = XI * groups
    a = a.reshape(matrices, rows, a.shape[2])
    b = b.reshape(matrices, inner, b.shape[2])
    columns = b.shape[1] if transposed else b.shape[2]
    c = xp.empty((matrices, rows, columns), a.dtype)
    thread_rows, tiles, wide = 1, 1, 1
    if xp is not np:
        sizes = constants("winograd")
        thread_rows = 2 if rows <= 2 * sizes["SIDE"] else 32 // c.itemsize
        tiles = -(-rows // (sizes["SIDE"] * thread_rows)) * -(-columns // sizes["TILE_COLUMNS"])
        if c.itemsize == 4:
            wide = min(pack_width(matrix, matrix.shape[-1]) for matrix in (a, b, c))
    _run(
        xp, winograd_multiply_cpu, matrices * tiles, (a, b), c,
        sizes=(rows, columns, a.shape[2]), constants=(int(transposed),),
        template=(thread_rows, wide), per_block=1,
    )  # fmt: skip
    return c.reshape(XI, groups * rows, columns)


@jit
def sandwich(matrix, values, half, result):
    """Write matrix @ values @ matrix^T to `result`."""
    rows, inner = matrix.shape
    for i in range(rows):
        for j in range(inner):
            half[i, j] = 0.0
            for k in range(inner):
                half[i, j] += matrix[i, k] * values[k, j]
    for i in range(rows):
        for j in range(rows):
            result[i, j] = 0.0
            for k in range(inner):
                result[i, j] += half[i, k] * matrix[j, k]


@parallel_jit
def winograd_input_cpu(input, padding_h, padding_w, tiles_y, tiles_x, step, transformed):
    batch, channels, height, width = input.shape
    for plane in prange(batch * channels):
        n, c = plane // channels, plane % channels
        d, half, v = np.empty((TILE, TILE)), np.empty((TILE, TILE)), np.empty((TILE, TILE))
        for tile_y in range(tiles_y):
            for tile_x in range(tiles_x):
                for i in range(TILE):
                    for j in range(TILE):
                        y = tile_y * step + i - padding_h
                        x = tile_x * step + j - padding_w
                        inside = 0 <= y < height and 0 <= x < width
                        d[i, j] = input[n, c, y, x] if inside else 0.0
                sandwich(B_T, d, half, v)
                tile = (n * tiles_y + tile_y) * tiles_x + tile_x
                for xi in range(XI):
                    transformed[xi, c, tile] = v[xi // TILE, xi % TILE]


@parallel_jit
def winograd_filter_cpu(weight, groups, swapped, transformed):
    """With `swapped`, row r is an input channel, and the taps are reversed."""
    _, rows, depth = transformed.shape
    group_rows = rows // groups
    kernel = weight.shape[2]
    matrix = G_3 if kernel == 3 else G_5
    for r in prange(rows):
        taps, half = np.empty((kernel, kernel)), np.empty((TILE, kernel))
        u = np.empty((TILE, TILE))
        for k in range(depth):
            for ky in range(kernel):
                for kx in range(kernel):
                    if swapped:
                        o, c = r // group_rows * depth + k, r % group_rows
                        taps[ky, kx] = weight[o, c, kernel - 1 - ky, kernel - 1 - kx]
                    else:
                        taps[ky, kx] = weight[r, k, ky, kx]
            sandwich(matrix, taps, half, u)
            for xi in range(XI):
                transformed[xi, r, k] = u[xi // TILE, xi % TILE]


@parallel_jit
def winograd_multiply_cpu(a, b, b_transposed, c):
    matrices, rows, depth = a.shape
    columns = c.shape[2]
    for row in prange(matrices * rows):
        i, m = row // rows, row % rows
        for n in range(columns):
            c[i, m, n] = 0
        for k in range(depth):
            a_mk = a[i, m, k]
            for n in range(columns):
                c[i, m, n] += a_mk * (b[i, n, k] if b_transposed else b[i, k, n])


@parallel_jit
def winograd_output_cpu(products, bias, tiles_y, tiles_x, step, output):
    batch, out_channels, out_h, out_w = output.shape
    matrix = A_T_4 if step == 4 else A_T_2
    for plane in prange(batch * out_channels):
        n, o = plane // out_channels, plane % out_channels
        m, half, y = np.empty((TILE, TILE)), np.empty((step, TILE)), np.empty((step, step))
        for tile_y in range(tiles_y):
            for tile_x in range(tiles_x):
                tile = (n * tiles_y + tile_y) * tiles_x + tile_x
                for xi in range(XI):
                    m[xi // TILE, xi % TILE] = products[xi, o, tile]
                sandwich(matrix, m, half, y)
                for i in range(min(step, out_h - tile_y * step)):
                    for j in range(min(step, out_w - tile_x * step)):
                        output[n, o, tile_y * step + i, tile_x * step + j] = y[i, j] + bias[o]


@parallel_jit
def winograd_grad_output_cpu(grad_output, tiles_y, tiles_x, step, transformed):
    batch, out_channels, out_h, out_w = grad_output.shape
    matrix = A_4 if step == 4 else A_2
    for plane in prange(batch * out_channels):
        n, o = plane // out_channels, plane % out_channels
        grad, half, m = np.empty((step, step)), np.empty((TILE, step)), np.empty((TILE, TILE))
        for tile_y in range(tiles_y):
            for tile_x in range(tiles_x):
                for i in range(step):
                    for j in range(step):
                        out_y, out_x = tile_y * step + i, tile_x * step + j
                        inside = out_y < out_h and out_x < out_w
                        grad[i, j] = grad_output[n, o, out_y, out_x] if inside else 0.0
                sandwich(matrix, grad, half, m)
                tile = (n * tiles_y + tile_y) * tiles_x + tile_x
                for xi in range(XI):
                    transformed[xi, o, tile] = m[xi // TILE, xi % TILE]


@parallel_jit
def winograd_grad_filter_cpu(products, grad_weight):
    out_channels, group_channels, kernel, _ = grad_weight.shape
    matrix = G_T_3 if kernel == 3 else G_T_5
    for o in prange(out_channels):
        u, half = np.empty((TILE, TILE)), np.empty((kernel, TILE))
        for c in range(group_channels):
            for xi in range(XI):
                u[xi // TILE, xi % TILE] = products[xi, o, c]
            sandwich(matrix, u, half, grad_weight[o, c])
