"""RoIAlign kernels against their references, golden values, torchvision, and as adjoints."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.kernels import _jit, roi_align

DTYPES = [np.float32, np.float64]
SHAPE = (3, 2, 9, 12)
MAP6 = np.arange(36.0).reshape(1, 1, 6, 6)
# output size, spatial scale, sampling ratio, aligned
RULES = [
    ((2, 3), 1.0, 2, False),
    ((2, 3), 1.0, 2, True),
    ((7, 7), 0.25, 1, True),
    ((1, 2), 0.7, 3, False),
    ((3, 2), 1.0, -1, False),
    ((3, 2), 1.5, 0, True),
]


def close(dtype):
    return {"rtol": 0, "atol": 1e-5 if dtype == np.float32 else 1e-13}


def regions(rng, count, batch, dtype):
    """Return regions in images in no order, many over the border and one without an area."""
    first = rng.uniform(-8, 14, (count, 2))
    ends = np.concatenate([first, first + rng.uniform(0, 12, (count, 2))], 1)
    ends[0, 2:] = ends[0, :2]
    return np.concatenate([rng.integers(0, batch, (count, 1)), ends], 1).astype(dtype)


def align(rois, *rule, input=MAP6):
    return roi_align.roi_align_forward(input, np.array(rois, input.dtype), *rule)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size, scale, samples, aligned", RULES)
def test_kernels_equal_their_references_and_are_adjoint(size, scale, samples, aligned, dtype):
    rng = np.random.default_rng(0)
    input, rois = rng.standard_normal(SHAPE).astype(dtype), regions(rng, 12, 3, dtype)
    rois[:, 1:] /= dtype(scale)
    before = input.copy(), rois.copy()
    rule = scale, samples, aligned
    wide = np.repeat(input, 2, axis=-1)[..., ::2]
    output = roi_align.roi_align_forward(wide, rois, size, *rule)
    wanted = roi_align.roi_align_forward_reference(input, rois, size, *rule)
    assert output.dtype == dtype
    assert_allclose(output, wanted, **close(dtype))
    grad_output = rng.standard_normal(output.shape).astype(dtype)
    wide = np.repeat(grad_output, 2, axis=-1)[..., ::2]
    grad_input = roi_align.roi_align_backward(wide, rois, *rule, (3, 9, 12))
    wanted = roi_align.roi_align_backward_reference(grad_output, rois, *rule, (3, 9, 12))
    assert grad_input.dtype == dtype
    assert_allclose(grad_input, wanted, **close(dtype))
    assert np.vdot(output, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-3)
    assert_array_equal(input, before[0])
    assert_array_equal(rois, before[1])


def test_golden_values():
    roi = [[0, 1, 1, 4, 3]]
    assert_allclose(align(roi, (2, 2), 1.0, 2, False).ravel(), [10.75, 12.25, 16.75, 18.25])
    assert_allclose(align(roi, (2, 2), 1.0, 2, True).ravel(), [7.25, 8.75, 13.25, 14.75])


@pytest.mark.parametrize(
    "place, value",
    [
        (-1.001, 0.0),  # outside
        (-1.0, 10.0),  # within one pixel of the image: as the nearest pixel
        (0.0, 10.0),
        (2.5, 27.5),
        (5.0, 45.0),
        (6.0, 45.0),
        (6.001, 0.0),
        (30.0, 0.0),
    ],
)
def test_one_sample_in_a_region_without_an_area(place, value):
    corner = place + 0.5  # `aligned` takes the half away again
    roi = [[0, corner, corner, corner, corner]]
    output = align(roi, (1, 1), 1.0, 1, True, input=MAP6 + 10)
    assert output.item() == pytest.approx(value)


def test_aligned_regions_the_wrong_way_round_have_no_samples():
    rois = [[0, 4, 4, 1, 1]]
    assert_array_equal(align(rois, (2, 2), 1.0, -1, True), np.zeros((1, 1, 2, 2)))
    grad = roi_align.roi_align_backward(
        np.ones((1, 1, 2, 2)), np.array(rois, float), 1.0, -1, True, (1, 6, 6)
    )
    assert_array_equal(grad, np.zeros((1, 1, 6, 6)))


def test_a_pixel_without_a_share_is_not_read():
    input = MAP6.copy()
    input[0, 0, :, 3:] = np.nan
    output = align([[0, 1.5, 1.5, 3.5, 3.5]], (1, 1), 1.0, 1, True, input=input)
    assert output.item() == 14.0  # the sample lies on pixel (2, 2)


def test_no_region():
    output = align(np.zeros((0, 5)), (2, 2), 1.0, 2, False)
    assert output.shape == (0, 1, 2, 2)
    grad = roi_align.roi_align_backward(output, np.zeros((0, 5)), 1.0, 2, False, (1, 6, 6))
    assert_array_equal(grad, np.zeros((1, 1, 6, 6)))


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(2)
    input = rng.standard_normal((2, 5, 20, 20)).astype(np.float32)
    rois = regions(rng, 40, 2, np.float32)
    before, results = _jit.get_num_threads(), []
    try:
        for threads in {1, _jit.max_num_threads()}:
            _jit.set_num_threads(threads)
            output = roi_align.roi_align_forward(input, rois, (7, 7), 1.0, 2, True)
            grad = roi_align.roi_align_backward(output, rois, 1.0, 2, True, (2, 20, 20))
            results.append((output.tobytes(), grad.tobytes()))
    finally:
        _jit.set_num_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size, scale, samples, aligned", RULES)
def test_torchvision_agrees(size, scale, samples, aligned, dtype):
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(3)
    input, rois = rng.standard_normal(SHAPE).astype(dtype), regions(rng, 20, 3, dtype)
    rois[:, 1:] /= dtype(scale)
    output = roi_align.roi_align_forward(input, rois, size, scale, samples, aligned)
    tensor = torch.tensor(input, requires_grad=True)
    wanted = ops.roi_align(tensor, torch.tensor(rois), size, scale, samples, aligned)
    assert_allclose(output, wanted.detach(), **close(dtype))
    grad_output = rng.standard_normal(output.shape).astype(dtype)
    wanted.backward(torch.tensor(grad_output))
    grad = roi_align.roi_align_backward(grad_output, rois, scale, samples, aligned, (3, 9, 12))
    assert_allclose(grad, tensor.grad, **close(dtype))
