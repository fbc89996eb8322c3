"""The checker checked: planted faults must be caught, right functions must pass."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn.functional as F
from minicnn import Function, Tensor
from minicnn.gradcheck import SMALL, GradcheckError, gradcheck, gradgradcheck
from minicnn.opcheck import OPS, check_op


def values(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape), requires_grad=True)


class Cube(Function):
    """x ** 3, with a backward that a test can spoil."""

    def forward(self, a, *, spoil=None):
        self.spoil = spoil
        self.save(a)
        return a**3

    def backward(self, grad_output):
        (a,) = self.saved
        grad = 3 * a * a * grad_output
        return grad if self.spoil is None else self.spoil(grad, grad_output)


def spoil_one(place):
    def spoil(grad, grad_output):
        wrong = np.ones(grad.shape)
        wrong[place] = 1 + 1e-5
        return grad * Tensor(wrong)

    return spoil


@pytest.mark.parametrize("name", OPS)
def test_every_operation(name):
    result = check_op(name)
    assert result.ok, result.message
    assert result.max_error < 1e-6 and result.second_error < 1e-6 and result.comparisons > 0


def test_every_public_function_is_checked():
    not_differentiable = {"argmax", "argmin", "batched_nms", "nms", "one_hot", "plain_index"}
    names = set(F.__all__) - not_differentiable
    checked = {name.split()[0] for name in OPS}
    assert names - checked == set()
    assert checked - names == set()


def test_unknown_operation_lists_the_known():
    with pytest.raises(ValueError, match="'conv9d', expected one of add, sub"):
        check_op("conv9d")


def test_right_function_passes_small_and_large():
    for shape in [(2, 3), (SMALL + 1,)]:
        report = gradcheck(lambda x: Cube.apply(x), values(*shape))
        assert report.error < 1e-8 and report.comparisons > 0


def test_wrong_backward_is_caught_and_its_index_named():
    with pytest.raises(GradcheckError, match=r"input 0 at index \(1, 2\): analytic .* numeric"):
        gradcheck(lambda x: Cube.apply(x, spoil=spoil_one((1, 2))), values(2, 3))


def test_wrong_backward_is_caught_in_a_large_input():
    def spoil(grad, grad_output):
        return grad * 1.0001

    with pytest.raises(GradcheckError, match="random direction"):
        gradcheck(lambda x: Cube.apply(x, spoil=spoil), values(SMALL + 1))


def test_fault_that_a_gradient_of_ones_would_hide_is_caught():
    # Subtracting the mean of the upstream gradient changes nothing when that gradient is constant.
    class Shift(Function):
        def forward(self, a):
            return a * 1.0

        def backward(self, grad_output):
            return grad_output - grad_output.mean() + 1.0

    with pytest.raises(GradcheckError):
        gradcheck(Shift.apply, values(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_wherever_they_are(bad):
    def in_backward(grad, grad_output):
        wrong = np.ones(grad.shape)
        wrong[1] = bad
        return grad * Tensor(wrong)

    with pytest.raises(GradcheckError, match=r"gradient of input 0 is (nan|-?inf) at index \(1,\)"):
        gradcheck(lambda x: Cube.apply(x, spoil=in_backward), values(3))
    with pytest.raises(GradcheckError, match="output is"):
        gradcheck(lambda x: x * bad, values(3))


def test_missing_gradient_counts_as_zero_and_is_caught():
    with pytest.raises(GradcheckError):
        gradcheck(lambda x: x * x.detach(), values(3))


def test_function_that_changes_between_calls_is_caught():
    calls = []

    def drifting(x):
        calls.append(1)
        return x * len(calls)

    with pytest.raises(GradcheckError, match="different results"):
        gradcheck(drifting, values(3))


def test_only_float64_is_accepted_and_something_must_require_a_gradient():
    with pytest.raises(TypeError, match=r"inputs\[0\]: got a float32 tensor, expected float64"):
        gradcheck(F.exp, Tensor(np.ones(2, np.float32), requires_grad=True))
    with pytest.raises(ValueError, match="none requires a gradient"):
        gradcheck(F.exp, Tensor(np.ones(2)))


def test_wrong_second_derivative_is_caught():
    # The first derivative is right; its graph is cut, so the second is not.
    class Flat(Function):
        def forward(self, a):
            self.save(a)
            return a**3

        def backward(self, grad_output):
            (a,) = self.saved
            return grad_output * Tensor(3 * a.data**2)

    gradcheck(Flat.apply, values(4))
    with pytest.raises(GradcheckError):
        gradgradcheck(Flat.apply, values(4))
    gradgradcheck(lambda x: Cube.apply(x), values(4))


def test_several_inputs_outputs_and_constants():
    def fn(a, power, b):
        return a**power + b, (a * b).sum()

    gradcheck(fn, [values(2, 3), 3, values(3, seed=1)])
    gradgradcheck(fn, [values(2, 3), 3, values(3, seed=1)])
