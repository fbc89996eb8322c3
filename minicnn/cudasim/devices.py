"""Which simulated device is current: arrays are made there, and kernels run there.

All simulated devices share one memory and one processor; what tells them apart is a number. It is
held to as on a machine whose GPUs cannot look into each other's memory: whatever computes with an
array of another device than the current is refused. Copies, views and reading values are allowed.

Every thread has a current device of its own, number 0 at first, as with CUDA. How many devices
there are is a setting (`settings(devices=...)`, MINICNN_CUDASIM_DEVICES), two by default.
"""

from __future__ import annotations

import threading

from minicnn.cudasim.settings import get_settings


class _Current(threading.local):
    """The current device of a thread, and those to which `with` blocks will return."""

    number = 0

    def __init__(self) -> None:
        self.before: list[int] = []


current = _Current()


def count() -> int:
    """Return how many devices there are."""
    return get_settings().devices


def check_current(number: int) -> None:
    """Refuse to compute with an array of a device that is not the current one, as CuPy does.

    Raises:
        ValueError: naming both devices.
    """
    if number != current.number:
        raise ValueError(
            f"The device where the array resides ({number}) is different from the current device "
            f"({current.number}). Peer access is unavailable between these devices."
        )
