"""Pad arrays: a border of one value, of mirrored values, or of the nearest ones, and the way back.

    output[plane, out_y, out_x] = input[plane, source(out_y), source(out_x)]        y = out_y - top

    constant    `value` where y or x lies outside of the input
    reflect     source = -y for y < 0, 2 (height - 1) - y for y >= height: the edge is not repeated
    replicate   source = y cut to [0, height - 1]

    backward    grad_input[plane, y, x] = sum of grad_output over the outputs with source (y, x)

The gradient of a constant border is a slice and needs no kernel. The others are sums of copies:
backward is their adjoint, and they are the adjoint of backward.

An array of any number of dimensions is read as (planes, height, width), `planes` joining all
dimensions but the last two, which are padded together. Each dimension before them that has a
border too takes one more pass, as the rows of planes that join what comes after it.

Forward, one iteration owns a row of the output; backward one owns a plane and scatters within it,
so no order of threads can change a bit.

Bytes moved: the input is read once and the output written; no flop but the sums of backward.

Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012,
pads with zeros; Gatys et al., "Image style transfer using convolutional neural networks", 2016, and
those after it mirror the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray
Widths = Sequence[tuple[int, int]]  # (before, after) of every dimension


def pad_constant_reference(input: Array, widths: Widths, value: float) -> Array:
    """Define the constant border by a plain loop, in float64."""
    output = np.zeros(_padded(input.shape, widths))
    for place in np.ndindex(*output.shape):
        inner = tuple(i - before for i, (before, _) in zip(place, widths, strict=True))
        inside = all(0 <= i < n for i, n in zip(inner, input.shape, strict=True))
        output[place] = input[inner] if inside else value
    return output


def pad_reflect_forward_reference(input: Array, widths: Widths) -> Array:
    """Define the mirrored border by a plain loop, in float64."""
    return _read_reference(input, widths, _mirrored)


def pad_reflect_backward_reference(grad_output: Array, widths: Widths) -> Array:
    """Define its gradient by a plain loop, in float64: each output gives to its source."""
    return _give_reference(grad_output, widths, _mirrored)


def pad_replicate_forward_reference(input: Array, widths: Widths) -> Array:
    """Define the repeated border by a plain loop, in float64."""
    return _read_reference(input, widths, _nearest)


def pad_replicate_backward_reference(grad_output: Array, widths: Widths) -> Array:
    """Define its gradient by a plain loop, in float64: each output gives to its source."""
    return _give_reference(grad_output, widths, _nearest)


def _mirrored(i: int, size: int) -> int:
    there_and_back = [*range(size), *range(size - 2, 0, -1)]
    return there_and_back[i % len(there_and_back)]


def _nearest(i: int, size: int) -> int:
    return min(range(size), key=lambda pixel: abs(pixel - i))


def _read_reference(input: Array, widths: Widths, source: Callable[[int, int], int]) -> Array:
    output = np.zeros(_padded(input.shape, widths))
    for place in np.ndindex(*output.shape):
        axes = zip(place, widths, input.shape, strict=True)
        output[place] = input[tuple(source(i - before, n) for i, (before, _), n in axes)]
    return output


def _give_reference(grad_output: Array, widths: Widths, source: Callable[[int, int], int]) -> Array:
    grad_input = np.zeros(_cut(grad_output.shape, widths))
    for place in np.ndindex(*grad_output.shape):
        axes = zip(place, widths, grad_input.shape, strict=True)
        inner = tuple(source(i - before, n) for i, (before, _), n in axes)
        grad_input[inner] += grad_output[place]
    return grad_input


def pad_constant(input: Array, widths: Widths, value: float) -> Array:
    """Return the array with a border of `value`."""
    number = input.dtype.type(value)
    return _forward("pad_constant", pad_constant_cpu, input, widths, number)


def pad_reflect_forward(input: Array, widths: Widths) -> Array:
    """Return the array with a mirrored border, everywhere narrower than the array."""
    return _forward("pad_reflect_forward", pad_reflect_forward_cpu, input, widths)


def pad_reflect_backward(grad_output: Array, widths: Widths) -> Array:
    """Return the gradient of `pad_reflect_forward` with these widths."""
    return _backward("pad_reflect_backward", pad_reflect_backward_cpu, grad_output, widths)


def pad_replicate_forward(input: Array, widths: Widths) -> Array:
    """Return the array with a border of its outermost values."""
    return _forward("pad_replicate_forward", pad_replicate_forward_cpu, input, widths)


def pad_replicate_backward(grad_output: Array, widths: Widths) -> Array:
    """Return the gradient of `pad_replicate_forward` with these widths."""
    return _backward("pad_replicate_backward", pad_replicate_backward_cpu, grad_output, widths)


@dataclass(frozen=True)
class _Pass:
    """Padding of the rows and columns of planes: their shapes, and what comes before."""

    inner: tuple[int, int, int]
    outer: tuple[int, int, int]
    top: int
    left: int


def _passes(shape: tuple[int, ...], widths: Widths) -> list[_Pass]:
    """Return the passes that pad an array of `shape`, the last two dimensions' first."""
    if len(shape) == 1:
        shape, widths = (1, *shape), [(0, 0), *widths]
    lengths, passes = list(shape), []
    for dim in (len(shape) - 2, *range(len(shape) - 3, -1, -1)):
        # Rows are dimension `dim`; columns the last one in the first pass, then all that follow.
        left, right = widths[-1] if dim == len(shape) - 2 else (0, 0)
        top, bottom = widths[dim]
        inner = math.prod(lengths[:dim]), lengths[dim], math.prod(lengths[dim + 1 :])
        outer = inner[0], inner[1] + top + bottom, inner[2] + left + right
        if inner != outer:
            passes.append(_Pass(inner, outer, top, left))
        lengths[dim] = outer[1]
        if dim == len(shape) - 2:
            lengths[-1] = outer[2]
    return passes


def _forward(op: str, kernel: Callable, input: Array, widths: Widths, *value: float) -> Array:
    xp = array_module(op, input)
    array = contiguous(input)
    for step in _passes(input.shape, widths) if input.ndim else []:
        source, output = array.reshape(step.inner), empty(xp, step.outer, input.dtype)
        if xp is np:
            kernel(source, step.top, step.left, *value, output)
        else:
            sizes, room = step.inner[1:], step.outer[1:]
            launch(
                "pad", f"{op}_cuda", output.size,
                source, *sizes, step.top, step.left, *value, *room, output,
            )  # fmt: skip
        array = output
    return array.reshape(_padded(input.shape, widths)) if array is not input else input.copy()


def _backward(op: str, kernel: Callable, grad_output: Array, widths: Widths) -> Array:
    xp = array_module(op, grad_output)
    array = contiguous(grad_output)
    shape = _cut(grad_output.shape, widths)
    for step in reversed(_passes(shape, widths) if shape else []):
        source, grad_input = array.reshape(step.outer), empty(xp, step.inner, grad_output.dtype)
        if xp is np:
            kernel(source, step.top, step.left, grad_input)
        else:
            room, sizes = step.outer[1:], step.inner[1:]
            launch(
                "pad", f"{op}_cuda", grad_input.size,
                source, *room, step.top, step.left, *sizes, grad_input,
            )  # fmt: skip
        array = grad_input
    return array.reshape(shape) if array is not grad_output else grad_output.copy()


def _padded(shape: tuple[int, ...], widths: Widths) -> tuple[int, ...]:
    return tuple(n + before + after for n, (before, after) in zip(shape, widths, strict=True))


def _cut(shape: tuple[int, ...], widths: Widths) -> tuple[int, ...]:
    return tuple(n - before - after for n, (before, after) in zip(shape, widths, strict=True))


@parallel_jit
def pad_constant_cpu(input, top, left, value, output):
    planes, height, width = input.shape
    out_h, out_w = output.shape[1:]
    for row in prange(planes * out_h):
        plane = row // out_h
        y = row % out_h - top
        line = output[plane, row % out_h]
        if y < 0 or y >= height:
            line[:] = value
        else:
            line[:left] = value
            line[left : left + width] = input[plane, y]
            line[left + width :] = value


@parallel_jit
def pad_reflect_forward_cpu(input, top, left, output):
    planes, height, width = input.shape
    out_h, out_w = output.shape[1:]
    for row in prange(planes * out_h):
        y = abs(row % out_h - top)
        y = min(y, 2 * (height - 1) - y)
        source = input[row // out_h, y]
        line = output[row // out_h, row % out_h]
        for x in range(left):
            line[x] = source[left - x]
        line[left : left + width] = source
        for x in range(out_w - left - width):
            line[left + width + x] = source[width - 2 - x]


@parallel_jit
def pad_reflect_backward_cpu(grad_output, top, left, grad_input):
    """Scatter within a plane."""
    planes, out_h, out_w = grad_output.shape
    height, width = grad_input.shape[1:]
    for plane in prange(planes):
        grad_input[plane] = 0
        for out_y in range(out_h):
            y = abs(out_y - top)
            y = min(y, 2 * (height - 1) - y)
            for out_x in range(out_w):
                x = abs(out_x - left)
                x = min(x, 2 * (width - 1) - x)
                grad_input[plane, y, x] += grad_output[plane, out_y, out_x]


@parallel_jit
def pad_replicate_forward_cpu(input, top, left, output):
    planes, height, width = input.shape
    out_h, out_w = output.shape[1:]
    for row in prange(planes * out_h):
        source = input[row // out_h, min(max(row % out_h - top, 0), height - 1)]
        line = output[row // out_h, row % out_h]
        line[:left] = source[0]
        line[left : left + width] = source
        line[left + width :] = source[width - 1]


@parallel_jit
def pad_replicate_backward_cpu(grad_output, top, left, grad_input):
    """Scatter within a plane."""
    planes, out_h, out_w = grad_output.shape
    height, width = grad_input.shape[1:]
    for plane in prange(planes):
        grad_input[plane] = 0
        for out_y in range(out_h):
            y = min(max(out_y - top, 0), height - 1)
            for out_x in range(out_w):
                x = min(max(out_x - left, 0), width - 1)
                grad_input[plane, y, x] += grad_output[plane, out_y, out_x]
