"""What a run found: its form as JSON, its ratios and means, and the tables that show them.

    {"benchmark", "machine", "settings",
     "cases": [{"name", "family", "flops", "bytes", "images", "note",
                "sides": [{"name", "first", "best", "median", "seconds", "peak_bytes",
                          "transfer"}
                          or {"name", "missing"} or {"name", "wrong"}]}]}

A ratio is the other side's time by ours: above 1, ours is the faster.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.timing import GPU, OURS

Run = dict[str, Any]
BEST_OTHER = "best of the others"


def save(run: Run, path: Path) -> None:
    """Write a run to a file."""
    path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Run:
    """Read a run from a file.

    Raises:
        ValueError: the file does not hold one.
    """
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(run["cases"], list) and isinstance(run["benchmark"], str):
            return run
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: expected a file that --json wrote")


def side(case: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return the figures of a side, None where it was not timed."""
    return next((s for s in case["sides"] if s["name"] == name and "best" in s), None)


def opponents(run: Run) -> list[str]:
    """Return the names of all other sides, in the order in which they appear."""
    return list(dict.fromkeys(
        s["name"] for case in run["cases"] for s in case["sides"] if s["name"] != OURS
    ))  # fmt: skip


def ratio(case: dict[str, Any], opponent: str, what: str = "best") -> float | None:
    """Return the opponent's time by ours, None where one of the two was not timed.

    Args:
        case: of a run.
        opponent: a side, or `BEST_OTHER` for the fastest that is not ours.
        what: "best" or "median".
    """
    own = side(case, OURS)
    if opponent == BEST_OTHER:
        times = [s[what] for s in case["sides"] if s["name"] != OURS and "best" in s]
    else:
        their = side(case, opponent)
        times = [] if their is None else [their[what]]
    return min(times) / own[what] if own is not None and times else None


def geometric_mean(values: Iterable[float]) -> float:
    """Return the mean that treats 2 and 1/2 alike."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def means(run: Run) -> Iterator[tuple[str, str, float, int]]:
    """Yield family, opponent, geometric mean of the ratios, and how many they are.

    Each family by itself, then all of them if there are several, last the ratios of the medians.
    """
    families: dict[str, list[dict[str, Any]]] = {}
    for case in run["cases"]:
        families.setdefault(case["family"], []).append(case)
    groups = [(family, cases, "best") for family, cases in families.items()]
    groups += [("all", run["cases"], "best")] if len(families) > 1 else []
    for family, cases, what in [*groups, ("all, medians", run["cases"], "median")]:
        for opponent in (*opponents(run), BEST_OTHER):
            found = [r for case in cases if (r := ratio(case, opponent, what)) is not None]
            if found:
                yield family, opponent, geometric_mean(found), len(found)


def break_even(run: Run) -> dict[str, int | None]:
    """Return for each network the smallest batch from which on the GPU takes less time than we do.

    Bringing the batch to the device counts. None where it takes more even at the largest batch;
    networks that no GPU was timed with are left out.
    """
    gains: dict[str, dict[int, bool]] = {}
    for case in run["cases"]:
        own, gpu = side(case, OURS), side(case, GPU)
        if case["images"] and own is not None and gpu is not None:
            network = case["name"].rpartition(", ")[0]
            faster = gpu["best"] + gpu["transfer"] < own["best"]
            gains.setdefault(network, {})[case["images"]] = faster
    found: dict[str, int | None] = {}
    for network, by_batch in gains.items():
        found[network] = None
        for batch in sorted(by_batch, reverse=True):
            if not by_batch[batch]:
                break
            found[network] = batch
    return found


def heading(run: Run) -> str:
    """Return the line that says how and where a run was made."""
    machine, settings = run["machine"], run["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    clock = {"wall": "wall clock", "cpu": "processor time"}[settings["clock"]]
    threads = settings["threads"]
    return (
        f"{threads} thread{'s' if threads > 1 else ''} each side, {clock}, best of "
        f"{settings['rounds']} rounds\n{machine['cpu']}, {machine['cores']} cores, registers of "
        f"{machine['register_bits']} bits, load {machine['load']}, {machine['system']}\n{versions}"
    )


def print_run(run: Run, console: Console) -> None:
    """Print every case with its ratios, what was refused and what is missing, and the means."""
    console.print(heading(run), highlight=False)
    console.print(_case_table(run))
    if (memory := _memory_table(run)) is not None:
        console.print(memory)
    for case in run["cases"]:
        for found in case["sides"]:
            if "wrong" in found:
                console.print(f"{case['name']}: {found['name']} was refused: {found['wrong']}")
        if case["note"]:
            console.print(f"{case['name']}: {case['note']}", highlight=False)
    for case in run["cases"]:
        if (gpu := side(case, GPU)) is not None:
            moved = f"{case['name']}: bringing the data to the GPU takes {_ms(gpu['transfer'])} ms"
            console.print(moved, highlight=False)
    for network, batch in break_even(run).items():
        batches = "at no batch tried" if batch is None else f"from a batch of {batch} on"
        console.print(f"{network}: the GPU is faster {batches}, transfer included")
    for name, why in missing(run).items():
        console.print(f"{name}: {why}", highlight=False)
    table = Table("family", title="Geometric means of the ratios; above 1, minicnn is the faster")
    names = [n for n in (*opponents(run), BEST_OTHER) if any(m[1] == n for m in means(run))]
    for name in names:
        table.add_column(name, justify="right")
    rows: dict[str, dict[str, str]] = {}
    for family, opponent, mean, count in means(run):
        rows.setdefault(family, {})[opponent] = f"{_shown(mean)} of {count}"
    for family, found in rows.items():
        table.add_row(family, *(found.get(name, "") for name in names))
    if rows:
        console.print(table)


def missing(run: Run) -> dict[str, str]:
    """Return the sides that took part in no case, and why."""
    timed = {s["name"] for case in run["cases"] for s in case["sides"] if "missing" not in s}
    return {
        s["name"]: s["missing"]
        for case in run["cases"]
        for s in case["sides"]
        if s["name"] not in timed
    }


def _case_table(run: Run) -> Table:
    absent = missing(run)
    names = [name for name in opponents(run) if name not in absent]
    table = Table("case", title=f"{run['benchmark']}: milliseconds, and the ratio to minicnn's")
    by_image = any(case["images"] for case in run["cases"])
    for column in ("minicnn", "median", "first call, s", "images/s" if by_image else "GFLOP/s"):
        table.add_column(column, justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for case in run["cases"]:
        own = side(case, OURS)
        first = [""] * 4
        if own is not None:
            amount = case["images"] or case["flops"] / 1e9
            rate = f"{amount / own['best']:.1f}" if amount else ""
            first = [_ms(own["best"]), _ms(own["median"]), f"{own['first']:.2f}", rate]
        row = [case["name"], *first]
        for name in names:
            their, times = side(case, name), ratio(case, name)
            row.append("" if their is None else f"{_ms(their['best'])} = {_shown(times)}")
        table.add_row(*row)
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}" if seconds >= 1e-4 else f"{seconds * 1e3:.4f}"


def _shown(value: float | None) -> str:
    """Return a ratio, marked where it is below 1."""
    if value is None:
        return "?"
    return f"{value:.2f}" if value >= 1 else f"[bold]{value:.2f} <[/bold]"


def _memory_table(run: Run) -> Table | None:
    """Return the most memory that each side held beyond its imports, None if none was measured."""
    names = [OURS, *opponents(run)]
    peaks = [{s["name"]: s.get("peak_bytes") for s in case["sides"]} for case in run["cases"]]
    names = [name for name in names if any(found.get(name) for found in peaks)]
    if not names:
        return None
    table = Table("case", title="Most memory held, MB, beyond that of the imports")
    for name in names:
        table.add_column(name, justify="right")
    for case, found in zip(run["cases"], peaks, strict=True):
        own = (found.get(name) for name in names)
        table.add_row(case["name"], *("" if b is None else f"{b / 1e6:.0f}" for b in own))
    return table
