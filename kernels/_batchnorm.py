"""Batch normalisation of a channel at a time: the faster rungs of `batchnorm.py`, for the CPU.

A channel is read by all its passes while it is in cache, and sums run in registers. Both passes of
the variance become one: deviations are taken from a number near the mean, that of the channel's
first plane, and what this is off by is corrected:

    d = input - near      mean = near + <d>      variance = <d^2> - <d>^2      <> over a channel

Where <d>^2 is not small beside the variance, as for a plane unlike the others, the mean just found
takes the place of `near`. A plane's sums are in the input's dtype, 4 registers of them at once; the
planes are added in float64.

Where planes are single numbers, channels are neighbours in memory: a few of them at a time are
summed side by side, in float64.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._sum import sum_run
from minicnn.kernels._vector import (
    full_vector,
    lane_count,
    load,
    load_masked,
    load_vector,
    store,
    sum_lanes,
    zero_vector,
)

COLUMNS = 128  # channels that are summed side by side where planes are single numbers


@parallel_jit
def normalise_channels(input, weight, bias, eps, mean, variance, output):
    """Compute statistics and output of a batch, in one go."""
    batch, channels, spatial = input.shape
    values = input.reshape(-1)
    result = output.reshape(-1)
    if spatial == 1:
        for block in prange((channels + COLUMNS - 1) // COLUMNS):
            first = block * COLUMNS
            end = min(first + COLUMNS, channels)
            _column_statistics(values, batch, channels, first, end, mean, variance)
            scale = _scales(weight, variance, eps, first, end)
            for n in range(batch):
                _normalise_columns(
                    values, n * channels, first, end, mean, scale, bias, result
                )  # fmt: skip
        return
    for c in prange(channels):
        center, spread = _channel_statistics(values, batch, channels, spatial, c)
        mean[c] = center
        variance[c] = spread
        scale = _scale(weight[c], variance[c], eps)
        for n in range(batch):
            start = (n * channels + c) * spatial
            _normalise_run(values, start, spatial, mean[c], scale, bias[c], result)


@parallel_jit
def normalise_planes(input, mean, variance, weight, bias, eps, output):
    """Compute the output from statistics that are given."""
    batch, channels, spatial = input.shape
    values = input.reshape(-1)
    result = output.reshape(-1)
    scale = _scales(weight, variance, eps, 0, channels)
    if spatial == 1:
        for n in prange(batch):
            _normalise_columns(values, n * channels, 0, channels, mean, scale, bias, result)
        return
    for plane in prange(batch * channels):
        c = plane % channels
        _normalise_run(values, plane * spatial, spatial, mean[c], scale[c], bias[c], result)


@parallel_jit
def gradients_of_channels(
    grad_output, input, mean, variance, weight, eps, grad_weight, grad_bias, grad_input
):
    """Compute both sums and the gradient of the input, in one go."""
    batch, channels, spatial = input.shape
    grads = grad_output.reshape(-1)
    values = input.reshape(-1)
    result = grad_input.reshape(-1)
    share = 1.0 / max(batch * spatial, 1)
    if spatial == 1:
        for block in prange((channels + COLUMNS - 1) // COLUMNS):
            first = block * COLUMNS
            end = min(first + COLUMNS, channels)
            _column_gradients(
                grads, values, batch, channels, first, end, mean, variance, weight, eps, share,
                grad_weight, grad_bias, result,
            )  # fmt: skip
        return
    for c in prange(channels):
        total = 0.0
        product = 0.0
        for n in range(batch):
            start = (n * channels + c) * spatial
            some, product_of_some = _products(grads, values, start, spatial, mean[c])
            total += some
            product += product_of_some
        inverse = np.divide(1.0, np.sqrt(np.float64(variance[c]) + eps))
        grad_bias[c] = total
        grad_weight[c] = product * inverse
        scale = input.dtype.type(weight[c] * inverse)
        level = input.dtype.type(grad_bias[c] * share)
        slope = input.dtype.type(grad_weight[c] * share * inverse)
        center = mean[c]
        for n in range(batch):
            start = (n * channels + c) * spatial
            for i in range(start, start + spatial):
                deviation = load(values, i) - center
                store(result, i, scale * (load(grads, i) - level - slope * deviation))


@jit
def _scale(weight, variance, eps):
    # np.divide, not /: Numba's operator raises where the divisor is 0.
    return np.float64(weight) * np.divide(1.0, np.sqrt(np.float64(variance) + eps))


@jit
def _scales(weight, variance, eps, first, end):
    """Return the factors of channels first ... end - 1; there are none for others."""
    scale = np.empty(end, weight.dtype)
    for c in range(first, end):
        scale[c] = _scale(weight[c], variance[c], eps)
    return scale


@jit
def _normalise_run(values, start, count, mean, scale, bias, result):
    factor = values.dtype.type(scale)
    for i in range(start, start + count):
        store(result, i, (load(values, i) - mean) * factor + bias)


@jit
def _normalise_columns(values, row, first, end, mean, scale, bias, result):
    for c in range(first, end):
        deviation = load(values, row + c) - load(mean, c)
        store(result, row + c, deviation * load(scale, c) + load(bias, c))


@jit
def _channel_statistics(values, batch, channels, spatial, c):
    """Return mean and variance of a channel in float64."""
    count = batch * spatial
    near = values.dtype.type(sum_run(values, c * spatial, spatial) / spatial)
    if not np.isfinite(near):
        near = values.dtype.type(0)
    for _ in range(2):
        total = 0.0
        square = 0.0
        for n in range(batch):
            start = (n * channels + c) * spatial
            some, square_of_some = _deviations(values, start, spatial, near)
            total += some
            square += square_of_some
        off = total / count
        mean = near + off
        variance = square / count - off * off
        if not off * off > variance:
            break
        near = values.dtype.type(mean)
    return mean, max(variance, 0.0) if variance == variance else variance


@jit
def _deviations(values, start, count, near):
    """Return the sums of deviations from `near` and of their squares, over a run."""
    lanes = lane_count(values)
    center = full_vector(values, near)
    a = b = c = d = zero_vector(values)
    aa = bb = cc = dd = zero_vector(values)
    i = start
    while i + 4 * lanes <= start + count:
        w = load_vector(values, i) - center
        x = load_vector(values, i + lanes) - center
        y = load_vector(values, i + 2 * lanes) - center
        z = load_vector(values, i + 3 * lanes) - center
        a, b, c, d = a + w, b + x, c + y, d + z
        aa, bb, cc, dd = w * w + aa, x * x + bb, y * y + cc, z * z + dd
        i += 4 * lanes
    while i < start + count:
        mask = (1 << min(start + count - i, lanes)) - 1
        w = load_masked(values, i, mask, center) - center
        a = a + w
        aa = w * w + aa
        i += lanes
    return sum_lanes((a + b) + (c + d)), sum_lanes((aa + bb) + (cc + dd))


@jit
def _products(grads, values, start, count, center):
    """Return the sums of gradients and of gradients times deviations, over a run."""
    lanes = lane_count(values)
    zero = zero_vector(values)
    middle = full_vector(values, center)
    a = b = c = d = zero
    aa = bb = cc = dd = zero
    i = start
    while i + 4 * lanes <= start + count:
        w = load_vector(grads, i)
        x = load_vector(grads, i + lanes)
        y = load_vector(grads, i + 2 * lanes)
        z = load_vector(grads, i + 3 * lanes)
        a, b, c, d = a + w, b + x, c + y, d + z
        aa = w * (load_vector(values, i) - middle) + aa
        bb = x * (load_vector(values, i + lanes) - middle) + bb
        cc = y * (load_vector(values, i + 2 * lanes) - middle) + cc
        dd = z * (load_vector(values, i + 3 * lanes) - middle) + dd
        i += 4 * lanes
    while i < start + count:
        mask = (1 << min(start + count - i, lanes)) - 1
        w = load_masked(grads, i, mask, zero)
        a = a + w
        aa = w * (load_masked(values, i, mask, middle) - middle) + aa
        i += lanes
    return sum_lanes((a + b) + (c + d)), sum_lanes((aa + bb) + (cc + dd))


@jit
def _column_statistics(values, batch, channels, first, end, mean, variance):
    """Fill mean and variance of channels first ... end - 1 of a matrix (batch, channels)."""
    sums = np.zeros(end - first)
    for n in range(batch):
        row = n * channels + first
        for c in range(end - first):
            store(sums, c, load(sums, c) + load(values, row + c))
    for c in range(end - first):
        store(sums, c, load(sums, c) / batch)
    squares = np.zeros(end - first)
    for n in range(batch):
        row = n * channels + first
        for c in range(end - first):
            deviation = load(values, row + c) - load(sums, c)
            store(squares, c, load(squares, c) + deviation * deviation)
    for c in range(end - first):
        mean[first + c] = sums[c]
        variance[first + c] = squares[c] / batch


@jit
def _column_gradients(
    grads, values, batch, channels, first, end, mean, variance, weight, eps, share,
    grad_weight, grad_bias, result,
):  # fmt: skip
    """Do for channels first ... end - 1 what `gradients_of_channels` does for one."""
    kind = values.dtype.type
    sums = np.zeros(end - first)
    products = np.zeros(end - first)
    for n in range(batch):
        row = n * channels + first
        for c in range(end - first):
            grad = np.float64(load(grads, row + c))
            deviation = load(values, row + c) - np.float64(load(mean, first + c))
            store(sums, c, load(sums, c) + grad)
            store(products, c, load(products, c) + grad * deviation)
    scale = np.empty(end - first, values.dtype)
    level = np.empty(end - first, values.dtype)
    slope = np.empty(end - first, values.dtype)
    for c in range(end - first):
        inverse = np.divide(1.0, np.sqrt(np.float64(variance[first + c]) + eps))
        grad_bias[first + c] = sums[c]
        grad_weight[first + c] = products[c] * inverse
        scale[c] = weight[first + c] * inverse
        level[c] = kind(sums[c]) * share
        slope[c] = grad_weight[first + c] * share * inverse
    for n in range(batch):
        row = n * channels + first
        for c in range(end - first):
            deviation = load(values, row + c) - load(mean, first + c)
            rest = load(grads, row + c) - load(level, c) - load(slope, c) * deviation
            store(result, row + c, load(scale, c) * rest)
