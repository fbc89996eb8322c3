"""Pictures of a run, each a PNG as bytes: bars of ratios, and the roofline."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import report
from benchmarks.timing import OURS
from minicnn.training.plots import DPI, GRID, INK, SOFT_INK, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0969da", "#bf8700", "#8250df", "#1a7f37", "#cf222e", "#57606a")
ROW = 0.24  # inches


def ratios_png(run: report.Run) -> bytes:
    """Draw the ratio of every case to every opponent, on a logarithmic axis around 1."""
    return _draw(_ratios, run)


def roofline_png(run: report.Run) -> bytes:
    """Draw what each kernel reaches under the two roofs of the machine.

    Args:
        run: with "peak" (flops a second) and "bandwidth" (bytes a second) beside the cases.
    """
    return _draw(_roofline, run)


def _draw(paint: Callable[[Figure, Any], None], run: report.Run) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure, run)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _ratios(figure: Figure, run: report.Run) -> None:
    absent = report.missing(run)
    names = [name for name in report.opponents(run) if name not in absent]
    cases = [c for c in run["cases"] if report.side(c, OURS) is not None]
    figure.set_size_inches(8, 1.4 + ROW * max(1, len(cases)))
    axes = figure.subplots()
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        found = [(i, r) for i, c in enumerate(cases) if (r := report.ratio(c, name)) is not None]
        shift = (number - (len(names) - 1) / 2) * 0.8 / max(1, len(names))
        axes.plot(
            [r for _, r in found], [i + shift for i, _ in found], "o", color=colour, markersize=4,
            label=name,
        )  # fmt: skip
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(cases)), [case["name"] for case in cases])
    axes.margins(y=0.5 / max(1, len(cases)))
    axes.invert_yaxis()
    axes.set_xlabel("times faster than the other; left of 1, slower")
    axes.set_title(f"{run['benchmark']}, {_threads(run)} each side")
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    _quiet(axes)


def _roofline(figure: Figure, run: report.Run) -> None:
    figure.set_size_inches(8, 5.4)
    axes = figure.subplots()
    peak, bandwidth = run["peak"], run["bandwidth"]
    dots = [
        (case["flops"] / case["bytes"], case["flops"] / s["best"], case["family"], s["name"])
        for case in run["cases"]
        for s in case["sides"]
        if "best" in s and case["flops"] and case["bytes"]
    ]
    intensities = [x for x, *_ in dots] + [peak / bandwidth]
    x = np.geomspace(min(intensities) / 2, max(intensities) * 2, 200)
    axes.plot(x, np.minimum(peak, bandwidth * x) / 1e9, color=INK, linewidth=1.4)
    axes.annotate(
        f"{peak / 1e9:.0f} GFLOP/s of multiply-adds", (x[-1], peak / 1e9), ha="right",
        xytext=(0, 4), textcoords="offset points", color=SOFT_INK,
    )  # fmt: skip
    halfway = np.sqrt(x[0] * peak / bandwidth)
    axes.annotate(
        f"{bandwidth / 1e9:.0f} GB/s of copying", (halfway, bandwidth * halfway / 1e9), ha="right",
        xytext=(-6, 6), textcoords="offset points", color=SOFT_INK,
    )  # fmt: skip
    families = list(dict.fromkeys(family for *_, family, _ in dots))
    for family, colour in zip(families, COLOURS, strict=False):
        own = [dot for dot in dots if dot[2] == family]
        axes.plot(
            [a for a, *_ in own], [b / 1e9 for _, b, *_ in own], "o", color=colour, markersize=5,
            label=family,
        )  # fmt: skip
        for intensity, rate, _, name in own:
            axes.annotate(
                name, (intensity, rate / 1e9), xytext=(6, -3), textcoords="offset points",
                fontsize=7, color=SOFT_INK,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte, each array moved once")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"Roofline, {run['machine']['cpu']}, {_threads(run)}")
    figure.legend(frameon=False, loc="outside lower center", ncols=5)
    _quiet(axes)


def _threads(run: report.Run) -> str:
    count = run["settings"]["threads"]
    return f"{count} thread{'s' if count > 1 else ''}"


def _quiet(axes: Axes) -> None:
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
