"""Pictures are PNGs that show what they should, in the colours they should."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn.data import Dataset
from minicnn.training import EpochMetrics
from minicnn.training.plots import confusion_png, curves_png, filters_png, samples_png

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")
ROOT = Path(__file__).parents[2]


def pixels(png: bytes) -> np.ndarray:
    """Decode a PNG to (H, W, 3) integers."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), int)


def count(picture: np.ndarray, colour: tuple[int, int, int], near: int = 12) -> int:
    """Count the pixels within `near` of a colour."""
    return int((np.abs(picture - np.array(colour)).max(axis=2) <= near).sum())


def history(epochs: int) -> list[EpochMetrics]:
    return [
        EpochMetrics(i, 9 * i, 0.1, 1 / i, 1 - 0.1 / i, 0.8 / i, 1 - 0.05 / i, 1.0, 9.0)
        for i in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_curves_show_both_lines(epochs):
    picture = pixels(curves_png(history(epochs), "a network on a dataset"))
    assert picture.shape[1] > 1.5 * picture.shape[0] > 600
    assert count(picture, (0x09, 0x69, 0xDA)) > 50 * min(epochs, 3)
    assert count(picture, (0x8C, 0x95, 0x9F)) > 20 * min(epochs, 3)


def cell(picture: np.ndarray, row: int, column: int, classes: int) -> np.ndarray:
    """Return the median colour of a matrix cell's upper left part, found by the matrix's frame."""
    dark = picture.sum(axis=2) < 3 * 250
    # The diagonal is full, so its blue spans the matrix.
    blue = (picture[..., 2] - picture[..., 0]) > 60
    rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    height, width = (np.ptp(side) + 1 for side in (rows, columns))
    assert dark.any()
    top = rows[0] + int((row + 0.15) * height / classes)
    left = columns[0] + int((column + 0.15) * width / classes)
    patch = picture[top : top + height // classes // 8, left : left + width // classes // 8]
    return np.median(patch.reshape(-1, 3), axis=0)


def test_a_confusion_matrix_is_blue_where_right_orange_where_wrong_white_where_empty():
    confusion = np.diag([90, 80, 100, 70])
    confusion[1, 3] = 20
    picture = pixels(confusion_png(confusion, list("abcd"), "title"))
    for index in range(4):
        red, _, blue = cell(picture, index, index, 4)
        assert blue - red > 60
    red, _, blue = cell(picture, 1, 3, 4)
    assert red - blue > 40
    np.testing.assert_array_equal(cell(picture, 3, 1, 4), [255, 255, 255])


@pytest.mark.parametrize("classes", [1, 2, 25])
def test_confusion_matrices_of_any_size(classes):
    names = [f"kind {index}" for index in range(classes)]
    confusion = np.eye(classes, dtype=int) * 7
    assert pixels(confusion_png(confusion, names, "title")).std() > 10
    pixels(confusion_png(np.zeros((classes, classes), int), names, "no images at all"))


def test_filters_are_blue_below_and_red_above_zero():
    weight = np.zeros((2, 1, 3, 3), np.float32)
    weight[0] = -1
    weight[1] = 1
    picture = pixels(filters_png(weight, "two filters"))
    assert count(picture, (5, 48, 97)) > 1000
    assert count(picture, (103, 0, 31)) > 1000


def test_filters_on_colours_are_shown_in_colour():
    weight = np.zeros((4, 3, 5, 5), np.float32)
    for index in range(3):
        weight[index, index] = 1
    picture = pixels(filters_png(weight, "colours"))
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert count(picture, colour) > 1000


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 2, 3, 5), (64, 3, 11, 11), (37, 1, 5, 5)])
def test_filters_of_any_shape(shape):
    weight = np.random.default_rng(0).normal(size=shape)
    assert pixels(filters_png(weight, "title")).std() > 5
    pixels(filters_png(np.zeros(shape), "untrained"))


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_show_the_images(channels):
    images = np.full((6, channels, 4, 4), 200, np.uint8)
    dataset = Dataset(images, np.array([0, 0, 0, 1, 1, 1]), ["one", "two"])
    picture = pixels(samples_png(dataset, "title", columns=3))
    assert count(picture, (200, 200, 200), near=1) > 6 * 2000


def test_drawing_leaves_no_trace_in_matplotlib():
    """pyplot's global state, its backend and its style stay untouched."""
    code = (
        "import sys, numpy as np, matplotlib\n"
        # Asking for the backend would itself load pyplot.
        "names = set(matplotlib.rcParams) - {'backend'}\n"
        "style = lambda: [matplotlib.rcParams[name] for name in sorted(names)]\n"
        "before = style()\n"
        "from minicnn.training.plots import filters_png\n"
        "filters_png(np.ones((2, 1, 3, 3)), 'title')\n"
        "assert style() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
