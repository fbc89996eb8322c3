"""Cross-entropy kernels against their references and PyTorch's cross_entropy."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import to_host
from minicnn.kernels import cross_entropy as kernels
from minicnn.kernels.softmax import log_softmax_forward

SHAPES = [(4, 5, 1), (2, 3, 7), (1, 1, 1), (0, 3, 1), (2, 4, 0)]  # (N, C, L)
DTYPES = [np.float32, np.float64]


def example(shape, dtype, weighted):
    rng = np.random.default_rng(0)
    log_probs = -np.abs(rng.standard_normal(shape)).astype(dtype)
    target = rng.integers(0, shape[1], (shape[0], shape[2]))
    target[rng.random(target.shape) < 0.3] = -100
    weight = rng.random(shape[1]).astype(dtype) if weighted else None
    grad_output = rng.standard_normal(target.shape).astype(dtype)
    return log_probs, target, weight, grad_output


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return array.repeat(2, axis=-1)[..., ::2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_their_references(shape, weighted, label_smoothing, dtype):
    log_probs, target, weight, grad_output = example(shape, dtype, weighted)
    kept = log_probs.copy(), target.copy(), grad_output.copy()
    rtol = 1e-6 if dtype == np.float32 else 1e-14
    options = weight, -100, label_smoothing

    loss = kernels.cross_entropy_forward(log_probs, target, *options)
    assert (loss.dtype, loss.shape) == (dtype, target.shape)
    wanted = kernels.cross_entropy_forward_reference(log_probs, target, *options)
    assert_allclose(loss, wanted, rtol=rtol, atol=0)
    again = kernels.cross_entropy_forward(strided(log_probs), strided(target), *options)
    assert_array_equal(again, loss)

    grad = kernels.cross_entropy_backward(grad_output, target, *options, shape[1])
    assert (grad.dtype, grad.shape) == (dtype, shape)
    wanted = kernels.cross_entropy_backward_reference(grad_output, target, *options, shape[1])
    assert_allclose(grad, wanted, rtol=rtol, atol=0)
    again = kernels.cross_entropy_backward(
        strided(grad_output), strided(target), *options, shape[1]
    )
    assert_array_equal(again, grad)

    weights = kernels.cross_entropy_weights(strided(target), weight, -100, np.dtype(dtype))
    assert (weights.dtype, weights.shape) == (dtype, target.shape)
    wanted = kernels.cross_entropy_weights_reference(target, weight, -100)
    assert_array_equal(weights, wanted.astype(dtype))
    for before, after in zip(kept, (log_probs, target, grad_output), strict=True):
        assert_array_equal(after, before)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_backward_is_the_adjoint_of_forward(weighted, label_smoothing):
    log_probs, target, weight, grad_output = example((3, 4, 5), np.float64, weighted)
    options = weight, -100, label_smoothing
    loss = kernels.cross_entropy_forward(log_probs, target, *options)
    grad = kernels.cross_entropy_backward(grad_output, target, *options, 4)
    assert np.vdot(loss, grad_output) == pytest.approx(np.vdot(log_probs, grad), rel=1e-12)


def test_golden_value_of_softmax_cross_entropy():
    log_probs = log_softmax_forward(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), 1)[..., None]
    loss = kernels.cross_entropy_forward(log_probs, np.array([[2], [0]]), None, -100, 0.0)
    assert loss.mean() == pytest.approx(0.7531091, abs=5e-8)


def test_impossible_classes_spoil_nothing_but_their_own_loss():
    log_probs = np.array([[0.0, -np.inf], [0.0, -np.inf]])[..., None]
    loss = kernels.cross_entropy_forward(log_probs, np.array([[0], [1]]), None, -100, 0.0)
    assert_array_equal(loss, [[0], [np.inf]])


def test_an_ignored_nan_is_ignored_and_another_is_not():
    log_probs = np.full((2, 2, 1), np.nan)
    loss = kernels.cross_entropy_forward(log_probs, np.array([[7], [1]]), None, 7, 0.1)
    assert_array_equal(loss, [[0], [np.nan]])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_pytorch_agrees(weighted, label_smoothing):
    torch = pytest.importorskip("torch")
    logits, target, weight, grad_output = example((3, 4, 6), np.float64, weighted)
    log_probs = log_softmax_forward(logits, 1)
    # log_softmax is idempotent: PyTorch's cross_entropy of log-probabilities is the loss of these.
    tensor = torch.tensor(log_probs)
    options = {
        "weight": None if weight is None else torch.tensor(weight),
        "label_smoothing": label_smoothing,
    }
    cross_entropy = torch.nn.functional.cross_entropy
    loss = kernels.cross_entropy_forward(log_probs, target, weight, -100, label_smoothing)
    wanted = cross_entropy(tensor, torch.tensor(target), reduction="none", **options)
    assert_allclose(loss, wanted, rtol=1e-12)
    weights = kernels.cross_entropy_weights(target, weight, -100, np.dtype(np.float64))
    wanted = cross_entropy(tensor, torch.tensor(target), **options)
    assert loss.sum() / weights.sum() == pytest.approx(wanted.item(), rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_device_takes_strided_arrays(weighted, xp):
    log_probs, target, weight, grad_output = example((3, 4, 6), np.float32, weighted)
    x, labels, grad = (strided(xp.asarray(a)) for a in (log_probs, target, grad_output))
    class_weight = None if weight is None else strided(xp.asarray(weight))
    options = -100, 0.1
    result = kernels.cross_entropy_forward(x, labels, class_weight, *options)
    wanted = kernels.cross_entropy_forward(log_probs, target, weight, *options)
    assert_allclose(to_host(result), wanted, rtol=1e-6)
    result = kernels.cross_entropy_backward(grad, labels, class_weight, *options, 4)
    wanted = kernels.cross_entropy_backward(grad_output, target, weight, *options, 4)
    assert_allclose(to_host(result), wanted, rtol=1e-6)
    result = kernels.cross_entropy_weights(labels, class_weight, -100, np.dtype(np.float32))
    wanted = kernels.cross_entropy_weights(target, weight, -100, np.dtype(np.float32))
    assert result.dtype == np.float32
    assert_array_equal(to_host(result), wanted)


def test_foreign_arrays_are_refused():
    foreign: Any = [[0]]
    with pytest.raises(
        TypeError, match="cross_entropy_weights: expected a NumPy array or one on a CUDA"
    ):
        kernels.cross_entropy_weights(foreign, None, -100, np.dtype(np.float32))
