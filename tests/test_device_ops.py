"""Every operation on a CUDA device beside the CPU, and its derivatives checked there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import Tensor
from minicnn.opcheck import OPS, check_op

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def compute(name: str, device: str, dtype: type) -> tuple[list[Tensor], list[np.ndarray]]:
    """Return an operation's outputs on a device, and they and the inputs' gradients on the host."""
    fn, inputs = OPS[name](np.random.default_rng(5))
    arguments: list[Any] = [place(x, device, dtype) if isinstance(x, Tensor) else x for x in inputs]
    result = fn(*arguments)
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    rng = np.random.default_rng(6)
    upstream = [Tensor(rng.standard_normal(y.shape)).to(y) for y in outputs if y.dtype.kind == "f"]
    gradients = minicnn.grad(
        [y for y in outputs if y.dtype.kind == "f"],
        [x for x in arguments if isinstance(x, Tensor) and x.requires_grad],
        upstream,
    )
    return outputs, [t.detach().cpu().numpy() for t in (*outputs, *gradients)]


def place(x: Tensor, device: str, dtype: type) -> Tensor:
    moved = x.detach().to(device)
    return moved.to(dtype).requires_grad_(x.requires_grad) if x.dtype.kind == "f" else moved


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", OPS)
def test_values_and_gradients_are_those_of_the_cpu(gpu, name, dtype):
    outputs, results = compute(name, gpu, dtype)
    _, expected = compute(name, "cpu", dtype)
    assert {y.device for y in outputs} == {"cpu" if name == "to_device" else gpu}
    for got, wanted in zip(results, expected, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", OPS)
def test_derivatives_agree_with_finite_differences(gpu, name):
    result = check_op(name, device=gpu)
    assert result.ok, result.message
    assert result.max_error < 1e-6 and result.second_error < 1e-6 and result.comparisons > 0
