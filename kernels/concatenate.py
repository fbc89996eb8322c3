"""Join arrays along a dimension.

    output[o, offset + r] = input[o, r]

Each input is read as (outer, run): `outer` joins the dimensions before the one along which arrays
are joined, `run` that one and all after it, a piece of consecutive memory. `offset` is where the
runs of the input begin in those of the output: the sum of the runs of the inputs before it. The
gradient of each input is a slice and needs no kernel.

One iteration copies a run. Bytes moved: every input is read once and the output written.

Rungs of the CPU's, slow to fast:
    plain    the loop over runs
    memcpy   NumPy's own, which hands each run to the C library: for four inputs of 200 KB
             23 microseconds in place of 71. Memory sets the pace, so that threads gain nothing.

Source: Szegedy et al., "Going deeper with convolutions", 2015, section 4 (branches joined by
channels); Huang et al., "Densely connected convolutional networks", 2017, section 3.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous, empty
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray


def concatenate_reference(*arrays: Array, dim: int) -> Array:
    """Define the joined array by a plain loop, in float64."""
    shape = list(arrays[0].shape)
    shape[dim] = sum(a.shape[dim] for a in arrays)
    output = np.zeros(shape)
    for place in np.ndindex(*shape):
        index = list(place)
        for array in arrays:
            if index[dim] < array.shape[dim]:
                output[place] = array[tuple(index)]
                break
            index[dim] -= array.shape[dim]
    return output


def concatenate(*arrays: Array, dim: int, algorithm: str = "memcpy") -> Array:
    """Return arrays of one dtype, float32 or float64, joined along dimension `dim`.

    `algorithm` is a rung of the CPU's, "plain" or "memcpy".
    """
    xp = array_module("concatenate", arrays[0])
    if algorithm not in ("plain", "memcpy"):
        raise ValueError(f"algorithm: got {algorithm!r}, expected 'plain' or 'memcpy'")
    if xp is np and algorithm == "memcpy":
        return np.concatenate(arrays, dim)
    lead, length = arrays[0].shape[:dim], sum(a.shape[dim] for a in arrays)
    shape = (*lead, length, *arrays[0].shape[dim + 1 :])
    output = empty(xp, shape, arrays[0].dtype)
    outer, inner = math.prod(lead), math.prod(shape[dim + 1 :])
    offset = 0
    for array in arrays:
        run = array.shape[dim] * inner
        if xp is np:
            runs = contiguous(array).reshape(outer, run)
            concatenate_cpu(runs, offset, output.reshape(outer, length * inner))
        else:
            launch(
                "concatenate", "concatenate_cuda", array.size,
                contiguous(array), run, offset, length * inner, output,
            )  # fmt: skip
        offset += run
    return output


@parallel_jit
def concatenate_cpu(input, offset, output):
    outer, run = input.shape
    for o in prange(outer):
        output[o, offset : offset + run] = input[o]
