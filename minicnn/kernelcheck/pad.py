"""Cases of `pad.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case

# shape, widths (before, after) of every dimension
BORDERS: dict[str, Any] = {
    "a row": ((5,), [(3, 1)]),
    "a plane": ((3, 4), [(2, 1), (0, 3)]),
    "planes": ((2, 3, 4, 5), [(0, 0), (0, 0), (1, 3), (4, 2)]),
    "every dimension": ((2, 3, 4, 5), [(1, 1), (2, 0), (0, 2), (3, 0)]),
    "none": ((2, 3), [(0, 0), (0, 0)]),
    "two pixels": ((1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)]),
    "no plane": ((0, 3, 4), [(0, 0), (1, 1), (1, 1)]),
    "main": ((4, 8, 28, 28), [(0, 0), (0, 0), (1, 1), (1, 1)]),
}


def forward(shape, *rest):
    return lambda rng, dtype: (np.asarray(rng.standard_normal(shape), dtype), *rest)


def backward(shape, widths):
    padded = [n + sum(around) for n, around in zip(shape, widths, strict=True)]
    return forward(padded, widths)


def _cases() -> list[Case]:
    found = []
    for label, (shape, widths) in BORDERS.items():
        main = label == "main"
        made = forward(shape, widths, 0.25)
        found.append(Case("pad_constant", label, made, exact=True, main=main))
        for mode in ("reflect", "replicate"):
            found += [
                Case(f"pad_{mode}_forward", label, forward(shape, widths), exact=True, main=main),
                Case(f"pad_{mode}_backward", label, backward(shape, widths), exact=True, main=main),
            ]
    wide = ((2, 1, 3), [(0, 0), (4, 0), (2, 7)])
    return [
        *found,
        Case("pad_constant", "of NaN", forward((2, 3), [(1, 0), (0, 1)], np.nan), exact=True),
        Case("pad_replicate_forward", "wider than the image", forward(*wide), exact=True),
        Case("pad_replicate_backward", "wider than the image", backward(*wide), exact=True),
    ]


CASES = _cases()
