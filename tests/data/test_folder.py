"""Image folders: both layouts, the forms of images, and every way a folder can be wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn.data import DataError, load_folder, read_image

Image = pytest.importorskip("PIL.Image")


def save(path: Path, array: np.ndarray) -> Path:
    """Write (H, W) or (H, W, 3) uint8 as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def tree(root: Path, counts: dict[str, int], shape: tuple[int, ...] = (6, 4, 3)) -> Path:
    """Noise images, `counts` of them in each class folder."""
    rng = np.random.default_rng(len(counts))
    for name, count in counts.items():
        for index in range(count):
            save(root / name / f"{index:02}.png", rng.integers(0, 256, shape, np.uint8))
    return root


def test_split_by_folders(tmp_path):
    tree(tmp_path, {"train/dog": 3, "train/cat": 2, "test/dog": 1})
    train, test = load_folder(tmp_path)
    assert train.classes == test.classes == ["cat", "dog"]
    assert train.name == test.name == tmp_path.name
    assert train.labels.tolist() == [0, 0, 1, 1, 1]
    assert test.labels.tolist() == [1]
    assert train.images.shape == (5, 3, 6, 4)
    with Image.open(tmp_path / "train" / "dog" / "02.png") as image:
        assert np.array_equal(train.images[4].transpose(1, 2, 0), np.asarray(image))


def test_seeded_split(tmp_path):
    tree(tmp_path, {"a": 10, "b": 5})
    train, test = load_folder(tmp_path, test_fraction=0.4, seed=3)
    assert np.bincount(train.labels).tolist() == [6, 3]
    assert np.bincount(test.labels).tolist() == [4, 2]
    again = load_folder(str(tmp_path), test_fraction=0.4, seed=3)[1]
    other = load_folder(tmp_path, test_fraction=0.4, seed=4)[1]
    assert np.array_equal(again.images, test.images)
    assert not np.array_equal(other.images, test.images)


def test_a_class_may_be_called_train(tmp_path):
    tree(tmp_path, {"train": 4, "plane": 4})
    train, test = load_folder(tmp_path, test_fraction=0.5)
    assert train.classes == ["plane", "train"]
    assert (len(train), len(test)) == (4, 4)


def test_other_files_and_hidden_ones_are_passed_over(tmp_path):
    tree(tmp_path, {"a": 2, "b": 2, ".hidden": 1})
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".00.png").write_text("no image")
    (tmp_path / "README").write_text("no folder")
    save(tmp_path / "b" / "upper.PNG", np.zeros((6, 4, 3), np.uint8))
    save(tmp_path / "b" / "photo.jpeg", np.zeros((6, 4, 3), np.uint8))
    train, test = load_folder(tmp_path, test_fraction=0.5)
    assert train.classes == ["a", "b"]
    assert len(train) + len(test) == 6


def test_size_and_channels(tmp_path):
    tree(tmp_path, {"train/a": 1, "test/a": 1})
    save(tmp_path / "train" / "a" / "big.png", np.full((30, 40), 200, np.uint8))
    train, test = load_folder(tmp_path, size=(8, 10), channels=1)
    assert train.images.shape == (2, 1, 8, 10)
    assert test.images.shape == (1, 1, 8, 10)
    assert (train.images[1] == 200).all()
    assert load_folder(tmp_path, size=5)[0].images.shape == (2, 3, 5, 5)


def test_read_image_turns_colours_and_modes(tmp_path):
    red = np.zeros((2, 3, 3), np.uint8)
    red[..., 0] = 255
    path = save(tmp_path / "red.png", red)
    assert np.array_equal(read_image(path), red.transpose(2, 0, 1))
    # ITU-R 601 luma: 0.299 of 255.
    assert read_image(path, channels=1).tolist() == [[[76] * 3] * 2]
    Image.fromarray(red).convert("P").save(tmp_path / "palette.png")
    assert np.array_equal(read_image(tmp_path / "palette.png"), red.transpose(2, 0, 1))
    Image.fromarray(red).convert("RGBA").save(tmp_path / "alpha.png")
    assert np.array_equal(read_image(tmp_path / "alpha.png"), red.transpose(2, 0, 1))


def test_read_image_cuts_the_centre_to_the_aspect(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    path = save(tmp_path / "wide.png", wide)
    assert (read_image(path, size=10, channels=1) == 255).all()
    assert (read_image(path, size=5, channels=1)[:, :, 1:4] == 255).all()


def test_read_image_obeys_the_camera(tmp_path):
    image = Image.fromarray(np.array([[0, 255]], np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turn a quarter clockwise to view
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", channels=1).tolist() == [[[0], [255]]]


def test_an_unreadable_image_is_named(tmp_path):
    tree(tmp_path, {"a": 3, "b": 3}, shape=(40, 40, 3))
    bad = tmp_path / "b" / "01.png"
    whole = bad.read_bytes()
    for content in (b"", b"no image", whole[:60], whole[: len(whole) // 2]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match="unreadable image") as caught:
            load_folder(tmp_path)
        assert str(bad) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_read_image_of_what_is_not_there(tmp_path):
    with pytest.raises(DataError, match="none.png: unreadable image .No such file or directory"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="unreadable image"):
        read_image(tmp_path)


def test_images_of_two_sizes_need_a_size(tmp_path):
    tree(tmp_path, {"train/a": 2, "test/a": 1})
    odd = save(tmp_path / "train" / "a" / "odd.png", np.zeros((6, 5, 3), np.uint8))
    with pytest.raises(DataError, match="odd.png: expected 6x4 like 00.png, got 6x5; give a size"):
        load_folder(tmp_path)
    odd.unlink()
    save(tmp_path / "test" / "a" / "00.png", np.zeros((7, 7, 3), np.uint8))
    with pytest.raises(DataError, match="test images are 7x7, train images 6x4; give a size"):
        load_folder(tmp_path)


def test_folders_that_hold_no_set(tmp_path):
    with pytest.raises(DataError, match="folder: no folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected a sub-folder for each class, got none"):
        load_folder(tmp_path)
    tree(tmp_path, {"train/a": 1})
    with pytest.raises(DataError, match="test: expected a sub-folder for each class, got none"):
        load_folder(tmp_path)
    tree(tmp_path, {"test/a": 1, "test/z": 1})
    with pytest.raises(DataError, match="test: no such class in train: z"):
        load_folder(tmp_path)
    (tmp_path / "train" / "z").mkdir()
    with pytest.raises(DataError, match="z: expected .png, .jpg, .jpeg files, got none"):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels: expected 1 or 3, got 2"),
        ({"size": 0}, "size: expected positive"),
        ({"size": (4, -1)}, "size: expected positive"),
        ({"test_fraction": 1.5}, "fraction: "),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    tree(tmp_path, {"a": 2})
    with pytest.raises(ValueError, match=message):
        load_folder(tmp_path, **options)


def test_without_pillow(tmp_path, monkeypatch):
    path = save(tmp_path / "image.png", np.zeros((2, 2), np.uint8))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="pip install pillow"):
        read_image(path)
