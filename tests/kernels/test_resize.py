"""Resizing kernels against their references, PyTorch, and as adjoints."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.kernels import resize

DTYPES = [np.float32, np.float64]
# shape (N, C, height, width), output size, scale factor
CASES = [
    ((2, 3, 5, 7), (9, 16), None),
    ((1, 2, 6, 5), (12, 10), (2.0, 2.0)),
    ((2, 3, 9, 11), (4, 3), None),
    ((1, 3, 4, 13), (11, 5), None),
    ((1, 2, 4, 5), (4, 5), None),
    ((1, 2, 7, 9), (9, 11), (1.3, 1.3)),
    ((1, 2, 9, 10), (5, 7), (0.6, 0.7)),
    ((1, 2, 3, 4), (3, 4), (1.1, 1.2)),
    ((1, 2, 4, 5), (1, 1), None),
    ((2, 1, 1, 1), (3, 4), None),
    ((0, 2, 3, 3), (5, 5), None),
]
OPS = [("nearest", False), ("nearest", True), ("bilinear", False), ("bilinear", True)]


def kernel(op, direction):
    return getattr(resize, f"resize_{op}_{direction}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, rule", OPS)
@pytest.mark.parametrize("shape, size, factor", CASES)
def test_kernels_equal_their_references_and_are_adjoint(shape, size, factor, op, rule, dtype):
    tolerance = {"rtol": 0, "atol": 1e-5 if dtype == np.float32 else 1e-13}
    rng = np.random.default_rng(0)
    input = rng.standard_normal(shape).astype(dtype)
    before = input.copy()
    wide = np.repeat(input, 2, axis=-1)[..., ::2]
    output = kernel(op, "forward")(wide, size, factor, rule)
    assert output.dtype == dtype and output.shape == (*shape[:2], *size)
    wanted = kernel(op, "forward_reference")(input, size, factor, rule)
    assert_allclose(output, wanted, **tolerance)
    grad_output = rng.standard_normal(output.shape).astype(dtype)
    wide = np.repeat(grad_output, 2, axis=-1)[..., ::2]
    grad_input = kernel(op, "backward")(wide, shape[2:], factor, rule)
    assert grad_input.dtype == dtype and grad_input.shape == shape
    wanted = kernel(op, "backward_reference")(grad_output, shape[2:], factor, rule)
    assert_allclose(grad_input, wanted, **tolerance)
    kernel(op, "forward")(input, size, factor, rule)
    assert_array_equal(input, before)
    if dtype == np.float64:
        assert np.vdot(output, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-10)


def test_golden_values():
    row = np.arange(4.0).reshape(1, 1, 1, 4)

    def resized(op, width, rule):
        return kernel(op, "forward")(row, (1, width), None, rule).ravel()

    assert_array_equal(resized("nearest", 8, False), [0, 0, 1, 1, 2, 2, 3, 3])
    assert_array_equal(resized("nearest", 3, False), [0, 1, 2])
    assert_array_equal(resized("nearest", 3, True), [0, 2, 3])
    assert_allclose(resized("bilinear", 8, False), [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    assert_allclose(resized("bilinear", 7, True), [0, 0.5, 1, 1.5, 2, 2.5, 3])
    assert_allclose(resized("bilinear", 2, False), [0.5, 2.5])
    assert_allclose(resized("bilinear", 1, True), [0])


def test_a_pixel_without_a_share_is_not_read():
    row = np.array([1.0, np.nan, 3.0]).reshape(1, 1, 1, 3)
    output = resize.resize_bilinear_forward(row, (2, 5), None, True)
    assert_array_equal(output[0, 0, 0], [1, np.nan, np.nan, np.nan, 3])
    assert_array_equal(resize.resize_bilinear_forward(row, (1, 3), None, False), row)


@pytest.mark.parametrize("out", range(1, 40))
def test_nearest_takes_the_pixels_that_pytorch_takes(out):
    torch = pytest.importorskip("torch")
    for size in range(1, 40):
        row = np.arange(size, dtype=np.float32).reshape(1, 1, 1, size)
        for mode in ("nearest", "nearest-exact"):
            ours = resize.resize_nearest_forward(row, (1, out), None, mode != "nearest")
            theirs = torch.nn.functional.interpolate(torch.tensor(row), (1, out), mode=mode)
            assert_array_equal(ours, theirs)
