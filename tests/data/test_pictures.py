"""Pictures of any size: decoded on demand, equal whenever a run comes to them, errors by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicnn.data import (
    DataError,
    DataLoader,
    Dataset,
    Pictures,
    build_transform,
    load_folder,
    read_image,
)

Image = pytest.importorskip("PIL.Image")

PIPELINE: list[dict[str, Any]] = [
    {"name": "RandomShortSide", "low": 9, "high": 14},
    {"name": "RandomCrop", "size": 8},
    {"name": "RandomHorizontalFlip"},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("disc", "square"):
        for index in range(6):
            path = tmp_path / name / f"{index}.png"
            path.parent.mkdir(exist_ok=True)
            shape = (10 + index, 17 - 2 * index, 3)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    return tmp_path


@pytest.fixture
def pictures(root: Path) -> Pictures:
    train = load_folder(root, lazy=True, test_fraction=0.2)[0]
    assert isinstance(train, Pictures)
    return train


def test_it_is_the_set_that_the_whole_folder_is(root):
    for lazy, whole in zip(
        load_folder(root, lazy=True, size=7, seed=3), load_folder(root, size=7, seed=3), strict=True
    ):
        assert isinstance(lazy, Pictures) and not isinstance(whole, Pictures)
        assert (len(lazy), lazy.classes, lazy.name) == (len(whole), whole.classes, whole.name)
        assert np.array_equal(lazy.labels, whole.labels)
        assert np.array_equal(np.stack(lazy[:][0]), whole.images)
        batch, labels = next(iter(DataLoader(lazy, 4)))
        expected, expected_labels = next(iter(DataLoader(whole, 4)))
        assert np.array_equal(batch, expected) and np.array_equal(labels, expected_labels)


def test_nothing_is_read_before_it_is_asked_for(root, pictures):
    opened = []

    def read(path: Path) -> np.ndarray:
        opened.append(path)
        return read_image(path)

    watched = Pictures(pictures.paths, pictures.labels, pictures.classes, "watched", read)
    part = watched.subset([3, 1])
    assert not opened and part.paths == [pictures.paths[3], pictures.paths[1]]
    images, labels = part[np.array([True, False])]
    assert opened == [pictures.paths[3]] and labels.tolist() == [pictures.labels[3]]
    assert np.array_equal(images[0], read_image(pictures.paths[3]))
    assert np.array_equal(watched[2][0], read_image(pictures.paths[2]))
    assert len(watched.subset([])) == 0


def test_a_batch_is_a_function_of_seed_epoch_and_index(pictures):
    def loader(prefetch: int = 2) -> DataLoader:
        transform = build_transform(PIPELINE)
        return DataLoader(pictures, 4, shuffle=True, seed=5, transform=transform, prefetch=prefetch)

    whole = [images for images, _ in loader()]
    assert [images.shape for images in whole] == [(4, 3, 8, 8), (4, 3, 8, 8), (2, 3, 8, 8)]
    late = loader(prefetch=0)
    late.load_state_dict({"seed": 5, "epoch": 0, "position": 1})
    for images, expected in zip([x for x, _ in late], whole[1:], strict=True):
        assert np.array_equal(images, expected)
    assert not np.array_equal(next(iter(late))[0], whole[0])


def test_sizes_are_drawn_for_images_of_one_size_too():
    images = np.random.default_rng(0).random((3, 1, 12, 12)).astype(np.float32)
    pipeline = build_transform(PIPELINE)
    first = pipeline(np.repeat(images[:1], 20, axis=0), np.random.default_rng(1))
    assert first.shape == (20, 1, 8, 8)
    assert len(np.unique(first.reshape(20, -1), axis=0)) > 10


def test_sizes_that_differ_are_told(pictures):
    with pytest.raises(ValueError, match="cannot share a batch; expected a transform that fixes"):
        next(iter(DataLoader(pictures, 8, transform=build_transform(["RandomHorizontalFlip"]))))
    undone = build_transform([{"name": "CenterCrop", "size": 5}, *PIPELINE[:1]])
    with pytest.raises(ValueError, match="would undo the one size that CenterCrop"):
        next(iter(DataLoader(pictures, 8, transform=undone)))


def test_files_that_go_bad_in_an_epoch_are_named_after_the_batches_before(pictures):
    path = pictures.paths[5]
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path, "jpeg")
    path.write_bytes(path.read_bytes()[:-60])
    loader = DataLoader(pictures, 4, transform=build_transform(PIPELINE))
    batches = iter(loader)
    next(batches)
    with pytest.raises(DataError, match=rf"{path.name}: unreadable image \(.*(?i:truncated)"):
        next(batches)
    path.unlink()
    with pytest.raises(DataError, match=rf"{path.name}: unreadable image \(No such file"):
        list(loader)


def test_a_sample_holds_pixels_of_every_picture(pictures):
    sample = pictures.sample(grid=5)
    assert sample.shape == (len(pictures), 3, 5, 5)
    for few, path in zip(sample, pictures.paths, strict=True):
        whole = read_image(path).reshape(3, -1).T.tolist()
        assert all(pixel in whole for pixel in few.reshape(3, -1).T.tolist())
    assert len(pictures.sample(most=3)) == 3
    images = np.zeros((2, 1, 3, 3), np.uint8)
    assert Dataset(images, [0, 0], ["a"]).sample() is images
