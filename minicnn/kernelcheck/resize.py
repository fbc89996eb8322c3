"""Cases of `resize.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case

# shape (N, C, height, width), output size, scale factor
SIZES: dict[str, tuple[Any, Any, Any]] = {
    "larger": ((2, 3, 5, 7), (9, 16), None),
    "twice": ((1, 2, 6, 5), (12, 10), (2.0, 2.0)),
    "smaller": ((2, 3, 9, 11), (4, 3), None),
    "one axis each way": ((1, 3, 4, 13), (11, 5), None),
    "same": ((1, 2, 4, 5), (4, 5), None),
    "by a factor": ((1, 2, 7, 9), (9, 11), (1.3, 1.3)),
    "by a small factor": ((1, 2, 9, 10), (5, 7), (0.6, 0.7)),
    "same by a factor": ((1, 2, 3, 4), (3, 4), (1.1, 1.2)),
    "to one pixel": ((1, 2, 4, 5), (1, 1), None),
    "from one pixel": ((2, 1, 1, 1), (3, 4), None),
    "no image": ((0, 2, 3, 3), (5, 5), None),
    "main": ((4, 8, 28, 28), (56, 56), None),
}
TOLERANCE: Any = {"rtol": (1e-5, 1e-13), "atol": (1e-5, 1e-13)}


def forward(shape: Any, size: Any, factor: Any, rule: bool) -> Any:
    return lambda rng, dtype: (np.asarray(rng.standard_normal(shape), dtype), size, factor, rule)


def backward(shape: Any, size: Any, factor: Any, rule: bool) -> Any:
    return lambda rng, dtype: (
        np.asarray(rng.standard_normal((*shape[:2], *size)), dtype), shape[2:], factor, rule,
    )  # fmt: skip


def _cases() -> list[Case]:
    found = []
    for label, sizes in SIZES.items():
        for rule, name in ((False, label), (True, f"{label}, exact")):
            main = name == "main"
            there, back = forward(*sizes, rule), backward(*sizes, rule)
            found += [
                Case("resize_nearest_forward", name, there, exact=True, main=main),
                Case("resize_nearest_backward", name, back, exact=True, main=main),
            ]
        for rule, name in ((False, label), (True, f"{label}, corners")):
            main = name == "main"
            there, back = forward(*sizes, rule), backward(*sizes, rule)
            found += [
                Case("resize_bilinear_forward", name, there, main=main, **TOLERANCE),
                Case("resize_bilinear_backward", name, back, main=main, **TOLERANCE),
            ]
    return found


CASES = _cases()
