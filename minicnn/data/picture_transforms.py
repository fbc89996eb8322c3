"""Transforms of real pictures: their scale, their colours, and several crops of one picture.

Sources: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks", 2012, section 4.1 (mean, ten crops); Simonyan and Zisserman, "Very deep convolutional
networks for large-scale image recognition", 2015, section 3.1 (a drawn shorter side); Szegedy et
al., "Going deeper with convolutions", 2015, section 6 (crops of 8 to 100 % of the area). Crops'
draws and the colours' definitions are those of torchvision, whose names these have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minicnn.data import geometry
from minicnn.data.transforms import (
    Array,
    Numbers,
    Size,
    Transform,
    check_channels,
    check_fits,
    number,
    numbers,
    pair,
)

GREY = (0.2989, 0.587, 0.114)
TRIES = 10


class ResizeShortSide(Transform):
    """Scale so that the shorter side has a length, the shape kept, see `geometry.resize`.

    The longer side becomes floor(size * longer / shorter), as in torchvision's `Resize(size)`.

    Args:
        size: the shorter side's new length.
    """

    def __init__(self, size: int) -> None:
        self.size = pair("size", size, 1)[0]

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        return _resize_short(images, self.size)


class RandomShortSide(Transform):
    """Scale so that the shorter side has a drawn length, the shape kept; one image at a time.

    Args:
        low, high: the least and the greatest length; all between are equally likely.
    """

    one_by_one = True

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = pair("low", low, 1)[0], pair("high", high, 1)[0]
        if self.high < self.low:
            raise ValueError(f"high: expected at least low ({low}), got {high}")

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        if len(images) > 1:
            raise ValueError(
                f"images: expected one, as each gets another size, got {len(images)}; "
                "let a Compose with a crop behind take the batch"
            )
        return _resize_short(images, int(rng.integers(self.low, self.high + 1)))


class RandomResizedCrop(Transform):
    """Cut out a window of drawn area and shape, and scale it to one size.

    The area is uniform, the logarithm of width / height is; after ten draws that do not fit, the
    largest centred window of a permitted shape is taken.

    Args:
        size: (height, width) of the result, or one number for both.
        scale: least and greatest share of the image's area, in (0, 1].
        ratio: least and greatest width / height.
    """

    fixes_size = True

    def __init__(
        self,
        size: Size,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = pair("size", size, 1)
        self.scale = _range("scale", scale)
        self.ratio = _range("ratio", ratio)
        if self.scale[1] > 1:
            raise ValueError(f"scale: expected at most 1, got {scale}")

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        result = np.empty((*images.shape[:2], *self.size), images.dtype)
        for image, out in zip(images, result, strict=True):
            top, left, height, width = self.window(image.shape[1], image.shape[2], rng)
            part = image[np.newaxis, :, top : top + height, left : left + width]
            out[:] = geometry.resize(part, *self.size)[0]
        return result

    def window(
        self, height: int, width: int, rng: np.random.Generator
    ) -> tuple[int, int, int, int]:
        """Draw (top, left, height, width) of a window in an image of that height and width."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(TRIES):
            area = height * width * rng.uniform(self.scale[0], self.scale[1])
            shape = math.exp(rng.uniform(low, high))
            w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < w <= width and 0 < h <= height:
                top = int(rng.integers(0, height - h + 1))
                return top, int(rng.integers(0, width - w + 1)), h, w
        w, h = width, height
        if width / height < self.ratio[0]:
            h = max(1, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            w = max(1, round(height * self.ratio[1]))
        return (height - h) // 2, (width - w) // 2, h, w


class FiveCrop(Transform):
    """Cut out the four corners and the centre: (N, C, H, W) becomes (5 N, C, height, width).

    The views of an image follow each other: above left, above right, below left, below right,
    centre. An odd margin of the centre is rounded as in `CenterCrop`, which torchvision rounds to
    even.

    Args:
        size: (height, width) or one number for both; at most the size of the images.
    """

    fixes_size = True

    def __init__(self, size: Size) -> None:
        self.size = pair("size", size, 1)

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        views = _five(images, self.size)
        return views.reshape(-1, *views.shape[2:])


class TenCrop(FiveCrop):
    """Cut out the five windows of `FiveCrop`, then those of the mirrored image: (10 N, C, h, w).

    Args:
        size: (height, width) or one number for both; at most the size of the images.
    """

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        both = [_five(part, self.size) for part in (images, images[:, :, :, ::-1])]
        views = np.concatenate(both, axis=1)
        return views.reshape(-1, *views.shape[2:])


class SubtractMean(Transform):
    """Compute images - mean, channel by channel.

    Args:
        mean: one number for each channel, or one for all.
    """

    def __init__(self, mean: Numbers) -> None:
        self.mean = numbers("mean", mean)

    @classmethod
    def fit(cls, images: NDArray[np.uint8]) -> SubtractMean:
        """Return the transform that makes the mean of each channel of `images` (N, C, H, W) 0."""
        return cls(list(images.mean(axis=(0, 2, 3), dtype=np.float64) / 255))

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        if len(self.mean) > 1:
            check_channels(len(self.mean), images, "mean")
        return images - np.array(self.mean, images.dtype)[:, np.newaxis, np.newaxis]


class ColorJitter(Transform):
    """Change brightness, contrast and saturation of each image by drawn factors, in drawn order.

    A factor f is uniform in [max(0, 1 - x), 1 + x]. The image is blended with black, with the mean
    of its grey, or with its grey, f image + (1 - f) other, and clipped to [0, 1].

    Args:
        brightness, contrast, saturation: x, 0 or more; 0 changes nothing.
    """

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0
    ) -> None:
        self.brightness = number("brightness", brightness)
        self.contrast = number("contrast", contrast)
        self.saturation = number("saturation", saturation)
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"{name}: expected 0 or more, got {value}")

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        check_channels(3, images, "a colour picture")
        spread = np.array([self.brightness, self.contrast, self.saturation])
        result = images.copy()
        for image in result:
            factors = rng.uniform(np.maximum(0, 1 - spread), 1 + spread)
            for kind in rng.permutation(3):
                if spread[kind]:
                    image[:] = _blend(image, kind, factors[kind])
        return result


def _blend(image: Array, kind: int, factor: float) -> Array:
    # 0: with black, 1: with the mean of the grey picture, 2: with the grey picture.
    grey = np.tensordot(np.array(GREY, image.dtype), image, 1)
    other = (image.dtype.type(0), grey.mean(), grey)[kind]
    scale = image.dtype.type(factor)
    return np.clip(scale * image + (1 - scale) * other, 0, 1)


def _five(images: Array, size: Sequence[int]) -> Array:
    # (N, 5, C, h, w). The centre is rounded as CenterCrop's is.
    check_fits(size, images)
    height, width = size
    bottom, right = images.shape[2] - height, images.shape[3] - width
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2))
    return np.stack(
        [images[:, :, top : top + height, left : left + width] for top, left in corners], axis=1
    )


def _resize_short(images: Array, size: int) -> Array:
    height, width = images.shape[2:]
    if height <= width:
        return geometry.resize(images, size, size * width // height)
    return geometry.resize(images, size * height // width, size)


def _range(name: str, values: Sequence[float]) -> list[float]:
    ends = numbers(name, values)
    if len(ends) != 2 or not 0 < ends[0] <= ends[1]:
        raise ValueError(f"{name}: expected two positive numbers in order, got {values!r}")
    return ends
