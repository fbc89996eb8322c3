"""Pictures of what a network sees: its layers' maps, and where it looks for a class.

Both colour maps are even in brightness and can be told apart by the colour-blind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minicnn import functional as F
from minicnn.grad_mode import no_grad
from minicnn.tensor import Tensor
from minicnn.training.plots import GRID, INK, SOFT_INK, TEST, TRAIN, _draw, _figure, _sheet
from minicnn.visualize import HeatMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAPS, HEAT = "viridis", "inferno"
COLUMNS, MOST_MAPS, MOST_CLASSES = 16, 32, 5
NAMES = {"cam": "class activation map", "grad-cam": "Grad-CAM"}


def feature_maps_png(maps: Mapping[str, NDArray[np.float64]], title: str) -> bytes:
    """Draw the maps of layers, those of a layer as a grid under its name.

    Args:
        maps: (C, H, W) by layer; the first 32 of each are drawn, each from dark at its smallest
            value to bright at its largest.
        title: the line above.
    """
    return _draw(_feature_maps, maps, title)


def heat_png(
    picture: NDArray[np.floating], heat: HeatMap, classes: Sequence[str], title: str
) -> bytes:
    """Draw a picture, where a network looks in it for a class, and the likeliest classes.

    Args:
        picture: (1 or 3, H, W), as the network gets it.
        heat: on any size of map; it is laid over the picture bilinearly, and what speaks against
            the class is left out.
        classes: the names of all classes.
        title: the line above.
    """
    return _draw(_heat, picture, heat, classes, title)


def over_picture(values: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return a heat map at the size of its picture, from 0 to 1; what is negative becomes 0."""
    with no_grad():
        large = F.interpolate(
            Tensor(np.maximum(values, 0)[None, None]), size, mode="bilinear", align_corners=False
        )
    result = large.cpu().numpy()[0, 0]
    return result / (result.max() or 1.0)


def _feature_maps(maps: Mapping[str, NDArray[np.float64]], title: str) -> Figure:
    from matplotlib import colormaps

    sheets = []
    for values in maps.values():
        shown = values[:MOST_MAPS]
        low = shown.min(axis=(1, 2), keepdims=True)
        span = shown.max(axis=(1, 2), keepdims=True) - low
        scaled = (shown - low) / np.where(span > 0, span, 1)
        sheets.append(_sheet(colormaps[MAPS](scaled)[..., :3], COLUMNS))
    heights = [0.45 + 8.6 * sheet.shape[0] / sheet.shape[1] for sheet, _ in sheets]
    figure = _figure(9.0, 0.35 + sum(heights))
    figure.suptitle(title, x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    panels = np.ravel(figure.subplots(len(sheets), 1, squeeze=False, height_ratios=heights))
    for axes, (name, values), (sheet, frames) in zip(panels, maps.items(), sheets, strict=True):
        axes.imshow(sheet, interpolation="nearest")
        axes.add_collection(frames)
        axes.set_axis_off()
        axes.set_title(_caption(name, values), fontsize=9, fontweight="normal", pad=5)
    return figure


def _caption(name: str, values: NDArray[np.float64]) -> str:
    count, height, width = values.shape
    text = f"{name}: {count:,} map{'s' if count > 1 else ''} of {height} x {width}"
    return f"{text}, the first {MOST_MAPS}" if count > MOST_MAPS else text


def _heat(
    picture: NDArray[np.floating], heat: HeatMap, classes: Sequence[str], title: str
) -> Figure:
    from matplotlib.cm import ScalarMappable

    seen = _visible(picture)
    high, wide = seen.shape[:2]
    side = 2.9 * min(max(high / wide, 0.5), 2.0)
    figure = _figure(10.0, side + 0.95)
    figure.suptitle(title, x=0.012, ha="left", fontsize=11.5, fontweight="bold")
    left, middle, scale, right = figure.subplots(1, 4, width_ratios=(1, 1, 0.05, 0.9))
    left.imshow(seen, interpolation="nearest")
    left.set_title("what the network sees", fontsize=9, fontweight="normal")
    middle.imshow(seen.mean(axis=2), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    shares = over_picture(heat.values, (high, wide))
    # The hotter, the less of the picture shows through, so that colours are those of the scale.
    middle.imshow(shares, cmap=HEAT, vmin=0, vmax=1, alpha=0.15 + 0.65 * shares)
    name = classes[heat.target]
    middle.set_title(f"{NAMES[heat.method]} for {_short(name)!r}", fontsize=9, fontweight="normal")
    across = " x ".join(map(str, heat.values.shape))
    middle.set_xlabel(f"from {heat.layer}, {across}", fontsize=8)
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), cax=scale)
    scale.set_box_aspect(20 * high / wide)
    bar.set_ticks([0, 1], labels=["nothing", "most"])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7)
    for axes in (left, middle):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(GRID)
    _probabilities(right, heat, classes)
    return figure


def _probabilities(axes: Axes, heat: HeatMap, classes: Sequence[str]) -> None:
    """Draw the likeliest classes as bars, that of the heat map in colour and always there."""
    order = np.argsort(-heat.probabilities, kind="stable")[:MOST_CLASSES].tolist()
    if heat.target not in order:
        order[-1] = heat.target
    values = [float(heat.probabilities[index]) for index in order]
    colours = [TEST if index == heat.target else TRAIN for index in order]
    axes.barh(range(len(order)), values, height=0.6, color=colours)
    for position, value in enumerate(values):
        axes.annotate(
            f"{value:.2%}", (value, position), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8, color=INK,
        )  # fmt: skip
    axes.set_yticks(range(len(order)), [_short(classes[index]) for index in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(0, 1.3)
    axes.set_xticks([])
    axes.set_title("likeliest classes", fontsize=9, fontweight="normal")
    axes.tick_params(length=0, labelcolor=SOFT_INK)
    axes.spines[:].set_visible(False)


def _visible(picture: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a normalised picture as (H, W, 3) from 0 to 1."""
    values = picture.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    values = (values - low) / (high - low or 1.0)
    if len(values) != 3:
        values = np.repeat(values.mean(axis=0, keepdims=True), 3, axis=0)
    return values.transpose(1, 2, 0)


def _short(name: str) -> str:
    """Return a class name that fits beside its bar."""
    return name if len(name) <= 18 else f"{name[:17]}…"
