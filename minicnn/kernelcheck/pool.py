"""Cases of `pool.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernels import pool

Pair = tuple[int, int]

# shape (N, C, height, width), kernel size, stride, padding, dilation, ceil mode
MAX_WINDOWS: dict[str, Any] = {
    "2x2": ((2, 3, 9, 13), (2, 2), (2, 2), (0, 0), (1, 1), False),
    "3x3 stride 2": ((2, 3, 11, 16), (3, 3), (2, 2), (0, 0), (1, 1), False),
    "2x2 ceil": ((1, 2, 7, 5), (2, 2), (2, 2), (0, 0), (1, 1), True),
    "3x3 padded": ((2, 2, 6, 9), (3, 3), (2, 2), (1, 1), (1, 1), False),
    "overlapping": ((1, 3, 7, 6), (3, 2), (1, 1), (1, 0), (1, 1), True),
    "with gaps": ((1, 2, 8, 10), (2, 3), (3, 4), (1, 0), (1, 1), True),
    "dilated": ((1, 2, 9, 8), (3, 2), (1, 2), (1, 1), (2, 3), False),
    "dilated over the border": ((1, 1, 1, 3), (2, 1), (1, 1), (1, 0), (2, 1), False),
    "one pixel": ((2, 1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1), False),
    "no plane": ((0, 3, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), False),
}
# shape, kernel size, stride, padding, ceil mode
AVG_WINDOWS: dict[str, Any] = {
    "2x2": ((2, 3, 9, 13), (2, 2), (2, 2), (0, 0), False),
    "3x3 padded": ((2, 2, 6, 9), (3, 3), (2, 2), (1, 1), False),
    "overlapping": ((1, 3, 7, 6), (3, 2), (1, 1), (1, 0), True),
    "with gaps": ((1, 2, 8, 10), (2, 3), (3, 4), (1, 0), True),
    "over the padding": ((2, 1, 5, 6), (3, 3), (2, 2), (1, 1), True),
}
MAIN = (8, 16, 24, 40)  # planes of several blocks


def few_values(rng: Rng, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return integers from a small range: windows hold their maximum more than once."""
    return rng.integers(-9, -4, shape).astype(dtype)


def with_nan(rng: Rng, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return values of which many are NaN, infinite or equal."""
    return rng.choice(np.array([np.nan, np.inf, -np.inf, -np.inf, 1, 2], dtype), shape)


def max_forward(values, shape, *window):
    return lambda rng, dtype: (values(rng, shape, dtype), *window)


def max_backward(shape, *window):
    """Return an argument maker with an argmax that the forward pass has found."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        _, argmax = pool.max_pool2d_forward(few_values(rng, shape, dtype), *window)
        grad_output = np.asarray(rng.standard_normal(argmax.shape), dtype)
        return grad_output, argmax, *shape[2:], window[:4]

    return arguments


def bins(shape, output_size):
    """Return an argument maker with an argmax anywhere in each bin of adaptive pooling."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        argmax = np.empty((*shape[:2], *output_size), np.int32)
        height, width = shape[2:]
        for place in np.ndindex(*argmax.shape):
            y, x = (
                rng.integers(out * size // parts, -((out + 1) * size // -parts))
                for out, size, parts in zip(place[2:], shape[2:], output_size, strict=True)
            )
            argmax[place] = y * width + x
        grad_output = np.asarray(rng.standard_normal(argmax.shape), dtype)
        return grad_output, argmax, height, width, None

    return arguments


def gather(shape, *window):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        input = rng.standard_normal(shape).astype(dtype)
        return input, pool.max_pool2d_forward(input, *window)[1]

    return arguments


def avg_forward(shape, *window):
    return lambda rng, dtype: (rng.standard_normal(shape).astype(dtype), *window)


def avg_backward(shape, *window):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        output = pool.avg_pool2d_forward(np.zeros(shape, dtype), *window)
        return np.asarray(rng.standard_normal(output.shape), dtype), *shape[2:], *window

    return arguments


def _cases() -> list[Case]:
    found = []
    for label, window in MAX_WINDOWS.items():
        found += [
            Case("max_pool2d_forward", label, max_forward(few_values, *window), exact=True),
            Case("max_pool2d_backward", label, max_backward(*window), exact=True),
            Case("max_pool2d_gather", label, gather(*window), exact=True),
        ]
    for label in ("2x2", "3x3 stride 2", "3x3 padded", "dilated"):
        maker = max_forward(with_nan, *MAX_WINDOWS[label])
        found.append(Case("max_pool2d_forward", f"{label}, NaN and infinities", maker, exact=True))
    for label, shape, output_size in [
        ("bins that overlap", (2, 3, 13, 10), (6, 6)),
        ("more bins than pixels", (1, 2, 3, 2), (5, 3)),
        ("one bin", (1, 2, 5, 7), (1, 1)),
    ]:
        found.append(Case("max_pool2d_backward", label, bins(shape, output_size), exact=True))
    for label, window in AVG_WINDOWS.items():
        for pad in (True, False):
            name = f"{label}, padding {'counts' if pad else 'left out'}"
            found += [
                Case("avg_pool2d_forward", name, avg_forward(*window, pad)),
                Case("avg_pool2d_backward", name, avg_backward(*window, pad)),
            ]
    return found + _main_cases()


def _main_cases() -> list[Case]:
    size, step, border = (3, 3), (2, 2), (0, 0)
    plain, average = (size, step, (1, 1), (1, 1), False), ((2, 2), step, border, False, True)
    fast = (size, step, border, (1, 1), False)
    options: Any = {"exact": True, "main": True}
    return [
        Case("max_pool2d_forward", "large", max_forward(few_values, MAIN, *plain), **options),
        Case("max_pool2d_forward", "large, v2", max_forward(few_values, MAIN, *fast), **options),
        Case("max_pool2d_backward", "large", max_backward(MAIN, *fast), **options),
        Case("max_pool2d_backward", "large, bins", bins(MAIN, (7, 7)), **options),
        Case("max_pool2d_gather", "large", gather(MAIN, *fast), **options),
        Case("avg_pool2d_forward", "large", avg_forward(MAIN, *average), main=True),
        Case("avg_pool2d_backward", "large", avg_backward(MAIN, *average), main=True),
    ]


CASES = _cases()
