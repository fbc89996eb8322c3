"""Rates by step, against their formulas; warm-up; what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minicnn import nn, optim
from minicnn.training.schedules import WARMUP_START, Schedule
from tests.tiny import make_config

BATCHES, EPOCHS, RATE = 10, 4, 0.2


def make_schedule(name, warmup=0.0, **options):
    optimizer = optim.SGD([nn.Parameter(np.zeros(1, np.float32))], lr=RATE, momentum=0.9)
    config = make_config(
        epochs=EPOCHS, schedule=name, schedule_options=options, warmup_epochs=warmup
    )
    return Schedule(config, optimizer, BATCHES), optimizer


def rates(schedule, optimizer):
    """Return the rate that each of the run's steps uses."""
    used = []
    for step in range(1, EPOCHS * BATCHES + 1):
        used.append(optimizer.param_groups[0]["lr"])
        assert schedule.rate == used[-1]
        schedule.after_step(step)
    return used


@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        ("constant", {}, lambda t: RATE),
        ("step", {"step_size": 2, "gamma": 0.5}, lambda t: RATE * 0.5 ** (t // 20)),
        ("multistep", {"milestones": [1, 3]}, lambda t: RATE * 0.1 ** ((t >= 10) + (t >= 30))),
        ("polynomial", {"power": 0.5}, lambda t: RATE * (1 - t / 40) ** 0.5),
        ("cosine", {}, lambda t: RATE * (1 + math.cos(math.pi * t / 40)) / 2),
        (
            "cosine",
            {"eta_min": 0.1},
            lambda t: 0.1 + (RATE - 0.1) * (1 + math.cos(math.pi * t / 40)) / 2,
        ),
    ],
)
def test_rates_follow_their_formula(name, options, formula):
    schedule, optimizer = make_schedule(name, **options)
    np.testing.assert_allclose(
        rates(schedule, optimizer), [formula(t) for t in range(40)], rtol=1e-12
    )


def test_warm_up_rises_to_the_rate_and_the_rest_takes_the_rest():
    schedule, optimizer = make_schedule("cosine", warmup=0.5)
    used = rates(schedule, optimizer)
    rise = [RATE * (WARMUP_START + (1 - WARMUP_START) * t / 5) for t in range(5)]
    fall = [RATE * (1 + math.cos(math.pi * t / 35)) / 2 for t in range(35)]
    np.testing.assert_allclose(used, rise + fall, rtol=1e-12)


def test_a_warm_up_may_last_the_whole_run():
    schedule, optimizer = make_schedule("cosine", warmup=100)
    used = rates(schedule, optimizer)
    assert len(used) == 40
    assert np.all(np.diff(used) > 0)


def test_one_cycle_rises_to_the_rate_and_falls_to_nearly_nothing():
    schedule, optimizer = make_schedule("one-cycle", pct_start=0.25)
    used = rates(schedule, optimizer)
    assert max(used) == pytest.approx(RATE)
    assert used.index(max(used)) == 9
    assert used[0] == pytest.approx(RATE / 25)
    assert used[-1] < 1e-4 * RATE


def test_plateau_looks_at_epochs_only():
    schedule, optimizer = make_schedule("plateau", patience=1, factor=0.5)
    for loss, expected in ((1.0, RATE), (1.0, RATE), (1.0, RATE / 2), (0.5, RATE / 2)):
        schedule.after_step(1)
        schedule.after_epoch(loss)
        assert schedule.rate == expected


def test_a_resumed_schedule_goes_on():
    schedule, optimizer = make_schedule("cosine", warmup=0.7)
    expected = rates(schedule, optimizer)
    first, first_optimizer = make_schedule("cosine", warmup=0.7)
    for step in range(1, 14):
        first.after_step(step)
    second, second_optimizer = make_schedule("cosine", warmup=0.7)
    second_optimizer.load_state_dict(first_optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert second.rate == expected[13]
    second.after_step(14)
    assert second.rate == expected[14]


@pytest.mark.parametrize(
    ("name", "warmup", "options", "message"),
    [
        ("magic", 0, {}, "schedule: got 'magic', expected one of constant, step"),
        ("step", 0, {"speed": 2}, "schedule_options: step got an unexpected .*'speed'"),
        ("multistep", 0, {}, "schedule_options: multistep missing .*'milestones'"),
        ("step", 0, {"step_size": 0}, "step_size"),
        ("one-cycle", 1, {}, "one-cycle takes no warm-up"),
        ("plateau", 1, {}, "plateau takes no warm-up"),
    ],
)
def test_what_does_not_fit_is_refused(name, warmup, options, message):
    with pytest.raises(ValueError, match=message):
        make_schedule(name, warmup, **options)
