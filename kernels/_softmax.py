"""Softmax by vectors: the faster rungs of `softmax.py`, for the CPU.

Lanes are neighbours in memory. Where the axis `dim` is the last they are classes of a row, whose
maximum and sum are those of the lanes; elsewhere they are rows side by side, BLOCK of them at a
time, which are copied together once and stay in cache. Sums are in the input's dtype, 16 at once or
one a row. `logarithm` makes it log-softmax.
"""

from __future__ import annotations

import math

import numpy as np

from minicnn.kernels._exp import exp_vector
from minicnn.kernels._jit import inline_jit, parallel_jit, prange
from minicnn.kernels._sum import dot_run, sum_run
from minicnn.kernels._vector import (
    full_vector,
    lane_count,
    largest_lane,
    load,
    load_masked,
    load_vector,
    maximum,
    store,
    store_masked,
    store_vector,
    sum_lanes,
    zero_vector,
)

BLOCK = 256  # rows that are taken together where they are neighbours


@inline_jit
def _mask(left, lanes):
    """Return the mask of the first `left` lanes, or of all."""
    return (1 << min(left, lanes)) - 1


@parallel_jit
def softmax_of_runs(input, logarithm, output):
    """Compute rows that are runs of memory: arrays are (rows, classes)."""
    rows, classes = input.shape
    values = input.reshape(-1)
    result = output.reshape(-1)
    lanes = lane_count(input)
    for row in prange(rows):
        start = row * classes
        end = start + classes
        lowest = full_vector(input, -np.inf)
        largest = lowest
        for i in range(start, end, lanes):
            largest = maximum(load_masked(values, i, _mask(end - i, lanes), lowest), largest)
        shift = full_vector(input, largest_lane(largest))
        total = zero_vector(input)
        for i in range(start, end, lanes):
            mask = _mask(end - i, lanes)
            power = exp_vector(load_masked(values, i, mask, lowest) - shift)
            total = total + power
            if not logarithm:
                store_masked(result, i, mask, power)
        whole = sum_lanes(total)
        if logarithm:
            log_whole = full_vector(input, math.log(whole))
            for i in range(start, end, lanes):
                mask = _mask(end - i, lanes)
                value = load_masked(values, i, mask, lowest) - shift - log_whole
                store_masked(result, i, mask, value)
        else:
            inverse = full_vector(input, 1.0 / whole)
            for i in range(start, end, lanes):
                mask = _mask(end - i, lanes)
                store_masked(result, i, mask, load_masked(result, i, mask, lowest) * inverse)


@parallel_jit
def softmax_of_runs_backward(grad_output, output, logarithm, grad_input):
    """Compute the gradient where rows are runs of memory."""
    rows, classes = output.shape
    grads = grad_output.reshape(-1)
    values = output.reshape(-1)
    result = grad_input.reshape(-1)
    lanes = lane_count(output)
    for row in prange(rows):
        start = row * classes
        end = start + classes
        zero = zero_vector(output)
        if logarithm:
            total = sum_run(grads, start, classes)
        else:
            total = dot_run(grads, values, start, classes)
        whole = full_vector(output, total)
        i = start
        while i + lanes <= end:
            grad, value = load_vector(grads, i), load_vector(values, i)
            store_vector(result, i, _gradient(grad, value, whole, logarithm))
            i += lanes
        mask = _mask(end - i, lanes)
        grad, value = load_masked(grads, i, mask, zero), load_masked(values, i, mask, zero)
        store_masked(result, i, mask, _gradient(grad, value, whole, logarithm))


@inline_jit
def _gradient(grad, value, whole, logarithm):
    return grad - exp_vector(value) * whole if logarithm else value * (grad - whole)


@parallel_jit
def softmax_of_columns(input, logarithm, output):
    """Compute rows that lie side by side: arrays are (outer, classes, inner)."""
    outer, classes, inner = input.shape
    values = input.reshape(-1)
    result = output.reshape(-1)
    lanes = lane_count(input)
    blocks = (inner + BLOCK - 1) // BLOCK
    for task in prange(outer * blocks):
        first = task % blocks * BLOCK
        start = task // blocks * classes * inner + first
        columns = min(inner - first, BLOCK)
        copied = np.empty(classes * BLOCK, input.dtype)
        shift = np.full(BLOCK, -np.inf, input.dtype)
        total = np.zeros(BLOCK, input.dtype)
        for i in range(classes):
            for x in range(0, columns, lanes):
                mask = _mask(columns - x, lanes)
                value = load_masked(values, start + i * inner + x, mask, zero_vector(input))
                store_vector(copied, i * BLOCK + x, value)
                store_vector(shift, x, maximum(value, load_vector(shift, x)))
        for i in range(classes):
            for x in range(0, columns, lanes):
                value = load_vector(copied, i * BLOCK + x) - load_vector(shift, x)
                power = exp_vector(value)
                store_vector(copied, i * BLOCK + x, value if logarithm else power)
                store_vector(total, x, load_vector(total, x) + power)
        for x in range(columns):
            whole = load(total, x)
            store(total, x, math.log(whole) if logarithm else 1.0 / whole)
        for i in range(classes):
            for x in range(0, columns, lanes):
                value = load_vector(copied, i * BLOCK + x)
                whole = load_vector(total, x)
                store_masked(
                    result, start + i * inner + x, _mask(columns - x, lanes),
                    value - whole if logarithm else value * whole,
                )  # fmt: skip


@parallel_jit
def softmax_of_columns_backward(grad_output, output, logarithm, grad_input):
    """Compute the gradient where rows lie side by side."""
    outer, classes, inner = output.shape
    grads = grad_output.reshape(-1)
    values = output.reshape(-1)
    result = grad_input.reshape(-1)
    lanes = lane_count(output)
    blocks = (inner + BLOCK - 1) // BLOCK
    for task in prange(outer * blocks):
        first = task % blocks * BLOCK
        start = task // blocks * classes * inner + first
        columns = min(inner - first, BLOCK)
        total = np.zeros(BLOCK, output.dtype)
        zero = zero_vector(output)
        for i in range(classes):
            for x in range(0, columns, lanes):
                mask = _mask(columns - x, lanes)
                place = start + i * inner + x
                part = load_masked(grads, place, mask, zero)
                if not logarithm:
                    part = part * load_masked(values, place, mask, zero)
                store_vector(total, x, load_vector(total, x) + part)
        for i in range(classes):
            for x in range(0, columns, lanes):
                mask = _mask(columns - x, lanes)
                place = start + i * inner + x
                grad = load_masked(grads, place, mask, zero)
                value = load_masked(values, place, mask, zero)
                gradient = _gradient(grad, value, load_vector(total, x), logarithm)
                store_masked(result, place, mask, gradient)
