"""Cases of `concatenate.cu`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case
from minicnn.kernels.concatenate import concatenate_reference

# shapes, and the dimension along which they are joined
PARTS: dict[str, Any] = {
    "channels": ([(2, 3, 4, 5), (2, 1, 4, 5), (2, 6, 4, 5)], 1),
    "rows": ([(3, 4), (1, 4)], 0),
    "columns": ([(3, 1), (3, 7)], 1),
    "one": ([(2, 3)], 1),
    "with an empty one": ([(2, 3), (2, 0), (2, 2)], 1),
    "nothing": ([(0, 3), (0, 2)], 1),
    "main": ([(4, 16, 14, 14), (4, 32, 14, 14)], 1),
}


def arrays(shapes):
    return lambda rng, dtype: [np.asarray(rng.standard_normal(s), dtype) for s in shapes]


CASES = [
    Case(
        "concatenate",
        label,
        arrays(shapes),
        options={"dim": dim, "algorithm": "plain"},
        reference=partial(concatenate_reference, dim=dim),
        exact=True,
        main=label == "main",
    )
    for label, (shapes, dim) in PARTS.items()
]
