"""Greedy non-maximum suppression: of boxes that overlap much, only the best scored is kept.

    in order of falling scores: keep a box unless its IoU with a box already kept is above the
    threshold

    IoU(a, b) = overlap / (area a + area b - overlap)        area = (x2 - x1) (y2 - y1)
    overlap   = max(min(x2) - max(x1), 0) max(min(y2) - max(y1), 0)

Boxes of equal scores keep their order, and a NaN score counts as the largest. An IoU equal to the
threshold keeps the box; one that is no number, of boxes without an area or with NaN, does too. So
torchvision has it. IoUs are computed in the dtype of the boxes and the threshold is rounded down to
it: for a number of that dtype, to be larger than the one or than the other is the same.

The kernels get the boxes sorted, one coordinate after the other: boxes (4, K), rows x1, y1, x2, y2.
On the CPU a kept box strikes out all later ones in one vectorised loop: at most K^2 / 2 IoUs, of 12
flops and a division each, and fewer the more is struck out. Its order is the algorithm, so that it
runs on one thread. Bytes moved: 17 K for every box kept, from cache.

Rungs of the CUDA kernel, slow to fast:
    plain   one thread does all, as on the CPU
    mask    all pairs at once: one thread compares a box with 64 others and writes one bit for each
            (`nms_mask_cuda`); then one block goes through the boxes in order and unites the bits
            of those kept (`nms_sweep_cuda`), 64 boxes in one operation of each thread

Source: Girshick et al., "Rich feature hierarchies for accurate object detection and semantic
segmentation", 2014, section 2.2; the bit mask is that of Ren et al., "Faster R-CNN", 2015, in the
code that came with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, empty
from minicnn.kernels._jit import jit
from minicnn.kernels._launch import launch

Array = NDArray

WORD = 64  # bits in a word of the mask


def nms_reference(boxes: Array, scores: Array, iou_threshold: float) -> Array:
    """Define suppression by plain loops; IoUs in the dtype of the boxes."""
    zero = boxes.dtype.type(0)

    def iou(a: Array, b: Array) -> float:
        wide = max(min(a[2], b[2]) - max(a[0], b[0]), zero)
        high = max(min(a[3], b[3]) - max(a[1], b[1]), zero)
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * high
        return float(wide * high / union) if union else 0.0

    def rank(i: int) -> tuple[bool, float, int]:
        score = float(scores[i])
        return score == score, -score if score == score else 0.0, i

    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=rank):
        if not any(iou(boxes[j], boxes[i]) > iou_threshold for j in kept):
            kept.append(i)
    return np.array(kept, np.int64)


def nms(boxes: Array, scores: Array, iou_threshold: float, *, algorithm: str = "mask") -> Array:
    """Return the indices (int64) of the boxes (K, 4) to keep, by falling scores (K,).

    `algorithm` is a rung of the CUDA kernel, "plain" or "mask".
    """
    xp = array_module("nms", boxes)
    if algorithm not in ("plain", "mask"):
        raise ValueError(f"algorithm: got {algorithm!r}, expected 'plain' or 'mask'")
    threshold = boxes.dtype.type(iou_threshold)
    if float(threshold) > iou_threshold:
        threshold = np.nextafter(threshold, boxes.dtype.type(-np.inf))
    # Some thousand numbers: the host sorts them.
    host_boxes, host_scores = (a if xp is np else xp.asnumpy(a) for a in (boxes, scores))
    order = falling(host_scores)
    rows = np.ascontiguousarray(host_boxes[order].T)
    if xp is np:
        keep = np.empty(len(order), np.bool_)
        nms_cpu(rows, threshold, keep)
        return order[keep]
    keep = _keep_on_device(xp, xp.asarray(rows), threshold, algorithm)
    return xp.asarray(order[xp.asnumpy(keep)])


def falling(scores: Array) -> Array:
    """Return the order of falling scores, NaN first, equal ones as they stand."""
    # Sorted upwards from behind and read backwards: argsort has no order downwards.
    return len(scores) - 1 - np.argsort(scores[::-1], kind="stable")[::-1]


def _keep_on_device(xp: Any, boxes: Array, threshold: float, algorithm: str) -> Array:
    count = boxes.shape[1]
    keep = empty(xp, count, np.bool_)
    if count and algorithm == "plain":
        launch("nms", "nms_cuda", 1, boxes, threshold, count, keep, block=32)
    elif count:
        words = -(-count // WORD)
        mask = empty(xp, (words, count), np.uint64)
        launch("nms", "nms_mask_cuda", mask.size, boxes, threshold, count, mask)
        launch(
            "nms", "nms_sweep_cuda", 1, mask, count, words, keep,
            per_block=1, shared_mem=words * WORD // 8,
        )  # fmt: skip
    return keep


@jit
def nms_cpu(boxes, threshold, keep):
    x1, y1, x2, y2 = boxes[0], boxes[1], boxes[2], boxes[3]
    zero = boxes.dtype.type(0)
    area = (x2 - x1) * (y2 - y1)
    keep[:] = True
    for i in range(len(keep)):
        if not keep[i]:
            continue
        for j in range(i + 1, len(keep)):
            wide = max(min(x2[i], x2[j]) - max(x1[i], x1[j]), zero)
            high = max(min(y2[i], y2[j]) - max(y1[i], y1[j]), zero)
            overlap = wide * high
            # Unlike `/`, NumPy's division may divide by 0.
            iou = np.divide(overlap, area[i] + area[j] - overlap)
            keep[j] &= not (iou > threshold)
