"""How kernels run: mode, order of the threads, threads of the CPU, route to C++, devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

MODES = ("fast", "check", "profile")
ORDERS = ("ascending", "descending", "random")
ROUTES = ("shim", "ptx")


@dataclass(frozen=True)
class Settings:
    """How kernels run.

    Attributes:
        mode: "fast"; "check" watches every access; "profile" counts every access.
        order: in which order blocks, and the threads of a block, get their turns.
        seed: of the random order.
        threads: of the CPU that run blocks at the same time in fast mode; the other modes take one.
        route: "shim" compiles the source against a header that means CUDA; "ptx" lets NVIDIA's
            compiler make PTX of it and compiles that.
        devices: how many there are, numbered from 0.
    """

    mode: str = "fast"
    order: str = "ascending"
    seed: int = 0
    threads: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    route: str = "shim"
    devices: int = 2


def get_settings() -> Settings:
    """Return the settings in force."""
    return _current


@contextmanager
def settings(
    mode: str | None = None,
    order: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
    route: str | None = None,
    devices: int | None = None,
) -> Iterator[Settings]:
    """Run kernels another way inside the `with` block; what is None stays as it is.

    Args: see `Settings`.

    Raises:
        ValueError: naming the argument.
    """
    global _current
    before = _current
    given = {
        "mode": mode, "order": order, "seed": seed, "threads": threads, "route": route,
        "devices": devices,
    }  # fmt: skip
    for name, value in given.items():
        _check(name, name, value)
    _current = replace(before, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    try:
        yield _current
    finally:
        _current = before


def _check(name: str, shown: str, value: Any) -> None:
    """Raise ValueError, calling the setting `shown`, unless `value` is None or allowed."""
    allowed = {"mode": MODES, "order": ORDERS, "route": ROUTES}.get(name)
    if value is None:
        return
    if allowed is not None and value not in allowed:
        raise ValueError(f"{shown}: got {value!r}, expected one of {list(allowed)}")
    least = 1 if name in ("threads", "devices") else 0
    if allowed is None and (not isinstance(value, int) or value < least):
        raise ValueError(f"{shown}: got {value!r}, expected an integer of at least {least}")


def _from_environment() -> Settings:
    """Return the defaults, changed by MINICNN_CUDASIM_MODE, _ORDER, _SEED, _THREADS, _ROUTE and
    _DEVICES.
    """
    given: dict[str, Any] = {}
    for name in ("mode", "order", "seed", "threads", "route", "devices"):
        variable = f"MINICNN_CUDASIM_{name.upper()}"
        text = os.environ.get(variable)
        if text:
            number = name in ("seed", "threads", "devices") and text.isdecimal()
            given[name] = int(text) if number else text
            _check(name, variable, given[name])
    return Settings(**given)


_current = _from_environment()
