"""The implicit rung on the CPU against the definition in float64, where its seams are."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels import conv2d
from minicnn.kernels._jit import get_num_threads, set_num_threads
from minicnn.kernels.im2col import output_size

# Batch, channels, size; output channels, kernel; stride, padding, dilation, groups.
SHAPES = {
    "one by one": ((2, 4, 8, 9), (8, (1, 1)), ((1, 1), (0, 0), (1, 1), 1)),
    "one by one, padded": ((2, 4, 8, 9), (8, (1, 1)), ((1, 1), (1, 2), (1, 1), 2)),
    "one by one, strided": ((2, 4, 8, 9), (8, (1, 1)), ((2, 2), (0, 0), (1, 1), 2)),
    "one pixel": ((1, 1, 1, 1), (1, (1, 1)), ((1, 1), (0, 0), (1, 1), 1)),
    "an image a lane": ((70, 2, 1, 1), (3, (1, 1)), ((1, 1), (0, 0), (1, 1), 1)),
    "panels across images": ((5, 40, 7, 7), (20, (3, 3)), ((1, 1), (1, 1), (1, 1), 1)),
    "several blocks of the depth": ((3, 130, 6, 5), (17, (3, 3)), ((1, 1), (1, 1), (1, 1), 1)),
    "wide rows": ((1, 16, 60, 60), (24, (3, 3)), ((1, 1), (1, 1), (1, 1), 1)),
    "stride 2": ((2, 8, 14, 15), (12, (3, 3)), ((2, 2), (1, 1), (1, 1), 2)),
    "stride 2, long rows": ((1, 3, 9, 80), (8, (7, 7)), ((2, 2), (3, 3), (1, 1), 1)),
    "stride 4": ((2, 3, 31, 75), (16, (11, 11)), ((4, 4), (2, 2), (1, 1), 1)),
    "stride 4, few phases": ((2, 3, 20, 20), (4, (3, 3)), ((4, 4), (1, 1), (1, 1), 1)),
    "stride 3 and unread pixels": ((2, 3, 10, 10), (7, (2, 2)), ((3, 3), (0, 0), (1, 1), 1)),
    "dilation within a phase": ((2, 3, 12, 12), (4, (3, 3)), ((2, 4), (1, 3), (2, 3), 1)),
    "dilation and stride apart": ((1, 2, 13, 17), (3, (3, 2)), ((2, 3), (1, 0), (2, 3), 1)),
}


# float64 does not take this rung by itself, and it is long to compile.
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_definition(name, dtype):
    shape, (filters, kernel), steps = SHAPES[name]
    groups = steps[3]
    rng = np.random.default_rng(0)
    input = rng.standard_normal(shape).astype(dtype)
    weight = rng.standard_normal((filters, shape[1] // groups, *kernel)).astype(dtype)
    bias = rng.standard_normal(filters).astype(dtype)
    size = [output_size(*each) for each in zip(shape[2:], kernel, *steps[:3], strict=True)]
    grad = rng.standard_normal((shape[0], filters, *size)).astype(dtype)
    for op, arguments in [
        ("conv2d_forward", (input, weight, bias, *steps)),
        ("conv2d_backward_data", (grad, weight, *shape[2:], *steps)),
        ("conv2d_backward_weight", (input, grad, kernel, *steps)),
    ]:
        result = getattr(conv2d, op)(*arguments, algorithm="implicit")
        wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in arguments]
        expected = getattr(conv2d, op)(*wide, algorithm="direct")
        scale = np.abs(expected).max()
        tolerance = scale * (1e-5 if dtype == np.float32 else 1e-13)
        np.testing.assert_allclose(result, expected, 0, tolerance, err_msg=op)


def test_bits_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    input = rng.standard_normal((4, 24, 20, 20)).astype(np.float32)
    weight = rng.standard_normal((20, 24, 3, 3)).astype(np.float32)
    grad = rng.standard_normal((4, 20, 20, 20)).astype(np.float32)
    steps = ((1, 1), (1, 1), (1, 1), 1)

    def run():
        return (
            conv2d.conv2d_forward(input, weight, None, *steps, algorithm="implicit"),
            conv2d.conv2d_backward_data(grad, weight, 20, 20, *steps, algorithm="implicit"),
            conv2d.conv2d_backward_weight(input, grad, (3, 3), *steps, algorithm="implicit"),
        )

    threads = get_num_threads()
    many = run()
    try:
        set_num_threads(1)
        one = run()
    finally:
        set_num_threads(threads)
    for a, b in zip(many, one, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_reaches_its_windows_only(value):
    input = np.ones((1, 2, 30, 30), np.float32)
    input[0, 1, 12, 20] = value
    weight = np.ones((3, 2, 3, 3), np.float32)
    steps = ((1, 1), (1, 1), (1, 1), 1)
    output = conv2d.conv2d_forward(input, weight, None, *steps, algorithm="implicit")
    reached = np.zeros((30, 30), bool)
    reached[11:14, 19:22] = True
    np.testing.assert_array_equal(~np.isfinite(output), np.broadcast_to(reached, output.shape))
