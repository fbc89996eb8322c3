"""Local response normalisation by vectors, for beta = 3/4: faster rungs of `lrn.py`, on the CPU.

One iteration takes STRIP neighbouring pixels through all channels; lanes are pixels. Windows are
summed in registers, from channels that are still in cache. With r = 1 / sqrt(scale) one division
and two roots make everything:

    scale^-3/4 = r sqrt(r)        1 / scale = r^2

Backward keeps a strip's quotients grad_output * output / scale, which windows sum, and its products
grad_output * scale^-3/4.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._vector import (
    full_vector,
    lane_count,
    load_masked,
    load_vector,
    square_root,
    store_masked,
    store_vector,
    zero_vector,
)

STRIP = 256  # pixels: 16 registers of float32


@parallel_jit
def lrn_forward_vectors(input, size, alpha, k, output, scale):
    batch, channels, spatial = input.shape
    values = input.reshape(-1)
    results = output.reshape(-1)
    bases = scale.reshape(-1)
    lanes = lane_count(input)
    strips = (spatial + STRIP - 1) // STRIP
    for task in prange(batch * strips):
        image = task // strips * channels * spatial
        start = task % strips * STRIP
        end = min(start + STRIP, spatial)
        zero = zero_vector(input)
        one = full_vector(input, 1.0)
        for c in range(channels):
            first = max(c - size // 2, 0)
            last = min(c + (size - 1) // 2, channels - 1)
            for x in range(start, end, lanes):
                mask = (1 << min(end - x, lanes)) - 1
                energy = zero
                for j in range(first, last + 1):
                    value = load_masked(values, image + j * spatial + x, mask, zero)
                    energy = value * value + energy
                base = energy * alpha + k
                inverse = one / square_root(base)
                place = image + c * spatial + x
                value = load_masked(values, place, mask, zero)
                store_masked(bases, place, mask, base)
                store_masked(results, place, mask, value * (inverse * square_root(inverse)))


@parallel_jit
def lrn_backward_vectors(grad_output, input, output, scale, size, alpha, grad_input):
    batch, channels, spatial = input.shape
    grads = grad_output.reshape(-1)
    values = input.reshape(-1)
    results = output.reshape(-1)
    bases = scale.reshape(-1)
    gradients = grad_input.reshape(-1)
    lanes = lane_count(input)
    strips = (spatial + STRIP - 1) // STRIP
    factor = alpha * input.dtype.type(1.5)
    for task in prange(batch * strips):
        image = task // strips * channels * spatial
        start = task % strips * STRIP
        end = min(start + STRIP, spatial)
        zero = zero_vector(input)
        one = full_vector(input, 1.0)
        quotients = np.empty(channels * STRIP, input.dtype)
        products = np.empty(channels * STRIP, input.dtype)
        for c in range(channels):
            for x in range(start, end, lanes):
                mask = (1 << min(end - x, lanes)) - 1
                place = image + c * spatial + x
                grad = load_masked(grads, place, mask, zero)
                inverse = one / square_root(load_masked(bases, place, mask, one))
                result = load_masked(results, place, mask, zero)
                kept = c * STRIP + x - start
                store_vector(quotients, kept, grad * result * (inverse * inverse))
                store_vector(products, kept, grad * (inverse * square_root(inverse)))
        for c in range(channels):
            first = max(c - (size - 1) // 2, 0)
            last = min(c + size // 2, channels - 1)
            for x in range(start, end, lanes):
                mask = (1 << min(end - x, lanes)) - 1
                total = zero
                for j in range(first, last + 1):
                    total = total + load_vector(quotients, j * STRIP + x - start)
                place = image + c * spatial + x
                value = load_masked(values, place, mask, zero)
                product = load_vector(products, c * STRIP + x - start)
                store_masked(gradients, place, mask, product - factor * value * total)
