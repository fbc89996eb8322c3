"""`cudasim.cuda`: the devices, one stream on which every launch ends before it returns, a clock.

The properties of every device are those that kernels and launches can ask for, of an A100
(NVIDIA, "CUDA C++ programming guide", table of compute capabilities). Times between events are
those of the simulation on this machine; they say nothing about a GPU.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, ClassVar

from minicnn.cudasim.devices import count, current

_CAPABILITY = (8, 0)
_ATTRIBUTES = {
    "ComputeCapabilityMajor": _CAPABILITY[0],
    "ComputeCapabilityMinor": _CAPABILITY[1],
    "MaxBlockDimX": 1024,
    "MaxBlockDimY": 1024,
    "MaxBlockDimZ": 64,
    "MaxGridDimX": 2**31 - 1,
    "MaxGridDimY": 65535,
    "MaxGridDimZ": 65535,
    "MaxSharedMemoryPerBlock": 48 * 1024,
    "MaxSharedMemoryPerBlockOptin": 163 * 1024,
    "MaxThreadsPerBlock": 1024,
    "MultiProcessorCount": 108,
    "WarpSize": 32,
}


class Device:
    """A simulated device; inside a `with` block it is the current one.

    Args:
        device: its number; the current one's if None.

    Attributes:
        id: its number.
        compute_capability: as two digits, such as "80".

    Raises:
        ValueError: there is no device of that number.
    """

    compute_capability = "".join(map(str, _CAPABILITY))

    def __init__(self, device: Any = None):
        number = current.number if device is None else int(getattr(device, "id", device))
        if not 0 <= number < count():
            raise ValueError(
                f"device: got {number}, expected a number below {count()}: that many devices are "
                "simulated, see settings(devices=...) and MINICNN_CUDASIM_DEVICES"
            )
        self.id = number

    @property
    def attributes(self) -> dict[str, int]:
        return dict(_ATTRIBUTES)

    def use(self) -> None:
        """Make this the current device of this thread."""
        current.number = self.id

    def synchronize(self) -> None:
        """Wait for all launches, which have ended."""

    def __enter__(self) -> Device:
        current.before.append(current.number)
        current.number = self.id
        return self

    def __exit__(self, *error: object) -> None:
        current.number = current.before.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(("Device", self.id))

    def __int__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"


class Event:
    """A moment, taken by `record`."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ):
        self._seconds: float | None = None

    @property
    def done(self) -> bool:
        return True

    def record(self, stream: Any = None) -> None:
        self._seconds = time.perf_counter()

    def synchronize(self) -> None:
        """Wait for the moment, which is past."""


class Stream:
    """A queue of launches, each of which ends before the next begins."""

    null: ClassVar[Stream]

    def __init__(self, null: bool = False, non_blocking: bool = False):
        pass

    @property
    def done(self) -> bool:
        return True

    def synchronize(self) -> None:
        """Wait for all launches, which have ended."""

    def use(self) -> Stream:
        return self

    def record(self, event: Event | None = None) -> Event:
        marked = Event() if event is None else event
        marked.record(self)
        return marked

    def wait_event(self, event: Event) -> None:
        """Wait for a moment, which is past."""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass


Stream.null = Stream(null=True)

runtime = SimpleNamespace(
    getDeviceCount=count,
    getDevice=lambda: current.number,
    setDevice=lambda number: Device(number).use(),
    deviceSynchronize=lambda: None,
)


def is_available() -> bool:
    """Return True: the simulated devices need no hardware."""
    return True


def get_current_stream(device_id: int = -1) -> Stream:
    return Stream.null


def get_device_id() -> int:
    return current.number


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Return the milliseconds between two recorded events, on this machine's clock."""
    if start_event._seconds is None or end_event._seconds is None:
        raise ValueError("get_elapsed_time: an event was never recorded")
    return (end_event._seconds - start_event._seconds) * 1e3
