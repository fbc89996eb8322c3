"""The skeleton of every benchmark: sides that do the same work, checked first, then timed in turn.

A `Case` is a piece of work with several `Side`s. `measure` runs each side once, which is where it
compiles, and shows the result to the case's check: a side that is wrong is never timed. The others
then take turns, in one order and back again, so that all of them meet the same weather on a shared
machine. Of all samples the minimum and the median are kept: the minimum is what the work takes when
nothing disturbs it, the distance between the two tells how much did.

The clock is the wall, or, with one thread, the processor time of that thread, which does not see
what other programs do in between.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

OURS, GPU = "minicnn", "minicnn on a GPU"
CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}

# What comes before the counted calls of a turn: caches and threads were another side's.
SETTLE_SECONDS = 0.005
LONG_SECONDS = 0.3  # a call as long as this settles by itself
SAMPLES = 8  # of a turn at most: some of them may be free of what disturbs the others


class WrongResult(AssertionError):
    """A side does not compute what it should, so there is nothing to time."""


@dataclass
class Side:
    """One way to do the work, in this process.

    Attributes:
        name: `OURS`, or the other library's.
        call: does the work once and returns the result; None if the side is not there.
        missing: why it is not there.
        wrong: why it was refused.
        first: seconds of the first call, compiling included; wall clock.
        seconds: of one call, in each sample of each turn.
        peak_bytes: the most memory it took, where that was measured.
        transfer: seconds to bring the data to its device, where that is another; not in `seconds`.
    """

    name: str
    call: Callable[[], Any] | None = None
    missing: str = ""
    wrong: str = ""
    first: float | None = None
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    transfer: float | None = None

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def start(self) -> Any:
        """Make the first call, keep what it took, and return its result."""
        assert self.call is not None
        read = CLOCKS["wall"]
        start = read()
        result = self.call()
        self.first = read() - start
        return result

    def run(self, calls: int, clock: str, samples: int = 1) -> list[float]:
        """Make `samples` times `calls` calls; return the seconds of one call in each sample."""
        assert self.call is not None
        return sampled(self.call, calls, CLOCKS[clock], samples)

    def finish(self) -> None:
        """Let go of what the side holds, after the last round."""

    def as_dict(self) -> dict[str, Any]:
        """Return what is known about the side, for JSON."""
        for why in ("missing", "wrong"):
            if reason := getattr(self, why):
                return {"name": self.name, why: reason}
        known: dict[str, Any] = {"name": self.name, "first": self.first}
        if self.seconds:
            known |= {"best": self.best, "median": self.median, "seconds": self.seconds}
        more = {"peak_bytes": self.peak_bytes, "transfer": self.transfer}
        return known | {name: value for name, value in more.items() if value is not None}


def sampled(
    call: Callable[[], Any], calls: int, read: Callable[[], float], samples: int
) -> list[float]:
    """Return the seconds that one call takes, `samples` times the mean over `calls` of them."""
    found = []
    for _ in range(samples):
        start = read()
        for _ in range(calls):
            call()
        found.append((read() - start) / calls)
    return found


@dataclass
class Case:
    """A piece of work.

    Attributes:
        name: unique in a run.
        sides: ours first.
        check: is shown a side's name and the first results of all; raises WrongResult if that
            side's is wrong.
        family: the name under which ratios are averaged.
        flops, bytes: that the work needs at least; 0 if that says nothing.
        images: that pass through a network; 0 elsewhere.
        note: what a reader should know of it.
    """

    name: str
    sides: list[Side]
    check: Callable[[str, dict[str, Any]], None]
    family: str = ""
    flops: int = 0
    bytes: int = 0
    images: int = 0
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the case and its figures, for JSON."""
        return {
            "name": self.name,
            "family": self.family,
            "flops": self.flops,
            "bytes": self.bytes,
            "images": self.images,
            "note": self.note,
            "sides": [side.as_dict() for side in self.sides],
        }


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        threads: of every side.
        clock: a key of `CLOCKS`.
        rounds: turns of every side.
        seconds: that a turn should last; it is at least one call.

    Raises:
        ValueError: for processor time with several threads, of which it would see one.
    """

    threads: int = 1
    clock: str = "wall"
    rounds: int = 7
    seconds: float = 0.05

    def __post_init__(self) -> None:
        if self.clock == "cpu" and self.threads > 1:
            raise ValueError(
                f"clock: got 'cpu' with {self.threads} threads, expected 'wall': the time of one "
                "thread says nothing about the others"
            )


def default_clock(threads: int) -> str:
    """Return the clock to use where none was asked for."""
    return "cpu" if threads == 1 else "wall"


def measure(case: Case, settings: Settings) -> Case:
    """Check the sides of a case, then time those that are right; return the case.

    Where ours is refused, nothing of the case is timed: there would be nothing to compare.
    """
    sides = [side for side in case.sides if not side.missing]
    try:
        results: dict[str, Any] = {}
        for side in sides:
            with _refusing(side):
                results[side.name] = side.start()
        for side in sides:
            if side.name in results:
                with _refusing(side):
                    case.check(side.name, results)
        results.clear()
        if not any(side.wrong for side in sides if side.name == OURS):
            alternate([side for side in sides if not side.wrong], settings)
    finally:
        for side in sides:
            side.finish()
    return case


@contextmanager
def _refusing(side: Side) -> Iterator[None]:
    """Mark a side whose result is wrong."""
    try:
        yield
    except WrongResult as error:
        side.wrong = str(error)


def alternate(sides: list[Side], settings: Settings) -> None:
    """Time the rounds: every side once a round, every second round in reverse order.

    A side that breaks down on the way is refused, and the others go on.
    """
    plans: dict[int, Plan] = {}
    for side in sides:
        with _refusing(side):
            plans[id(side)] = _plan(side, settings)
    for number in range(settings.rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            if side.wrong:
                continue
            plan = plans[id(side)]
            with _refusing(side):
                if plan.settling:
                    side.run(plan.settling, settings.clock)
                side.seconds += side.run(plan.calls, settings.clock, plan.samples)


class Plan(NamedTuple):
    """What a side does in its turn: calls that settle it, then samples of so many calls."""

    settling: int
    samples: int
    calls: int


def _plan(side: Side, settings: Settings) -> Plan:
    """Return what fills a turn; the calls it takes to know that warm up."""
    once = min(max(seconds, 1e-7) for seconds in side.run(1, settings.clock, samples=2))
    settling = 0 if once > LONG_SECONDS else max(1, round(SETTLE_SECONDS / once))
    calls = max(1, round(settings.seconds / once))
    samples = min(calls, SAMPLES)
    return Plan(settling, samples, calls // samples)
