"""Names of bubbles find places that are theirs alone."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from minicnn.training.labels import Box, place_labels

FRAME = Box(0, 0, 1000, 600)


def crowd(count: int) -> tuple[list, list]:
    rng = np.random.default_rng(0)
    centres = [(300 + 400 * x, 200 + 200 * y) for x, y in rng.random((count, 2))]
    return centres, list(5 + 30 * rng.random(count))


def test_a_lone_name_stands_beside_its_bubble_without_a_line():
    ((box, line),) = place_labels([(500, 300)], [20], [(80, 10)], FRAME, 1)
    assert line is None
    assert 20 < math.dist(box.nearest((500, 300)), (500, 300)) < 25


@pytest.mark.parametrize("count", [2, 14])
def test_names_in_a_crowd_cover_neither_each_other_nor_a_middle(count):
    centres, radii = crowd(count)
    labels = place_labels(centres, radii, [(80, 10)] * count, FRAME, 1)
    for (first, _), (second, _) in itertools.combinations(labels, 2):
        assert first.overlap(second) == 0
    for box, _ in labels:
        assert not box.is_met(centres)
        assert box.overlap(FRAME) == pytest.approx(800)


def test_a_line_goes_from_the_middle_of_the_bubble_to_the_name():
    centres, radii = crowd(14)
    labels = place_labels(centres, radii, [(80, 10)] * 14, FRAME, 1)
    lines = [(box, line, centre) for (box, line), centre in zip(labels, centres, strict=True)
             if line is not None]  # fmt: skip
    assert lines
    for box, (start, end), centre in lines:
        assert start == centre and box.nearest(centre) == end


def test_a_name_that_others_could_claim_has_a_line():
    labels = place_labels([(500, 300), (500, 300)], [20, 22], [(80, 10)] * 2, FRAME, 1)
    assert all(line is not None for _, line in labels)


def test_at_the_edge_names_turn_inwards():
    ((box, _),) = place_labels([(990, 300)], [20], [(80, 10)], FRAME, 1)
    assert box.right <= 1000
