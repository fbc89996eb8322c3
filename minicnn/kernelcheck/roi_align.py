"""Cases of `roi_align.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng
from minicnn.kernelcheck.roi_pool import EDGES, random_regions

# output size, spatial scale, sampling ratio, aligned
RULES: dict[str, Any] = {
    "2 samples": ((3, 2), 1.0, 2, False),
    "2 samples aligned": ((3, 2), 1.0, 2, True),
    "3 samples": ((2, 5), 0.7, 3, False),
    "as many samples as pixels": ((2, 3), 1.0, -1, False),
    "as many samples as pixels, aligned": ((2, 3), 0.6, -1, True),
    "one sample in one bin": ((1, 1), 0.5, 1, False),
}
# Whole coordinates, the border itself, where samples still count, and beyond it, where they do not.
BORDERS = [[0, -1, -1, -1, -1], [1, 12, 9, 12, 9], [0, 11, 8, 11, 8], [1, -1.5, -1.5, 0.5, 0.5],
           [0, 12.5, 3, 13.5, 4], [0, 0, 0, 0, 0]]  # fmt: skip
TOLERANCE: Any = {"rtol": (1e-5, 1e-13), "atol": (1e-5, 1e-13)}


def forward(shape, rois, *rule):
    return lambda rng, dtype: (
        np.asarray(rng.standard_normal(shape), dtype), np.array(rois, dtype), *rule,
    )  # fmt: skip


def backward(shape, rois, output_size, *rule):
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        grad_output = np.asarray(rng.standard_normal((len(rois), shape[1], *output_size)), dtype)
        return grad_output, np.array(rois, dtype), *rule, (shape[0], *shape[2:])

    return arguments


def both(label: str, *arguments: Any, main: bool = False) -> list[Case]:
    return [
        Case("roi_align_forward", label, forward(*arguments), main=main, **TOLERANCE),
        Case("roi_align_backward", label, backward(*arguments), main=main, **TOLERANCE),
    ]


def _cases() -> list[Case]:
    shape, found = (2, 3, 9, 12), []
    for label, rule in RULES.items():
        found += both(label, shape, EDGES, *rule)
    rois = random_regions(np.random.default_rng(0), 12, 2, 400)
    return [
        *found,
        *both("on the border", shape, BORDERS, (1, 2), 1.0, 2, True),
        *both("no region", shape, np.zeros((0, 5)), (2, 2), 1.0, 2, False),
        *both(
            "one pixel", (1, 1, 1, 1), [[0, 0, 0, 0, 0], [0, -1, -1, 3, 3]], 2 * (2,), 1.0, 2, True
        ),
        *both("7x7", (2, 8, 19, 26), rois, (7, 7), 1 / 16, 2, False, main=True),
    ]


CASES = _cases()
