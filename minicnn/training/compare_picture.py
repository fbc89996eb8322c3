"""Networks in one picture: accuracy against multiply-adds, parameters as areas; else bars.

One panel a dataset, since accuracies on different ones cannot be compared, and bars of parameters
and of multiply-adds for networks without such a neighbour. After Canziani, Paszke and
Culurciello, "An analysis of deep neural network models for practical applications", 2016, figure 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minicnn.training.compare import Compared
from minicnn.training.labels import Box, place_labels
from minicnn.training.plots import GRID, INK, SOFT_INK, _draw, _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# One colour a way of looking at images: blue, orange, green and grey of Okabe and Ito's palette.
COLOURS = {
    "one crop": "#0072B2", "ten crops": "#E69F00", "whole image": "#009E73", "": "#0072B2",
}  # fmt: skip
BARS = ("#0072B2", "#E69F00")
LARGEST_AREA, SMALLEST_AREA = 2600.0, 12.0  # square points
UNCROWDED = 12  # bubbles
PANEL, BAR = 5.2, 0.42  # inches


def compare_png(rows: Sequence[Compared]) -> bytes:
    """Draw networks beside each other.

    Args:
        rows: at least one network.
    """
    return _draw(_comparison, rows)


def _comparison(rows: Sequence[Compared]) -> Figure:
    groups: dict[str, list[Compared]] = {}
    for row in rows:
        groups.setdefault(row.data if row.top1 is not None else "", []).append(row)
    groups = {data: group for data, group in groups.items() if data and len(group) > 1}
    unknown = [row for row in rows if row.data not in groups or row.top1 is None]
    heights = [PANEL] * len(groups) + ([0.95 + BAR * len(unknown)] if unknown else [])
    figure = _figure(9.0, sum(heights))
    parts = np.ravel(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False))
    panels = [
        _bubbles(part, data, group)
        for part, (data, group) in zip(parts, groups.items(), strict=False)
    ]
    if unknown:
        _bars(parts[-1], unknown, bool(groups))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, group in zip(panels, groups.values(), strict=True):
        _label(axes, group)
    return figure


def _place(row: Compared) -> tuple[float, float]:
    """Return where a bubble lies; the scale of MACs has no zero."""
    assert row.top1 is not None
    return max(row.macs, 1), row.top1


def _scale(rows: Sequence[Compared]) -> float:
    """Return how many square points a parameter has; fewer where many bubbles would crowd."""
    most = LARGEST_AREA * min(1.0, UNCROWDED / len(rows))
    return most / max(row.parameters for row in rows)


def _area(parameters: int, scale: float) -> float:
    return max(SMALLEST_AREA, scale * parameters)


def _bubbles(part: SubFigure, data: str, rows: Sequence[Compared]) -> Axes:
    """Draw the networks whose accuracy on a dataset is known; labels come later."""
    axes = part.subplots()
    scale = _scale(rows)
    for row in sorted(rows, key=lambda row: -row.parameters):
        axes.scatter(
            *_place(row), s=_area(row.parameters, scale), color=COLOURS[row.views],
            alpha=0.55, edgecolor=COLOURS[row.views], linewidth=1.0,
        )  # fmt: skip
        axes.plot(*_place(row), ".", color=INK, markersize=2.5)
    axes.set_xscale("log")
    kind = "top-1 accuracy" if data == "ImageNet" else "test accuracy"
    axes.set_title(f"{data}: {kind} against multiply-adds for one image")
    axes.set_xlabel("multiply-adds (MACs) for one image, log scale; areas are parameters")
    axes.set_ylabel(kind)
    _limits(axes, rows)
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}%")
    axes.xaxis.set_major_formatter(lambda value, position: short(value))
    axes.xaxis.set_minor_formatter(lambda value, position: "")
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0)
    _legends(axes, rows)
    return axes


def _limits(axes: Axes, rows: Sequence[Compared]) -> None:
    """Leave room around the bubbles, and ticks at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    macs = [_place(row)[0] for row in rows]
    margin = max((max(macs) / min(macs)) ** 0.16, 1.7)
    axes.set_xlim(min(macs) / margin, max(macs) * margin)
    tops = [_place(row)[1] for row in rows]
    room = max(0.2 * (max(tops) - min(tops)), 0.25)
    axes.set_ylim(min(tops) - room, max(tops) + room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7))


def _legends(axes: Axes, rows: Sequence[Compared]) -> None:
    """Explain areas and colours, in the margin right of the panel."""
    from matplotlib.lines import Line2D

    scale, largest = _scale(rows), max(row.parameters for row in rows)
    unit = 10 ** math.floor(math.log10(largest))
    nice = max(n * unit for n in (1, 2, 5) if n * unit <= largest)
    sizes = [n for n in (nice, nice // 5, nice // 25) if n]
    circles = [
        axes.scatter([], [], s=_area(n, scale), facecolor="none", edgecolor=SOFT_INK) for n in sizes
    ]
    areas = axes.legend(
        circles, [short(n) for n in sizes], title="parameters", loc="upper left",
        bbox_to_anchor=(1.01, 1.0), frameon=False, labelcolor=SOFT_INK, labelspacing=2.7,
        handletextpad=1.6, borderpad=1.2, alignment="left",
    )  # fmt: skip
    views = dict.fromkeys(row.views for row in rows if row.views)
    if views:
        axes.add_artist(areas)
        dots = [
            Line2D([], [], marker="o", linestyle="", color=COLOURS[view], alpha=0.7)
            for view in views
        ]
        axes.legend(
            dots, list(views), title="images seen as", loc="lower left",
            bbox_to_anchor=(1.01, 0.0), frameon=False, labelcolor=SOFT_INK, alignment="left",
        )  # fmt: skip


def _label(axes: Axes, rows: Sequence[Compared]) -> None:
    """Write the names beside the bubbles, once everything else has its place."""
    figure: Any = axes.get_figure(root=True)
    renderer = figure.canvas.get_renderer()
    point = figure.dpi / 72
    scale = _scale(rows)
    centres = [tuple(axes.transData.transform(_place(row)).tolist()) for row in rows]
    radii = [point * math.sqrt(_area(row.parameters, scale) / math.pi) for row in rows]
    texts = [axes.text(0, 0, label(row), fontsize=8, color=INK, va="bottom") for row in rows]
    extents = [text.get_window_extent(renderer) for text in texts]
    sizes = [(extent.width, extent.height) for extent in extents]
    frame = Box(*axes.get_window_extent().extents)
    back = axes.transData.inverted()
    for text, (box, line) in zip(
        texts, place_labels(centres, radii, sizes, frame, point), strict=True
    ):
        left, bottom = back.transform((box.left, box.bottom))
        text.set_position((left, bottom))
        if line is not None:
            axes.plot(*back.transform(line).T, color=SOFT_INK, linewidth=0.6)


def _bars(part: SubFigure, rows: Sequence[Compared], others: bool) -> None:
    """Draw parameters and multiply-adds of networks that no panel has."""
    left, right = part.subplots(1, 2, sharey=True)
    what = (("parameters", left, [row.parameters for row in rows]),
            ("multiply-adds for one image", right, [row.macs for row in rows]))  # fmt: skip
    for (title, axes, values), colour in zip(what, BARS, strict=True):
        axes.barh(range(len(rows)), values, height=0.62, color=colour)
        for position, value in enumerate(values):
            axes.annotate(
                short(value), (value, position), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=8, color=INK,
            )  # fmt: skip
        axes.set_title(title)
        axes.set_xlim(0, 1.18 * max(*values, 1))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    names = [
        label(row) if row.top1 is None else f"{label(row)}\n{row.top1:.2f} % on {row.data}"
        for row in rows
    ]
    left.set_yticks(range(len(rows)), names)
    for text in left.get_yticklabels():
        text.set_color(INK)
    if others:
        part.suptitle("The others", x=0.012, ha="left", fontsize=10.5, fontweight="bold")


def label(row: Compared) -> str:
    """Return the name to write in a picture: of a run, its folder's own."""
    return row.name if row.name == row.model else Path(row.name).resolve().name


def short(number: float) -> str:
    """Return a count as people say it: 25.6 M, 4.09 G."""
    for unit, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{sign}"
    return f"{number:.3g}"
