"""Batch normalisation: every channel brought to mean 0 and variance 1, scaled and shifted.

    statistics  mean[c]     = sum over n, x of input[n, c, x] / count
                variance[c] = sum over n, x of (input[n, c, x] - mean[c])^2 / count
    forward     xhat[n, c, x]   = (input[n, c, x] - mean[c]) / sqrt(variance[c] + eps)
                output[n, c, x] = xhat[n, c, x] * weight[c] + bias[c]

    sums        grad_weight[c] = sum over n, x of grad_output[n, c, x] * xhat[n, c, x]
                grad_bias[c]   = sum over n, x of grad_output[n, c, x]
    backward    grad_input[n, c, x] = weight[c] / sqrt(variance[c] + eps) * (grad_output[n, c, x]
                    - grad_bias[c] / count - xhat[n, c, x] * grad_weight[c] / count)

`backward` is the gradient where the statistics are the batch's own and move with the input: what is
left of grad_output has neither a mean nor a part along xhat, so grad_input is exact even where
those parts are large. Where the statistics are constants (inference), the gradient of the input is
`forward` of grad_output with mean and bias 0. The variance is the biased one; PyTorch's running
variance is this one times count / (count - 1).

Arrays of any number of dimensions are read as (N, C, spatial): `n` the example, `c` the channel,
`x` the pixel, count = N * spatial. One iteration computes one channel of statistics and sums, one
plane (n, c) of the rest.

The variance takes a second pass over the deviations from the mean: the textbook's shortcut,
mean(x^2) - mean(x)^2, cancels where the mean is large beside the spread. On the CPU sums run in
float64, over LANES numbers at once: a single running sum waits for every addition and took 6 times
as long on 64 images of 32 x 28 x 28.

Bytes moved: statistics two reads, forward one read and one write, sums two reads, backward two
reads and one write. Two to five flops an element: bound by memory.

On the CPU `batch_norm_train` and `batch_norm_gradients` do all of a channel while it is in cache,
with vectors (`_batchnorm.py`): forward one read and one write, backward two reads and one write,
as far as main memory sees. The plain rungs, an operation at a time, are below.

Rungs of the sums on the GPU, slow to fast; forward and backward are elementwise:
    plain   a thread walks a channel alone
    block   a block walks it together, neighbouring threads on neighbouring pixels; sums meet in
            warps, then in the block. Statistics are read once: means and squares are merged.

Source: Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing
internal covariate shift", 2015, algorithm 1 and section 3; Welford, "Note on a method for
calculating corrected sums of squares and products", 1962; Chan, Golub and LeVeque, "Updating
formulae and a pairwise algorithm for computing sample variances", 1979 (the merging).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._batchnorm import (
    gradients_of_channels,
    normalise_channels,
    normalise_planes,
)
from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import constants, launch

Array = NDArray

LANES = 64  # sums under way at once; a power of two, several vector registers


def batch_norm_statistics_reference(input: Array) -> tuple[Array, Array]:
    """Define mean and biased variance by plain loops, in float64."""
    mean, variance = np.zeros(input.shape[1]), np.zeros(input.shape[1])
    for c in range(input.shape[1]):
        values = [float(value) for value in input[:, c].flat]
        mean[c] = sum(values) / len(values)
        variance[c] = sum((value - mean[c]) ** 2 for value in values) / len(values)
    return mean, variance


def batch_norm_forward_reference(
    input: Array, mean: Array, variance: Array, weight: Array, bias: Array, eps: float
) -> Array:
    """Define the normalisation by plain loops, in float64."""
    output = np.zeros(input.shape)
    for index in np.ndindex(*input.shape):
        c = index[1]
        deviation = float(input[index]) - float(mean[c])
        output[index] = deviation / math.sqrt(variance[c] + eps) * weight[c] + bias[c]
    return output


def batch_norm_sums_reference(
    grad_output: Array, input: Array, mean: Array, variance: Array, eps: float
) -> tuple[Array, Array]:
    """Define the gradients of weight and bias by plain loops, in float64."""
    grad_weight, grad_bias = np.zeros(input.shape[1]), np.zeros(input.shape[1])
    for index in np.ndindex(*input.shape):
        c = index[1]
        deviation = float(input[index]) - float(mean[c])
        grad_weight[c] += float(grad_output[index]) * deviation / math.sqrt(variance[c] + eps)
        grad_bias[c] += float(grad_output[index])
    return grad_weight, grad_bias


def batch_norm_backward_reference(
    grad_output: Array,
    input: Array,
    mean: Array,
    variance: Array,
    weight: Array,
    grad_weight: Array,
    grad_bias: Array,
    eps: float,
) -> Array:
    """Define the gradient by plain loops, in float64, from the Jacobian of each channel.

    Mean, variance and both sums are computed afresh: what is passed for them is not looked at.
    """
    grad_input = np.zeros(input.shape)
    for c in range(input.shape[1]):
        values = input[:, c].astype(np.float64).ravel()
        grads = grad_output[:, c].astype(np.float64).ravel()
        deviation = math.sqrt(values.var() + eps)
        xhat = (values - values.mean()) / deviation
        result = np.zeros(values.size)
        for i, j in np.ndindex(values.size, values.size):
            slope = ((i == j) - (1 + xhat[i] * xhat[j]) / values.size) / deviation
            result[i] += grads[j] * float(weight[c]) * slope
        grad_input[:, c] = result.reshape(input[:, c].shape)
    return grad_input


def batch_norm_statistics(input: Array, *, algorithm: str = "block") -> tuple[Array, Array]:
    """Return mean and biased variance (C) of each channel of (N, C, *); 0 where there is no value.

    `algorithm` is a rung of the GPU's, "plain" or "block".
    """
    xp = array_module("batch_norm_statistics", input)
    mean, variance = (xp.zeros(input.shape[1], input.dtype) for _ in range(2))
    if input.size == 0:
        return mean, variance
    values = _planes(input)
    if xp is np:
        batch_norm_statistics_cpu(values, mean, variance)
    else:
        arguments = values, *values.shape, mean, variance
        _launch_sums("batch_norm_statistics", algorithm, mean.size, *arguments)
    return mean, variance


def batch_norm_forward(
    input: Array, mean: Array, variance: Array, weight: Array, bias: Array, eps: float
) -> Array:
    """Return (N, C, *) normalised by the statistics (C), times weight (C), plus bias (C)."""
    xp = array_module("batch_norm_forward", input)
    output = empty(xp, input.shape, input.dtype)
    values = _planes(input)
    channel = [contiguous(array) for array in (mean, variance, weight, bias)]
    if xp is np and input.dtype == np.float64:
        batch_norm_forward_cpu(values, *channel, float(eps), output.reshape(values.shape))
    elif xp is np:
        normalise_planes(values, *channel, float(eps), output.reshape(values.shape))
    else:
        sizes = values.shape[1:]
        name = "batch_norm_forward_cuda"
        launch("batchnorm", name, output.size, values, *channel, eps, *sizes, output)
    return output


def batch_norm_train(
    input: Array, weight: Array, bias: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Return (N, C, *) normalised by its own statistics, and these: mean and variance (C)."""
    if array_module("batch_norm_train", input) is not np or input.size == 0:
        mean, variance = batch_norm_statistics(input)
        return batch_norm_forward(input, mean, variance, weight, bias, eps), mean, variance
    values = _planes(input)
    output = empty(np, input.shape, input.dtype)
    mean, variance = (np.empty(input.shape[1], input.dtype) for _ in range(2))
    channel = contiguous(weight), contiguous(bias)
    normalise_channels(values, *channel, float(eps), mean, variance, output.reshape(values.shape))
    return output, mean, variance


def batch_norm_gradients(
    grad_output: Array, input: Array, mean: Array, variance: Array, weight: Array, eps: float
) -> tuple[Array, Array, Array]:
    """Return the gradients of input, weight and bias of `batch_norm_train`."""
    if array_module("batch_norm_gradients", grad_output) is not np:
        sums = batch_norm_sums(grad_output, input, mean, variance, eps)
        backward = batch_norm_backward(grad_output, input, mean, variance, weight, *sums, eps)
        return backward, *sums
    grads, values = _planes(grad_output), _planes(input)
    channel = [contiguous(array) for array in (mean, variance, weight)]
    grad_input = empty(np, input.shape, input.dtype)
    grad_weight, grad_bias = (np.empty(input.shape[1], input.dtype) for _ in range(2))
    results = grad_weight, grad_bias, grad_input.reshape(values.shape)
    gradients_of_channels(grads, values, *channel, float(eps), *results)
    return grad_input, grad_weight, grad_bias


def batch_norm_sums(
    grad_output: Array,
    input: Array,
    mean: Array,
    variance: Array,
    eps: float,
    *,
    algorithm: str = "block",
) -> tuple[Array, Array]:
    """Return the gradients (C) of weight and bias; `algorithm` as in `batch_norm_statistics`."""
    xp = array_module("batch_norm_sums", grad_output)
    grad_weight, grad_bias = (empty(xp, input.shape[1], input.dtype) for _ in range(2))
    arrays = _planes(grad_output), _planes(input), contiguous(mean), contiguous(variance)
    if xp is np:
        batch_norm_sums_cpu(*arrays, float(eps), grad_weight, grad_bias)
    else:
        arguments = *arrays, eps, *arrays[1].shape, grad_weight, grad_bias
        _launch_sums("batch_norm_sums", algorithm, grad_bias.size, *arguments)
    return grad_weight, grad_bias


def batch_norm_backward(
    grad_output: Array,
    input: Array,
    mean: Array,
    variance: Array,
    weight: Array,
    grad_weight: Array,
    grad_bias: Array,
    eps: float,
) -> Array:
    """Return the gradient of the input whose own statistics `mean` and `variance` are.

    `grad_weight` and `grad_bias` are the results of `batch_norm_sums`.
    """
    xp = array_module("batch_norm_backward", grad_output)
    grad_input = empty(xp, input.shape, input.dtype)
    grads, values = _planes(grad_output), _planes(input)
    sums = (mean, variance, weight, grad_weight, grad_bias)
    channel = [contiguous(array) for array in sums]
    if xp is np:
        result = grad_input.reshape(values.shape)
        batch_norm_backward_cpu(grads, values, *channel, float(eps), result)
    else:
        name, sizes = "batch_norm_backward_cuda", values.shape
        launch("batchnorm", name, values.size, grads, values, *channel, eps, *sizes, grad_input)
    return grad_input


def _planes(array: Array) -> Array:
    """Return (N, C, *) as (N, C, spatial), without a copy where it lies so."""
    batch, channels = array.shape[:2]
    return contiguous(array).reshape(batch, channels, math.prod(array.shape[2:]))


def _launch_sums(op: str, algorithm: str, channels: int, *arguments: Any) -> None:
    """Run a rung of an op that sums over each channel."""
    if algorithm == "plain":
        launch("batchnorm", f"{op}_cuda", channels, *arguments)
    elif algorithm == "block":
        block = constants("batchnorm")["BLOCK"]
        name = f"{op}_block_cuda"
        launch("batchnorm", name, channels, *arguments, block=block, per_block=1)
    else:
        raise ValueError(f"algorithm: got {algorithm!r}, expected 'plain' or 'block'")


@parallel_jit
def batch_norm_statistics_cpu(input, mean, variance):
    batch, channels, spatial = input.shape
    for c in prange(channels):
        sums = np.zeros(LANES)
        for n in range(batch):
            _add(input[n, c], sums)
        center = sums.sum() / (batch * spatial)
        sums[:] = 0.0
        for n in range(batch):
            _add_squares(input[n, c], center, sums)
        mean[c] = center
        variance[c] = sums.sum() / (batch * spatial)


@parallel_jit
def batch_norm_forward_cpu(input, mean, variance, weight, bias, eps, output):
    batch, channels, spatial = input.shape
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        scale = input.dtype.type(weight[c] * _inverse_deviation(variance[c], eps))
        for x in range(spatial):
            output[n, c, x] = (input[n, c, x] - mean[c]) * scale + bias[c]


@parallel_jit
def batch_norm_sums_cpu(grad_output, input, mean, variance, eps, grad_weight, grad_bias):
    batch, channels, _ = input.shape
    for c in prange(channels):
        sums = np.zeros(LANES)
        products = np.zeros(LANES)
        for n in range(batch):
            _add_products(grad_output[n, c], input[n, c], np.float64(mean[c]), sums, products)
        grad_bias[c] = sums.sum()
        grad_weight[c] = products.sum() * _inverse_deviation(variance[c], eps)


@parallel_jit
def batch_norm_backward_cpu(
    grad_output, input, mean, variance, weight, grad_weight, grad_bias, eps, grad_input
):
    batch, channels, spatial = input.shape
    share = 1.0 / max(batch * spatial, 1)
    for plane in prange(batch * channels):
        n = plane // channels
        c = plane % channels
        inverse = _inverse_deviation(variance[c], eps)
        scale = input.dtype.type(weight[c] * inverse)
        level = input.dtype.type(grad_bias[c] * share)
        slope = input.dtype.type(grad_weight[c] * share * inverse)
        for x in range(spatial):
            deviation = input[n, c, x] - mean[c]
            grad_input[n, c, x] = scale * (grad_output[n, c, x] - level - slope * deviation)


@jit
def _inverse_deviation(variance, eps):
    # np.divide, not /: Numba's operator raises where the divisor is 0.
    return np.divide(1.0, np.sqrt(np.float64(variance) + eps))


@jit
def _add(row, sums):
    """Add element i to sum i % LANES: independent sums, which LLVM lays side by side."""
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for lane in range(part.size):
            sums[lane] += part[lane]


@jit
def _add_squares(row, center, sums):
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        for lane in range(part.size):
            deviation = part[lane] - center
            sums[lane] += deviation * deviation


@jit
def _add_products(grads, row, center, sums, products):
    for start in range(0, row.size, LANES):
        part = row[start : start + LANES]
        grad = grads[start : start + LANES]
        for lane in range(part.size):
            sums[lane] += grad[lane]
            products[lane] += grad[lane] * (part[lane] - center)
