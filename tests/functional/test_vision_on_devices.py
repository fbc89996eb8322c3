"""What boxes and borders do beside their kernels, on every device: checks, lists, whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minicnn.functional as F
from minicnn import Tensor


def on(device: str, array: np.ndarray) -> Tensor:
    return Tensor(array).to(device)


def grid(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes on a coarse grid, scores with ties, and classes."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 20, (count, 2))
    boxes = np.concatenate([first, first + rng.integers(0, 10, (count, 2))], 1)
    scores = np.round(rng.random(count), 1)
    return boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, 3, count)


@pytest.mark.parametrize("count", [0, 1, 100])
def test_nms_equals_the_cpu(count, device):
    boxes, scores, classes = grid(count)
    kept = F.nms(on(device, boxes), on(device, scores), 0.3)
    assert kept.device == device and kept.dtype == np.int64
    wanted = F.nms(Tensor(boxes), Tensor(scores), 0.3)
    assert_array_equal(kept.to("cpu").numpy(), wanted.numpy())
    each = F.batched_nms(on(device, boxes), on(device, scores), on(device, classes), 0.3)
    assert each.device == device and each.dtype == np.int64
    wanted = F.batched_nms(Tensor(boxes), Tensor(scores), Tensor(classes), 0.3)
    assert_array_equal(each.to("cpu").numpy(), wanted.numpy())


def test_boxes_as_a_list(device):
    images = on(device, np.arange(128.0).reshape(2, 1, 8, 8))
    lists = [np.array([[0, 0, 3, 3.0]]), np.array([[1, 1, 2, 2], [4, 4, 7, 7.0]])]
    rows = np.array([[0, 0, 0, 3, 3], [1, 1, 1, 2, 2], [1, 4, 4, 7, 7.0]])
    for fn in (F.roi_pool, F.roi_align):
        pooled = fn(images, [on(device, b) for b in lists], 2)
        assert pooled.device == device
        assert_array_equal(
            pooled.to("cpu").numpy(), fn(images, on(device, rows), 2).to("cpu").numpy()
        )


def test_no_box(device):
    images = on(device, np.ones((1, 2, 4, 4), np.float32)).requires_grad_()
    pooled = F.roi_pool(images, on(device, np.zeros((0, 5), np.float32)), 3)
    assert pooled.shape == (0, 2, 3, 3)
    pooled.sum().backward()
    assert images.grad is not None
    assert_array_equal(images.grad.to("cpu").numpy(), np.zeros((1, 2, 4, 4)))


@pytest.mark.parametrize(
    "row, message", [([2, 0, 0, 1, 1], "boxes name images 2 to 2"), ([0, 0, np.nan, 1, 1], "nan")]
)
def test_values_are_checked(row, message, device):
    with pytest.raises(ValueError, match=message):
        F.roi_align(on(device, np.ones((2, 1, 4, 4))), on(device, np.array([row], float)), 2)


def test_boxes_elsewhere_are_refused(gpu):
    with pytest.raises(RuntimeError, match="boxes"):
        F.roi_pool(on(gpu, np.ones((1, 1, 4, 4))), Tensor(np.zeros((1, 5))), 2)
    with pytest.raises(RuntimeError, match="scores"):
        F.nms(on(gpu, np.ones((3, 4))), Tensor(np.zeros(3)), 0.5)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.float32])
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_pad_and_cat_of_every_dtype(mode, dtype, device):
    values = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    padded = F.pad(on(device, values), (1, 2), mode)
    assert (padded.device, padded.dtype) == (device, dtype)
    assert_array_equal(padded.to("cpu").numpy(), F.pad(Tensor(values), (1, 2), mode).numpy())
    joined = F.cat([on(device, values), padded], 1)
    assert (joined.device, joined.dtype, joined.shape) == (device, dtype, (2, 9))
