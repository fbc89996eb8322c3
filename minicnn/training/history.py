"""What each epoch ended with, and how that is written for people and programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class EpochMetrics:
    """One line of a run's history. Losses are means over images, accuracies lie between 0 and 1.

    The training figures are running ones: each batch counts as it was met, augmented, before its
    step.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float
    images_per_second: float


def best_epoch(history: Sequence[EpochMetrics]) -> EpochMetrics | None:
    """Return the epoch of the highest test accuracy, the first of equals; None if there is none."""
    return max(history, key=lambda row: row.test_accuracy, default=None)


def to_csv(history: Sequence[EpochMetrics]) -> str:
    """Return the history as CSV, one line an epoch under a line of names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(EpochMetrics))
    writer.writerows(asdict(row).values() for row in history)
    return text.getvalue()


def to_rows(history: Sequence[EpochMetrics]) -> list[dict[str, Any]]:
    """Return the history as plain dicts, for JSON."""
    return [asdict(row) for row in history]


def from_rows(rows: Sequence[dict[str, Any]]) -> list[EpochMetrics]:
    """Return the history that `to_rows` gave.

    Raises:
        TypeError: a row lacks a figure or has one too many.
    """
    return [EpochMetrics(**row) for row in rows]
