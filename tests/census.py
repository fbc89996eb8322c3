"""What a test run covered of the CUDA kernels, and whether it skipped what it must not.

With MINICNN_EXPECT set (see `needs`) no test may skip for want of what it names: the run fails
and lists those that did. A test that skips for any other reason counts as unexpected too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.needs import expected

# Filled by tests/kernels/test_cuda.py: kernels that ran, and results compared, by target.
kernels: dict[str, set[str]] = {}
comparisons: Counter[str] = Counter()


def count(target: str, launched: Iterable[str]) -> None:
    """Note that results were compared on `target` after these kernels had made them."""
    kernels.setdefault(target, set()).update(launched)
    comparisons[target] += 1


def reason(report: Any) -> str:
    """Return why a test was skipped."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(text).removeprefix("Skipped: ")


def unexpected(skipped: Iterable[Any]) -> list[str]:
    """Return the tests that skipped although MINICNN_EXPECT says that they need not have."""
    if "MINICNN_EXPECT" not in os.environ:
        return []
    allowed = [f"needs {name} " for name in ("compiler", "nvrtc", "nvdisasm", "cupy", "torch")
               if name not in expected()]  # fmt: skip
    if "torch" not in expected():
        allowed.append("could not import 'torch")
    return [
        f"{report.nodeid}: {reason(report)}"
        for report in skipped
        if not reason(report).startswith(tuple(allowed or ["\0"]))
    ]


def lines(skipped: Iterable[Any]) -> list[str]:
    """Return the summary of the run."""
    found = [
        f"{target}: {len(kernels[target])} kernels (an instantiation each dtype), "
        f"{comparisons[target]} results compared"
        for target in kernels
    ]
    reasons = Counter(reason(report) for report in skipped)
    return found + [f"skipped {number}: {why}" for why, number in reasons.most_common()]
