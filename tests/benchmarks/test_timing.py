"""The skeleton on sides that are made up."""

from __future__ import annotations

import time

import pytest

from benchmarks import timing
from benchmarks.timing import OURS, Case, Settings, Side, WrongResult, default_clock, measure

FAST = Settings(rounds=3, seconds=0)


class Clock:
    """A wall clock on which only the calls of sides take time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setitem(timing.CLOCKS, "wall", clock)
    return clock


def is_right(name, results):
    if results[name] != "right":
        raise WrongResult(f"it is {results[name]}")


def logged(name, log, result="right", clock=None, seconds=0.0):
    def call():
        log.append(name)
        if clock is not None:
            clock.now += seconds
        return result

    return Side(name, call)


def turns(log):
    """Return the log with each run of one name as a single entry."""
    return [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]


def test_sides_take_turns_there_and_back(clock):
    log = []
    sides = [logged(name, log, clock=clock, seconds=1.0) for name in ("a", "b", "c")]
    measure(Case("case", sides, is_right), FAST)
    assert all(side.seconds == [1.0, 1.0, 1.0] for side in sides)
    first, warm = ["a", "b", "c"], ["a", "b", "c"]
    assert turns(log) == first + warm + ["a", "b", "c", "b", "a", "b", "c"]
    assert len(log) == 3 * (1 + 2 + 3)


def test_a_wrong_side_is_called_once_and_never_timed():
    log = []
    ours, wrong = logged(OURS, log), logged("other", log, "wrong")
    measure(Case("case", [ours, wrong], is_right), FAST)
    assert log.count("other") == 1 and wrong.seconds == [] and wrong.wrong == "it is wrong"
    assert len(ours.seconds) == 3
    assert wrong.as_dict() == {"name": "other", "wrong": "it is wrong"}


def test_where_ours_is_wrong_nothing_is_timed():
    log = []
    ours, other = logged(OURS, log, "nonsense"), logged("other", log)
    measure(Case("case", [ours, other], is_right), FAST)
    assert log == [OURS, "other"] and other.seconds == []


def test_all_results_are_there_when_the_first_is_checked():
    seen = []

    def check(name, results):
        seen.append((name, set(results)))

    measure(Case("case", [logged("a", []), logged("b", [])], check), FAST)
    assert seen == [("a", {"a", "b"}), ("b", {"a", "b"})]


def test_a_missing_side_stays_on_the_list():
    case = Case("case", [logged(OURS, []), Side("JAX", missing="not installed")], is_right)
    measure(case, FAST)
    assert case.as_dict()["sides"][1] == {"name": "JAX", "missing": "not installed"}


def test_the_first_call_stands_apart(clock):
    durations = iter([5.0])

    def call():
        clock.now += next(durations, 0.5)
        return "right"

    side = Side(OURS, call)
    measure(Case("case", [side], is_right), FAST)
    assert side.first == 5.0 and side.seconds == [0.5, 0.5, 0.5]


def test_short_calls_settle_and_fill_a_turn(clock):
    log = []
    side = logged("a", log, clock=clock, seconds=1 / 1024)
    measure(Case("case", [side], is_right), Settings(rounds=2, seconds=40 / 1024))
    settling = round(timing.SETTLE_SECONDS * 1024)
    assert side.seconds == [1 / 1024] * 2 * timing.SAMPLES
    assert len(log) == 1 + 2 + 2 * (settling + 40)


def test_sides_are_let_go_even_if_the_work_breaks():
    finished = []

    class Held(Side):
        def finish(self):
            finished.append(self.name)

    def broken():
        raise MemoryError

    with pytest.raises(MemoryError):
        measure(Case("case", [Held("a", lambda: "right"), Held("b", broken)], is_right), FAST)
    assert finished == ["a", "b"]


def test_processor_time_is_for_one_thread():
    assert default_clock(1) == "cpu" and default_clock(2) == "wall"
    with pytest.raises(ValueError, match="clock: got 'cpu' with 2 threads"):
        Settings(threads=2, clock="cpu")


def test_processor_time_does_not_see_sleep():
    side = Side("a", lambda: time.sleep(0.01))
    (wall,), (cpu,) = side.run(2, "wall"), side.run(2, "cpu")
    assert wall >= 0.01 > 5 * cpu
