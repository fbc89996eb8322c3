"""Which array module holds a tensor's values, and which devices exist on this machine."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

DEVICES = ("cpu",)


def check_device(device: str) -> str:
    """Return `device` if tensors can live there.

    Raises:
        ValueError: for a device that is unknown or that this installation cannot use.
    """
    if device in DEVICES:
        return device
    raise ValueError(f"device: got {device!r}, expected one of {', '.join(map(repr, DEVICES))}")


def get_array_module(array: Any) -> ModuleType:
    """Return the module whose functions accept `array` (NumPy for every array there is today)."""
    return np


def set_num_threads(count: int) -> None:
    """Let kernels use `count` threads, at least 1 and at most as many as the machine has cores.

    Raises:
        ValueError: for another count.
    """
    from minicnn.kernels import _jit

    limit = _jit.max_num_threads()
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= limit:
        raise ValueError(f"threads: got {count!r}, expected an integer from 1 to {limit}")
    _jit.set_num_threads(count)


def get_num_threads() -> int:
    """Return how many threads kernels use."""
    from minicnn.kernels import _jit

    return _jit.get_num_threads()
