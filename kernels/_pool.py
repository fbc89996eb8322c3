"""Pooling by vectors: the faster rungs of `pool.py`, for the CPU.

Maximum: lane l is window l of a row of windows. With a stride of 1 one load fetches a tap of all of
them; with a stride of 2 two loads do, and even and odd lanes are two taps. What lies beside the
image is not loaded. Each row of a window is searched from left to right, then its rows are
compared; where the largest lies goes along in a second register. A later one must be larger, so
that the first one stays: maxima and places are those of the plain rung to the bit.

Average: the rows of a window are added first, pixel by pixel, whatever the stride; then neighbours
in that one row. A window that is a whole plane is one run of memory.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels._jit import inline_jit, jit, parallel_jit, prange
from minicnn.kernels._sum import sum_run
from minicnn.kernels._vector import (
    exceeds,
    full_vector,
    greater,
    lane_count,
    lane_numbers,
    load,
    load_masked,
    maximum,
    select,
    split_pairs,
    store,
    store_masked,
    unordered,
    zero_vector,
)


@parallel_jit
def max_pool_rows(input, rows, columns, steps, stride_h, padding_h, padding_w, output, argmax):
    """Pool windows of len(rows) x len(columns), every len(steps) = 1 or 2 pixels of a row.

    A tuple's length is part of its type, so that the loops over a window are unrolled.
    """
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    pixels = input.reshape(-1)
    maxima = output.reshape(-1)
    places = argmax.reshape(-1)
    lanes = lane_count(input)
    masks = _masks(out_w, len(columns), len(steps), padding_w, width, lanes)
    for plane in prange(batch * channels):
        start = plane * height * width
        for out_y in range(out_h):
            y = out_y * stride_h - padding_h
            out = (plane * out_h + out_y) * out_w
            mask = 0
            for out_x in range(0, out_w, lanes):
                x = out_x * len(steps) - padding_w
                best, place, doubtful = _maxima(
                    pixels, start, height, width, rows, columns, steps, y, x, masks, mask, False
                )
                if doubtful:
                    best, place, doubtful = _maxima(
                        pixels, start, height, width, rows, columns, steps, y, x, masks, mask, True
                    )
                there = load(masks, mask + 2 * len(columns))
                store_masked(maxima, out + out_x, there, best)
                store_masked(places, out + out_x, there, place)
                mask += 2 * len(columns) + 1


@inline_jit
def _maxima(
    pixels, start, height, width, rows, columns, steps, y, x, masks, mask, careful
):  # fmt: skip
    """Return the maxima of neighbouring windows, their places in the plane, and where NaN may be.

    The first window begins at (y, x). Only if `careful` are the results right where there is NaN:
    comparing as NaN wants it takes two instructions, and the second waits for the first.
    """
    lanes = lane_count(pixels)
    lowest = full_vector(pixels, -np.inf)
    numbers = lane_numbers(pixels) * len(steps)
    # What is beside the image counts as minus infinity, to which a window's first pixel must not
    # lose; above and below the image its outer rows are read again, to which none loses.
    first = maximum(numbers + x, numbers * 0)
    best = even = odd = lowest
    place = first
    total = zero_vector(pixels)  # NaN where a pixel is, or where infinities meet
    for ky in range(len(rows)):
        row = min(max(y + ky, 0), height - 1) * width
        largest = lowest
        where = first + row
        for kx in range(len(columns)):
            if len(steps) == 1 or kx % 2 == 0:
                tap = start + row + x + kx
                even = load_masked(pixels, tap, load(masks, mask + 2 * kx), lowest)
                if len(steps) == 2:
                    right = load(masks, mask + 2 * kx + 1)
                    even, odd = split_pairs(even, load_masked(pixels, tap + lanes, right, lowest))
            value = even if len(steps) == 1 or kx % 2 == 0 else odd
            total = total + value
            if kx == 0:
                largest = value
            else:
                better = exceeds(value, largest) if careful else greater(value, largest)
                largest = select(better, value, largest)
                where = select(better, numbers + (row + x + kx), where)
        if ky == 0:
            best = largest
            place = where
        else:
            better = exceeds(largest, best) if careful else greater(largest, best)
            best = select(better, largest, best)
            place = select(better, where, place)
    return best, place, unordered(total, total)


@jit
def _masks(out_w, columns, steps, padding, width, lanes):
    """Return for each vector of windows: two masks for each column to load, one to store."""
    masks = np.empty(((out_w + lanes - 1) // lanes, 2 * columns + 1), np.int64)
    for v in range(len(masks)):
        x = v * lanes * steps - padding
        for kx in range(columns):
            masks[v, 2 * kx] = _inside(x + kx, width, lanes)
            masks[v, 2 * kx + 1] = _inside(x + kx + lanes, width, lanes)
        masks[v, 2 * columns] = _inside(v * lanes, out_w, lanes)
    return masks.reshape(-1)


@jit
def _inside(x, width, lanes):
    """Return the mask of the lanes l for which 0 <= x + l < width."""
    low = min(max(-x, 0), lanes)
    high = min(max(width - x, low), lanes)
    return (1 << high) - (1 << low)


@parallel_jit
def avg_pool_rows(
    input, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w, count_include_pad, output
):  # fmt: skip
    """Add the rows of a row of windows into one, then neighbours in it; padding stays 0."""
    batch, channels, height, width = input.shape
    out_h, out_w = output.shape[2:]
    pixels = input.reshape(-1)
    means = output.reshape(-1)
    counts_h = np.empty(out_h, input.dtype)
    counts_w = np.empty(out_w, input.dtype)
    _count(counts_h, kernel_h, stride_h, padding_h, height, count_include_pad)
    _count(counts_w, kernel_w, stride_w, padding_w, width, count_include_pad)
    for plane in prange(batch * channels):
        sums = np.zeros(padding_w + width + kernel_w + stride_w, input.dtype)
        for out_y in range(out_h):
            y = out_y * stride_h - padding_h
            top = max(y, 0)
            for row in range(plane * height + top, plane * height + min(y + kernel_h, height)):
                if row == plane * height + top:
                    for x in range(width):
                        store(sums, padding_w + x, load(pixels, row * width + x))
                else:
                    for x in range(width):
                        total = load(sums, padding_w + x) + load(pixels, row * width + x)
                        store(sums, padding_w + x, total)
            out = (plane * out_h + out_y) * out_w
            for out_x in range(out_w):
                total = load(sums, out_x * stride_w)
                for kx in range(1, kernel_w):
                    total += load(sums, out_x * stride_w + kx)
                count = load(counts_h, out_y) * load(counts_w, out_x)
                store(means, out + out_x, np.divide(total, count))


@parallel_jit
def avg_pool_rows_backward(
    grad_output, kernel_h, kernel_w, stride_h, stride_w, padding_h, padding_w,
    count_include_pad, grad_input,
):  # fmt: skip
    """Add the shares of a row of windows into one row of pixels, and that to all it stands for."""
    batch, channels, out_h, out_w = grad_output.shape
    height, width = grad_input.shape[2:]
    grads = grad_output.reshape(-1)
    result = grad_input.reshape(-1)
    counts_h = np.empty(out_h, grad_output.dtype)
    counts_w = np.empty(out_w, grad_output.dtype)
    _count(counts_h, kernel_h, stride_h, padding_h, height, count_include_pad)
    _count(counts_w, kernel_w, stride_w, padding_w, width, count_include_pad)
    for plane in prange(batch * channels):
        sums = np.empty(padding_w + width + kernel_w + stride_w, grad_output.dtype)
        for pixel in range(plane * height * width, (plane + 1) * height * width):
            store(result, pixel, 0)
        for out_y in range(out_h):
            for x in range(sums.size):
                store(sums, x, 0)
            out = (plane * out_h + out_y) * out_w
            for out_x in range(out_w):
                count = load(counts_h, out_y) * load(counts_w, out_x)
                share = np.divide(load(grads, out + out_x), count)
                for x in range(out_x * stride_w, out_x * stride_w + kernel_w):
                    store(sums, x, load(sums, x) + share)
            y = out_y * stride_h - padding_h
            for row in range(max(y, 0), min(y + kernel_h, height)):
                first = (plane * height + row) * width
                for x in range(width):
                    store(result, first + x, load(result, first + x) + load(sums, padding_w + x))


@jit
def _count(counts, kernel, stride, padding, size, count_include_pad):
    """Fill `counts`: by how much each window's width adds to the divisor of its mean."""
    for out in range(counts.size):
        start = out * stride - padding
        end = min(start + kernel, size + padding)
        counts[out] = end - start if count_include_pad else min(end, size) - max(start, 0)


@parallel_jit
def average_planes(input, output):
    """Set output[p] to the mean of all numbers of row p of a matrix."""
    planes, size = input.shape
    numbers = input.reshape(-1)
    for plane in prange(planes):
        output[plane] = sum_run(numbers, plane * size, size) / input.dtype.type(size)


@parallel_jit
def average_planes_backward(grad_output, grad_input):
    """Fill row p of a matrix with its share of grad_output[p]."""
    planes, size = grad_input.shape
    numbers = grad_input.reshape(-1)
    for plane in prange(planes):
        share = grad_output[plane] / grad_input.dtype.type(size)
        for i in range(plane * size, (plane + 1) * size):
            store(numbers, i, share)
