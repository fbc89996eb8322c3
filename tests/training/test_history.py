"""The history as CSV and rows."""

from __future__ import annotations

import csv
import io

import pytest

from minicnn.training.history import EpochMetrics, best_epoch, from_rows, to_csv, to_rows


def make_history(*accuracies: float) -> list[EpochMetrics]:
    return [
        EpochMetrics(i, 10 * i, 0.1, 1 / 3, 0.5, 0.25, accuracy, 1.5, 400.0)
        for i, accuracy in enumerate(accuracies, start=1)
    ]


def test_the_best_epoch_is_the_first_of_equals():
    best = best_epoch(make_history(0.5, 0.9, 0.9, 0.7))
    assert best is not None and best.epoch == 2
    assert best_epoch([]) is None


def test_csv_has_a_line_an_epoch_and_exact_numbers():
    history = make_history(0.5, 0.1 + 0.2)
    rows = list(csv.DictReader(io.StringIO(to_csv(history))))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["test_accuracy"]) == 0.1 + 0.2
    assert float(rows[0]["train_loss"]) == 1 / 3
    assert to_csv([]).startswith("epoch,step,learning_rate,train_loss,")


def test_rows_come_back():
    history = make_history(0.5, 0.6)
    assert from_rows(to_rows(history)) == history
    with pytest.raises(TypeError):
        from_rows([{"epoch": 1}])
