"""Optimizer kernels against their references and PyTorch's optimizers."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import to_host
from minicnn.kernels.optimizer import (
    adam_step,
    adam_step_reference,
    sgd_step,
    sgd_step_reference,
)

DTYPES = [np.float32, np.float64]
SHAPES = [(), (0,), (5, 3)]
# momentum (None: no velocity), dampening, weight_decay, nesterov
SGD_OPTIONS = [
    (None, 0.0, 0.0, False),
    (None, 0.0, 0.1, False),
    (0.9, 0.0, 0.0, False),
    (0.9, 0.3, 0.1, False),
    (0.9, 0.0, 0.1, True),
]


def close(dtype):
    return {"rtol": 1e-5, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-15}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum, dampening, weight_decay, nesterov", SGD_OPTIONS)
def test_sgd_equals_its_reference(momentum, dampening, weight_decay, nesterov, shape, dtype):
    rng = np.random.default_rng(0)
    parameter = np.asarray(rng.standard_normal(shape), dtype)
    # What stands in the velocity before the first step must not matter.
    velocity = None if momentum is None else np.full(shape, np.nan, dtype)
    for step in range(3):
        gradient = np.asarray(rng.standard_normal(shape), dtype)
        kept = gradient.copy()
        options: Any = 0.1, momentum or 0.0, dampening, weight_decay, nesterov, step == 0
        wanted, wanted_velocity = sgd_step_reference(parameter, gradient, velocity, *options)
        sgd_step(parameter, gradient, velocity, *options)
        assert_allclose(parameter, wanted, **close(dtype))
        if velocity is not None and wanted_velocity is not None:
            assert_allclose(velocity, wanted_velocity, **close(dtype))
        assert_array_equal(gradient, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight_decay, decoupled", [(0.0, False), (0.1, False), (0.1, True)])
def test_adam_equals_its_reference(weight_decay, decoupled, shape, dtype):
    rng = np.random.default_rng(1)
    parameter = np.asarray(rng.standard_normal(shape), dtype)
    exp_avg, exp_avg_sq = np.zeros(shape, dtype), np.zeros(shape, dtype)
    for step in range(1, 4):
        gradient = np.asarray(rng.standard_normal(shape), dtype)
        kept = gradient.copy()
        arrays = parameter, gradient, exp_avg, exp_avg_sq
        options: Any = step, 0.1, 0.9, 0.99, 1e-3, weight_decay, decoupled
        wanted = adam_step_reference(*arrays, *options)
        adam_step(*arrays, *options)
        for array, value in zip((parameter, exp_avg, exp_avg_sq), wanted, strict=True):
            assert_allclose(array, value, **close(dtype))
        assert_array_equal(gradient, kept)


def test_arrays_that_are_not_contiguous_are_updated_in_place(xp):
    rng = np.random.default_rng(2)
    arrays = rng.random((4, 3, 5))
    transposed = [xp.asarray(array.T.copy()).T for array in arrays]
    assert not transposed[0].flags.c_contiguous
    for parameter, gradient, exp_avg, exp_avg_sq in (arrays, transposed):
        sgd_step(parameter, gradient, exp_avg, 0.1, 0.9, 0.0, 0.1, True, False)
        adam_step(parameter, gradient, exp_avg, exp_avg_sq, 2, 0.1, 0.9, 0.99, 1e-8, 0.1, False)
    assert_allclose([to_host(array) for array in transposed], arrays, rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("momentum, dampening, weight_decay, nesterov", SGD_OPTIONS)
def test_pytorch_agrees_on_sgd(momentum, dampening, weight_decay, nesterov, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    parameter = rng.standard_normal(20).astype(dtype)
    velocity = None if momentum is None else np.empty_like(parameter)
    tensor = torch.nn.Parameter(torch.tensor(parameter))
    optimizer = torch.optim.SGD(
        [tensor], 0.1, momentum or 0.0, dampening, weight_decay, nesterov=nesterov
    )
    for step in range(5):
        gradient = rng.standard_normal(20).astype(dtype)
        tensor.grad = torch.tensor(gradient)
        optimizer.step()
        options = 0.1, momentum or 0.0, dampening, weight_decay, nesterov, step == 0
        sgd_step(parameter, gradient, velocity, *options)
        assert_allclose(parameter, tensor.detach(), **close(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight_decay, decoupled", [(0.0, False), (0.1, False), (0.1, True)])
def test_pytorch_agrees_on_adam(weight_decay, decoupled, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    parameter = rng.standard_normal(20).astype(dtype)
    exp_avg, exp_avg_sq = np.zeros_like(parameter), np.zeros_like(parameter)
    tensor = torch.nn.Parameter(torch.tensor(parameter))
    optimizer = (torch.optim.AdamW if decoupled else torch.optim.Adam)(
        [tensor], 0.1, (0.8, 0.95), 1e-2, weight_decay
    )
    for step in range(1, 6):
        gradient = rng.standard_normal(20).astype(dtype)
        tensor.grad = torch.tensor(gradient)
        optimizer.step()
        options = step, 0.1, 0.8, 0.95, 1e-2, weight_decay, decoupled
        adam_step(parameter, gradient, exp_avg, exp_avg_sq, *options)
        assert_allclose(parameter, tensor.detach(), **close(dtype))


def test_foreign_arrays_are_refused():
    array = np.ones(1)
    foreign: Any = [1.0]
    with pytest.raises(TypeError, match="sgd_step: expected a NumPy array or one on a CUDA"):
        sgd_step(foreign, array, None, 0.1, 0.0, 0.0, 0.0, False, True)
