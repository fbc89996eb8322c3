"""What a case is, how it is computed on a device, and how its results are compared."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Rng = np.random.Generator
Results = tuple[np.ndarray, ...]
FLOAT32 = np.dtype(np.float32)


class Mismatch(AssertionError):
    """A kernel's results are not what they must be."""


@dataclass(frozen=True)
class Case:
    """A host function of `minicnn.kernels` with a way to make its arguments.

    Attributes:
        op: the host function's name.
        label: what is special about these arguments, unique among the op's cases.
        arguments: returns the positional arguments; floating arrays have the dtype it gets.
        options: keyword arguments of the host function.
        device_options: further ones for the run on the device, such as a rung of its own.
        reference: what defines the result; `<op>_reference` on the same arguments if None.
        in_place: the positions of arguments that the op changes; they are its results.
        rtol, atol: for float32 and float64, relative to the larger of value and 1 (numpy's form).
        exact: device and Numba agree in every bit (data movement, comparisons, no rounding).
        flops: how many floating-point operations these arguments ask for.
        main: these arguments are the shapes the kernel is made for, so that the report measures
            memory access on them.
    """

    op: str
    label: str
    arguments: Callable[[Rng, np.dtype], Sequence[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    device_options: Mapping[str, Any] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    in_place: tuple[int, ...] = ()
    rtol: tuple[float, float] = (2e-6, 1e-14)
    atol: tuple[float, float] = (2e-6, 1e-14)
    exact: bool = False
    flops: Callable[..., int] | None = None
    main: bool = False

    def __str__(self) -> str:
        return f"{self.op} {self.label}"


def cases(stem: str) -> list[Case]:
    """Return the cases of `<stem>.cu`."""
    return importlib.import_module(f"minicnn.kernelcheck.{stem}").CASES


def make_arguments(case: Case, dtype: np.dtype, seed: int = 0) -> tuple[Any, ...]:
    """Return the case's arguments, NumPy arrays and plain values, the same for the same seed."""
    return tuple(case.arguments(np.random.default_rng(seed), np.dtype(dtype)))


def run_case(stem: str, case: Case, arguments: Sequence[Any], xp: Any = np) -> Results:
    """Compute a case where the arrays of `xp` live (NumPy: by Numba) and return host arrays.

    Raises:
        Mismatch: an argument that is not `in_place` was changed.
    """
    module = importlib.import_module(f"minicnn.kernels.{stem}")
    options = dict(case.options)
    if xp is not np:
        options.update(case.device_options)
    placed = [_place(a, xp) if isinstance(a, np.ndarray) else a for a in arguments]
    result = getattr(module, case.op)(*placed, **options)
    results = _to_host([placed[i] for i in case.in_place] if case.in_place else result)
    for i, (before, after) in enumerate(zip(arguments, placed, strict=True)):
        if isinstance(before, np.ndarray) and i not in case.in_place:
            if not np.array_equal(_host(after), before, equal_nan=before.dtype.kind == "f"):
                raise Mismatch(f"{case}: argument {i} was changed")
    return results


def _place(array: np.ndarray, xp: Any) -> Any:
    return array.copy() if xp is np else xp.asarray(array)


def _host(array: Any) -> np.ndarray:
    return np.asarray(array) if isinstance(array, (np.ndarray, np.generic)) else array.get()


def _to_host(result: Any) -> Results:
    """Return the arrays in a result; a missing one (None) is left out."""
    parts: Iterable[Any] = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(_host(part) for part in parts if part is not None)


def expected_results(stem: str, case: Case, arguments: Sequence[Any]) -> tuple[Results, Results]:
    """Return what the reference and what Numba make of the arguments."""
    module = importlib.import_module(f"minicnn.kernels.{stem}")
    reference = case.reference or getattr(module, f"{case.op}_reference")
    return _to_host(reference(*arguments)), run_case(stem, case, arguments)


def check_case(
    stem: str,
    case: Case,
    arguments: Sequence[Any],
    expected: tuple[Results, Results],
    xp: Any,
) -> Results:
    """Compute a case on the device of `xp` and compare with `expected_results`.

    Returns:
        The device's results.

    Raises:
        Mismatch: naming the case, the first differing element and both values.
    """
    reference, twin = expected
    results = run_case(stem, case, arguments, xp)
    dtype = next(a.dtype for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f")
    compare(f"{case}, Numba against the reference", twin, reference, case, dtype)
    compare(f"{case}, device against the reference", results, reference, case, dtype)
    if case.exact:
        for got, wanted in zip(results, twin, strict=True):
            if not np.array_equal(got, wanted, equal_nan=wanted.dtype.kind == "f"):
                raise Mismatch(f"{case}, device against Numba: {_first(got, wanted, 0, 0)}")
    return results


def compare(what: str, results: Results, wanted: Results, case: Case, dtype: np.dtype) -> None:
    """Raise Mismatch unless all values agree within the case's tolerances; NaN equals NaN only."""
    if len(results) != len(wanted):
        raise Mismatch(f"{what}: {len(results)} results, expected {len(wanted)}")
    which = 0 if dtype == FLOAT32 else 1
    for got, right in zip(results, wanted, strict=True):
        if got.shape != right.shape:
            raise Mismatch(f"{what}: shape {got.shape}, expected {right.shape}")
        rtol, atol = (case.rtol[which], case.atol[which]) if got.dtype.kind == "f" else (0.0, 0.0)
        if not np.allclose(got, right, rtol=rtol, atol=atol, equal_nan=got.dtype.kind == "f"):
            raise Mismatch(f"{what}: {_first(got, right, rtol, atol)}")


def _first(got: np.ndarray, right: np.ndarray, rtol: float, atol: float) -> str:
    """Say where two arrays differ first."""
    close = np.isclose(got, right, rtol=rtol, atol=atol, equal_nan=got.dtype.kind == "f")
    wrong = np.argwhere(~close)
    index = tuple(int(i) for i in wrong[0])
    return (
        f"{len(wrong)} of {got.size} elements differ, the first at {index}: "
        f"got {got[index]}, expected {right[index]}"
    )
