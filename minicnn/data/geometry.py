"""The geometry of the transforms: functions of a whole batch of images (N, C, H, W) at once."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]


def pad(images: Array, top: int, bottom: int, left: int, right: int, fill: float = 0.0) -> Array:
    """Add a frame of `fill`."""
    batch, channels, height, width = images.shape
    shape = (batch, channels, top + height + bottom, left + width + right)
    padded = np.full(shape, fill, images.dtype)
    padded[:, :, top : top + height, left : left + width] = images
    return padded


def windows(images: Array, top: NDArray, left: NDArray, height: int, width: int) -> Array:
    """Cut a (height, width) window out of each image, at its own corner top[n], left[n]."""
    views = sliding_window_view(images, (height, width), axis=(2, 3))
    return views[np.arange(len(images)), :, top, left]


def rotate(images: Array, degrees: ArrayLike) -> Array:
    """Turn each image counter-clockwise by its own angle, bilinearly, zeros coming in.

    Output pixel (y, x) reads the input at the point that the turn brings there,

        y_in = cos(a) (y - y_c) + sin(a) (x - x_c) + y_c
        x_in = cos(a) (x - x_c) - sin(a) (y - y_c) + x_c

    where (y_c, x_c) is the centre ((H - 1) / 2, (W - 1) / 2) and the y axis points down.

    Args:
        images: (N, C, H, W).
        degrees: (N,) angles.
    """
    # A few images at a time, so that the temporaries are small enough for malloc to hand out again:
    # 64 images of 28 x 28 take 0.7 ms, all at once 1.9 ms, most of it page faults.
    group = max(1, 16384 // max(1, images[:1].size))
    angles = np.deg2rad(degrees).astype(images.dtype)
    turned = np.empty(images.shape, images.dtype)
    for start in range(0, len(images), group):
        part = slice(start, start + group)
        turned[part] = _rotate_group(images[part], angles[part])
    return turned


def _rotate_group(images: Array, angles: Array) -> Array:
    batch, channels, height, width = images.shape
    angles = angles.reshape(batch, 1, 1, 1)
    cos, sin = np.cos(angles), np.sin(angles)
    y_centre, x_centre = (height - 1) / 2, (width - 1) / 2
    y = np.arange(height, dtype=images.dtype)[:, np.newaxis] - y_centre
    x = np.arange(width, dtype=images.dtype) - x_centre
    # All is zero from one pixel outside the image on, so points farther out may be drawn in to
    # there. A frame of one zero above and left, two below and right then holds all neighbours.
    y_in = np.clip(cos * y + sin * x + y_centre, -1, height)
    x_in = np.clip(cos * x - sin * y + x_centre, -1, width)
    y_low, x_low = np.floor(y_in), np.floor(x_in)
    y_part, x_part = y_in - y_low, x_in - x_low

    framed = pad(images, 1, 2, 1, 2)
    row = width + 3
    plane = np.arange(batch * channels).reshape(batch, channels, 1, 1) * ((height + 3) * row)
    corner = (y_low.astype(np.int32) * row + x_low.astype(np.int32)) + (plane + row + 1)
    pixels = framed.ravel()
    upper = _mix(pixels[corner], pixels[1:][corner], x_part)
    lower = _mix(pixels[row:][corner], pixels[row + 1 :][corner], x_part)
    return _mix(upper, lower, y_part)


def _mix(first: Array, second: Array, part: Array) -> Array:
    # first + part (second - first), in the memory of `second`.
    second -= first
    second *= part
    second += first
    return second


def resize(images: Array, height: int, width: int) -> Array:
    """Scale bilinearly; for shrinking, the triangle of weights widens with the factor.

    Pixel centres stand on half integers; at the border the weights inside the image sum to one. So
    do Pillow's BILINEAR and PyTorch's `interpolate(mode="bilinear", antialias=True)`.
    """
    rows = _triangle_weights(images.shape[2], height).astype(images.dtype)
    columns = _triangle_weights(images.shape[3], width).astype(images.dtype)
    return rows @ (images @ columns.T)


def _triangle_weights(old: int, new: int) -> NDArray[np.float64]:
    # (new, old): row i weighs the old pixels by their distance from the centre of new pixel i.
    scale = old / new
    centres = (np.arange(new)[:, np.newaxis] + 0.5) * scale
    distances = np.abs(np.arange(old) + 0.5 - centres) / max(scale, 1)
    weights = np.maximum(0, 1 - distances)
    return weights / weights.sum(axis=1, keepdims=True)
