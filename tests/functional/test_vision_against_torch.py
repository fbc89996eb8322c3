"""Regions of interest, resizing, padding and suppression against PyTorch and torchvision.

Values and the gradients of every input, in float32 and float64, on contiguous and strided inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import minicnn.functional as F
from minicnn import Tensor, nn

torch = pytest.importorskip("torch")
ops = pytest.importorskip("torchvision.ops")
TF = torch.nn.functional

DTYPES = [np.float32, np.float64]
IMAGES = (3, 2, 9, 12)


def regions(rng: np.random.Generator, count: int, dtype: Any) -> np.ndarray:
    first = rng.uniform(-8, 14, (count, 2))
    ends = np.concatenate([first, first + rng.uniform(0, 12, (count, 2))], 1)
    return np.concatenate([rng.integers(0, 3, (count, 1)), np.round(ends * 4) / 4], 1).astype(dtype)


def compare(ours: Any, theirs: Any, values: np.ndarray, seed: int = 0) -> None:
    """Compare two functions of one array, and their gradients of it, twice over."""
    tolerance = 1e-5 if values.dtype == np.float32 else 1e-12
    wide = np.repeat(values, 2, axis=-1)[..., ::2]
    t = torch.tensor(values, requires_grad=True)
    wanted = theirs(t)
    upstream = np.random.default_rng(seed).standard_normal(wanted.shape).astype(values.dtype)
    wanted.backward(torch.tensor(upstream))
    for array in (values, wide):
        x: Any = Tensor(array, requires_grad=True)
        y = ours(x)
        assert y.dtype == values.dtype and y.shape == tuple(wanted.shape)
        assert_allclose(y.data, wanted.detach().numpy(), tolerance, tolerance)
        y.backward(upstream)
        assert x.grad.dtype == values.dtype
        assert_allclose(x.grad.data, t.grad.numpy(), 10 * tolerance, 10 * tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size, scale", [(2, 1.0), ((7, 7), 0.5), ((3, 5), 1 / 16), (1, 0.3)])
def test_roi_pool(size, scale, dtype):
    rng = np.random.default_rng(0)
    values, boxes = rng.standard_normal(IMAGES).astype(dtype), regions(rng, 15, dtype)
    boxes[:, 1:] /= dtype(scale)
    compare(
        lambda x: F.roi_pool(x, Tensor(boxes), size, scale),
        lambda t: ops.roi_pool(t, torch.tensor(boxes), size, scale),
        values,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples, aligned", [(2, False), (2, True), (-1, False), (-1, True)])
def test_roi_align(samples, aligned, dtype):
    rng = np.random.default_rng(1)
    values, boxes = rng.standard_normal(IMAGES).astype(dtype), regions(rng, 15, dtype)
    rest = (2, 3), 0.8, samples, aligned
    compare(
        lambda x: F.roi_align(x, Tensor(boxes), *rest),
        lambda t: ops.roi_align(t, torch.tensor(boxes), *rest),
        values,
    )


def test_boxes_as_a_list_one_tensor_an_image():
    rng = np.random.default_rng(2)
    values = rng.standard_normal(IMAGES)
    lists = [regions(rng, n, np.float64)[:, 1:] for n in (2, 0, 3)]
    compare(
        lambda x: F.roi_pool(x, [Tensor(b) for b in lists], 2),
        lambda t: ops.roi_pool(t, [torch.tensor(b) for b in lists], 2),
        values,
    )
    none = F.roi_pool(Tensor(values), [Tensor(np.zeros((0, 4)))] * 3, 2)
    assert none.shape == (0, 2, 2, 2)


def test_boxes_receive_no_gradient():
    boxes = Tensor(np.array([[0, 1, 1, 4, 4.0]]), requires_grad=True)
    for fn in (F.roi_pool, F.roi_align):
        assert not fn(Tensor(np.ones((1, 1, 6, 6))), boxes, 2).requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "corners"])
@pytest.mark.parametrize(
    "options",
    [
        {"size": (18, 5)},
        {"size": 7},
        {"size": (1, 1)},
        {"size": (9, 12)},
        {"scale_factor": 2},
        {"scale_factor": (0.5, 1.7)},
        {"scale_factor": 1.3},
        {"scale_factor": (1.1, 2.6), "recompute_scale_factor": True},
    ],
    ids=str,
)
def test_interpolate(options, mode, dtype):
    values = np.random.default_rng(3).standard_normal(IMAGES).astype(dtype)
    if mode == "corners":
        options = {**options, "mode": "bilinear", "align_corners": True}
    else:
        options = {**options, "mode": mode}
    compare(lambda x: F.interpolate(x, **options), lambda t: TF.interpolate(t, **options), values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "widths, mode, value",
    [
        ((1, 2), "constant", 0.5),
        ((1, 2, 0, 3), "constant", None),
        ((1, 0, 0, 3, 2, 1), "constant", -1),
        ((1, 2, 0, 3, 2, 1, 1, 1), "constant", 0),
        ((3, 2, 1, 0), "reflect", None),
        ((11, 11, 8, 8), "reflect", None),
        ((3, 2, 1, 0), "replicate", None),
        ((0, 20, 15, 0), "replicate", None),
    ],
)
def test_pad(widths, mode, value, dtype):
    values = np.random.default_rng(4).standard_normal(IMAGES).astype(dtype)
    compare(
        lambda x: F.pad(x, widths, mode, value), lambda t: TF.pad(t, widths, mode, value), values
    )


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_pad_of_integers(dtype, mode):
    values = np.random.default_rng(5).integers(0, 2, (2, 3, 4)).astype(dtype)
    value = 1 if mode == "constant" else None
    ours = F.pad(Tensor(values), (1, 2), mode, value)
    assert ours.dtype == dtype
    numpy_mode: Any = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    rest = {"constant_values": 1} if value else {}
    assert_array_equal(ours.data, np.pad(values, [(0, 0), (0, 0), (1, 2)], numpy_mode, **rest))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.float32, np.float64])
def test_cat_keeps_every_dtype(dtype):
    parts = [np.arange(6).reshape(2, 3).astype(dtype), np.ones((2, 1), dtype)]
    joined = F.cat([Tensor(p) for p in parts], 1)
    assert joined.dtype == dtype
    assert_array_equal(joined.data, np.concatenate(parts, 1))


def test_cat_of_two_dtypes_gives_the_wider():
    joined = F.cat([Tensor(np.ones(2, np.float32)), Tensor(np.ones(1, np.float64))])
    assert joined.dtype == np.float64 and joined.shape == (3,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
def test_nms_and_batched_nms(threshold, dtype):
    rng = np.random.default_rng(6)
    first = rng.integers(0, 20, (80, 2))
    boxes = np.concatenate([first, first + rng.integers(1, 10, (80, 2))], 1).astype(dtype)
    scores, classes = rng.permutation(80).astype(dtype) / 80, rng.integers(-1, 4, 80)
    kept = F.nms(Tensor(boxes), Tensor(scores), threshold)
    assert kept.dtype == np.int64 and not kept.requires_grad
    t = torch.tensor(boxes), torch.tensor(scores)
    assert_array_equal(kept.data, ops.nms(*t, threshold))
    kept = F.batched_nms(Tensor(boxes), Tensor(scores), Tensor(classes), threshold)
    # torchvision's way for many boxes: class by class, without moving any.
    wanted = ops.boxes._batched_nms_vanilla(*t, torch.tensor(classes), threshold)
    assert kept.dtype == np.int64
    assert_array_equal(kept.data, wanted)


def test_nms_of_nothing():
    none = Tensor(np.zeros((0, 4))), Tensor(np.zeros(0))
    assert F.nms(*none, 0.5).shape == (0,)
    empty = F.batched_nms(*none, Tensor(np.zeros(0, np.int64)), 0.5)
    assert empty.shape == (0,) and empty.dtype == np.int64


@pytest.mark.parametrize("options", [{"size": (5, 6)}, {"scale_factor": 2.0, "mode": "bilinear"}])
def test_upsample_layer(options):
    layer, theirs = nn.Upsample(**options), torch.nn.Upsample(**options)
    assert repr(layer) == repr(theirs)
    compare(layer, theirs, np.random.default_rng(7).standard_normal(IMAGES))


@pytest.mark.parametrize(
    "name, args", [("RoIPool", ((2, 3), 0.5)), ("RoIAlign", ((2, 3), 0.5, 2, True))]
)
def test_roi_layers(name, args):
    layer, theirs = getattr(nn, name)(*args), getattr(ops, name)(*args)
    assert repr(layer) == repr(theirs)
    rng = np.random.default_rng(8)
    boxes = regions(rng, 5, np.float64)
    compare(
        lambda x: layer(x, Tensor(boxes)),
        lambda t: theirs(t, torch.tensor(boxes)),
        rng.standard_normal(IMAGES),
    )
