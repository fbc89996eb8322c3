"""Non-maximum suppression against its reference, torchvision, and planted ties."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minicnn.kernels import nms

DTYPES = [np.float32, np.float64]
# IoUs with the first: 81/119 = 0.68, 1/2, 0.
BOXES = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 5], [20, 20, 30, 30.0]])
SCORES = np.array([0.9, 0.8, 0.7, 0.6])


def grid(rng, count, dtype):
    """Return boxes on a coarse grid and few different scores: ties of both kinds."""
    first = rng.integers(0, 20, (count, 2))
    boxes = np.concatenate([first, first + rng.integers(0, 10, (count, 2))], 1)
    return boxes.astype(dtype), np.round(rng.random(count), 1).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "threshold, kept",
    [(0.3, [0, 3]), (0.5, [0, 2, 3]), (0.49, [0, 3]), (0.7, [0, 1, 2, 3]), (0, [0, 3])],
)
def test_golden_values(threshold, kept, dtype):
    found = nms.nms(BOXES.astype(dtype), SCORES.astype(dtype), threshold)
    assert found.dtype == np.int64
    assert_array_equal(found, kept)


def test_best_score_wins_wherever_it_stands():
    assert_array_equal(nms.nms(BOXES, SCORES[::-1].copy(), 0.4), [3, 2, 1])
    assert_array_equal(nms.nms(BOXES, np.array([0.1, 0.9, 0.2, 0.3]), 0.4), [1, 3, 2])


def test_equal_scores_keep_their_order():
    boxes = np.array([[0, 0, 4, 4.0]] * 3 + [[9, 9, 12, 12]])
    assert_array_equal(nms.nms(boxes, np.ones(4), 0.5), [0, 3])
    apart = boxes + 20 * np.arange(4)[:, None]
    assert_array_equal(nms.nms(apart, np.array([0.5, 0.7, 0.5, 0.7]), 0.5), [1, 3, 0, 2])


def test_nan_score_is_the_largest():
    apart = BOXES[[3]] + 20 * np.arange(4)[:, None]
    assert_array_equal(nms.nms(apart, np.array([0.5, np.nan, np.inf, np.nan]), 0.5), [1, 3, 2, 0])


def test_boxes_of_nan_or_without_an_area_suppress_nothing():
    boxes = np.array([[0, np.nan, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5.0]])
    with np.errstate(all="raise"):
        assert_array_equal(nms.nms(boxes, np.array([0.9, 0.8, 0.7, 0.6]), 0.0), [0, 1, 2, 3])


def test_no_box_and_one():
    assert_array_equal(nms.nms(np.zeros((0, 4)), np.zeros(0), 0.5), np.zeros(0))
    assert_array_equal(nms.nms(BOXES[:1], SCORES[:1], 0.5), [0])


def test_an_iou_is_compared_as_a_number_of_its_own_dtype():
    """3/10 in float32 is more than 0.3, though no more than 0.3 rounded to float32."""
    boxes, scores = np.array([[0, 0, 10, 1], [0, 0, 3, 1.0]]), np.array([1, 0.5])
    assert_array_equal(nms.nms(boxes.astype(np.float32), scores.astype(np.float32), 0.3), [0])
    assert_array_equal(nms.nms(boxes, scores, 0.3), [0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 64, 65, 150])
def test_reference_agrees(count, threshold, dtype):
    boxes, scores = grid(np.random.default_rng(count), count, dtype)
    before = boxes.copy(), scores.copy()
    kept = nms.nms(boxes, scores, threshold)
    assert_array_equal(kept, nms.nms_reference(boxes, scores, threshold))
    assert_array_equal(boxes, before[0])
    assert_array_equal(scores, before[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(8))
def test_torchvision_agrees(seed, dtype):
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(seed)
    boxes, scores = grid(rng, 120, dtype)
    if seed % 2:
        boxes[5, 2] = scores[7] = scores[70] = np.nan
    for threshold in (0.0, 0.3, 0.5, 0.7, 1.0):
        wanted = ops.nms(torch.tensor(boxes), torch.tensor(scores), threshold)
        assert_array_equal(nms.nms(boxes, scores, threshold), wanted)


def test_unknown_rung_is_refused():
    with pytest.raises(ValueError, match="algorithm: got 'fast', expected 'plain' or 'mask'"):
        nms.nms(BOXES, SCORES, 0.5, algorithm="fast")
