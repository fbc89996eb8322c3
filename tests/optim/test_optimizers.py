"""SGD, Adam and AdamW: step by step beside PyTorch, and beside the formulas written out."""

import numpy as np
import pytest

import minicnn
from minicnn import nn, optim

SHAPES = [(4, 3), (5,), (2, 3, 2, 2)]
CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
]
IDS = [f"{name} {options}" for name, options in CASES]


def parameters(rng, dtype=np.float64):
    return [nn.Parameter(rng.normal(size=shape).astype(dtype)) for shape in SHAPES]


def set_gradients(params, rng):
    for p in params:
        p.grad = minicnn.tensor(rng.normal(size=p.shape), dtype=p.dtype)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_steps_equal_torch(name, options, dtype, tolerance):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = parameters(rng, dtype)
    theirs = [torch.nn.Parameter(torch.tensor(p.numpy().copy())) for p in ours]
    optimizer = getattr(optim, name)(ours, **options)
    reference = getattr(torch.optim, name)(theirs, **options)
    for step in range(12):
        if step == 6:  # options are read anew at every step
            optimizer.param_groups[0]["lr"] *= 0.5
            reference.param_groups[0]["lr"] *= 0.5
        set_gradients(ours, rng)
        if step in (0, 4):  # no gradient, no change: not even weight decay or momentum
            ours[1].grad = None
        for p, q in zip(ours, theirs, strict=True):
            q.grad = None if p.grad is None else torch.tensor(p.grad.numpy().copy())
        optimizer.step()
        reference.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(
                p.numpy(),
                q.detach().numpy(),
                rtol=tolerance,
                atol=tolerance,
                err_msg=f"step {step}",
            )
    saved, expected = optimizer.state_dict()["state"], reference.state_dict()["state"]
    for number, state in saved.items():
        for key, value in state.items():
            np.testing.assert_allclose(
                value,
                np.asarray(expected[number][key]),
                rtol=tolerance,
                atol=tolerance,
                err_msg=key,
            )


def test_sgd_by_the_formula():
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p], lr=0.5, momentum=0.5, weight_decay=1.0)
    value, velocity = 1.0, 0.0
    for gradient in (2.0, -1.0, 4.0):
        p.grad = minicnn.tensor([gradient])
        optimizer.step()
        velocity = 0.5 * velocity + gradient + value
        value -= 0.5 * velocity
        assert p.item() == value


def test_first_step_of_adam_is_the_learning_rate():
    p = nn.Parameter([1.0, 1.0])
    p.grad = minicnn.tensor([1e-3, -50.0])
    optim.Adam([p], lr=0.1).step()
    np.testing.assert_allclose(p.numpy(), [0.9, 1.1], rtol=1e-4)


def test_adamw_decays_without_the_gradient():
    p = nn.Parameter([2.0])
    p.grad = minicnn.tensor([0.0])
    optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(p.item(), 2.0 * (1 - 0.05), rtol=1e-6)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_layout_of_memory_does_not_matter(make):
    rng = np.random.default_rng(0)
    values, gradient = rng.normal(size=(4, 6)), rng.normal(size=(4, 6))
    plain, turned = nn.Parameter(values.copy()), nn.Parameter(np.asfortranarray(values))
    plain.grad, turned.grad = minicnn.tensor(gradient), minicnn.tensor(np.asfortranarray(gradient))
    for p in (plain, turned):
        optimizer = make([p], lr=0.1)
        optimizer.step()
        optimizer.step()
    assert (plain.numpy() != values).all()
    np.testing.assert_array_equal(plain.numpy(), turned.numpy())


def test_a_step_counts_as_a_change_in_place():
    w = nn.Parameter([3.0])
    x = minicnn.tensor([2.0], requires_grad=True)
    loss = (w * x).sum()
    w.grad = minicnn.tensor([1.0])
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD(p, lr=-1), "SGD: lr is -1, expected a number of at least 0"),
        (lambda p: optim.SGD(p, lr=float("nan")), "SGD: lr is nan"),
        (lambda p: optim.SGD(p, lr="fast"), "SGD: lr is 'fast'"),  # type: ignore[arg-type]
        (lambda p: optim.SGD(p, momentum=-0.1), "SGD: momentum is -0.1"),
        (lambda p: optim.SGD(p, weight_decay=-0.1), "SGD: weight_decay is -0.1"),
        (lambda p: optim.SGD(p, nesterov=True), "nesterov needs a momentum"),
        (lambda p: optim.SGD(p, momentum=0.9, dampening=0.1, nesterov=True), "nesterov needs"),
        (lambda p: optim.Adam(p, betas=(1.0, 0.9)), r"Adam: betas is \(1.0, 0.9\)"),
        (lambda p: optim.Adam(p, betas=0.9), "betas is 0.9, expected two numbers"),  # type: ignore[arg-type]
        (lambda p: optim.AdamW(p, eps=-1), "AdamW: eps is -1"),
        (lambda p: optim.SGD([{"params": p, "lr": -2}]), "SGD: lr is -2"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make([nn.Parameter([1.0])])
