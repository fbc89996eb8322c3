"""Convolution and its two gradients against plain loops; golden values; adjointness."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from minicnn.kernels import conv2d as kernels
from minicnn.kernels.conv2d import (
    conv2d_backward_data,
    conv2d_backward_data_reference,
    conv2d_backward_weight,
    conv2d_backward_weight_reference,
    conv2d_forward,
    conv2d_forward_reference,
)

STEPS = list(
    product(
        [(1, 1), (2, 3)],  # stride
        [(0, 0), (2, 1)],  # padding
        [(1, 1), (2, 1)],  # dilation
        [1, 2],  # groups
    )
)


def values(steps, dtype, batch=3, kernel=(3, 2), size=(9, 8)):
    rng = np.random.default_rng(0)
    groups = steps[3]
    input = rng.standard_normal((batch, 4, *size)).astype(dtype)
    weight = rng.standard_normal((6, 4 // groups, *kernel)).astype(dtype)
    bias = rng.standard_normal(6).astype(dtype)
    output = conv2d_forward(input, weight, bias, *steps)
    return input, weight, bias, output, rng.standard_normal(output.shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", STEPS)
def test_forward_and_gradients_equal_the_loops(steps, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "COLUMN_BYTES", 8000)  # several slices of the batch
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    input, weight, bias, output, grad = values(steps, dtype)
    before = input.copy(), weight.copy(), grad.copy()
    assert output.dtype == dtype
    np.testing.assert_allclose(
        output, conv2d_forward_reference(input, weight, bias, *steps), tolerance, tolerance
    )
    np.testing.assert_allclose(
        conv2d_backward_data(grad, weight, 9, 8, *steps),
        conv2d_backward_data_reference(grad, weight, 9, 8, *steps),
        tolerance,
        tolerance,
    )
    np.testing.assert_allclose(
        conv2d_backward_weight(input, grad, (3, 2), *steps),
        conv2d_backward_weight_reference(input, grad, (3, 2), *steps),
        tolerance,
        tolerance,
    )
    assert all((a == b).all() for a, b in zip((input, weight, grad), before, strict=True))


@pytest.mark.parametrize(
    ("algorithm", "dtype"),
    [
        ("direct", np.float32),
        ("direct", np.float64),
        ("im2col", np.float32),
        ("im2col", np.float64),
        ("implicit", np.float32),
    ],
)
@pytest.mark.parametrize("steps", STEPS)
def test_every_rung_equals_the_loops(steps, algorithm, dtype):
    tolerance = 1e-4 if dtype == np.float32 else 1e-12
    input, weight, bias, _, grad = values(steps, dtype)
    for op, arguments in [
        ("conv2d_forward", (input, weight, bias, *steps)),
        ("conv2d_backward_data", (grad, weight, 9, 8, *steps)),
        ("conv2d_backward_weight", (input, grad, (3, 2), *steps)),
    ]:
        result = getattr(kernels, op)(*arguments, algorithm=algorithm)
        expected = getattr(kernels, f"{op}_reference")(*arguments)
        assert result.dtype == dtype
        np.testing.assert_allclose(result, expected, tolerance, tolerance)


def test_unknown_rungs_are_refused():
    image, steps = np.ones((1, 1, 1, 1)), ((1, 1), (0, 0), (1, 1), 1)
    message = "algorithm: got 'fft', expected 'direct', 'im2col', 'implicit' or 'winograd'"
    with pytest.raises(ValueError, match=message):
        conv2d_forward(image, image, None, *steps, algorithm="fft")
    with pytest.raises(ValueError, match=message):
        conv2d_backward_data(image, image, 1, 1, *steps, algorithm="fft")
    with pytest.raises(ValueError, match=message):
        conv2d_backward_weight(image, image, (1, 1), *steps, algorithm="fft")
    with pytest.raises(ValueError, match=r"'winograd' is for .* got a kernel of \(1, 1\)"):
        conv2d_forward(image, image, None, *steps, algorithm="winograd")
    with pytest.raises(ValueError, match="without: got 'direct'"), kernels.without("direct"):
        pass


STRIDE_1 = ((1, 1), (1, 1), (1, 1))
CHOICES = [
    # op, dtype, weight, output, steps, excluded, rung
    ("forward", "f4", (64, 64, 3, 3), (2, 64, 9, 9), STRIDE_1, (), "winograd"),
    ("forward", "f4", (64, 64, 3, 3), (2, 64, 9, 9), STRIDE_1, ("winograd",), "implicit"),
    ("forward", "f4", (64, 64, 3, 3), (2, 64, 9, 9), STRIDE_1, kernels.ALGORITHMS[1:], "direct"),
    ("forward", "f8", (64, 64, 3, 3), (2, 64, 9, 9), STRIDE_1, (), "im2col"),
    ("forward", "f4", (64, 3, 3, 3), (2, 64, 9, 9), STRIDE_1, (), "implicit"),
    ("data", "f4", (64, 64, 5, 5), (2, 64, 9, 9), STRIDE_1, (), "winograd"),
    ("data", "f4", (64, 64, 3, 5), (2, 64, 9, 9), STRIDE_1, (), "implicit"),
    ("data", "f4", (64, 64, 3, 3), (2, 64, 9, 9), ((2, 2), (1, 1), (1, 1)), (), "implicit"),
    ("weight", "f4", (512, 512, 3, 3), (1, 512, 7, 7), STRIDE_1, (), "implicit"),
    ("weight", "f4", (512, 512, 3, 3), (8, 512, 7, 7), STRIDE_1, (), "winograd"),
]


@pytest.mark.parametrize(("op", "dtype", "weight", "output", "steps", "excluded", "rung"), CHOICES)
def test_the_fastest_rung_that_fits_is_chosen(op, dtype, weight, output, steps, excluded, rung):
    with kernels.without(*excluded):
        chosen = kernels.choose(op, np, np.dtype(dtype), weight, output, *steps)
    assert chosen == rung


@pytest.mark.parametrize("excluded", [(), ("winograd",), ("winograd", "implicit")])
def test_every_choice_gives_the_same_convolution(excluded):
    rng = np.random.default_rng(0)
    input = rng.standard_normal((2, 16, 10, 9)).astype(np.float32)
    weight = rng.standard_normal((24, 16, 3, 3)).astype(np.float32)
    grad = rng.standard_normal((2, 24, 10, 9)).astype(np.float32)
    steps = (*STRIDE_1, 1)
    wide = [array.astype(np.float64) for array in (input, weight, grad)]
    with kernels.without(*excluded):
        results = (
            conv2d_forward(input, weight, None, *steps),
            conv2d_backward_data(grad, weight, 10, 9, *steps),
            conv2d_backward_weight(input, grad, (3, 3), *steps),
        )
    expected = (
        conv2d_forward(wide[0], wide[1], None, *steps, algorithm="direct"),
        conv2d_backward_data(wide[2], wide[1], 10, 9, *steps, algorithm="direct"),
        conv2d_backward_weight(wide[0], wide[2], (3, 3), *steps, algorithm="direct"),
    )
    for result, exact in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, exact, 0, 1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("steps", STEPS)
def test_gradients_are_the_adjoints_of_the_forward_pass(steps):
    input, weight, _, _, grad = values(steps, np.float64)
    output = conv2d_forward(input, weight, None, *steps)
    product_of_outputs = (output * grad).sum()
    data = conv2d_backward_data(grad, weight, 9, 8, *steps)
    assert (data * input).sum() == pytest.approx(product_of_outputs, rel=1e-12)
    gradient = conv2d_backward_weight(input, grad, (3, 2), *steps)
    assert (gradient * weight).sum() == pytest.approx(product_of_outputs, rel=1e-12)


def test_strided_arrays():
    steps = ((1, 1), (1, 1), (1, 1), 1)
    input, weight, bias, output, grad = values(steps, np.float64)
    wide = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (input, weight, bias, grad)]
    np.testing.assert_array_equal(conv2d_forward(*wide[:3], *steps), output)
    np.testing.assert_array_equal(
        conv2d_backward_data(wide[3], wide[1], 9, 8, *steps),
        conv2d_backward_data(grad, weight, 9, 8, *steps),
    )
    np.testing.assert_array_equal(
        conv2d_backward_weight(wide[0], wide[3], (3, 2), *steps),
        conv2d_backward_weight(input, grad, (3, 2), *steps),
    )


@pytest.mark.parametrize("batch", [0, 1])
def test_batches_of_none_and_one(batch):
    steps = ((2, 1), (1, 1), (1, 1), 2)
    input, weight, bias, output, grad = values(steps, np.float32, batch)
    assert output.shape[0] == batch
    assert conv2d_backward_data(grad, weight, 9, 8, *steps).shape == input.shape
    gradient = conv2d_backward_weight(input, grad, (3, 2), *steps)
    assert gradient.shape == weight.shape and (batch or not gradient.any())


def test_a_batch_of_none_gives_no_gradient_to_any_filter():
    image, filters = np.zeros((0, 16, 6, 6), np.float32), (16, 16, 3, 3)
    gradient = conv2d_backward_weight(image, image, (3, 3), *STRIDE_1, 1)
    assert gradient.shape == filters and not gradient.any()


def test_golden_values():
    ramp = np.arange(1.0, 17).reshape(1, 1, 4, 4)
    ones = np.ones((1, 1, 3, 3))
    strided = conv2d_forward(ramp, ones, None, (2, 2), (1, 1), (1, 1), 1)
    assert strided.ravel().tolist() == [14, 30, 57, 99]

    ramp = np.arange(1.0, 26).reshape(1, 1, 5, 5)
    dilated = conv2d_forward(ramp, ones, None, (1, 1), (1, 1), (2, 2), 1)
    assert dilated[0, 0].tolist() == [[52, 78, 52], [78, 117, 78], [52, 78, 52]]

    input = np.arange(1.0, 19).reshape(1, 2, 3, 3)
    weight = np.arange(1.0, 9).reshape(2, 1, 2, 2)
    grouped = conv2d_forward(input, weight, None, (1, 1), (0, 0), (1, 1), 2)
    assert grouped[0, 0].ravel().tolist() == [37, 47, 67, 77]
    assert grouped[0, 1].ravel().tolist() == [319, 345, 397, 423]


@pytest.mark.parametrize(
    ("padding", "size", "rows"),
    [
        (1, 3, [[5, 14, 10], [14, 36, 24], [15, 34, 20]]),
        (1, 4, [[5, 14, 10, 12], [14, 36, 24, 30], [15, 34, 20, 24], [24, 55, 32, 36]]),
        (
            0,
            5,
            [
                [1, 2, 5, 4, 6],
                [4, 5, 14, 10, 12],
                [10, 14, 36, 24, 30],
                [12, 15, 34, 20, 24],
                [21, 24, 55, 32, 36],
            ],
        ),
    ],
)
def test_golden_values_transposed(padding, size, rows):
    input = np.array([[[[1.0, 2], [3, 4]]]])
    weight = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    border = (padding, padding)
    output = conv2d_backward_data(input, weight, size, size, (2, 2), border, (1, 1), 1)
    assert output[0, 0].tolist() == rows


def test_foreign_arrays_are_refused():
    with pytest.raises(TypeError, match="conv2d_forward: expected a NumPy array"):
        conv2d_forward([], np.ones((1, 1, 1, 1)), None, (1, 1), (0, 0), (1, 1), 1)
