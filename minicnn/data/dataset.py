"""A set of labelled images in memory, and the error of files that do not hold one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class DataError(ValueError):
    """Data that is missing, damaged, or not what its name promises."""


class Dataset:
    """Images of one size with one class each, whole in memory.

    Attributes:
        images: (N, C, H, W) uint8, 0 = black, 255 = white.
        labels: (N,) int64, indices into `classes`.
        classes: the name of each class, in the order of the labels.
        name: what to call the set in messages.

    Args:
        images: (N, C, H, W) uint8; kept, not copied.
        labels: (N,) integers in [0, len(classes)).
        classes: the class names, at least one.
        name: what to call the set.

    Raises:
        TypeError: images that are not a uint8 array, labels that are not integers.
        ValueError: wrong number of axes, as many labels as images not given, label out of range.
    """

    def __init__(
        self, images: Images, labels: ArrayLike, classes: Sequence[str], name: str = "dataset"
    ) -> None:
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
            kind = getattr(images, "dtype", type(images).__name__)
            raise TypeError(f"images: expected a uint8 array, got {kind}")
        if images.ndim != 4:
            raise ValueError(f"images: expected shape (N, C, H, W), got {images.shape}")
        labels = np.asarray(labels)
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(f"labels: expected integers, got {labels.dtype}")
        if labels.shape != (len(images),):
            raise ValueError(
                f"labels: expected shape ({len(images)},), one for each image, got {labels.shape}"
            )
        if not classes:
            raise ValueError("classes: expected at least one name, got none")
        if labels.size and not 0 <= labels.min() <= labels.max() < len(classes):
            raise ValueError(
                f"labels: expected values in [0, {len(classes)}), "
                f"got {labels.min()} to {labels.max()}"
            )
        self.images = images
        self.labels = labels.astype(np.int64)
        self.classes = list(classes)
        self.name = name

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the images."""
        return self.images.shape[1:]

    def sample(self) -> Images:
        """Return pixels (N, C, H, W) to compute statistics from: here, all of them."""
        return self.images

    def __getitem__(self, indices: int | slice | ArrayLike) -> tuple[Images, Labels]:
        """Return (images, labels) at an index, a slice, a list of indices or a mask."""
        key = indices if isinstance(indices, int | slice) else np.asarray(indices)
        return self.images[key], self.labels[key]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"Dataset({self.name!r}, {len(self)} images {shape}, {len(self.classes)} classes)"

    def subset(self, indices: slice | ArrayLike) -> Dataset:
        """Return the images at `indices` as a set with the same classes."""
        images, labels = self[indices]
        return Dataset(images, labels, self.classes, self.name)

    def split(self, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Deal the images into (rest, held out), class by class.

        Args:
            fraction: share of every class that is held out, in (0, 1); rounded to whole images.
            seed: the draw is a function of the seed and the labels alone.

        Returns:
            Two sets, both in the order of this one.

        Raises:
            ValueError: fraction outside (0, 1).
        """
        if not 0 < fraction < 1:
            raise ValueError(f"fraction: expected a number in (0, 1), got {fraction}")
        rng = np.random.default_rng(seed)
        held_out = np.zeros(len(self), bool)
        for label in range(len(self.classes)):
            members = rng.permutation(np.flatnonzero(self.labels == label))
            held_out[members[: round(fraction * len(members))]] = True
        return self.subset(~held_out), self.subset(held_out)
