"""Cases of `nms.cu`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.kernelcheck.case import Case, Rng

# Their IoUs with the first are 1, 81/119, 1/2, 0, 0 and no number.
BOXES = [[0, 0, 10, 10], [0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 5], [20, 20, 30, 30],
         [10, 0, 20, 10], [5, 5, 5, 5]]  # fmt: skip
SCORES = [0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.6]


def planted(threshold: float, boxes: Any = BOXES, scores: Any = SCORES) -> Any:
    return lambda rng, dtype: (np.array(boxes, dtype), np.array(scores, dtype), threshold)


def random(count: int, threshold: float) -> Any:
    """Return boxes on a coarse grid and few different scores: ties of both kinds."""

    def arguments(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
        first = rng.integers(0, 24, (count, 2))
        boxes = np.concatenate([first, first + rng.integers(0, 12, (count, 2))], 1)
        return boxes.astype(dtype), np.round(rng.random(count), 1).astype(dtype), threshold

    return arguments


def with_nan(rng: Rng, dtype: np.dtype) -> tuple[Any, ...]:
    boxes, scores, threshold = random(70, 0.4)(rng, dtype)
    boxes[3, 1] = boxes[40, 2] = scores[9] = scores[65] = np.nan
    return boxes, scores, threshold


def _cases() -> list[Case]:
    makers = {
        "IoU above": planted(0.3),
        "IoU equal": planted(0.5),
        "IoU below": planted(0.7),
        "every overlap": planted(0.0),
        "a threshold between two floats": planted(0.3, [[0, 0, 10, 1], [0, 0, 3, 1]], [1, 0.5]),
        "no box": planted(0.5, np.zeros((0, 4)), []),
        "one box": planted(0.5, [[1, 2, 3, 4]], [0.1]),
        "one word": random(64, 0.3),
        "two words": random(65, 0.3),
        "NaN": with_nan,
        "several words": random(300, 0.4),
    }
    return [
        Case("nms", f"{label}, {rung}", maker, device_options={"algorithm": rung}, exact=True,
             main=label == "several words")
        for label, maker in makers.items()
        for rung in ("plain", "mask")
    ]  # fmt: skip


CASES = _cases()
