"""Padding kernels against their references, NumPy, and as adjoints."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.kernels import _jit, pad

DTYPES = [np.float32, np.float64]
CASES = [
    ((5,), [(3, 1)]),
    ((3, 4), [(2, 1), (0, 3)]),
    ((2, 3, 4, 5), [(0, 0), (0, 0), (1, 3), (4, 2)]),
    ((2, 3, 4, 5), [(1, 1), (2, 0), (0, 2), (3, 0)]),
    ((2, 3, 4), [(1, 0), (0, 0), (0, 0)]),
    ((2, 3), [(0, 0), (0, 0)]),
    ((1, 1, 2, 2), [(0, 0), (0, 0), (1, 1), (1, 1)]),
    ((0, 3, 4), [(0, 0), (1, 1), (1, 1)]),
    ((), []),
]
NUMPY_MODES = {"reflect": "reflect", "replicate": "edge"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape, widths", CASES)
def test_constant_equals_its_reference_and_numpy(shape, widths, dtype):
    input = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    wide = np.repeat(input, 2, axis=-1)[..., ::2] if shape else input
    output = pad.pad_constant(wide, widths, -0.5)
    assert output.dtype == dtype and not np.shares_memory(output, wide)
    assert_array_equal(output, pad.pad_constant_reference(input, widths, -0.5))
    if shape:
        assert_array_equal(output, np.pad(input, widths, constant_values=-0.5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("shape, widths", [*CASES, ((2, 1, 3), [(4, 0), (0, 9), (2, 7)])])
def test_border_equals_its_reference_and_numpy_and_backward_is_its_adjoint(
    shape, widths, mode, dtype
):
    if mode == "reflect" and any(max(w) >= n > 0 for w, n in zip(widths, shape, strict=True)):
        widths = [(min(a, n - 1), min(b, n - 1)) for (a, b), n in zip(widths, shape, strict=True)]
    forward = getattr(pad, f"pad_{mode}_forward")
    backward = getattr(pad, f"pad_{mode}_backward")
    rng = np.random.default_rng(1)
    input = rng.standard_normal(shape).astype(dtype)
    before = input.copy()
    output = forward(input, widths)
    assert output.dtype == dtype and not np.shares_memory(output, input)
    assert_array_equal(output, getattr(pad, f"pad_{mode}_forward_reference")(input, widths))
    assert_array_equal(input, before)
    if input.size and shape:
        assert_array_equal(output, np.pad(input, widths, mode=NUMPY_MODES[mode]))
    grad_output = rng.standard_normal(output.shape).astype(dtype)
    grad_input = backward(grad_output, widths)
    wanted = getattr(pad, f"pad_{mode}_backward_reference")(grad_output, widths)
    assert grad_input.dtype == dtype and grad_input.shape == shape
    assert_allclose(grad_input, wanted, atol=1e-5 if dtype == np.float32 else 1e-13)
    if dtype == np.float64:
        assert np.vdot(output, grad_output) == pytest.approx(np.vdot(input, grad_input), rel=1e-11)


def test_golden_values():
    row = np.arange(1.0, 5.0)
    assert_array_equal(pad.pad_reflect_forward(row, [(2, 3)]), [3, 2, 1, 2, 3, 4, 3, 2, 1])
    assert_array_equal(pad.pad_replicate_forward(row, [(2, 1)]), [1, 1, 1, 2, 3, 4, 4])
    assert_array_equal(pad.pad_constant(row, [(1, 2)], np.nan)[[0, -2, -1]], [np.nan] * 3)
    assert_array_equal(pad.pad_reflect_backward(np.ones(9), [(2, 3)]), [2, 3, 3, 1])
    assert_array_equal(pad.pad_replicate_backward(np.ones(7), [(2, 1)]), [3, 1, 1, 2])


def test_threads_do_not_change_a_bit():
    grad_output = np.random.default_rng(2).standard_normal((7, 11, 13)).astype(np.float32)
    before, results = _jit.get_num_threads(), []
    try:
        for threads in {1, _jit.max_num_threads()}:
            _jit.set_num_threads(threads)
            results.append(pad.pad_replicate_backward(grad_output, [(0, 0), (3, 4), (5, 5)]))
    finally:
        _jit.set_num_threads(before)
    assert len({r.tobytes() for r in results}) == 1
