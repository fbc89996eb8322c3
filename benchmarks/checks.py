"""How far a result may be from what it should be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import WrongResult

TOLERANCE = 1e-4  # of the largest value: what float32 and Winograd's transforms may cost


def compare(
    actual: NDArray[Any], expected: NDArray[Any], tolerance: float = TOLERANCE, what: str = "it"
) -> None:
    """Raise WrongResult where two arrays differ by more than a share of the largest value.

    Raises:
        WrongResult: also for another shape, and for what is not finite.
    """
    if actual.shape != expected.shape:
        raise WrongResult(f"{what} has shape {actual.shape}, expected {expected.shape}")
    worst = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)
    if not worst <= tolerance:
        raise WrongResult(f"{what} is off by {worst:.1e} of the largest value")
