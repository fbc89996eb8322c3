"""Wrong boxes, sizes and modes: one line that names the argument, what came, what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn.functional
from minicnn import Tensor, nn

# Any: the calls below are wrong on purpose.
F: Any = minicnn.functional
N: Any = nn


def t(*shape: int, dtype: type = np.float32) -> Tensor:
    return Tensor(np.zeros(shape, dtype))


def rois(*values: float) -> Tensor:
    return Tensor(np.array([values], np.float32))


IMAGE = t(2, 3, 8, 8)

# One case a line, however long.
# ruff: noqa: E501
CASES: Any = [
    # call, exception, what the message says
    (lambda: F.roi_pool(t(3, 8, 8), t(1, 5), 2), ValueError, r"roi_pool: input has shape \(3, 8, 8\), expected \(N, C"),
    (lambda: F.roi_pool(t(1, 3, 8, 8, dtype=np.int64), t(1, 5), 2), TypeError, "roi_pool: input has dtype int64"),
    (lambda: F.roi_pool(t(1, 3, 0, 8), t(1, 5), 2), ValueError, "expected at least one pixel"),
    (lambda: F.roi_pool(IMAGE, t(1, 5), 0), ValueError, "roi_pool: output_size is 0"),
    (lambda: F.roi_pool(IMAGE, t(1, 5), (1, 2, 3)), ValueError, "output_size is .* pair"),
    (lambda: F.roi_pool(IMAGE, t(1, 5), 2, 0), ValueError, "spatial_scale is 0, expected a positive number"),
    (lambda: F.roi_pool(IMAGE, t(1, 4), 2), ValueError, r"boxes have shape \(1, 4\), expected \(K, 5\)"),
    (lambda: F.roi_pool(IMAGE, np.zeros((1, 5)), 2), TypeError, "boxes is a ndarray, expected a Tensor"),
    (lambda: F.roi_pool(IMAGE, t(1, 5, dtype=np.float64), 2), TypeError, "boxes has dtype float64, expected float32"),
    (lambda: F.roi_pool(IMAGE, rois(2, 0, 0, 1, 1), 2), ValueError, "boxes name images 2 to 2, expected 0 to 1"),
    (lambda: F.roi_pool(IMAGE, rois(-1, 0, 0, 1, 1), 2), ValueError, "boxes name images -1 to -1"),
    (lambda: F.roi_pool(IMAGE, rois(np.nan, 0, 0, 1, 1), 2), ValueError, "boxes name images nan"),
    (lambda: F.roi_pool(IMAGE, rois(0, 0, np.nan, 1, 1), 2), ValueError, "coordinates from nan to nan, expected finite"),
    (lambda: F.roi_pool(IMAGE, rois(0, 0, 0, np.inf, 1), 2), ValueError, "coordinates from 0 to inf"),
    (lambda: F.roi_align(IMAGE, rois(0, -1e9, 0, 1, 1), 2), ValueError, r"roi_align: boxes have coordinates from -1e\+09 to 1"),
    (lambda: F.roi_pool(IMAGE, [t(1, 4)], 2), ValueError, "boxes has 1 tensors, expected 2, one an image"),
    (lambda: F.roi_pool(IMAGE, [t(1, 4), t(1, 5)], 2), ValueError, r"boxes\[1\] has shape \(1, 5\), expected \(L, 4\)"),
    (lambda: F.roi_pool(IMAGE, [t(1, 4), None], 2), TypeError, r"boxes\[1\] is a NoneType"),
    (lambda: F.roi_align(IMAGE, t(1, 5), 2, 1.0, 1.5), ValueError, "roi_align: sampling_ratio is 1.5, expected an integer"),
    (lambda: F.interpolate(t(2, 3, 8), 2), ValueError, r"interpolate: input has shape \(2, 3, 8\)"),
    (lambda: F.interpolate(t(1, 3, 8, 8, dtype=np.int64), 2), TypeError, "interpolate: input has dtype int64"),
    (lambda: F.interpolate(IMAGE), ValueError, "got neither of size and scale_factor, expected one of them"),
    (lambda: F.interpolate(IMAGE, 2, 2), ValueError, "got both of size and scale_factor"),
    (lambda: F.interpolate(IMAGE, 0), ValueError, "size is 0, expected an integer of at least 1"),
    (lambda: F.interpolate(IMAGE, 2.5), ValueError, "size is 2.5"),
    (lambda: F.interpolate(IMAGE, None, -1), ValueError, "scale_factor is -1, expected a positive number"),
    (lambda: F.interpolate(IMAGE, None, (1, 2, 3)), ValueError, "scale_factor is .* or a pair"),
    (lambda: F.interpolate(IMAGE, None, 0.1), ValueError, r"leaves \(0, 0\) pixels of \(8, 8\)"),
    (lambda: F.interpolate(IMAGE, 2, mode="bicubic"), ValueError, "mode is 'bicubic', expected one of 'nearest'"),
    (lambda: F.interpolate(IMAGE, 2, align_corners=True), ValueError, "align_corners is True, expected None for mode 'nearest'"),
    (lambda: F.interpolate(IMAGE, 2, recompute_scale_factor=True), ValueError, "is for scale_factor, got size"),
    (lambda: F.interpolate(t(1, 3, 0, 8), 2), ValueError, "at least one pixel"),
    (lambda: F.nms(t(3, 5), t(3), 0.5), ValueError, r"nms: boxes has shape \(3, 5\), expected \(K, 4\)"),
    (lambda: F.nms(t(4), t(3), 0.5), ValueError, "nms: boxes has shape"),
    (lambda: F.nms(t(3, 4), t(2), 0.5), ValueError, r"scores has shape \(2,\), expected \(3,\), one a box"),
    (lambda: F.nms(t(3, 4), t(3, dtype=np.float64), 0.5), TypeError, "scores has dtype float64, expected float32"),
    (lambda: F.nms(t(3, 4, dtype=np.int64), t(3), 0.5), TypeError, "boxes has dtype int64"),
    (lambda: F.nms(t(3, 4), t(3), 1.5), ValueError, "iou_threshold is 1.5, expected a number between 0 and 1"),
    (lambda: F.batched_nms(t(3, 4), t(3), t(3), 0.5), ValueError, "idxs are float32"),
    (lambda: F.batched_nms(t(3, 4), t(3), t(2, dtype=np.int64), 0.5), ValueError, r"idxs are int64 of shape \(2,\)"),
    (lambda: F.pad(t(2, 3), (1, 1), 0.5), ValueError, "pad: mode is 0.5, expected one of 'constant', 'reflect'"),
    (lambda: F.pad(t(2, 3), (3, 0), "reflect"), ValueError, "too wide for mode 'reflect'"),
    (lambda: F.pad(t(2, 0), (1, 0), "replicate"), ValueError, "too wide for mode 'replicate'"),
    (lambda: F.pad(t(2, 3), (1, 0), "replicate", 1.0), ValueError, "value is 1.0, expected none"),
    (lambda: N.RoIPool(0, 1.0), ValueError, "RoIPool: output_size is 0"),
    (lambda: N.RoIAlign(2, 1.0, 0.5), ValueError, "RoIAlign: sampling_ratio is 0.5"),
    (lambda: N.Upsample(0), ValueError, "Upsample: size is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "exception", "message"), CASES, ids=[c[2] for c in CASES])
def test_message(call, exception, message):
    with pytest.raises(exception, match=message) as error:
        call()
    assert "\n" not in str(error.value)
