"""Loss, accuracy and confusion matrix, against the same figures computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import nn
from minicnn.data import DataLoader, Dataset
from minicnn.grad_mode import is_grad_enabled
from minicnn.tensor import Tensor
from minicnn.training import Evaluation, evaluate


class Oracle(nn.Module):
    """Gives the scores that a table holds for the image's first pixel."""

    num_classes = 3

    def __init__(self, table):
        super().__init__()
        self.table = table
        self.modes = set()

    def forward(self, images):
        self.modes.add((self.training, is_grad_enabled()))
        return Tensor(self.table[np.rint(images.data[:, 0, 0, 0] * 255).astype(int)])


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 50)
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    return table, labels, Dataset(images, labels, ["a", "b", "c"])


def test_figures_are_those_computed_by_hand(case):
    table, labels, dataset = case
    seen = []
    result = evaluate(Oracle(table), DataLoader(dataset, 8), seen.append)
    predicted = table.argmax(1)
    assert result.total == 50
    assert result.correct == (predicted == labels).sum()
    assert result.accuracy == (predicted == labels).mean()
    for true in range(3):
        for guess in range(3):
            expected = ((labels == true) & (predicted == guess)).sum()
            assert result.confusion[true, guess] == expected
        both = ((labels == true) & (predicted == true)).sum()
        assert result.recall[true] == pytest.approx(both / (labels == true).sum())
        assert result.precision[true] == pytest.approx(both / (predicted == true).sum())
    exact = table.astype(np.float64)
    log_probs = exact - np.log(np.exp(exact).sum(1, keepdims=True))
    assert result.loss == pytest.approx(-log_probs[np.arange(50), labels].mean(), rel=1e-5)
    assert seen == [8, 16, 24, 32, 40, 48, 50]


@pytest.mark.parametrize("training", [True, False])
def test_it_runs_in_evaluation_mode_without_gradients_and_puts_the_mode_back(case, training):
    table, _, dataset = case
    model = Oracle(table).train(training)
    evaluate(model, DataLoader(dataset, 8))
    assert model.modes == {(False, False)}
    assert model.training is training


def test_the_mode_comes_back_after_an_error(case):
    table, _, dataset = case
    model = Oracle(table[:5]).train()
    with pytest.raises(IndexError):
        evaluate(model, DataLoader(dataset, 8))
    assert model.training


def test_a_class_without_images_or_predictions_has_shares_of_zero():
    result = Evaluation(0.0, np.array([[3, 0], [0, 0]]))
    np.testing.assert_array_equal(result.recall, [1, 0])
    np.testing.assert_array_equal(result.precision, [1, 0])
    assert Evaluation(0.0, np.zeros((2, 2), np.int64)).accuracy == 0
