"""The engine: order, accumulation, hooks, guards, freed memory, anomalies, second derivatives."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import minicnn
import minicnn.functional as F
from minicnn import Function, Tensor, nn


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values, float), requires_grad=True)


def test_gradient_of_an_expression_by_hand():
    a, b = leaf(2.0), leaf(-3.0)
    (a * b + a**2 - b / a).backward()
    # d/da = b + 2a + b / a^2, d/db = a - 1 / a
    assert a.grad.item() == -3 + 4 - 0.75
    assert b.grad.item() == 2 - 0.5


def test_a_value_used_twice_collects_both_gradients():
    x = leaf(3.0)
    y = x * x
    (y + y * x).backward()
    assert x.grad.item() == 2 * 3 + 3 * 9


def test_gradients_accumulate_over_calls_and_do_not_share_memory():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).backward(np.array([1.0, 1.0]))
    (a + b).backward(np.array([1.0, 1.0]))
    assert a.grad.tolist() == [2, 2]
    a.grad.mul_(10)
    assert b.grad.tolist() == [2, 2]


def test_first_gradient_does_not_share_memory_with_the_callers():
    a = leaf(1.0, 2.0)
    upstream = Tensor(np.ones(2))
    (a + 0.0).backward(upstream)
    a.grad.zero_()
    assert upstream.tolist() == [1, 1]


def test_depth_is_bounded_by_memory_alone():
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1
    del y
    gc.collect()


def test_wide_diamond_visits_every_operation_once():
    visits = []

    class Counted(Function):
        def forward(self, a):
            return a * 2

        def backward(self, grad_output):
            visits.append(1)
            return grad_output * 2

    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2 ** 60 paths
        y = Counted.apply(y)
        y = (y + y) / 4
    y.backward()
    assert len(visits) == 60
    assert x.grad.item() == 1


def test_broadcast_gradients_are_summed_back():
    a = Tensor(np.ones((2, 1, 3)), requires_grad=True)
    b = Tensor(np.ones((4, 1)), requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.shape == (2, 1, 3) and (a.grad.data == 4).all()
    assert b.grad.shape == (4, 1) and (b.grad.data == 6).all()


def test_gradient_has_the_dtype_of_its_input():
    single = Tensor(np.ones(2, np.float32), requires_grad=True)
    double = Tensor(np.ones(2), requires_grad=True)
    result = single * double
    assert result.dtype == np.float64
    result.sum().backward()
    assert single.grad.dtype == np.float32 and double.grad.dtype == np.float64


def test_python_numbers_do_not_widen():
    assert (Tensor(np.ones(2, np.float32)) * 2.5 + 1).dtype == np.float32
    assert (Tensor(np.ones(2, np.int64)) * 2).dtype == np.int64
    assert (np.ones(2) + Tensor(np.ones(2, np.float32))).dtype == np.float64


def test_no_grad_and_detach_record_nothing():
    x = leaf(2.0)
    with minicnn.no_grad():
        assert not (x * x).requires_grad
        with minicnn.enable_grad():
            assert (x * x).requires_grad
    assert not (x.detach() * 2).requires_grad

    @minicnn.no_grad()
    def frozen():
        return x * x

    assert not frozen().requires_grad
    assert (x * x).requires_grad


def test_second_backward_needs_retain_graph_and_says_so():
    x = leaf(2.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match="mul: .*retain_graph=True"):
        y.backward()
    z = x * x
    z.backward(retain_graph=True)
    z.backward()
    assert x.grad.item() == 12


def test_saved_values_are_freed_as_backward_proceeds():
    x = Tensor(np.ones(1000), requires_grad=True)
    alive_when_reached = []

    class Probe(Function):
        def forward(self, a):
            return a * 1

        def backward(self, grad_output):
            alive_when_reached.append(reference() is not None)
            return grad_output

    y = Probe.apply(x)
    middle = y * 3.0
    reference = weakref.ref(middle)
    z = (middle * middle).sum()
    del middle, y
    assert reference() is not None
    z.backward()
    assert alive_when_reached == [False]


def test_a_graph_that_is_dropped_leaves_no_circle():
    x = Tensor(np.ones(10), requires_grad=True)
    y = F.relu(x).exp().tanh()
    node = weakref.ref(y.grad_fn)
    gc.disable()
    try:
        del y
        assert node() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("op", "change"),
    [
        (lambda x, w: x * w, "input"),
        (lambda x, w: F.exp(x * 1.0), "output"),
        (lambda x, w: F.linear(x, w), "input"),
        (lambda x, w: F.relu(x * 1.0), "output"),
    ],
)
def test_value_changed_after_saving_is_caught_by_name(op, change):
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    w = Tensor(np.ones((2, 3)), requires_grad=True)
    y = op(x, w)
    name = y.grad_fn.name
    with minicnn.no_grad():
        (w if change == "input" else y).add_(1.0)
    with pytest.raises(RuntimeError, match=rf"{name}: {change} \d, .*changed in place"):
        y.sum().backward()


def test_view_shares_the_version_of_its_base():
    x = Tensor(np.arange(6.0))
    w = leaf(*range(6))
    y = x * w
    with minicnn.no_grad():
        x.reshape(2, 3)[0].zero_()
    assert x.tolist() == [0, 0, 0, 3, 4, 5]
    with pytest.raises(RuntimeError, match="mul: input 0"):
        y.sum().backward()


def test_value_not_needed_for_backward_may_change():
    x = leaf(1.0, 2.0)
    y = x + 1.0
    with minicnn.no_grad():
        x.mul_(5)
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_in_place_on_recorded_tensors_is_refused():
    x = leaf(1.0, 2.0)
    for change in (x.add_, x.copy_, x.mul_):
        with pytest.raises(RuntimeError, match="in place cannot be recorded"):
            change(1.0)
    with pytest.raises(RuntimeError, match="in place"):
        x += 1.0
    with pytest.raises(RuntimeError, match="index assignment"):
        x[0] = 1.0
    buffer = Tensor(np.zeros(2))
    with pytest.raises(RuntimeError, match="copy_"):
        buffer.copy_(x)
    y = x * 2
    y += 1.0  # a computed tensor: the name is bound to the sum
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_in_place_updates_keep_the_object_under_no_grad():
    x = leaf(1.0, 2.0)
    alias = x
    with minicnn.no_grad():
        x -= 0.5
    assert alias is x and x.tolist() == [0.5, 1.5] and x.requires_grad


def test_tensor_hooks_see_and_replace_gradients():
    x = leaf(1.0)
    seen = []
    y = x * 3
    handle = y.register_hook(lambda g: seen.append(g.item()))
    y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: seen.append(g.item()))
    (y * 2 + y).backward()
    assert seen == [3, 90] and x.grad.item() == 90
    handle.remove()
    (x * 3).backward()
    assert seen == [3, 90, 3]


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor():
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * 3).backward()
    assert y.grad.item() == 3


def test_function_of_several_outputs():
    class Both(Function):
        def forward(self, a):
            return a * 2, a * 3

        def backward(self, grad_double, grad_triple):
            total = 0.0
            if grad_double is not None:
                total = grad_double * 2
            if grad_triple is not None:
                total = total + grad_triple * 3
            return total

    x = leaf(1.0)
    double, triple = Both.apply(x)
    (double + triple * 10).backward()
    assert x.grad.item() == 32
    x.grad = None
    Both.apply(x)[1].backward()
    assert x.grad.item() == 3


def test_grad_returns_gradients_and_leaves_grad_alone():
    x, w = leaf(2.0), leaf(5.0)
    y = x * w
    gx, gy = minicnn.grad(y * y, [x, y], retain_graph=True)
    assert gx.item() == 2 * 10 * 5 and gy.item() == 20
    assert x.grad is None and w.grad is None
    unused = leaf(1.0)
    assert minicnn.grad(y, [unused], allow_unused=True) == (None,)
    with pytest.raises(RuntimeError, match=r"inputs\[0\] is not used"):
        minicnn.grad(x * 1.0, [unused])


def test_higher_derivatives_of_a_polynomial():
    x = leaf(3.0)
    y = x**4
    (first,) = minicnn.grad(y, x, create_graph=True)
    (second,) = minicnn.grad(first, x, create_graph=True)
    (third,) = minicnn.grad(second, x, create_graph=True)
    assert [g.item() for g in (first, second, third)] == [108, 108, 72]


def test_detached_twin_of_an_input_is_told_apart_in_second_derivatives():
    x = leaf(3.0)
    (first,) = minicnn.grad(x * x.detach(), x, create_graph=True)
    assert not first.requires_grad or minicnn.grad(first, x, allow_unused=True) == (None,)


def test_two_tensors_over_one_array_are_told_apart():
    array = np.array([3.0])
    a, b = Tensor(array, requires_grad=True), Tensor(array, requires_grad=True)
    (first,) = minicnn.grad(a * b, a, create_graph=True)
    assert minicnn.grad(first, [a, b], allow_unused=True)[0] is None
    (first,) = minicnn.grad(a * b, a, create_graph=True)
    assert minicnn.grad(first, b)[0].item() == 1


def test_operation_without_derivative_says_its_name():
    class RoundHalfUp(Function):
        def forward(self, a):
            return np.floor(a + 0.5)

    with pytest.raises(RuntimeError, match="round_half_up has no derivative"):
        RoundHalfUp.apply(leaf(1.2)).backward()


def test_wrong_number_or_shape_of_gradients_is_reported():
    class Short(Function):
        def forward(self, a, b):
            return a + b

        def backward(self, grad_output):
            return (grad_output,)

    class Misshapen(Function):
        def forward(self, a):
            return a * 2

        def backward(self, grad_output):
            return grad_output.sum()

    with pytest.raises(RuntimeError, match="short: backward returned 1 gradients, expected 2"):
        Short.apply(leaf(1.0), leaf(2.0)).backward()
    with pytest.raises(RuntimeError, match=r"misshapen: .* shape \(\) .* expected \(2,\)"):
        Misshapen.apply(leaf(1.0, 2.0)).sum().backward()


def test_backward_needs_a_scalar_or_a_gradient_that_fits():
    x = leaf(1.0, 2.0)
    with pytest.raises(RuntimeError, match="explicit gradient"):
        (x * 2).backward()
    with pytest.raises(ValueError, match=r"gradient: got shape \(3,\), expected \(2,\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        Tensor(np.ones(1)).backward()


def test_anomaly_mode_names_operation_and_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Linear(2, 2), Root())

        def forward(self, x):
            return self.features(x)

    class Root(nn.Module):
        def forward(self, x):
            return F.sqrt(x - 100.0)

    net = Net()
    x = Tensor(np.ones((1, 2), np.float32))
    with np.errstate(invalid="ignore"), minicnn.detect_anomaly():
        with pytest.raises(
            minicnn.AnomalyError, match=r"sqrt in module features\.1 \(Root\) made a NaN"
        ):
            net(x)


def test_anomaly_mode_checks_backward_and_tells_passing_on_from_making():
    x = leaf(0.0)
    with np.errstate(divide="ignore"), minicnn.detect_anomaly():
        with pytest.raises(minicnn.AnomalyError, match="backward of sqrt made an infinity"):
            F.sqrt(x).backward()
    with (
        minicnn.detect_anomaly(),
        pytest.raises(minicnn.AnomalyError, match="was given and passed on"),
    ):
        F.relu(leaf(float("nan")))


def test_modes_are_per_thread():
    import threading

    seen = []
    with minicnn.no_grad():
        thread = threading.Thread(target=lambda: seen.append(minicnn.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]
