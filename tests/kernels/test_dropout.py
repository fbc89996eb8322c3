"""The dropout kernel against its reference, SplitMix64's published numbers, and statistics."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import to_host
from minicnn.kernels.dropout import dropout_forward, dropout_forward_reference

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("shape", [(), (0,), (3, 5, 7)])
def test_kernel_equals_its_reference(shape, seed, p, dtype):
    input = np.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
    before = input.copy()
    output = dropout_forward(input, seed, p)
    assert (output.dtype, output.shape) == (dtype, shape)
    rtol = 2e-7 if dtype == np.float32 else 1e-15
    assert_allclose(output, dropout_forward_reference(input, seed, p), rtol=rtol, atol=0)
    strided = np.repeat(input[..., None], 2, axis=-1)[..., 0]
    assert_array_equal(dropout_forward(strided, seed, p), output)
    assert_array_equal(input, before)


def test_random_numbers_are_those_of_splitmix64():
    # The first five outputs for seed 1234567, as they stand in test suites of many languages.
    outputs = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    for p in np.linspace(0.05, 0.95, 19):
        kept = dropout_forward(np.ones(5), 1234567, p) > 0
        assert_array_equal(kept, [output / 2**64 >= p for output in outputs])
    border = (outputs[0] >> 11) / 2**53
    assert dropout_forward(np.ones(1), 1234567, border) > 0
    assert dropout_forward(np.ones(1), 1234567, np.nextafter(border, 1)) == 0


def test_p_of_zero_keeps_everything_and_p_of_one_nothing():
    input = np.random.default_rng(1).standard_normal(1000)
    assert_array_equal(dropout_forward(input, 3, 0.0), input)
    assert_array_equal(dropout_forward(input, 3, 1.0), np.zeros(1000))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_shares_and_neighbours_look_random(p):
    size = 100_000
    masks = [dropout_forward(np.ones(size), seed, p) > 0 for seed in (0, 1, 2**40)]
    deviation = (p * (1 - p) / size) ** 0.5
    for mask in masks:
        assert abs(mask.mean() - (1 - p)) < 4 * deviation
        centred = mask - mask.mean()
        for lag in (1, 2, 64):
            correlation = np.mean(centred[lag:] * centred[:-lag]) / (p * (1 - p))
            assert abs(correlation) < 4 / size**0.5
    for one, other in zip(masks, masks[1:], strict=False):
        correlation = np.mean((one - one.mean()) * (other - other.mean())) / (p * (1 - p))
        assert abs(correlation) < 4 / size**0.5


def test_mask_depends_on_neither_the_dtype_nor_the_shape():
    wanted = dropout_forward(np.ones(60), 5, 0.4) > 0
    single = dropout_forward(np.ones((3, 4, 5), np.float32), 5, 0.4) > 0
    assert_array_equal(single.ravel(), wanted)


def test_the_same_call_is_the_gradient():
    input, grad_output = np.random.default_rng(2).standard_normal((2, 100))
    output, grad_input = (dropout_forward(array, 6, 0.3) for array in (input, grad_output))
    assert np.vdot(output, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-12)


def test_nan_is_not_hidden():
    assert np.isnan(dropout_forward(np.full(20, np.nan), 0, 0.5)).all()


def test_the_mask_is_the_same_on_every_device(xp):
    input = np.random.default_rng(3).standard_normal((7, 50)).astype(np.float32)
    transposed = xp.asarray(input).T
    assert not transposed.flags.c_contiguous
    for seed in (0, 2**64 - 1):
        output = dropout_forward(transposed, seed, 0.3)
        assert_array_equal(to_host(output), dropout_forward(input.T, seed, 0.3))


def test_foreign_arrays_are_refused():
    foreign: Any = [1.0]
    with pytest.raises(TypeError, match="dropout_forward: expected a NumPy array or one on a CUDA"):
        dropout_forward(foreign, 0, 0.5)
