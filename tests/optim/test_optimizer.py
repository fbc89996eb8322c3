"""What all optimisers share: groups, closures, saving and continuing."""

import json

import numpy as np
import pytest

import minicnn
from minicnn import nn, optim

MAKERS = [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: optim.SGD(p, lr=0.1),
    lambda p: optim.AdamW(p, lr=0.1),
]


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(rng.normal(size=shape)) for shape in ((3, 2), (4,), (1,))]


def train(params, optimizer, rng, steps):
    for _ in range(steps):
        for p in params[:2]:  # the third never gets a gradient
            p.grad = minicnn.tensor(rng.normal(size=p.shape))
        optimizer.step()


def test_groups_have_options_of_their_own():
    a, b = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": b}], lr=0.1, weight_decay=0.0)
    for p in (a, b):
        p.grad = minicnn.tensor([1.0])
    optimizer.step()
    np.testing.assert_allclose([a.item(), b.item()], [0.0, 0.9], rtol=1e-6)
    c = nn.Parameter([1.0])
    optimizer.add_param_group({"params": c, "momentum": 0.5})
    assert [g["momentum"] for g in optimizer.param_groups] == [0.0, 0.0, 0.5]
    assert "group 2: 1 parameters" in repr(optimizer)


def test_zero_grad():
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p])
    p.grad = minicnn.tensor([1.0])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_closure_runs_with_gradients_and_its_loss_is_returned():
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p], lr=0.25)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with minicnn.no_grad():
        assert optimizer.step(closure).item() == 1.0
    assert p.item() == 0.5
    assert optimizer.step() is None


@pytest.mark.parametrize("make", MAKERS)
def test_resumed_run_equals_the_unbroken_one_bit_for_bit(make):
    whole = parameters()
    rng = np.random.default_rng(1)
    optimizer = make(whole)
    train(whole, optimizer, rng, 4)
    optimizer.param_groups[0]["lr"] = 0.05
    middle = [p.numpy().copy() for p in whole]
    state = optimizer.state_dict()
    rng_state = rng.bit_generator.state
    train(whole, optimizer, rng, 4)

    resumed = [nn.Parameter(values) for values in middle]
    other = make(resumed)
    other.load_state_dict(state)
    rng.bit_generator.state = rng_state
    train(resumed, other, rng, 4)
    for p, q in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_state_dict_is_plain_and_separate():
    params = parameters()
    optimizer = optim.Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}])
    train(params, optimizer, np.random.default_rng(0), 1)
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1, 2]]
    assert sorted(state["state"]) == [0, 1]
    json.dumps(state["param_groups"])
    moments = state["state"][0]
    assert moments["step"] == 1 and type(moments["exp_avg"]) is np.ndarray
    before = moments["exp_avg"].copy()
    train(params, optimizer, np.random.default_rng(1), 1)
    np.testing.assert_array_equal(moments["exp_avg"], before)


def test_state_dict_survives_json():
    params = parameters()
    optimizer = optim.Adam(params, betas=(0.5, 0.75))
    state = json.loads(json.dumps(optimizer.state_dict()))
    other = optim.Adam(params)
    other.load_state_dict(state)
    assert tuple(other.param_groups[0]["betas"]) == (0.5, 0.75)
    train(params, other, np.random.default_rng(0), 1)


def test_loading_what_does_not_fit_changes_nothing():
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    train(params, optimizer, np.random.default_rng(0), 1)
    good = optimizer.state_dict()
    fresh = optim.SGD(parameters(), lr=0.7, momentum=0.5)

    def changed(**parts):
        return {**good, **parts}

    group = good["param_groups"][0]
    swapped = {0: {"momentum_buffer": np.ones((2, 3))}}
    without = {key: value for key, value in group.items() if key != "nesterov"}
    for state, message in [
        ({}, "not the state of an optimiser"),
        (
            changed(param_groups=[{**group, "params": [0, 1]}]),
            r"groups of \[2\] parameters, .* \[3\]",
        ),
        (changed(param_groups=[group, group]), "expected groups"),
        (changed(param_groups=[without]), "'nesterov' of SGD are missing"),
        (changed(param_groups=[{**group, "lr": -1}]), "lr is -1"),
        (changed(state=swapped), r"momentum_buffer of parameter 0 has shape \(2, 3\)"),
        (changed(state={9: {}}), "parameter 9, which is in no group"),
    ]:
        with pytest.raises(ValueError, match=message):
            fresh.load_state_dict(state)
    assert fresh.state == {} and fresh.param_groups[0]["lr"] == 0.7
    fresh.load_state_dict(good)
    assert fresh.param_groups[0]["lr"] == 0.1


def test_parameters_that_cannot_be_optimised_are_refused():
    p = nn.Parameter([1.0])
    for params, error, message in [
        ([], ValueError, "no parameters"),
        (p, TypeError, "got a Parameter, expected a sequence"),
        ({p}, TypeError, "got a set"),
        ([p, p], ValueError, r"params\[1\]: this parameter was given before"),
        ([{"params": [p]}, {"params": [p]}], ValueError, "given before"),
        ([p * 2], ValueError, "expected a leaf"),
        ([1.0], TypeError, r"params\[0\]: got float"),
        ([{"lr": 0.1}], TypeError, "with the key 'params'"),
        ([{"params": [p], "speed": 1}], ValueError, "unknown options 'speed'"),
        ([{"params": {p}}], TypeError, "which has no order"),
    ]:
        with pytest.raises(error, match=message):
            optim.SGD(params)
