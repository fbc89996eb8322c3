"""The digits in the package are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.data import load_digits


def test_split_and_form():
    train, test = load_digits()
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.labels[:10].tolist() == list(range(10))
    assert train.classes == list("0123456789")
    assert np.bincount(test.labels).min() >= 33


def test_equal_to_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    train, test = load_digits()
    ours = np.concatenate([train.images, test.images])[:, 0]
    # 16 levels of ink in 256 of grey: rounding moves a value by half a grey level at most.
    assert np.abs(ours * (16 / 255) - theirs.images).max() <= 0.5 * 16 / 255 + 1e-9
    assert np.array_equal(np.concatenate([train.labels, test.labels]), theirs.target)
