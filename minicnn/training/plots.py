"""The pictures of a run, each a PNG as bytes: learning curves, confusion matrix, filters.

Drawn through Matplotlib's `Figure` objects on the Agg canvas: no window, no global state, so
drawing is safe on a server and inside another program's plotting session.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.training.history import EpochMetrics, best_epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure

    from minicnn.data import Dataset

DPI = 144
INK, SOFT_INK, GRID = "#24292f", "#6e7781", "#d8dee4"
TRAIN, TEST = "#8c959f", "#0969da"
RIGHT, WRONG = "Blues", "Oranges"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": SOFT_INK,
    "axes.edgecolor": GRID,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10.0,
    "xtick.color": SOFT_INK,
    "ytick.color": SOFT_INK,
}
MOST_NUMBERED_CLASSES = 20


def curves_png(history: Sequence[EpochMetrics], title: str) -> bytes:
    """Draw loss and accuracy by epoch, training and test.

    Args:
        history: at least one epoch.
        title: the line above both panels.
    """
    return _draw(_curves, history, title)


def confusion_png(confusion: np.ndarray, classes: Sequence[str], title: str) -> bytes:
    """Draw a confusion matrix: counts in the cells, shaded by the share of their true class.

    Args:
        confusion: (K, K) counts; row = true class, column = predicted class.
        classes: the K names.
        title: the line above the matrix.
    """
    return _draw(_confusion, confusion, classes, title)


def filters_png(weight: np.ndarray, title: str) -> bytes:
    """Draw a convolution's filters as a grid of small pictures.

    Args:
        weight: (C_out, C_in, K_h, K_w). Three input channels are shown in colour, each filter
            stretched to its own range; otherwise every input channel is a picture, blue below and
            red above zero on one scale, a row of C_in pictures for each filter when C_in > 1.
        title: the line above the grid.
    """
    return _draw(_filters, weight, title)


def samples_png(dataset: Dataset, title: str, columns: int = 12) -> bytes:
    """Draw the first images of each class, a row a class.

    Args:
        dataset: images of one or three channels.
        title: the line above.
        columns: images a class, as far as there are.
    """
    return _draw(_samples, dataset, title, columns)


def _draw(draw: Any, *arguments: Any) -> bytes:
    """Run a drawing function under the house style and return its figure as PNG bytes."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure: Figure = draw(*arguments)
        buffer = io.BytesIO()
        figure.savefig(
            buffer, format="png", dpi=DPI, facecolor="white", bbox_inches="tight", pad_inches=0.15
        )
    return buffer.getvalue()


def _figure(width: float, height: float, pad: float = 0.1, gap: float = 0.02) -> Figure:
    """Return an empty figure: size and padding in inches, gap between panels as a share."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    engine = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=gap)
    figure = Figure(figsize=(width, height), layout=engine)
    FigureCanvasAgg(figure)
    return figure


def _curves(history: Sequence[EpochMetrics], title: str) -> Figure:
    figure = _figure(9.0, 3.8, gap=0.06)
    figure.suptitle(title, x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row.epoch for row in history]
    for axes, name, scale in ((losses, "loss", 1.0), (accuracies, "accuracy", 100.0)):
        for kind, colour in (("train", TRAIN), ("test", TEST)):
            values = [scale * getattr(row, f"{kind}_{name}") for row in history]
            axes.plot(epochs, values, color=colour, linewidth=1.8, marker="o", markersize=3.5,
                      markeredgecolor="white", markeredgewidth=0.6,
                      label="training" if kind == "train" else "test")  # fmt: skip
        _open_axes(axes, epochs)
    losses.set_title("Loss (cross-entropy)")
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False, labelcolor=SOFT_INK)
    accuracies.set_title("Accuracy")
    accuracies.yaxis.set_major_formatter(lambda value, position: f"{value:g}%")
    _mark_best(accuracies, history)
    return figure


def _open_axes(axes: Axes, epochs: Sequence[int]) -> None:
    """Give a panel its light grid, whole epochs below, and no box."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    axes.set_xlim(epochs[0] - 0.4, epochs[-1] + 0.4)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)


def _mark_best(axes: Axes, history: Sequence[EpochMetrics]) -> None:
    """Ring the best test accuracy and write it, and the last, beside the panel's title."""
    best = best_epoch(history)
    assert best is not None
    axes.plot([best.epoch], [100 * best.test_accuracy], "o", markersize=7.5, markerfacecolor="none",
              markeredgecolor=TEST, markeredgewidth=1.2)  # fmt: skip
    text = (
        f"test {history[-1].test_accuracy:.2%}, best {best.test_accuracy:.2%} in epoch {best.epoch}"
    )
    axes.set_title(text, loc="right", color=TEST, fontsize=9, fontweight="normal")


def _confusion(confusion: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    from matplotlib import colormaps

    count = len(classes)
    side = min(3.2 + 0.5 * count, 12.0)
    figure = _figure(side, side)
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    diagonal = np.eye(count, dtype=bool)
    # A mistake is rare in a good network: the square root keeps single ones visible beside many.
    right = colormaps[RIGHT](0.12 + 0.68 * share)
    wrong = colormaps[WRONG](0.08 + 0.5 * np.sqrt(np.clip(share / 0.25, 0, 1)))
    shades = np.where(diagonal[..., None], right, wrong)
    shades[(confusion == 0) & ~diagonal] = 1.0
    axes.imshow(shades, interpolation="nearest")
    axes.set_title(title)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_xticks(range(count), classes)
    axes.set_yticks(range(count), classes)
    if max(map(len, classes)) > 3:
        axes.tick_params(axis="x", rotation=45)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=0.7)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    if count <= MOST_NUMBERED_CLASSES:
        _write_counts(axes, confusion, share)
    return figure


def _write_counts(axes: Axes, confusion: np.ndarray, share: np.ndarray) -> None:
    """Write each cell's count; cells of zero stay empty off the diagonal."""
    for (row, column), number in np.ndenumerate(confusion):
        if number or row == column:
            right = row == column
            axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=8,
                      color="white" if right and share[row, column] > 0.55 else INK,
                      fontweight="bold" if right else "normal")  # fmt: skip


def _filters(weight: np.ndarray, title: str) -> Figure:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    count, channels = weight.shape[:2]
    colours, norm = colormaps["RdBu_r"], Normalize(*_symmetric(weight))
    if channels == 3:
        pictures = _stretched(weight).transpose(0, 2, 3, 1)
        columns = _grid_columns(count)
    else:
        pictures = colours(norm(weight.reshape(-1, *weight.shape[2:])).data)[..., :3]
        columns = channels if channels > 1 else _grid_columns(count)
    sheet, frames = _sheet(pictures, columns)
    inch = 0.75 * columns / sheet.shape[1]
    figure = _figure(inch * sheet.shape[1] + 1.0, inch * sheet.shape[0] + 0.6)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.add_collection(frames)
    axes.set_title(title)
    axes.set_axis_off()
    if channels != 3:
        bar = figure.colorbar(
            ScalarMappable(norm, colours), ax=axes, fraction=0.04, pad=0.02, aspect=24
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=7)
    return figure


def _symmetric(weight: np.ndarray) -> tuple[float, float]:
    """Return limits that put zero in the middle."""
    limit = float(np.abs(weight).max()) or 1.0
    return -limit, limit


def _stretched(weight: np.ndarray) -> np.ndarray:
    """Bring each filter's values to [0, 1]."""
    low = weight.min(axis=(1, 2, 3), keepdims=True)
    span = weight.max(axis=(1, 2, 3), keepdims=True) - low
    return (weight - low) / np.where(span > 0, span, 1)


def _sheet(pictures: np.ndarray, columns: int) -> tuple[np.ndarray, PatchCollection]:
    """Lay (N, H, W, 3) pictures out on white, row by row; return that and a frame around each."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    height, width = pictures.shape[1:3]
    # White between pictures as a share of their size, finer than their own pixels.
    fine = max(1, math.ceil(16 / max(height, width)))
    pictures = pictures.repeat(fine, axis=1).repeat(fine, axis=2)
    height, width = pictures.shape[1:3]
    gap = max(1, round(0.15 * max(height, width)))
    rows = math.ceil(len(pictures) / columns)
    sheet = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    frames = []
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = picture
        frames.append(Rectangle((left - 0.5, top - 0.5), width, height))
    return sheet, PatchCollection(frames, facecolor="none", edgecolor=GRID, linewidth=0.8)


def _samples(dataset: Dataset, title: str, columns: int) -> Figure:
    channels, height, width = dataset.images.shape[1:]
    rows = len(dataset.classes)
    pictures = np.ones((rows, columns, height, width, 3))
    for row in range(rows):
        chosen = np.flatnonzero(dataset.labels == row)[:columns]
        pictures[row, : len(chosen)] = dataset.images[chosen].transpose(0, 2, 3, 1) / 255
    sheet, frames = _sheet(pictures.reshape(-1, height, width, 3), columns)
    inch = 0.55 * columns / sheet.shape[1]
    figure = _figure(inch * sheet.shape[1] + 1.2, inch * sheet.shape[0] + 0.6)
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.add_collection(frames)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks((np.arange(rows) + 0.5) * sheet.shape[0] / rows, dataset.classes)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _grid_columns(count: int) -> int:
    """Return how many columns make a wide grid of `count` pictures, full rows if it can be."""
    wide = max(1, math.ceil(math.sqrt(1.8 * count)))
    full = [columns for columns in range(wide, 2 * wide) if count % columns == 0]
    return full[0] if full else wide
