"""Image folders: one sub-folder for each class, PNG or JPEG files in it.

    ROOT/train/<class>/*.png  ROOT/test/<class>/*.png     the split that the folders make, or
    ROOT/<class>/*.png                                    a seeded split, class by class

File names end in .png, .jpg or .jpeg in any case; other files and hidden ones are passed over.
Classes are sorted by name, images by class and name, so the same tree gives the same set on every
machine. A set that is too large for memory, or of pictures of all sizes, is read lazily: its files
are decoded when a batch needs them, and the transforms bring them to one size.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicnn.data.dataset import DataError, Dataset
from minicnn.data.pictures import Pictures

_ENDINGS = (".png", ".jpg", ".jpeg")
_MODES = {1: "L", 3: "RGB"}

Size = int | tuple[int, int]


def load_folder(
    folder: str | os.PathLike[str],
    *,
    size: Size | None = None,
    channels: int = 3,
    lazy: bool = False,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> tuple[Dataset, Dataset]:
    """Return (train, test) of an image folder, by default read whole into memory.

    Args:
        folder: the ROOT above.
        size: height and width of the images in the set, see `read_image`; by default that of the
            first training image, and every other image must have it; with `lazy`, images keep
            their own.
        channels: 3 for RGB, 1 for grey.
        lazy: return `Pictures`, which are decoded on demand; damaged files show only then.
        test_fraction: share of each class that is held out where the folders make no split.
        seed: of that split.

    Raises:
        DataError: no such folder, no classes, a class without images, an unreadable image, images
            of several sizes, a test class that is no training class.
        ImportError: Pillow is not installed.
        ValueError: an option out of its range.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"folder: no folder {str(folder)!r}")
    if not any(_folders(root / part) for part in ("train", "test")):
        whole = _read_classes(root, _folders(root), size, channels, lazy, root.name)
        return whole.split(test_fraction, seed)

    classes, tested = _folders(root / "train"), _folders(root / "test")
    foreign = [name for name in tested if name not in classes]
    if classes and foreign:
        raise DataError(f"{root / 'test'}: no such class in train: {', '.join(foreign)}")
    train = _read_classes(root / "train", classes, size, channels, lazy, root.name)
    test = _read_classes(root / "test", tested, size, channels, lazy, root.name)
    if train.image_shape != test.image_shape:
        sizes = ["x".join(map(str, group.image_shape[1:])) for group in (test, train)]
        raise DataError(f"{root}: test images are {sizes[0]}, train images {sizes[1]}; give a size")
    # A class without test images has no folder in test, so the labels there count other folders.
    test.labels = np.searchsorted(classes, tested)[test.labels]
    test.classes = classes
    return train, test


def read_image(
    path: str | os.PathLike[str], size: Size | None = None, channels: int = 3
) -> NDArray[np.uint8]:
    """Read one image file.

    Args:
        path: a PNG, JPEG or anything else that Pillow reads; turned as its EXIF orientation says.
        size: (height, width) or one number for both: the largest centred part of that aspect is
            taken and scaled bilinearly. None keeps the image as it is.
        channels: 3 for RGB, 1 for grey.

    Returns:
        (channels, H, W) uint8.

    Raises:
        DataError: not there, or not an image; names the file.
        ImportError: Pillow is not installed.
        ValueError: size or channels out of range.
    """
    height, width = _check_reading(size, channels)
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("reading image files needs Pillow: pip install pillow") from error
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert(_MODES[channels])
        if size is not None:
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    # A damaged file makes Pillow's decoders raise nearly anything.
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: unreadable image ({reason})") from error
    return np.array(image).reshape(image.height, image.width, channels).transpose(2, 0, 1).copy()


def _check_reading(size: Size | None, channels: int) -> tuple[int, int]:
    if channels not in _MODES:
        raise ValueError(f"channels: expected 1 or 3, got {channels!r}")
    height, width = (size, size) if isinstance(size, int) else size or (1, 1)
    if height < 1 or width < 1:
        raise ValueError(f"size: expected positive numbers, got {size!r}")
    return height, width


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in _ENDINGS and path.name[0] != "."
    )


def _read_classes(
    root: Path, classes: list[str], size: Size | None, channels: int, lazy: bool, name: str
) -> Dataset:
    if not classes:
        raise DataError(f"{root}: expected a sub-folder for each class, got none")
    files = [_image_files(root / name) for name in classes]
    for folder, paths in zip(classes, files, strict=True):
        if not paths:
            raise DataError(f"{root / folder}: expected {', '.join(_ENDINGS)} files, got none")
    paths = [path for group in files for path in group]
    labels = np.repeat(np.arange(len(classes)), [len(group) for group in files])
    if lazy:
        _check_reading(size, channels)
        read = functools.partial(read_image, size=size, channels=channels)
        return Pictures(paths, labels, classes, name, read, channels)
    first = read_image(paths[0], size, channels)
    images = np.empty((len(paths), *first.shape), np.uint8)
    for index, path in enumerate(paths):
        image = read_image(path, size, channels)
        if image.shape != first.shape:
            raise DataError(
                f"{path}: expected {first.shape[1]}x{first.shape[2]} like {paths[0].name}, "
                f"got {image.shape[1]}x{image.shape[2]}; give a size, or lazy=true"
            )
        images[index] = image
    return Dataset(images, labels, classes, name)
