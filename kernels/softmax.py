"""Softmax and log-softmax along one axis, and the way back.

    softmax      output[i] = e^(input[i] - m) / sum_j e^(input[j] - m)
    log-softmax  output[i] = input[i] - m - log(sum_j e^(input[j] - m))
        m = max_j input[j]: it cancels out, and keeps every exponent at or below zero

    softmax      grad_input[i] = output[i] * (grad_output[i] - sum_j grad_output[j] * output[j])
    log-softmax  grad_input[i] = grad_output[i] - e^output[i] * sum_j grad_output[j]

Arrays are read as (outer, classes, inner): `i` and `j` run over `classes`, the axis `dim`, and one
iteration computes one such row. Neighbouring iterations read neighbouring memory whatever the axis.

A row with NaN or plus infinity, and a row of nothing but minus infinities, is NaN throughout, as in
PyTorch. Sums of the plain rung run in float64.

Bytes moved: one read and one write forward, two reads and one write backward; a row stays in cache.
The exponential takes nearly all the time.

Rungs of the CPU, slow to fast:
    plain    a call into the C library for each exponential
    vectors  (float32) exponentials of a register at a time (`_softmax.py`, `_exp.py`): 128 rows of
             1000 take 62 microseconds, not 540

Source: Goodfellow, Bengio and Courville, "Deep Learning", 2016, section 4.1 (the shift by m).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch
from minicnn.kernels._softmax import (
    softmax_of_columns,
    softmax_of_columns_backward,
    softmax_of_runs,
    softmax_of_runs_backward,
)

Array = NDArray

WARP_BLOCK = 128  # threads in a block where a warp computes a row


def softmax_forward_reference(input: Array, dim: int) -> Array:
    """Define softmax by plain loops, in float64."""
    rows = np.moveaxis(input.astype(np.float64), dim, -1)
    output = np.zeros(rows.shape)
    for row in np.ndindex(*rows.shape[:-1]):
        largest = max(rows[row])
        powers = [math.exp(value - largest) for value in rows[row]]
        output[row] = [power / sum(powers) for power in powers]
    return np.moveaxis(output, -1, dim)


def softmax_backward_reference(grad_output: Array, output: Array, dim: int) -> Array:
    """Define softmax's gradient by plain loops, in float64, from its Jacobian."""
    grads = np.moveaxis(grad_output.astype(np.float64), dim, -1)
    rows = np.moveaxis(output.astype(np.float64), dim, -1)
    grad_input = np.zeros(rows.shape)
    for row in np.ndindex(*rows.shape[:-1]):
        for i, j in np.ndindex(rows.shape[-1], rows.shape[-1]):
            slope = rows[row][j] * ((i == j) - rows[row][i])
            grad_input[row][i] += grads[row][j] * slope
    return np.moveaxis(grad_input, -1, dim)


def log_softmax_forward_reference(input: Array, dim: int) -> Array:
    """Define log-softmax by plain loops, in float64."""
    rows = np.moveaxis(input.astype(np.float64), dim, -1)
    output = np.zeros(rows.shape)
    for row in np.ndindex(*rows.shape[:-1]):
        largest = max(rows[row])
        total = math.log(sum(math.exp(value - largest) for value in rows[row]))
        output[row] = [value - largest - total for value in rows[row]]
    return np.moveaxis(output, -1, dim)


def log_softmax_backward_reference(grad_output: Array, output: Array, dim: int) -> Array:
    """Define log-softmax's gradient by plain loops, in float64, from its Jacobian."""
    grads = np.moveaxis(grad_output.astype(np.float64), dim, -1)
    rows = np.moveaxis(output.astype(np.float64), dim, -1)
    grad_input = np.zeros(rows.shape)
    for row in np.ndindex(*rows.shape[:-1]):
        for i, j in np.ndindex(rows.shape[-1], rows.shape[-1]):
            slope = (i == j) - math.exp(rows[row][i])
            grad_input[row][i] += grads[row][j] * slope
    return np.moveaxis(grad_input, -1, dim)


def softmax_forward(input: Array, dim: int) -> Array:
    """Return numbers in [0, 1] that sum to 1 along `dim`."""
    xp = array_module("softmax_forward", input)
    output = empty(xp, input.shape, input.dtype)
    arrays = _rows(input, dim), _rows(output, dim)
    if xp is np and input.dtype == np.float32:
        _run_vectors(softmax_of_runs, softmax_of_columns, *arrays, logarithm=False)
    elif xp is np:
        softmax_forward_cpu(*arrays)
    else:
        _launch_rows("softmax_forward", *arrays)
    return output


def softmax_backward(grad_output: Array, output: Array, dim: int) -> Array:
    """Return softmax's gradient, from its output."""
    xp = array_module("softmax_backward", grad_output)
    grad_input = empty(xp, output.shape, output.dtype)
    arrays = _rows(grad_output, dim), _rows(output, dim), _rows(grad_input, dim)
    if xp is np and output.dtype == np.float32:
        _run_vectors(
            softmax_of_runs_backward, softmax_of_columns_backward, *arrays, logarithm=False
        )
    elif xp is np:
        softmax_backward_cpu(*arrays)
    else:
        _launch_rows("softmax_backward", *arrays)
    return grad_input


def log_softmax_forward(input: Array, dim: int) -> Array:
    """Return the logarithm of softmax, exact where softmax itself rounds to 0 or 1."""
    xp = array_module("log_softmax_forward", input)
    output = empty(xp, input.shape, input.dtype)
    arrays = _rows(input, dim), _rows(output, dim)
    if xp is np and input.dtype == np.float32:
        _run_vectors(softmax_of_runs, softmax_of_columns, *arrays, logarithm=True)
    elif xp is np:
        log_softmax_forward_cpu(*arrays)
    else:
        _launch_rows("log_softmax_forward", *arrays)
    return output


def log_softmax_backward(grad_output: Array, output: Array, dim: int) -> Array:
    """Return log-softmax's gradient, from its output."""
    xp = array_module("log_softmax_backward", grad_output)
    grad_input = empty(xp, output.shape, output.dtype)
    arrays = _rows(grad_output, dim), _rows(output, dim), _rows(grad_input, dim)
    if xp is np and output.dtype == np.float32:
        _run_vectors(softmax_of_runs_backward, softmax_of_columns_backward, *arrays, logarithm=True)
    elif xp is np:
        log_softmax_backward_cpu(*arrays)
    else:
        _launch_rows("log_softmax_backward", *arrays)
    return grad_input


def _rows(array: Array, dim: int) -> Array:
    """Return the array as (outer, classes, inner), without a copy where it lies so.

    A number is one class.
    """
    shape = array.shape or (1,)
    dim %= len(shape)
    outer, inner = math.prod(shape[:dim]), math.prod(shape[dim + 1 :])
    return contiguous(array).reshape(outer, shape[dim], inner)


def _run_vectors(runs: Any, columns: Any, *arrays: Array, logarithm: bool) -> None:
    """Run a rung "vectors" on arrays (outer, classes, inner), by the place of the classes."""
    *inputs, output = arrays
    outer, classes, inner = output.shape
    if inner == 1:
        inputs, output = [a.reshape(outer, classes) for a in inputs], output.reshape(outer, classes)
        runs(*inputs, logarithm, output)
    else:
        columns(*inputs, logarithm, output)


def _launch_rows(op: str, *arrays: Array) -> None:
    """Run a CUDA kernel on arrays (outer, classes, inner), a warp a row if rows lie in one piece.

    Blocks are small because rows are often few: 128 of them still busy 32 multiprocessors.
    """
    *inputs, output = arrays
    outer, classes, inner = output.shape
    if inner == 1:
        block, per_block = WARP_BLOCK, WARP_BLOCK // 32
        arguments = *inputs, classes, output
        launch("softmax", f"{op}_warp_cuda", outer, *arguments, block=block, per_block=per_block)
    else:
        launch("softmax", f"{op}_cuda", outer * inner, *inputs, classes, inner, output)


@parallel_jit
def softmax_forward_cpu(input, output):
    outer, classes, inner = input.shape
    for row in prange(outer * inner):
        o = row // inner
        x = row % inner
        largest = input.dtype.type(-np.inf)
        for i in range(classes):
            largest = max(largest, input[o, i, x])
        total = 0.0
        for i in range(classes):
            power = math.exp(input[o, i, x] - largest)
            output[o, i, x] = power
            total += power
        for i in range(classes):
            output[o, i, x] /= total


@parallel_jit
def softmax_backward_cpu(grad_output, output, grad_input):
    outer, classes, inner = output.shape
    for row in prange(outer * inner):
        o = row // inner
        x = row % inner
        total = 0.0
        for i in range(classes):
            total += grad_output[o, i, x] * output[o, i, x]
        for i in range(classes):
            grad_input[o, i, x] = output[o, i, x] * (grad_output[o, i, x] - total)


@parallel_jit
def log_softmax_forward_cpu(input, output):
    outer, classes, inner = input.shape
    for row in prange(outer * inner):
        o = row // inner
        x = row % inner
        largest = input.dtype.type(-np.inf)
        for i in range(classes):
            largest = max(largest, input[o, i, x])
        total = 0.0
        for i in range(classes):
            total += math.exp(input[o, i, x] - largest)
        total = math.log(total)
        for i in range(classes):
            output[o, i, x] = np.float64(input[o, i, x]) - largest - total


@parallel_jit
def log_softmax_backward_cpu(grad_output, output, grad_input):
    outer, classes, inner = output.shape
    for row in prange(outer * inner):
        o = row // inner
        x = row % inner
        total = 0.0
        for i in range(classes):
            total += grad_output[o, i, x]
        for i in range(classes):
            grad_input[o, i, x] = grad_output[o, i, x] - math.exp(output[o, i, x]) * total
