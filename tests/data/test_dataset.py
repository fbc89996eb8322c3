"""Dataset: what it accepts, and how it is split."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.data import DataError, Dataset


def make(size: int = 10, classes: int = 3) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, 1, 4, 5), np.uint8)
    return Dataset(images, np.arange(size) % classes, [str(c) for c in range(classes)], "made")


def test_indexing_gives_images_with_their_labels():
    dataset = make()
    images, labels = dataset[[7, 2]]
    assert np.array_equal(images, dataset.images[[7, 2]])
    assert labels.tolist() == [1, 2]
    assert labels.dtype == np.int64
    assert len(dataset) == 10
    assert dataset[3][1] == 0
    assert len(dataset[2:5][0]) == 3
    assert repr(dataset) == "Dataset('made', 10 images 1x4x5, 3 classes)"


def test_empty_dataset():
    dataset = Dataset(np.zeros((0, 3, 8, 8), np.uint8), [], ["a"])
    assert len(dataset) == 0
    assert dataset.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("images", "labels", "classes", "error", "message"),
    [
        (np.zeros((2, 1, 3, 3)), [0, 0], ["a"], TypeError, "images: .* uint8 .* float64"),
        ([[0]], [0], ["a"], TypeError, "images: .* uint8 .* list"),
        (np.zeros((2, 3, 3), np.uint8), [0, 0], ["a"], ValueError, r"images: .*\(2, 3, 3\)"),
        (np.zeros((2, 1, 3, 3), np.uint8), [0], ["a"], ValueError, r"labels: .*\(2,\).*\(1,\)"),
        (np.zeros((1, 1, 3, 3), np.uint8), [0.5], ["a"], TypeError, "labels: .*float64"),
        (np.zeros((1, 1, 3, 3), np.uint8), [1], ["a"], ValueError, r"labels: .*\[0, 1\).* 1 to 1"),
        (np.zeros((1, 1, 3, 3), np.uint8), [-1], ["a"], ValueError, "labels: .*-1 to -1"),
        (np.zeros((0, 1, 3, 3), np.uint8), [], [], ValueError, "classes: "),
    ],
)
def test_bad_input(images, labels, classes, error, message):
    with pytest.raises(error, match=message):
        Dataset(images, labels, classes)


def test_split_deals_every_class_and_loses_nothing():
    dataset = make(size=60, classes=3)
    rest, held = dataset.split(0.25, seed=4)
    assert np.bincount(held.labels).tolist() == [5, 5, 5]
    assert np.bincount(rest.labels).tolist() == [15, 15, 15]
    images = {image.tobytes() for part in (rest, held) for image in part.images}
    assert images == {image.tobytes() for image in dataset.images}
    again = dataset.split(0.25, seed=4)[1]
    other = dataset.split(0.25, seed=5)[1]
    assert np.array_equal(again.images, held.images)
    assert not np.array_equal(other.images, held.images)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2, float("nan")])
def test_split_refuses_a_fraction_outside_its_range(fraction):
    with pytest.raises(ValueError, match="fraction: "):
        make().split(fraction)


def test_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)
