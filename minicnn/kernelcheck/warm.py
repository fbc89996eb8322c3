"""Run every Numba kernel once, so that its code is on disk before anybody waits for it.

Which kernels there are, for which arguments, and in which layouts of memory follows from the host
functions, so the cases that check them are run: whatever they do not reach is not checked either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from minicnn.kernelcheck.case import Case, cases, make_arguments, run_case
from minicnn.kernels import _launch


@dataclass(frozen=True)
class Call:
    """One call of a host function on the CPU."""

    stem: str
    case: Case
    dtype: np.dtype

    def run(self) -> None:
        """Make the call; its results are not looked at."""
        run_case(self.stem, self.case, make_arguments(self.case, self.dtype))


def calls(dtypes: Sequence[np.dtype]) -> Iterator[Call]:
    """Yield the calls that compile, or load, everything there is for arrays of these dtypes."""
    for stem in _launch.stems():
        for dtype in dtypes:
            for case in cases(stem):
                yield Call(stem, case, dtype)
