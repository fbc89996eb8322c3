"""Gradient clipping beside PyTorch and by hand."""

import math

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.optim import clip_grad_norm_, clip_grad_value_


def with_gradients(*gradients):
    params = [nn.Parameter(np.zeros_like(g)) for g in gradients]
    for p, g in zip(params, gradients, strict=True):
        p.grad = minicnn.tensor(g)
    return params


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6, 0.0])
def test_clip_grad_norm_equals_torch(max_norm, norm_type, dtype, tolerance):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in ((3, 4), (5,), (2, 1, 3, 3))]
    ours = with_gradients(*arrays)
    theirs = [torch.nn.Parameter(torch.zeros(a.shape)) for a in arrays]
    theirs = [
        torch.nn.Parameter(t.to(torch.tensor(a).dtype)) for t, a in zip(theirs, arrays, strict=True)
    ]
    for q, a in zip(theirs, arrays, strict=True):
        q.grad = torch.tensor(a)
    total = clip_grad_norm_([*ours, nn.Parameter([1.0])], max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(total.item(), expected.item(), rtol=tolerance)
    assert total.dtype == dtype
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=tolerance, atol=1e-300)


def test_a_small_norm_is_left_alone_to_the_bit():
    gradient = np.array([0.3, 0.1], np.float32)
    (p,) = with_gradients(gradient)
    clip_grad_norm_(p, 1.0)
    np.testing.assert_array_equal(p.grad.numpy(), gradient)
    clip_grad_norm_(p, 0.1)
    np.testing.assert_allclose(np.linalg.norm(p.grad.numpy()), 0.1, rtol=1e-4)


def test_norms_that_are_not_finite():
    p, q = with_gradients(np.array([np.nan, 1.0]), np.array([2.0]))
    with pytest.raises(RuntimeError, match="the norm of the gradients is nan"):
        clip_grad_norm_([p, q], 1.0, error_if_nonfinite=True)
    assert q.grad.tolist() == [2.0]
    assert math.isnan(clip_grad_norm_([p, q], 1.0).item())
    assert np.isnan(q.grad.numpy()).all()


def test_without_gradients_the_norm_is_zero():
    assert clip_grad_norm_([nn.Parameter([1.0])], 1.0).item() == 0.0


def test_clip_grad_value():
    params = with_gradients(np.array([-3.0, 0.5]), np.array([7.0]))
    clip_grad_value_(params, 1.0)
    assert [p.grad.tolist() for p in params] == [[-1.0, 0.5], [1.0]]


def test_clipping_counts_as_a_change_in_place():
    (p,) = with_gradients(np.array([3.0]))
    x = minicnn.tensor([1.0], dtype=np.float64, requires_grad=True)
    loss = x * p.grad
    clip_grad_value_(p, 1.0)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_nn_utils_are_the_same_functions():
    assert nn.utils.clip_grad_norm_ is clip_grad_norm_
    assert nn.utils.clip_grad_value_ is clip_grad_value_


def test_errors():
    (p,) = with_gradients(np.array([3.0]))
    for call in (lambda: clip_grad_norm_(p, -1.0), lambda: clip_grad_norm_(p, math.nan)):
        with pytest.raises(ValueError, match="max_norm"):
            call()
    with pytest.raises(ValueError, match="norm_type"):
        clip_grad_norm_(p, 1.0, 0)
    with pytest.raises(ValueError, match="clip_value"):
        clip_grad_value_(p, -1.0)
