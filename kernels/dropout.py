"""Dropout: a random part of the elements becomes zero, the rest grows to keep the expected sum.

    output[i] = input[i] * (1 / (1 - p) if uniform(seed, i) >= p else 0)       i counts in C order

    uniform(seed, i) = (hash(seed, i) >> 11) / 2^53                            in [0, 1)
    hash(seed, i):   z = seed + (i + 1) * 0x9E3779B97F4A7C15                   all modulo 2^64
                     z = (z xor z >> 30) * 0xBF58476D1CE4E5B9
                     z = (z xor z >> 27) * 0x94D049BB133111EB
                     hash = z xor z >> 31

The random number of an element is a hash of its index, not the next one of a stream: iterations are
independent, so that they vectorise and results depend neither on the number of threads nor on the
dtype. hash(seed, i) is output i of the generator SplitMix64 started at `seed`.

The operator is linear and its matrix diagonal, so the gradient is `dropout_forward` of grad_output
with the same seed and p: no mask is kept, and the same holds for every further derivative.

Bytes moved: one read and one write; 9 integer operations an element.

Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
2014, sections 4 and 10 (scaled in training, not in testing); Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014 (the hash); Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", 2011, section 2 (numbers from counters).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import jit, parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray

# NumPy's uint64 throughout: mixed with a Python integer, Numba would shift a signed number.
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, made odd
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
BITS_11, BITS_27, BITS_30, BITS_31 = (np.uint64(bits) for bits in (11, 27, 30, 31))


def dropout_forward_reference(input: Array, seed: int, p: float) -> Array:
    """Define dropout by a plain loop, in float64 and Python's own integers."""
    output = np.zeros(input.shape)
    for i, index in enumerate(np.ndindex(*input.shape)):
        z = (seed + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        uniform = ((z ^ z >> 31) >> 11) / 2**53
        output[index] = float(input[index]) * (1 / (1 - p) if uniform >= p else 0)
    return output


def dropout_forward(input: Array, seed: int, p: float) -> Array:
    """Zero each element with probability p and divide the rest by 1 - p; `seed` is a uint64."""
    xp = array_module("dropout_forward", input)
    # uniform >= p, multiplied by 2^53: both sides are integers, and nothing is rounded.
    threshold = np.uint64(math.ceil(p * 2**53))
    scale = input.dtype.type(1 / (1 - p) if p < 1 else 0)
    output = empty(xp, input.shape, input.dtype)
    flat = contiguous(input).reshape(-1)
    arguments = flat, np.uint64(seed), threshold, scale, output.reshape(-1)
    if xp is np:
        dropout_forward_cpu(*arguments)
    else:
        launch("dropout", "dropout_forward_cuda", output.size, *arguments)
    return output


@parallel_jit
def dropout_forward_cpu(input, seed, threshold, scale, output):
    zero = input.dtype.type(0)
    for i in prange(input.size):
        kept = _hash(seed, np.uint64(i)) >> BITS_11 >= threshold
        output[i] = input[i] * (scale if kept else zero)


@jit
def _hash(seed, i):
    z = seed + (i + np.uint64(1)) * GOLDEN_GAMMA
    z = (z ^ (z >> BITS_30)) * MIX_1
    z = (z ^ (z >> BITS_27)) * MIX_2
    return z ^ (z >> BITS_31)
