"""RoI pooling kernels against their references, golden values, torchvision, and as adjoints."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.kernels import _jit, roi_pool

DTYPES = [np.float32, np.float64]
SHAPE = (3, 2, 9, 12)
MAP6 = np.arange(36.0).reshape(1, 1, 6, 6)
MAP8 = np.arange(64.0).reshape(1, 1, 8, 8)


def regions(rng, count, batch, dtype):
    """Return regions in images in no order, on quarters of a pixel; a third the wrong way round."""
    first = rng.uniform(-8, 14, (count, 2))
    last = first + rng.uniform(0, 12, (count, 2)) * rng.choice([1, 1, -1], (count, 1))
    ends = np.round(np.concatenate([first, last], 1) * 4) / 4
    return np.concatenate([rng.integers(0, batch, (count, 1)), ends], 1).astype(dtype)


def pool(rois, size=(2, 2), scale=1.0, input=MAP8):
    return roi_pool.roi_pool_forward(input, np.array(rois, input.dtype), size, scale)


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.5, 1 / 16, 0.7])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 7)])
def test_kernels_equal_their_references(size, scale, dtype):
    rng = np.random.default_rng(0)
    # Few different values, so that bins hold their maximum more than once.
    input = rng.integers(-9, -4, SHAPE).astype(dtype)
    rois = regions(rng, 15, 3, dtype)
    rois[:, 1:] /= dtype(scale)
    output, argmax = roi_pool.roi_pool_forward(strided(input), strided(rois), size, scale)
    wanted, wanted_argmax = roi_pool.roi_pool_forward_reference(input, rois, size, scale)
    assert (output.dtype, argmax.dtype) == (dtype, np.int32)
    assert_array_equal(output, wanted)
    assert_array_equal(argmax, wanted_argmax)
    assert (argmax == -1).any() and (argmax >= 0).any()

    grad_output = rng.standard_normal(output.shape).astype(dtype)
    rest = rois, argmax, scale, (3, 9, 12)
    grad_input = roi_pool.roi_pool_backward(strided(grad_output), *rest)
    wanted = roi_pool.roi_pool_backward_reference(grad_output, *rest)
    assert grad_input.dtype == dtype
    assert_allclose(grad_input, wanted, atol=5e-6 if dtype == np.float32 else 1e-14)

    gathered = roi_pool.roi_pool_gather(strided(input), rois, strided(argmax))
    assert gathered.dtype == dtype
    assert_array_equal(gathered, roi_pool.roi_pool_gather_reference(input, rois, argmax))
    assert_array_equal(gathered, output)
    assert np.vdot(gathered, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-4)


def test_inputs_are_not_changed():
    rng = np.random.default_rng(1)
    input, rois = rng.standard_normal(SHAPE), regions(rng, 5, 3, np.float64)
    before = input.copy(), rois.copy()
    output, argmax = roi_pool.roi_pool_forward(input, rois, (2, 2), 1.0)
    roi_pool.roi_pool_backward(output, rois, argmax, 1.0, (3, 9, 12))
    assert_array_equal(input, before[0])
    assert_array_equal(rois, before[1])


def test_golden_values():
    output, _ = pool([[0, 1, 1, 4, 3]], input=MAP6)
    assert_array_equal(output.ravel(), [14, 16, 20, 22])
    output, _ = pool([[0, 8, 24, 72, 40]], scale=1 / 16, input=MAP6)
    assert_array_equal(output.ravel(), [15, 17, 21, 23])
    rois = np.array([[0, 1, 1, 4, 3], [0, 0, 0, 5, 5.0]])
    output, argmax = pool(rois, input=MAP6)
    grad = roi_pool.roi_pool_backward(np.ones_like(output), rois, argmax, 1.0, (1, 6, 6))
    wanted = np.zeros((6, 6))
    wanted[[2, 2, 3, 3, 5, 5], [4, 5, 2, 4, 2, 5]] = 1
    wanted[2, 2] = 2
    assert_array_equal(grad[0, 0], wanted)


@pytest.mark.parametrize(
    "roi, values",
    [
        ([2.5, 2.5, 4.5, 4.5], [36, 37, 44, 45]),  # halves are rounded away from zero: 3 to 5
        ([7, 7, 12, 12], [63, 0, 0, 0]),  # all but one bin is outside
        ([9, 9, 12, 12], [0, 0, 0, 0]),  # outside
        ([-9, -9, -2, -2], [0, 0, 0, 0]),
        ([5, 5, 2, 2], [45, 45, 45, 45]),  # the wrong way round: one pixel, in every bin
        ([3, 4, 3, 4], [35, 35, 35, 35]),
        ([-0.5, -0.5, 0.49, 0.49], [0, 0, 0, 0]),  # -1 to 0, and pixel 0 is 0
    ],
)
def test_edges(roi, values):
    output, argmax = pool([[0, *roi]])
    assert_array_equal(output.ravel(), values)
    # Values of this map are the indices of its pixels.
    assert all(a in (-1, v) for a, v in zip(argmax.ravel(), values, strict=True))


def test_rounding_is_away_from_zero_just_there():
    below = np.nextafter(np.float32(0.5), np.float32(0))  # to which adding 0.5 gives 1
    input = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    for start, value in [(below, 0), (0.5, 1), (1.5, 2), (2.5, 3)]:
        output, _ = pool([[0, start, 0, start, 0]], (1, 1), input=input)
        assert output.item() == value


def test_nan_is_the_maximum_and_minus_infinity_a_number():
    input = np.full((1, 1, 2, 4), -np.inf)
    input[0, 0, 1, 2] = input[0, 0, 1, 3] = np.nan
    output, argmax = pool([[0, 0, 0, 3, 1]], (1, 2), input=input)
    assert_array_equal(output.ravel(), [-np.inf, np.nan])
    assert_array_equal(argmax.ravel(), [0, 6])


def test_no_region():
    output, argmax = pool(np.zeros((0, 5)))
    assert output.shape == argmax.shape == (0, 1, 2, 2)
    grad = roi_pool.roi_pool_backward(output, np.zeros((0, 5)), argmax, 1.0, (1, 8, 8))
    assert_array_equal(grad, np.zeros((1, 1, 8, 8)))


def test_threads_do_not_change_a_bit():
    rng = np.random.default_rng(2)
    input = rng.standard_normal((2, 5, 20, 20)).astype(np.float32)
    rois = regions(rng, 40, 2, np.float32)
    before, results = _jit.get_num_threads(), []
    try:
        for threads in {1, _jit.max_num_threads()}:
            _jit.set_num_threads(threads)
            output, argmax = roi_pool.roi_pool_forward(input, rois, (7, 7), 1.0)
            grad = roi_pool.roi_pool_backward(output, rois, argmax, 1.0, (2, 20, 20))
            results.append((output.tobytes(), grad.tobytes()))
    finally:
        _jit.set_num_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(6))
def test_torchvision_agrees_in_every_bit(seed, dtype):
    torch, ops = pytest.importorskip("torch"), pytest.importorskip("torchvision.ops")
    rng = np.random.default_rng(seed)
    scale, size = float(rng.choice([1, 0.5, 1 / 16, 0.3])), tuple(rng.integers(1, 8, 2).tolist())
    input, rois = rng.standard_normal(SHAPE).astype(dtype), regions(rng, 20, 3, dtype)
    rois[:, 1:] /= dtype(scale)
    output, argmax = roi_pool.roi_pool_forward(input, rois, size, scale)
    tensor = torch.tensor(input, requires_grad=True)
    wanted = ops.roi_pool(tensor, torch.tensor(rois), size, scale)
    assert_array_equal(output, wanted.detach())
    grad_output = rng.standard_normal(output.shape).astype(dtype)
    wanted.backward(torch.tensor(grad_output))
    grad_input = roi_pool.roi_pool_backward(grad_output, rois, argmax, scale, (3, 9, 12))
    assert_allclose(grad_input, tensor.grad, atol=1e-5 if dtype == np.float32 else 1e-13)


def test_foreign_arrays_are_refused():
    foreign: Any = [[[[1.0]]]]
    with pytest.raises(TypeError, match="roi_pool_forward: expected a NumPy array"):
        roi_pool.roi_pool_forward(foreign, np.zeros((1, 5)), (1, 1), 1.0)
