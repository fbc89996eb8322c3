"""Turn any picture of a digit or a garment into the kind of image its network was trained on.

MNIST's digits were made so: the digit's box was scaled to fit 20 x 20 pixels, its shape kept, and
put into 28 x 28 with its centre of mass in the middle, bright ink on black. A network trained on
them knows nothing else, so a photograph or a drawing has to be brought there first.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition", 1998, section III.A; Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INK_THRESHOLD = 0.2


@dataclass(frozen=True)
class Frame:
    """How a grey data set places its subject.

    Attributes:
        size: height and width of the image.
        box: the subject's longer side.
        by_mass: its centre of mass lies in the middle, else the middle of its box.
    """

    size: int
    box: int
    by_mass: bool


FRAMES = {
    "mnist": Frame(28, 20, by_mass=True),
    "fashion-mnist": Frame(28, 28, by_mass=False),
    "digits": Frame(8, 8, by_mass=False),
}


def read_grey(path: Path) -> NDArray[np.float64]:
    """Read a picture as grey, turned as its camera was held, on white where it is transparent.

    Returns:
        (H, W) in [0, 1]; 0 = black.

    Raises:
        ValueError: the file is not a picture, or is damaged; the message names it.
        OSError: it cannot be read.
    """
    from PIL import Image, ImageOps

    with open(path, "rb") as file:
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image)
                if upright.mode in ("I;16", "I;16L", "I;16B", "I", "F"):
                    return _stretched(np.asarray(upright, np.float64))
                return _on_white(np.asarray(upright.convert("RGBA"), np.float64) / 255)
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is not a picture that can be read: {error}") from error


def _stretched(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring a 16-bit or floating-point picture, whose white no format fixes, to [0, 1]."""
    low, high = grey.min(), grey.max()
    return (grey - low) / (high - low) if high > low else np.zeros_like(grey)


def _on_white(rgba: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lay a picture on paper: white, or black when what is drawn on nothing is bright."""
    grey = rgba[..., :3] @ (0.299, 0.587, 0.114)
    alpha = rgba[..., 3]
    if alpha.min() == 1:
        return grey
    ink = np.average(grey, weights=alpha) if alpha.any() else 0.0
    return alpha * grey + (1 - alpha) * (1.0 if ink < 0.5 else 0.0)


def place(grey: NDArray[np.float64], frame: Frame) -> NDArray[np.uint8]:
    """Bring a grey picture of one subject into a data set's frame.

    A picture of the frame's size is taken as it is; either way, a bright border means dark ink, and
    the picture is inverted.

    Args:
        grey: (H, W) in [0, 1].
        frame: where the subject goes.

    Returns:
        (1, size, size) uint8, bright on black.
    """
    background = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    if background > 0.5:
        grey, background = 1 - grey, 1 - background
    if grey.shape == (frame.size, frame.size):
        image = grey
    else:
        image = _framed(_ink(grey, background), frame)
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)[None]


def _ink(grey: NDArray[np.float64], background: float) -> NDArray[np.float64]:
    """Stretch what is brighter than the background to [0, 1]; grain and shadows become 0."""
    # The very brightest pixels may be noise: the median of the bright half is the ink.
    raised = (grey - background).clip(0)
    bright = raised[raised > 0.5 * raised.max()]
    level = float(np.median(bright)) if bright.size else 0.0
    if level <= 0:
        return np.zeros_like(grey)
    ink = (raised / level).clip(0, 1)
    return np.where(ink < INK_THRESHOLD, 0.0, ink)


def _framed(ink: NDArray[np.float64], frame: Frame) -> NDArray[np.float64]:
    """Crop to the subject, scale its longer side to the frame's box and centre it."""
    from PIL import Image

    canvas = np.zeros((frame.size, frame.size))
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not rows.size:
        return canvas
    subject = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = frame.box / max(subject.shape)
    height, width = (max(1, round(side * scale)) for side in subject.shape)
    picture = Image.fromarray(subject.astype(np.float32), mode="F")
    small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float64)
    small /= small.max()  # a thin line fades when it is scaled down
    if frame.by_mass:
        y, x = (np.arange(height) @ small.sum(1), np.arange(width) @ small.sum(0)) / small.sum()
    else:
        y, x = (height - 1) / 2, (width - 1) / 2
    middle = (frame.size - 1) / 2
    top = int(np.clip(round(middle - y), 0, frame.size - height))
    left = int(np.clip(round(middle - x), 0, frame.size - width))
    canvas[top : top + height, left : left + width] = small
    return canvas
