"""The skeleton on sides that are made up."""

from __future__ import annotations

import time

import pytest

from benchmarks.timing import OURS, Case, Settings, Side, WrongResult, default_clock, measure

FAST = Settings(rounds=3, seconds=0)


def is_right(name, results):
    if results[name] != "right":
        raise WrongResult(f"it is {results[name]}")


def logged(name, log, result="right", seconds=0.0):
    def call():
        log.append(name)
        time.sleep(seconds)
        return result

    return Side(name, call)


def turns(log):
    """Return the log with each run of one name as a single entry."""
    return [name for i, name in enumerate(log) if i == 0 or log[i - 1] != name]


def test_sides_take_turns_there_and_back():
    log = []
    sides = [logged(name, log, seconds=0.001) for name in ("a", "b", "c")]
    measure(Case("case", sides, is_right), FAST)
    assert all(len(side.seconds) == 3 for side in sides)
    first, warm = ["a", "b", "c"], ["a", "b", "c"]
    assert turns(log) == first + warm + ["a", "b", "c", "b", "a", "b", "c"]


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


def test_the_first_call_stands_apart():
    slow = iter([0.05])

    def call():
        time.sleep(next(slow, 0.0))
        return "right"

    side = Side(OURS, call)
    measure(Case("case", [side], is_right), FAST)
    assert side.first is not None and side.first >= 0.05 > 10 * side.median


def test_short_calls_are_repeated_to_fill_a_turn():
    log = []
    measure(
        Case("case", [logged("a", log, seconds=0.001)], is_right), Settings(rounds=2, seconds=0.02)
    )
    assert 20 < len(log) < 60


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
    assert side.run(2, "wall") >= 0.02 > 5 * side.run(2, "cpu")
