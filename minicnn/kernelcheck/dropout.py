"""Cases of `dropout.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng


def inputs(shape, seed, p):
    return lambda rng, dtype: (np.asarray(rng.standard_normal(shape), dtype), seed, p)


def with_nan(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    return np.full(40, np.nan, dtype), 3, 0.5


def _cases() -> list[Case]:
    found = [
        Case("dropout_forward", f"seed {seed}, p {p}", inputs((3, 5, 7), seed, p), exact=True)
        for seed in (0, 2**63, 2**64 - 1)
        for p in (0.0, 0.1, 0.5, 1.0)
        if not (seed == 0 and p == 1.0)
    ]
    return [
        *found,
        Case("dropout_forward", "a scalar", inputs((), 5, 0.1), exact=True),
        Case("dropout_forward", "nothing", inputs((0,), 5, 0.1), exact=True),
        Case("dropout_forward", "NaN", with_nan, exact=True),
        Case("dropout_forward", "large", inputs((64, 500), 1, 0.5), exact=True, main=True),
    ]


CASES = _cases()
