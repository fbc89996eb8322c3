"""Learning-rate schedules: PyTorch's values over many epochs, by hand, and across a resume."""

import json
import math

import numpy as np
import pytest

from minicnn import nn, optim
from minicnn.optim import lr_scheduler

EPOCHS = 60


def halving(epoch):
    return 0.5**epoch


def hyperbola(epoch):
    return 1 / (1 + epoch)


# Each builds a schedule from (a scheduler module, an optimiser), in either library.
SCHEDULES = {
    "step": lambda lib, o: lib.StepLR(o, 7, gamma=0.3),
    "multi step": lambda lib, o: lib.MultiStepLR(o, [5, 20, 20, 41], gamma=0.2),
    "exponential": lambda lib, o: lib.ExponentialLR(o, 0.93),
    "linear": lambda lib, o: lib.LinearLR(o, 0.1, 0.8, 13),
    "cosine": lambda lib, o: lib.CosineAnnealingLR(o, 60, eta_min=0.001),
    "polynomial": lambda lib, o: lib.PolynomialLR(o, 45, power=0.5),
    "cosine, several periods": lambda lib, o: lib.CosineAnnealingLR(o, 11),
    "lambda": lambda lib, o: lib.LambdaLR(o, hyperbola),
    "lambda for each group": lambda lib, o: lib.LambdaLR(o, [halving, hyperbola]),
    "warm-up, cosine": lambda lib, o: lib.SequentialLR(
        o, [lib.LinearLR(o, 0.01, total_iters=5), lib.CosineAnnealingLR(o, 50)], [5]
    ),
    "three in a row": lambda lib, o: lib.SequentialLR(
        o, [lib.LinearLR(o), lib.StepLR(o, 4), lib.ExponentialLR(o, 0.9)], [8, 30]
    ),
    "one cycle": lambda lib, o: lib.OneCycleLR(o, 0.5, total_steps=EPOCHS + 1),
    "one cycle, groups": lambda lib, o: lib.OneCycleLR(
        o, [0.5, 2.0], epochs=7, steps_per_epoch=10, pct_start=0.4, anneal_strategy="linear"
    ),
    "one cycle, three phases": lambda lib, o: lib.OneCycleLR(
        o, 0.5, total_steps=70, three_phase=True, div_factor=5, final_div_factor=10
    ),
}


def our_optimizer(kind="SGD"):
    groups = [{"params": [nn.Parameter([1.0])]}, {"params": [nn.Parameter([1.0])], "lr": 0.02}]
    return optim.SGD(groups, lr=0.3, momentum=0.9) if kind == "SGD" else optim.Adam(groups, lr=0.3)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_values_equal_torch(name, kind):
    torch = pytest.importorskip("torch")
    ours = our_optimizer(kind)
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)]
    groups[1]["lr"] = 0.02
    extra = {"momentum": 0.9} if kind == "SGD" else {}
    theirs = getattr(torch.optim, kind)(groups, lr=0.3, **extra)
    schedule = SCHEDULES[name](lr_scheduler, ours)
    reference = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    momentum = "momentum" if kind == "SGD" else "betas"
    for epoch in range(EPOCHS):
        np.testing.assert_allclose(
            rates(ours), [g["lr"] for g in theirs.param_groups], rtol=1e-9, atol=1e-15,
            err_msg=f"epoch {epoch}",
        )  # fmt: skip
        assert schedule.get_last_lr() == rates(ours)
        for a, b in zip(ours.param_groups, theirs.param_groups, strict=True):
            np.testing.assert_allclose(a[momentum], b[momentum], rtol=1e-12)
        theirs.step()
        schedule.step()
        reference.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_resumed_schedule_equals_the_unbroken_one(name):
    whole = our_optimizer()
    schedule = SCHEDULES[name](lr_scheduler, whole)
    expected = []
    for epoch in range(40):
        if epoch == 17:
            saved = json.loads(json.dumps([whole.state_dict(), schedule.state_dict()]))
        expected.append((rates(whole), whole.param_groups[0]["momentum"]))
        schedule.step()

    resumed = our_optimizer()
    other = SCHEDULES[name](lr_scheduler, resumed)
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for epoch in range(17, 40):
        assert (rates(resumed), resumed.param_groups[0]["momentum"]) == expected[epoch]
        other.step()


@pytest.mark.parametrize(
    ("name", "epoch", "expected"),
    [
        ("step", 6, 0.3),
        ("step", 7, 0.09),
        ("multi step", 4, 0.3),
        ("multi step", 20, 0.3 * 0.2**3),
        ("linear", 0, 0.03),
        ("linear", 50, 0.24),
        ("polynomial", 0, 0.3),
        ("polynomial", 25, 0.2),
        ("polynomial", 45, 0.0),
        ("cosine", 0, 0.3),
        ("cosine", 30, 0.1505),
        ("cosine", 60, 0.001),
        ("warm-up, cosine", 0, 0.003),
        ("warm-up, cosine", 5, 0.3),
        ("warm-up, cosine", 30, 0.15),
        ("warm-up, cosine", 55, 0.0),
        ("one cycle", 0, 0.02),
    ],
)
def test_values_by_hand(name, epoch, expected):
    optimizer = our_optimizer()
    schedule = SCHEDULES[name](lr_scheduler, optimizer)
    for _ in range(epoch):
        schedule.step()
    assert schedule.last_epoch == epoch
    assert math.isclose(rates(optimizer)[0], expected, rel_tol=1e-12, abs_tol=1e-15)


PLATEAUS = [
    {},
    {"patience": 2, "factor": 0.5},
    {"mode": "max", "patience": 1, "threshold": 0.05},
    {"threshold_mode": "abs", "threshold": 0.3, "patience": 2, "cooldown": 3},
    {
        "mode": "max",
        "threshold_mode": "abs",
        "threshold": 0.3,
        "patience": 0,
        "min_lr": [0.01, 0.005],
    },
    {"patience": 0, "eps": 1e-2},
]


@pytest.mark.parametrize("options", PLATEAUS)
def test_plateau_equals_torch_and_resumes(options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    metrics = np.exp(-np.arange(50) / 4) + rng.normal(size=50) * 0.2 + 1
    metrics[12] = np.nan
    ours = our_optimizer()
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)]
    groups[1]["lr"] = 0.02
    theirs = torch.optim.SGD(groups, lr=0.3)
    schedule = lr_scheduler.ReduceLROnPlateau(ours, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    seen = set()
    for epoch, metric in enumerate(metrics):
        if epoch == 25:
            saved = json.loads(json.dumps([ours.state_dict(), schedule.state_dict()]))
            ours = our_optimizer()
            schedule = lr_scheduler.ReduceLROnPlateau(ours, **options)
            ours.load_state_dict(saved[0])
            schedule.load_state_dict(saved[1])
        schedule.step(metric)
        reference.step(metric)
        assert rates(ours) == [g["lr"] for g in theirs.param_groups] == schedule.get_last_lr()
        seen.add(tuple(rates(ours)))
    assert len(seen) > 1


def test_continuing_needs_the_first_rates():
    optimizer = our_optimizer()
    with pytest.raises(ValueError, match="group 0 has no 'initial_lr'"):
        lr_scheduler.StepLR(optimizer, 5, last_epoch=9)
    for group in optimizer.param_groups:
        group["initial_lr"] = 1.0
    lr_scheduler.StepLR(optimizer, 5, last_epoch=9)
    assert np.allclose(rates(optimizer), 0.01, rtol=1e-12)


def test_a_cycle_ends():
    schedule = lr_scheduler.OneCycleLR(our_optimizer(), 0.5, total_steps=3)
    schedule.step()
    schedule.step()
    with pytest.raises(ValueError, match="step 4 was asked of a cycle of 3"):
        schedule.step()


def test_a_cycle_whose_rise_is_a_single_step():
    optimizer = our_optimizer()
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=10, pct_start=0.1)
    assert rates(optimizer) == [0.5, 0.5]
    for _ in range(9):
        schedule.step()
    assert math.isclose(rates(optimizer)[0], 0.5 / 25 / 1e4, rel_tol=1e-9)


def test_errors():
    o, other = our_optimizer(), our_optimizer()
    step, foreign = lr_scheduler.StepLR(o, 1), lr_scheduler.StepLR(other, 1)
    plateau = lr_scheduler.ReduceLROnPlateau(o)
    for error, message, call in [
        (TypeError, "optimizer: got int", lambda: lr_scheduler.StepLR(3, 1)),
        (TypeError, "optimizer: got int", lambda: lr_scheduler.ReduceLROnPlateau(3)),
        (ValueError, "step_size: got 0", lambda: lr_scheduler.StepLR(o, 0)),
        (ValueError, "total_iters: got 0", lambda: lr_scheduler.PolynomialLR(o, 0)),
        (ValueError, "power: got -1", lambda: lr_scheduler.PolynomialLR(o, 5, -1)),
        (ValueError, "T_max: got 0", lambda: lr_scheduler.CosineAnnealingLR(o, 0)),
        (ValueError, "start_factor: got 0", lambda: lr_scheduler.LinearLR(o, 0)),
        (ValueError, "end_factor: got 2", lambda: lr_scheduler.LinearLR(o, 1, 2)),
        (ValueError, "total_iters: got 0", lambda: lr_scheduler.LinearLR(o, total_iters=0)),
        (ValueError, "got 3 functions", lambda: lr_scheduler.LambdaLR(o, [halving] * 3)),
        (ValueError, "milestones: got 0", lambda: lr_scheduler.SequentialLR(o, [step, step], [])),
        (ValueError, "increasing", lambda: lr_scheduler.SequentialLR(o, [step] * 3, [5, 5])),
        (ValueError, "another optimiser", lambda: lr_scheduler.SequentialLR(o, [foreign], [])),
        (TypeError, "got ReduceLROnPlateau", lambda: lr_scheduler.SequentialLR(o, [plateau], [])),
        (ValueError, "total_steps: give it", lambda: lr_scheduler.OneCycleLR(o, 1.0)),
        (ValueError, "total_steps: got 0", lambda: lr_scheduler.OneCycleLR(o, 1.0, 0)),
        (ValueError, "pct_start: got 2", lambda: lr_scheduler.OneCycleLR(o, 1.0, 9, pct_start=2)),
        (ValueError, "max_lr: got 3", lambda: lr_scheduler.OneCycleLR(o, [1.0] * 3, 9)),
        (ValueError, "anneal_strategy: got 'x'",
         lambda: lr_scheduler.OneCycleLR(o, 1.0, 9, anneal_strategy="x")),
        (ValueError, "factor: got 1", lambda: lr_scheduler.ReduceLROnPlateau(o, factor=1)),
        (ValueError, "mode: got 'x'", lambda: lr_scheduler.ReduceLROnPlateau(o, mode="x")),
        (ValueError, "min_lr: got 3", lambda: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.0] * 3)),
        (ValueError, "not the state of a StepLR", lambda: step.load_state_dict({"gamma": 1})),
        (ValueError, "not the state of a Reduce", lambda: plateau.load_state_dict({"gamma": 1})),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            call()
