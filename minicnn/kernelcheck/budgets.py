"""The committed table of what each CUDA kernel is held to, and the rules behind it.

`kernels/_budgets.csv` has a row a kernel and dtype with what was last measured. A kernel may become
better than its row, not worse: more registers, lower occupancy, a smaller share of multiply-adds,
worse use of memory. Nothing of it is timed, so there is no noise. No kernel spills registers to
memory, in any instantiation; and unless the column `reason` tells why not,

    no kernel keeps arrays of its threads in memory
    at least 90 % of the bytes that requests of global memory move are wanted
    no bank of shared memory has to serve more than two words in a request
    of the inner loop of a tiled rung, at least 80 % multiply and add

Another version of the compiler deals out registers otherwise, so that figures of compiled code are
compared only under the version that the table was made with; the rules hold under all.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import minicnn.kernels
from minicnn.kernelcheck.report import ARCHITECTURES, KernelReport, Report

PATH = Path(minicnn.kernels.__file__).parent / "_budgets.csv"
COLUMNS = (
    "kernel", "registers", "occupancy", "multiply_adds", "coalescing", "bank_conflict", "reason",
)  # fmt: skip
LEAST_COALESCING = 0.9
WORST_BANK_CONFLICT = 2
LEAST_MULTIPLY_ADDS = 80  # per cent, of tiled rungs
HEAD = """\
# What each CUDA kernel is held to. All but the reasons comes of `minicnn kernels report --update`.
#
# registers of a thread, occupancy (% of a multiprocessor's warps) and multiply_adds (% of the inner
# loop's instructions) on {architectures}, compiled by NVRTC {compiler};
# coalescing: wanted part of the bytes that move; bank_conflict: of the worst request.
# reason: why a rule of minicnn/kernelcheck/budgets.py does not hold.
"""


@dataclass(frozen=True)
class Budget:
    """One row: of compiled code a figure an architecture, in their order, or none at all."""

    kernel: str
    registers: tuple[int, ...]
    occupancy: tuple[int, ...]
    multiply_adds: tuple[int, ...]
    coalescing: float | None
    bank_conflict: int | None
    reason: str = ""


@dataclass(frozen=True)
class Table:
    """The whole file; `sections` maps the stem of each `.cu` to the names of its rows."""

    compiler: str
    rows: dict[str, Budget]
    sections: dict[str, list[str]]


def budget_of(kernel: KernelReport) -> Budget:
    """Return the row that a kernel would have, without a reason."""
    shares = [build.multiply_adds for build in kernel.builds]
    return Budget(
        kernel.name,
        tuple(build.registers for build in kernel.builds),
        tuple(round(100 * build.occupancy.share) for build in kernel.builds),
        tuple(int(100 * share) for share in shares if share is not None)
        if None not in shares
        else (),
        None if kernel.coalescing is None else int(100 * kernel.coalescing + 1e-9) / 100,
        kernel.bank_conflict,
    )


def read(path: Path = PATH) -> Table:
    """Read the committed table."""
    text = path.read_text(encoding="utf-8")
    version = re.search(r"NVRTC ([\d.]+)", text)
    rows: dict[str, Budget] = {}
    sections: dict[str, list[str]] = {}
    stem = ""
    for line in text.splitlines():
        if found := re.fullmatch(r"# (\w+)\.cu", line):
            stem = found[1]
            sections[stem] = []
        elif line and not line.startswith(("#", COLUMNS[0])):
            row = _parse(next(csv.reader([line])))
            rows[row.kernel] = row
            sections[stem].append(row.kernel)
    return Table(version[1].rstrip(".") if version else "", rows, sections)


def write(report: Report, path: Path = PATH) -> None:
    """Write the table anew for the kernels of a report; others, and all reasons, stay."""
    old = read(path) if path.exists() else Table("", {}, {})
    measured = {kernel.stem for kernel in report.kernels}
    sections = {stem: names for stem, names in old.sections.items() if stem not in measured}
    rows = dict(old.rows)
    for kernel in report.kernels:
        reason = old.rows[kernel.name].reason if kernel.name in old.rows else ""
        rows[kernel.name] = replace(budget_of(kernel), reason=reason)
        sections.setdefault(kernel.stem, []).append(kernel.name)
    names = [f"sm_{arch}" for arch in ARCHITECTURES]
    out = io.StringIO()
    out.write(HEAD.format(architectures=" ".join(names), compiler=report.compiler))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for stem in sorted(sections):
        out.write(f"# {stem}.cu\n")
        for name in sections[stem]:
            writer.writerow(_cells(rows[name]))
    path.write_text(out.getvalue(), encoding="utf-8")


def violations(report: Report, table: Table) -> list[str]:
    """Return a sentence for each rule that a kernel breaks and each figure that became worse."""
    found = []
    for kernel in report.kernels:
        row = table.rows.get(kernel.name)
        if row is None:
            found.append(f"{kernel.name} has no row; run `minicnn kernels report --update`")
            continue
        broken = [f"{one} spills on sm_{arch}" for one, arch in kernel.spilling]
        broken += _worse(budget_of(kernel), row, report.compiler == table.compiler)
        if not row.reason:
            broken += broken_rules(kernel)
        found += [f"{kernel.name}: {sentence}" for sentence in broken]
    for stem in {kernel.stem for kernel in report.kernels}:
        there = {kernel.name for kernel in report.kernels if kernel.stem == stem}
        gone = [name for name in table.sections.get(stem, []) if name not in there]
        found += [f"{name} has a row, but is no kernel of {stem}.cu" for name in gone]
    return found


def broken_rules(kernel: KernelReport) -> list[str]:
    """Return a sentence for each rule that a kernel breaks, which needs a reason."""
    found = [
        f"keeps {build.stack} bytes of arrays in memory on sm_{build.arch}"
        for build in kernel.builds
        if build.stack and not build.spills
    ]
    if kernel.coalescing is not None and kernel.coalescing < LEAST_COALESCING:
        found.append(
            f"{kernel.coalescing:.1%} of the bytes that move are wanted, expected at least "
            f"{LEAST_COALESCING:.0%}"
        )
    if kernel.bank_conflict is not None and kernel.bank_conflict > WORST_BANK_CONFLICT:
        found.append(
            f"a bank conflict is {kernel.bank_conflict}-way, expected at most "
            f"{WORST_BANK_CONFLICT}-way"
        )
    if kernel.kernel.endswith("_tiled_cuda"):
        found += [
            f"{build.multiply_adds or 0:.1%} of the inner loop multiply and add on "
            f"sm_{build.arch}, expected at least {LEAST_MULTIPLY_ADDS}%"
            for build in kernel.builds
            if 100 * (build.multiply_adds or 0) < LEAST_MULTIPLY_ADDS
        ]
    return found


def _worse(now: Budget, row: Budget, same_compiler: bool) -> Iterable[str]:
    """Yield what has become worse than the table has it."""
    if same_compiler:
        for arch, is_now, was in zip(ARCHITECTURES, now.registers, row.registers, strict=True):
            if is_now > was:
                yield f"{is_now} registers on sm_{arch}, held to {was}"
        for what in ("occupancy", "multiply_adds"):
            pairs = zip(ARCHITECTURES, getattr(now, what), getattr(row, what), strict=False)
            for arch, is_now, was in pairs:
                if is_now < was:
                    yield f"{what} is {is_now}% on sm_{arch}, held to {was}%"
        if (now.coalescing or 0) < (row.coalescing or 0):
            yield f"coalescing is {now.coalescing}, held to {row.coalescing}"
    if (now.bank_conflict or 0) > (row.bank_conflict or 0):
        yield f"the worst bank conflict is {now.bank_conflict}-way, held to {row.bank_conflict}-way"


def _cells(row: Budget) -> list[str]:
    def joined(values: Iterable[int]) -> str:
        return " ".join(map(str, values))

    return [
        row.kernel, joined(row.registers), joined(row.occupancy), joined(row.multiply_adds),
        "" if row.coalescing is None else f"{row.coalescing:.2f}",
        "" if row.bank_conflict is None else str(row.bank_conflict), row.reason,
    ]  # fmt: skip


def _parse(cells: list[str]) -> Budget:
    name, registers, occupancy, shares, coalescing, conflict, reason = cells

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split()))

    return Budget(
        name, numbers(registers), numbers(occupancy), numbers(shares),
        float(coalescing) if coalescing else None, int(conflict) if conflict else None, reason,
    )  # fmt: skip
