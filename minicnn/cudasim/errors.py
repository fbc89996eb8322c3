"""What can go wrong: a source that does not compile, no compiler, a kernel that misbehaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KINDS = (
    "out-of-bounds",
    "race",
    "uninitialised read",
    "barrier divergence",
    "warp divergence",
    "deadlock",
    "misaligned",
    "overflow",
    "undefined behaviour",
    "memory fault",
    "assertion",
    "limit",
)  # in the order of the runtime's Kind


@dataclass(frozen=True)
class Finding:
    """One thing that a kernel does wrong.

    Attributes:
        kind: one of KINDS.
        message: several lines for a person: what happened, where, the source, a likely cure.
        file, line: where; None when no source line is known.
        other_line: the line of the other side: of a race, of the barrier where others wait.
        block, thread: which thread, as (x, y, z).
        array: the parameter's or the shared array's name.
        other_file: the file of `other_line`.
        count: how many times it happened at these lines.
    """

    kind: str
    message: str
    file: str | None = None
    line: int | None = None
    other_line: int | None = None
    block: tuple[int, int, int] | None = None
    thread: tuple[int, int, int] | None = None
    array: str | None = None
    other_file: str | None = None
    count: int = 1

    def __str__(self) -> str:
        return self.message


class SimulationError(RuntimeError):
    """A kernel did something that is an error on a GPU, whether or not a GPU would show it.

    Attributes:
        findings: every distinct thing found, the first one first.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = ()):
        super().__init__(message)
        self.findings = list(findings)


class CompileError(RuntimeError):
    """A compiler, or the simulator itself, refuses a source."""


class CompilerNotFoundError(RuntimeError):
    """There is no C++ compiler."""


class ArgumentTypeError(TypeError):
    """A kernel was launched with an argument of the wrong type."""


class ArgumentValueError(ValueError):
    """A kernel was launched with a wrong number of arguments, grid, block or memory layout."""
