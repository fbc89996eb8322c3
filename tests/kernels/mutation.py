"""Plant one fault after another in the CUDA kernels and see whether the cases notice.

    python -m tests.kernels.mutation [STEM...]          all mutants, two processes, a line each
    python -m tests.kernels.mutation --every 10         every tenth, as the default test run does

A mutant is the text of a `.cu` file with one change:

    barrier   a `__syncthreads()` or `__syncwarp()` is dropped
    bound     `<` becomes `<=`, or `>= 0` becomes `>= -1`
    index     `[i]` becomes `[i + 1]`
    atomic    `atomicAdd(&x, v)` becomes `x += v`, and likewise the others

It is killed when a case that runs the kernel no longer gives the right results, when check mode
finds a fault, or when it does not end. A launch cannot be interrupted from within, so that mutants
are tried in a process of their own, which a timer ends after LIMIT seconds of computing; the next
process goes on behind. A mutant that the compiler refuses counts for nothing. Those that survive
are listed with the reason in `survivors.txt`.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.kernelcheck import Case, Configuration, cases, check_case, expected_results
from minicnn.kernelcheck.case import make_arguments, run_case
from minicnn.kernels import _launch

# Seconds of the CPU for one mutant: the machine may be busy, and a compiler runs beside it. Ten
# times as many on the clock, for one that waits.
LIMIT = 20
ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.txt")
FLOAT32 = np.dtype(np.float32)

PROCESSES = 2
KINDS = ("barrier", "bound", "index", "atomic")
VERDICTS = ("killed", "survived", "refused")

BARRIER = re.compile(r"__sync(?:threads|warp)\(\);")
LESS = re.compile(r" < (?!=)")
NOT_NEGATIVE = re.compile(r" >= 0\b(?!\.)")
SUBSCRIPT = re.compile(r"(?<=[\w\])])\[([^\[\]]+)\]")
# What stands before the size of an array: `const T* at`, `Pack<T, WIDE> held`, `T (&slab)`.
DECLARATION = re.compile(
    r"^\s*(?:const |__shared__ |constexpr |__align__\(\d+\) )*"
    r"(?!return\b)\w+(?:<[^<>]*>)?[ *]+\w+$"
)
ARRAY_PARAMETER = re.compile(r"\(&\w+\)(?:\[[^\[\]]*\])*$")
ATOMIC = re.compile(r"atomic(Add|Max|Min)\(\s*(&?)\s*([^;,]+?),\s*([^;]+)\);")
PLAIN = {"Add": "{0} += {1};", "Max": "{0} = max({0}, {1});", "Min": "{0} = min({0}, {1});"}

# Check mode first: it sees most faults on the first case. Then numbers, where the launch is cut
# short and the threads run backwards or at random.
WAYS = (
    Configuration("shim", "check", "ascending"),
    Configuration("shim", "check", "random", 1),
    Configuration("shim", "fast", "descending", 1),
    Configuration("shim", "fast", "random", 2),
)


@dataclass(frozen=True)
class Mutant:
    """One changed text; `kernel` is None where the change lies in a function shared by several."""

    stem: str
    kernel: str | None
    file: str
    line: int
    kind: str
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        """Return what names the change in `survivors.txt`, wherever its line moves to."""
        where = f"{self.file} {self.kernel}" if self.kernel else self.file
        return f"{where} {self.kind}: {self.before.strip()} -> {self.after.strip()}"


def mutants(stem: str, every_header: bool = False) -> list[Mutant]:
    """Return every mutant of `<stem>.cu`, and of the headers that no earlier file includes."""
    text = _launch.source(stem)
    code = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)
    earlier = set().union(*(_headers(s) for s in _launch.stems() if s < stem))
    kernels = [(m.start(), m[2]) for m in _launch.KERNEL.finditer(code)]
    found = []
    for start, end, kind, replacement in sorted(_changes(code)):
        file, line = _place(text, start)
        if file in earlier and not every_header:
            continue
        inside = [name for position, name in kernels if position < start]
        in_kernel = inside[-1] if inside and file == f"{stem}.cu" else None
        line_start = text.rfind("\n", 0, start) + 1
        line_end = text.find("\n", end)
        changed = text[:start] + replacement + text[end:]
        found.append(
            Mutant(
                stem,
                in_kernel if in_kernel and _is_body_of(code, in_kernel, start) else None,
                file,
                line,
                kind,
                text[line_start:line_end],
                text[line_start:start] + replacement + text[end:line_end],
                changed,
            )
        )
    return found


def _changes(code: str) -> Iterator[tuple[int, int, str, str]]:
    """Yield (start, end, kind, replacement) of every change to the code."""
    for m in BARRIER.finditer(code):
        yield m.start(), m.end(), "barrier", ";"
    for m in LESS.finditer(code):
        yield m.start(), m.end(), "bound", " <= "
    for m in NOT_NEGATIVE.finditer(code):
        yield m.start(), m.end(), "bound", " >= -1"
    for m in ATOMIC.finditer(code):
        place = m[3] if m[2] else f"*({m[3]})"
        yield m.start(), m.end(), "atomic", PLAIN[m[1]].format(place, m[4])
    for m in SUBSCRIPT.finditer(code):
        before = code[code.rfind("\n", 0, m.start()) + 1 : m.start()]
        declares = DECLARATION.match(before.split("[")[0]) or ARRAY_PARAMETER.search(before)
        if not declares and "__shared__" not in before:
            yield m.start(), m.end(), "index", f"[{m[1]} + 1]"


@cache
def _headers(stem: str) -> set[str]:
    return set(re.findall(r'^#line 1 "(\w+\.h)"', _launch.source(stem), re.M))


def _place(text: str, position: int) -> tuple[str, int]:
    """Return the file and line of a position, by the `#line` directive above it."""
    above = list(re.finditer(r'^#line (\d+) "([\w.]+)"\n', text[:position], re.M))[-1]
    return above[2], int(above[1]) + text.count("\n", above.end(), position)


def _is_body_of(code: str, kernel: str, position: int) -> bool:
    """Whether `position` lies between the braces of `kernel`."""
    declared = next(m.end() for m in _launch.KERNEL.finditer(code) if m[2] == kernel)
    depth = 0
    for i in range(declared, position):
        depth += {"{": 1, "}": -1}.get(code[i], 0)
        if depth == 0 and code[i] == "}":
            return False
    return True


@cache
def launched_by(stem: str, index: int) -> frozenset[str]:
    """Return the names of the kernels that a case of the stem launches."""
    from minicnn import cudasim

    case = cases(stem)[index]
    with _launch.record(run=False) as launches:
        run_case(stem, case, make_arguments(case, FLOAT32), cudasim)
    return frozenset(launch.kernel.split("<")[0] for launch in launches if launch.stem == stem)


@cache
def prepared(stem: str, index: int) -> tuple[tuple[Any, ...], Any]:
    """Return a case's arguments and the results that they must give."""
    case = cases(stem)[index]
    arguments = make_arguments(case, FLOAT32)
    return arguments, expected_results(stem, case, arguments)


def verdict(mutant: Mutant) -> str:
    """Return "survived", "refused", or how the mutant was killed.

    A change in a header is put to the cases of every file that includes it.
    """
    result = _verdict(mutant)
    for stem in _launch.stems():
        if result == "survived" and stem != mutant.stem and mutant.file in _headers(stem):
            same = (
                m
                for m in mutants(stem, every_header=True)
                if (m.line, str(m)) == (mutant.line, str(mutant))
            )
            result = _verdict(next(same))
    return result


def _verdict(mutant: Mutant) -> str:
    from minicnn import cudasim

    chosen: list[tuple[int, Case]] = [
        (i, case)
        for i, case in enumerate(cases(mutant.stem))
        if mutant.kernel is None or mutant.kernel in launched_by(mutant.stem, i)
    ]
    with _launch.replace_source(mutant.stem, mutant.text):
        for way in WAYS:
            for i, case in chosen:
                try:
                    with way.active():
                        arguments, expected = prepared(mutant.stem, i)
                        check_case(mutant.stem, case, arguments, expected, cudasim)
                except cudasim.CompileError:
                    return "refused"
                except Exception as error:
                    return f"killed by {case} ({way}): {' '.join(str(error).split())[:200]}"
    return "survived"


def work(everything: Sequence[Mutant], every: int, first: int) -> None:
    """Print number and verdict of every `every`-th mutant; die at one that does not end."""
    for number in range(first, len(everything), every):
        with timers():
            result = verdict(everything[number])
        print(f"{number}\t{result}", flush=True)


@contextlib.contextmanager
def timers() -> Iterator[None]:
    """End this process, by the signals' default action, if it computes or waits for too long."""
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    signal.setitimer(signal.ITIMER_REAL, 10 * LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def run(stems: Sequence[str], every: int = 1, first: int = 0) -> Iterator[tuple[Mutant, str]]:
    """Yield every `every`-th mutant with its verdict, computed in processes of their own."""
    everything = [mutant for stem in stems for mutant in mutants(stem)]
    while first < len(everything):
        command = [sys.executable, "-m", "tests.kernels.mutation", "--work", *stems]
        command += ["--every", str(every), "--first", str(first)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                number, result = line.rstrip().split("\t", 1)
                assert int(number) == first
                yield everything[first], result
                first += every
        if worker.returncode > 0:
            raise RuntimeError(f"{' '.join(command)} failed")
        if worker.returncode < 0:
            ended = worker.returncode in (-signal.SIGPROF, -signal.SIGALRM)
            how = f"did not end within {LIMIT} s" if ended else f"signal {-worker.returncode}"
            yield everything[first], f"killed: {how}"
            first += every


def explained() -> dict[str, str]:
    """Return the survivors of `survivors.txt` with their reasons: `mutant | reason` a line."""
    lines = SURVIVORS.read_text(encoding="utf-8").splitlines()
    parts = (line.rsplit(" | ", 1) for line in lines if line and not line.startswith("#"))
    return {mutant: reason for mutant, reason in parts}


def main() -> None:
    from concurrent.futures import ThreadPoolExecutor

    parser = argparse.ArgumentParser(description="Plant faults in the CUDA kernels.")
    parser.add_argument("stems", nargs="*", default=_launch.stems())
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        everything = [mutant for stem in options.stems for mutant in mutants(stem)]
        work(everything, options.every, options.first)
        return
    known = explained()
    totals: Counter[tuple[str, str]] = Counter()

    def show(offset: int) -> None:
        for mutant, result in run(options.stems, PROCESSES * options.every, offset):
            totals[mutant.kind, result.split(maxsplit=1)[0].rstrip(":")] += 1
            reason = f"\n    {known.get(str(mutant), 'NOT EXPLAINED')}" * (result == "survived")
            print(f"line {mutant.line} of {mutant}\n    {result}{reason}", flush=True)

    with ThreadPoolExecutor(PROCESSES) as pool:
        list(pool.map(show, range(0, PROCESSES * options.every, options.every)))
    print(f"\n{'':8}{''.join(f'{word:>10}' for word in VERDICTS)}")
    for kind in KINDS:
        print(f"{kind:8}{''.join(f'{totals[kind, word]:10}' for word in VERDICTS)}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
