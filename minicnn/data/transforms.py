"""Transforms of whole batches: float images (N, C, H, W) in, a new array out, the input untouched.

Every transform is called as `transform(images, rng)`; those that draw take one draw per image from
`rng` and from nowhere else, so a batch is reproducible. `describe()` gives a transform as JSON-able
data, `minicnn.data.pipeline.build_transform` makes it again from that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.data import geometry

Array = NDArray[np.floating]
Numbers = float | Sequence[float] | NDArray[np.floating]
Size = int | Sequence[int]


class Transform:
    """Base of all transforms. An instance's attributes are its arguments, as JSON-able data.

    Attributes:
        fixes_size: whether images of any size become images of one size.
        one_by_one: whether equal images may come out of different sizes, so that it takes a batch
            of one image only; see `minicnn.data.pipeline.Compose`.
    """

    fixes_size = False
    one_by_one = False

    def __call__(self, images: Array, rng: np.random.Generator) -> Array:
        """Transform a batch (N, C, H, W) of floats; TypeError or ValueError if it is not one."""
        if not isinstance(images, np.ndarray) or not np.issubdtype(images.dtype, np.floating):
            kind = getattr(images, "dtype", type(images).__name__)
            raise TypeError(f"images: expected an array of floats, got {kind}")
        if images.ndim != 4:
            raise ValueError(f"images: expected shape (N, C, H, W), got {images.shape}")
        return self.apply(images, rng)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        """Compute the new batch; what a transform defines."""
        raise NotImplementedError(f"{type(self).__name__} defines no apply")

    def describe(self) -> dict[str, Any]:
        """Return {"name": class name, argument: value, ...}, which `build_transform` reads."""
        return {"name": type(self).__name__, **vars(self)}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class Normalize(Transform):
    """Compute (images - mean) / std channel by channel.

    Args:
        mean: one number for each channel, or one for all.
        std: likewise; positive.
    """

    def __init__(self, mean: Numbers, std: Numbers) -> None:
        self.mean = numbers("mean", mean)
        self.std = numbers("std", std)
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"std: expected as many numbers as in mean ({len(self.mean)}), got {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"std: expected positive numbers, got {self.std}")

    @classmethod
    def fit(cls, images: NDArray[np.uint8]) -> Normalize:
        """Return the transform that makes each channel of `images` (N, C, H, W) mean 0, std 1."""
        counts = [np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])]
        values = np.arange(256) / 255
        means = [float(np.average(values, weights=count)) for count in counts]
        spreads = [
            float(np.average((values - mean) ** 2, weights=count)) ** 0.5
            for mean, count in zip(means, counts, strict=True)
        ]
        return cls(means, spreads)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        if len(self.mean) > 1:
            check_channels(len(self.mean), images, "mean")
        mean = np.array(self.mean, images.dtype)[:, np.newaxis, np.newaxis]
        std = np.array(self.std, images.dtype)[:, np.newaxis, np.newaxis]
        return (images - mean) / std


class Pad(Transform):
    """Add a frame of one value.

    Args:
        padding: pixels above and below, left and right; one number or (vertical, horizontal).
        fill: the value.
    """

    def __init__(self, padding: Size, fill: float = 0.0) -> None:
        self.padding = pair("padding", padding, 0)
        self.fill = number("fill", fill)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        vertical, horizontal = self.padding
        return geometry.pad(images, vertical, vertical, horizontal, horizontal, self.fill)


class CenterCrop(Transform):
    """Cut out the centre; an odd margin is one pixel smaller above and left.

    Args:
        size: (height, width) or one number for both; at most the size of the images.
    """

    fixes_size = True

    def __init__(self, size: Size) -> None:
        self.size = pair("size", size, 1)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        check_fits(self.size, images)
        (height, width), (full_h, full_w) = self.size, images.shape[2:]
        top, left = (full_h - height) // 2, (full_w - width) // 2
        return images[:, :, top : top + height, left : left + width].copy()


class Resize(Transform):
    """Scale to a size, bilinearly, see `minicnn.data.geometry.resize`.

    Args:
        size: (height, width) or one number for both.
    """

    fixes_size = True

    def __init__(self, size: Size) -> None:
        self.size = pair("size", size, 1)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        return geometry.resize(images, *self.size)


class RandomCrop(Transform):
    """Cut out a window at a random place, after padding.

    Args:
        size: (height, width) or one number for both; at most the size of the padded images.
        padding: pixels on each side; one number or (vertical, horizontal).
        fill: value of the padding.
    """

    fixes_size = True

    def __init__(self, size: Size, padding: Size = 0, fill: float = 0.0) -> None:
        self.size = pair("size", size, 1)
        self.padding = pair("padding", padding, 0)
        self.fill = number("fill", fill)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        vertical, horizontal = self.padding
        padded = geometry.pad(images, vertical, vertical, horizontal, horizontal, self.fill)
        check_fits(self.size, padded)
        return _random_windows(padded, self.size, rng)


class RandomShift(Transform):
    """Shift by whole pixels, zeros coming in; one draw for up and down, one for left and right.

    Args:
        max_shift: the largest shift either way; one number or (vertical, horizontal).
    """

    def __init__(self, max_shift: Size) -> None:
        self.max_shift = pair("max_shift", max_shift, 0)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        vertical, horizontal = self.max_shift
        padded = geometry.pad(images, vertical, vertical, horizontal, horizontal)
        return _random_windows(padded, images.shape[2:], rng)


class RandomHorizontalFlip(Transform):
    """Mirror left and right.

    Args:
        p: the probability, in [0, 1].
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = number("p", p)
        if not 0 <= self.p <= 1:
            raise ValueError(f"p: expected a probability in [0, 1], got {p}")

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        chosen = rng.random(len(images)) < self.p
        flipped = images.copy()
        flipped[chosen] = images[chosen, :, :, ::-1]
        return flipped


class RandomRotation(Transform):
    """Turn about the centre, bilinearly, zeros coming in; counter-clockwise by -degrees to degrees.

    Args:
        degrees: the largest angle, 0 or more.
    """

    def __init__(self, degrees: float) -> None:
        self.degrees = number("degrees", degrees)
        if self.degrees < 0:
            raise ValueError(f"degrees: expected 0 or more, got {degrees}")

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        return geometry.rotate(images, rng.uniform(-self.degrees, self.degrees, len(images)))


class PCALighting(Transform):
    """Add to every pixel of an image a multiple of the principal colours of the training set.

        image[:, y, x] += sum_i alpha_i lambda_i p_i      alpha_i ~ N(0, std), drawn for each image

    The eigenvalues depend on the unit of the pixels: here that is [0, 1]. Nothing is clipped.

    Args:
        eigenvalues: lambda, (C,), of the covariance matrix of the channels.
        eigenvectors: (C, C), column i is p_i.
        std: of alpha.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
    neural networks", 2012, section 4.1.
    """

    def __init__(
        self, eigenvalues: Numbers, eigenvectors: Sequence[Numbers], std: float = 0.1
    ) -> None:
        self.eigenvalues = numbers("eigenvalues", eigenvalues)
        self.eigenvectors = [numbers("eigenvectors", row) for row in eigenvectors]
        self.std = number("std", std)
        channels = len(self.eigenvalues)
        if [len(row) for row in self.eigenvectors] != [channels] * channels:
            raise ValueError(
                f"eigenvectors: expected shape ({channels}, {channels}), as eigenvalues has "
                f"{channels} numbers, got rows of {[len(row) for row in self.eigenvectors]}"
            )
        if self.std < 0:
            raise ValueError(f"std: expected 0 or more, got {std}")

    @classmethod
    def fit(cls, images: NDArray[np.uint8], std: float = 0.1) -> PCALighting:
        """Return the transform with the principal colours of `images` (N, C, H, W)."""
        channels = images.shape[1]
        count, total = 0, np.zeros(channels)
        products = np.zeros((channels, channels))
        for image in images:
            pixels = image.reshape(channels, -1) / 255
            count += pixels.shape[1]
            total += pixels.sum(axis=1)
            products += pixels @ pixels.T
        mean = total / count
        values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
        return cls(values[::-1], list(vectors[:, ::-1]), std)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        check_channels(len(self.eigenvalues), images, "eigenvalues")
        alpha = rng.normal(0, self.std, (len(images), len(self.eigenvalues)))
        shifts = (alpha * self.eigenvalues) @ np.transpose(self.eigenvectors)
        return images + shifts.astype(images.dtype)[:, :, np.newaxis, np.newaxis]


def _random_windows(images: Array, size: Sequence[int], rng: np.random.Generator) -> Array:
    height, width = size
    top = rng.integers(0, images.shape[2] - height + 1, len(images))
    left = rng.integers(0, images.shape[3] - width + 1, len(images))
    return geometry.windows(images, top, left, height, width)


def check_fits(size: Sequence[int], images: Array) -> None:
    """Refuse images that are smaller than `size`."""
    if size[0] > images.shape[2] or size[1] > images.shape[3]:
        raise ValueError(
            f"images: expected at least {size[0]}x{size[1]} to crop from, "
            f"got {images.shape[2]}x{images.shape[3]}"
        )


def check_channels(expected: int, images: Array, name: str) -> None:
    """Refuse images with other channels than the argument `name` has."""
    if images.shape[1] != expected:
        raise ValueError(
            f"images: expected {expected} channels, as {name} has, got {images.shape[1]}"
        )


def number(name: str, value: Any) -> float:
    """Return a finite number as a float; TypeError or ValueError names the argument."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return float(value)


def numbers(name: str, values: Any) -> list[float]:
    """Return one number or several as a list."""
    if isinstance(values, Sequence | np.ndarray) and not isinstance(values, str):
        if len(values) == 0:
            raise ValueError(f"{name}: expected at least one number, got none")
        return [number(name, value) for value in values]
    return [number(name, values)]


def pair(name: str, value: Any, least: int) -> list[int]:
    """Return one integer for both, or two, as a list of two."""
    both = list(value) if isinstance(value, Sequence) else [value, value]
    if len(both) != 2 or not all(type(part) is int for part in both):
        raise TypeError(f"{name}: expected an integer or two, got {value!r}")
    if min(both) < least:
        raise ValueError(f"{name}: expected at least {least}, got {value!r}")
    return both
