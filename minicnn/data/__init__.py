"""Datasets, transforms and the loader: everything between a file and a batch, in NumPy alone.

    train, test = load_dataset("mnist")
    transform = build_transform([{"name": "RandomShift", "max_shift": 2}])
    for images, labels in DataLoader(train, 64, shuffle=True, seed=1, transform=transform):
        ...

Whatever is wrong with the data itself is a `DataError` (a ValueError) of one line; only a set that
could not be found anywhere takes several, one for each place that was tried.
"""

from __future__ import annotations

import os
from typing import Any

from minicnn.data.dataset import DataError, Dataset
from minicnn.data.digits import load_digits
from minicnn.data.folder import load_folder, read_image
from minicnn.data.loader import DataLoader
from minicnn.data.mnist import load_fashion_mnist, load_mnist
from minicnn.data.picture_transforms import (
    ColorJitter,
    FiveCrop,
    RandomResizedCrop,
    RandomShortSide,
    ResizeShortSide,
    SubtractMean,
    TenCrop,
)
from minicnn.data.pictures import Pictures
from minicnn.data.pipeline import TRANSFORMS, Compose, build_transform, fill_in, with_crops
from minicnn.data.transforms import (
    CenterCrop,
    Normalize,
    Pad,
    PCALighting,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomShift,
    Resize,
    Transform,
)

__all__ = [
    "DATASETS",
    "TRANSFORMS",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "DataError",
    "DataLoader",
    "Dataset",
    "FiveCrop",
    "Normalize",
    "PCALighting",
    "Pad",
    "Pictures",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShift",
    "RandomShortSide",
    "Resize",
    "ResizeShortSide",
    "SubtractMean",
    "TenCrop",
    "Transform",
    "build_transform",
    "fill_in",
    "load_dataset",
    "load_digits",
    "load_fashion_mnist",
    "load_folder",
    "load_mnist",
    "read_image",
    "with_crops",
]

DATASETS = {
    "mnist": "MNIST: 60,000 + 10,000 handwritten digits, 1x28x28",
    "fashion-mnist": "Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 1x28x28",
    "digits": "UCI optical digits: 1,437 + 360 handwritten digits, 1x8x8, part of this package",
    "folder": "your images: FOLDER/train/<class>/*.png and FOLDER/test/..., or FOLDER/<class>/...",
}


def load_dataset(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    download: bool = True,
    **options: Any,
) -> tuple[Dataset, Dataset]:
    """Return the (train, test) sets of a dataset.

    Args:
        name: a key of `DATASETS`.
        folder: where the files are; "mnist" and "fashion-mnist" find or fetch theirs without it.
        download: whether the web and the package index may be asked.
        options: of "folder": see `load_folder`.

    Raises:
        DataError: files that are missing, damaged or foreign, see the loader of the set.
        TypeError: an option that the set does not have.
        ValueError: unknown name; "folder" without a folder, "digits" with one.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset: expected one of {', '.join(DATASETS)}, got {name!r}")
    if name == "folder":
        if folder is None:
            raise ValueError("folder: expected the folder of your images, got none")
        return load_folder(folder, **options)
    if options:
        raise TypeError(f"options: {name} has none, got {', '.join(options)}")
    if name == "digits":
        if folder is not None:
            raise ValueError(f"folder: digits is part of this package, got {str(folder)!r}")
        return load_digits()
    load = load_mnist if name == "mnist" else load_fashion_mnist
    return load(folder, download)
