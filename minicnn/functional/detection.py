"""What object detectors do with boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.backend import get_array_module, on_device_of, to_host
from minicnn.functional._check import beside, dimensions, floating, positional
from minicnn.kernels import nms as kernels
from minicnn.tensor import Tensor


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Choose boxes by falling score, leaving out those that overlap one already chosen.

    A box is left out if its IoU, the area of the intersection over that of the union, with a chosen
    one is greater than the threshold; an equal IoU keeps it. Equal scores keep their order.

    Args:
        boxes: (K, 4), x1, y1, x2, y2.
        scores: (K,).
        iou_threshold: between 0 and 1.

    Returns:
        The indices (int64) of the chosen boxes, by falling score.

    Raises:
        ValueError: when shapes do not fit, or for a threshold outside of [0, 1].
        TypeError: for integers, or scores of another dtype.
    """
    _check("nms", boxes, scores, iou_threshold)
    with on_device_of(boxes.data):
        return Tensor._wrap(kernels.nms(boxes.data, scores.data, float(iou_threshold)))


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Do `nms` among the boxes of each class on its own.

    Args:
        boxes, scores, iou_threshold: as in `nms`.
        idxs: (K,) integers, the class of each box.

    Returns:
        The indices (int64) of all chosen boxes, by falling score.

    Raises:
        ValueError, TypeError: as `nms`.
    """
    name = "batched_nms"
    _check(name, boxes, scores, iou_threshold)
    beside(name, positional(name, idxs, "idxs"), "idxs", boxes, "boxes")
    if idxs.shape != scores.shape or idxs.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: idxs are {idxs.dtype} of shape {idxs.shape}, "
            f"expected integers of shape {scores.shape}"
        )
    xp = get_array_module(boxes.data)
    host_boxes, host_scores, classes = (to_host(t.data) for t in (boxes, scores, idxs))
    chosen = [np.empty(0, np.int64)]
    for each in np.unique(classes):
        members = np.flatnonzero(classes == each)
        with on_device_of(boxes.data):
            kept = kernels.nms(
                xp.asarray(host_boxes[members]),
                xp.asarray(host_scores[members]),
                float(iou_threshold),
            )
        chosen.append(members[to_host(kept)])
    every = np.sort(np.concatenate(chosen))
    with on_device_of(boxes.data):
        return Tensor._wrap(xp.asarray(every[kernels.falling(host_scores[every])]))


def _check(name: str, boxes: Tensor, scores: Tensor, iou_threshold: Any) -> None:
    dimensions(name, floating(name, boxes, "boxes"), 2, "(K, 4)", "boxes")
    if boxes.shape[1] != 4:
        raise ValueError(f"{name}: boxes has shape {boxes.shape}, expected (K, 4)")
    floating(name, scores, "scores", like=boxes)
    if scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"{name}: scores has shape {scores.shape}, expected {boxes.shape[:1]}, one a box"
        )
    if not isinstance(iou_threshold, (int, float)) or not 0 <= iou_threshold <= 1:
        raise ValueError(
            f"{name}: iou_threshold is {iou_threshold!r}, expected a number between 0 and 1"
        )
