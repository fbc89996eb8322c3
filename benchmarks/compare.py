"""Two runs side by side: what got faster, what got slower, and what is only noise.

Times of two runs belong to two moments, and the machine may have been slower in one of them. Where
other sides were timed in both, they tell by how much: our change is divided by the geometric mean
of theirs. What then remains counts if it is more than the noise, which is how far medians and
minima of the sides lay apart in either run, and at least `LEAST`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.timing import OURS

LEAST = 0.03


@dataclass(frozen=True)
class Change:
    """What became of a side.

    Attributes:
        case, side: their names.
        old, new: best seconds.
        drift: new by old time of the other sides, 1 where there are none.
        noise: the change that says nothing.
    """

    case: str
    side: str
    old: float
    new: float
    drift: float
    noise: float

    @property
    def factor(self) -> float:
        """New time by old time, the machine's own change taken out."""
        return self.new / self.old / self.drift

    @property
    def verdict(self) -> str:
        if self.factor > 1 + self.noise:
            return "slower"
        return "faster" if self.factor < 1 / (1 + self.noise) else ""


def changes(old: report.Run, new: report.Run) -> Iterator[Change]:
    """Yield the change of our side of every case that both runs have.

    A ladder has no side of that name: each of its rungs is followed, without regard to drift.

    Raises:
        ValueError: the runs are of different benchmarks, or differ in threads or clock.
    """
    if old["benchmark"] != new["benchmark"]:
        raise ValueError(f"one run is of {old['benchmark']!r}, the other of {new['benchmark']!r}")
    for setting in ("threads", "clock"):
        a, b = old["settings"][setting], new["settings"][setting]
        if a != b:
            raise ValueError(f"{setting}: one run has {a!r}, the other {b!r}")
    before = {case["name"]: case for case in old["cases"]}
    for case in new["cases"]:
        earlier = before.get(case["name"])
        if earlier is None:
            continue
        names = [s["name"] for s in case["sides"]]
        for name in [OURS] if OURS in names else names:
            a, b = report.side(earlier, name), report.side(case, name)
            if a is None or b is None:
                continue
            others = [
                (x, y)
                for other in names
                if OURS in names and other != OURS
                and (x := report.side(earlier, other)) and (y := report.side(case, other))
            ]  # fmt: skip
            drift = report.geometric_mean(y["best"] / x["best"] for x, y in others) if others else 1
            spread = [s["median"] / s["best"] - 1 for pair in ((a, b), *others) for s in pair]
            yield Change(
                case["name"], name, a["best"], b["best"], drift, max(LEAST, *spread)
            )  # fmt: skip


def print_changes(found: list[Change], console: Console) -> None:
    """Print every change, and how many count."""
    table = Table("case", "side", title="Time, new by old")
    for column in ("old, ms", "new, ms", "others, new by old", "ours, corrected", "noise"):
        table.add_column(column, justify="right")
    table.add_column("")
    for c in found:
        table.add_row(
            c.case, c.side, f"{c.old * 1e3:.3f}", f"{c.new * 1e3:.3f}", f"{c.drift:.2f}",
            f"{c.factor:.2f}", f"{c.noise:.0%}", c.verdict,
        )  # fmt: skip
    console.print(table)
    counted = {word: sum(c.verdict == word for c in found) for word in ("slower", "faster")}
    if found:
        mean = report.geometric_mean(c.factor for c in found)
        console.print(f"geometric mean of {len(found)}: {mean:.3f}", highlight=False)
    console.print(f"{counted['slower']} slower, {counted['faster']} faster beyond the noise")
