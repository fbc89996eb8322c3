"""Find places for the names of bubbles in a chart.

They cover neither each other nor, if it can be, a bubble. Lines lead from those that stand apart,
or among several, to what they name.

One label after the other takes the cheapest of some hundreds of places around its bubble, those of
small bubbles first. Everything is in pixels, upwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Point = tuple[float, float]

RINGS, STEPS, ON_A_LINE = 14, 24, 48
# Against the area of a bubble that is covered: what may hardly be, and what had better not.
FORBIDDEN, LINE_THROUGH_A_NAME = 1000.0, 5.0


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area in common."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(wide, 0.0) * max(high, 0.0)

    def nearest(self, point: Point) -> Point:
        """Return the point of the rectangle that is nearest to another."""
        return (
            min(max(point[0], self.left), self.right),
            min(max(point[1], self.bottom), self.top),
        )

    def is_met(self, points: Sequence[Point]) -> bool:
        """Say whether one of the points is inside."""
        return any(self.left <= x <= self.right and self.bottom <= y <= self.top for x, y in points)

    def around(self, margin: float) -> Box:
        """Return the rectangle with a margin."""
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)


class Label(NamedTuple):
    """Where a name goes, and the ends of the line to its bubble's middle, if it needs one."""

    box: Box
    line: tuple[Point, Point] | None


def place_labels(
    centres: Sequence[Point],
    radii: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    point: float,
) -> list[Label]:
    """Return a place for each name.

    Args:
        centres, radii: of the bubbles.
        sizes: (width, height) of the names.
        frame: where they should stay.
        point: pixels in a point.
    """
    bubbles = [Box(x, y, x, y).around(0.8 * r) for (x, y), r in zip(centres, radii, strict=True)]
    middles = [Box(x, y, x, y).around(2 * point) for x, y in centres]
    taken: dict[int, Label] = {}
    lines: list[list[Point]] = []
    for index in sorted(range(len(centres)), key=lambda i: radii[i]):
        others = [i for i in range(len(centres)) if i != index]
        width, height = sizes[index]
        best, cost = None, math.inf
        for box, effort in _around(centres[index], radii[index], width, height, point):
            near = box.nearest(centres[index])
            line = None
            if effort >= 1 or any(
                math.dist(near, centres[i]) < radii[i] + 8 * point for i in others
            ):
                line = (centres[index], near)
            names = [label.box.around(1.0) for label in taken.values()]
            hidden = sum(box.overlap(b) for b in (*names, *middles))
            outside = width * height - box.overlap(frame)
            crossed = sum(box.is_met(dots) for dots in lines)
            own = _along(line)
            crossed += sum(name.is_met(own) for name in names)
            price = (
                sum(box.overlap(bubbles[i]) for i in others)
                + FORBIDDEN * (hidden + outside)
                + (LINE_THROUGH_A_NAME * crossed + effort / 4) * width * height
            )
            if price < cost - 1e-9:
                best, cost = Label(box, line), price
        assert best is not None
        taken[index] = best
        lines.append(_along(best.line))
    return [taken[index] for index in range(len(centres))]


def _along(line: tuple[Point, Point] | None) -> list[Point]:
    """Return points on a line."""
    if line is None:
        return []
    (x0, y0), (x1, y1) = line
    shares = [i / ON_A_LINE for i in range(1, ON_A_LINE)]
    return [(x0 + s * (x1 - x0), y0 + s * (y1 - y0)) for s in shares]


def _around(
    centre: Point, radius: float, width: float, height: float, point: float
) -> Iterator[tuple[Box, float]]:
    """Yield places for a label around a bubble, each with how little it is wanted."""
    for ring in range(RINGS):
        reach = radius + (3 + 9 * ring) * point
        for step in range(STEPS):
            angle = 2 * math.pi * step / STEPS
            dx, dy = math.cos(angle), math.sin(angle)
            # The label touches the ring with the side or corner that is turned to the bubble.
            left = centre[0] + reach * dx - width * (1 - dx) / 2
            bottom = centre[1] + reach * dy - height * (1 - dy) / 2
            effort = ring + 0.05 * (step % (STEPS // 4) != 0)
            yield Box(left, bottom, left + width, bottom + height), effort
