"""Pictures of any size that stay in their files until a batch needs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minicnn.data.dataset import Dataset, Images, Labels

Reader = Callable[[Path], Images]
# Pillow decodes without holding Python's lock, so threads help; more than a few only hold memory.
DECODERS = min(8, os.cpu_count() or 1)


class Pictures(Dataset):
    """Image files with one class each, decoded on demand; a `Dataset` without its `images`.

    Attributes:
        paths: the files.
        labels, classes, name: as in `Dataset`.
        channels: of every picture.

    Args:
        paths: the files.
        labels: (N,) integers in [0, len(classes)).
        classes: the class names.
        name: what to call the set.
        read: reads a file as (channels, H, W) uint8, in one of several threads; a `DataError` of
            its own names the file.
        channels: what `read` gives.

    Raises:
        TypeError, ValueError: labels that are not such, see `Dataset`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: ArrayLike,
        classes: Sequence[str],
        name: str,
        read: Reader,
        channels: int = 3,
    ) -> None:
        # The labels are checked against as many images of no pixels.
        super().__init__(np.empty((len(paths), channels, 0, 0), np.uint8), labels, classes, name)
        del self.images
        self.paths = list(paths)
        self.channels = channels
        self.read = read

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(channels,): heights and widths differ."""
        return (self.channels,)

    def __getitem__(self, indices: Any) -> tuple[Any, Labels]:
        """Return (pictures, labels): one picture at an integer, else a list of them."""
        if isinstance(indices, int):
            return self.read(self.paths[indices]), self.labels[indices]
        chosen = self._numbers(indices)
        return self.load(chosen, lambda index, picture: picture), self.labels[chosen]

    def load(self, chosen: NDArray[np.int64], change: Callable[[int, Images], Any]) -> list[Any]:
        """Decode pictures and change each in the thread that decoded it.

        Args:
            chosen: which.
            change: called with (place in `chosen`, picture); what it returns is kept.

        Returns:
            As many results, in the order of `chosen`.

        Raises:
            DataError: a file is gone or damaged; the message names the first such.
        """

        def work(place: int) -> Any:
            return change(place, self.read(self.paths[chosen[place]]))

        with ThreadPoolExecutor(DECODERS, thread_name_prefix="minicnn-decoder") as pool:
            return list(pool.map(work, range(len(chosen))))

    def sample(self, most: int = 5000, grid: int = 64) -> Images:
        """Return pixels to compute statistics from, every picture with the same weight.

        Args:
            most: so many pictures at most, evenly spaced over the set.
            grid: so many rows and columns of each, evenly spaced, pixels as they are.

        Returns:
            (n, channels, grid, grid) uint8, n = min(most, len(self)).
        """
        count = min(most, len(self))
        chosen = np.arange(count) * len(self) // max(count, 1)

        def thin(place: int, picture: Images) -> Images:
            rows, columns = ((2 * np.arange(grid) + 1) * n // (2 * grid) for n in picture.shape[1:])
            return picture[:, rows][:, :, columns]

        return np.stack(self.load(chosen, thin))

    def subset(self, indices: slice | ArrayLike) -> Pictures:
        """Return the files at `indices` as a set with the same classes; none is opened."""
        chosen = self._numbers(indices)
        paths = [self.paths[index] for index in chosen]
        labels = self.labels[chosen]
        return Pictures(paths, labels, self.classes, self.name, self.read, self.channels)

    def _numbers(self, indices: slice | ArrayLike) -> NDArray[np.int64]:
        key = indices if isinstance(indices, slice) else np.asarray(indices)
        if isinstance(key, np.ndarray) and not key.size:
            key = key.astype(np.int64)
        return np.arange(len(self))[key]

    def __repr__(self) -> str:
        return (
            f"Pictures({self.name!r}, {len(self)} files, {self.channels} channels, "
            f"{len(self.classes)} classes)"
        )
