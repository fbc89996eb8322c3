"""Where tensors live: the devices, the array module behind each, and the way between them.

    "cpu"       NumPy, with kernels compiled by Numba
    "cuda"      CuPy, with the `.cu` kernels on an NVIDIA GPU
    "cuda:sim"  minicnn.cudasim, a look-alike of CuPy: the same `.cu` kernels simulated on the CPU

Where there are several of a kind, a number follows: "cuda:1", "cuda:sim:1". Without one it is
number 0, and that is also how number 0 is printed. With MINICNN_CUDASIM=1 in the environment "cuda"
means the simulator. Its tensors say "cuda:sim" all the same, so that nothing simulated passes for a
GPU. The three modules have one interface, and an array knows its own: code that holds one works
through `get_array_module(array)`.

CUDA computes on the current device, one for each thread. Nobody has to set it: whoever computes
with arrays makes their device the current one meanwhile. For what is recorded for gradients, and
for their way back, `autograd` does that; for the rest there is `on_device_of(array)`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np

DEVICES = ("cpu", "cuda", "cuda:sim")
SIMULATE = "MINICNN_CUDASIM"

_NAME = re.compile(r"(cpu|cuda(?::sim)?)(?::(0|[1-9]\d*))?")
# A kind of device is one of DEVICES: a name without its number.
_modules: dict[str, Any] = {"cpu": np}
_kind_of_type: dict[type, str | None] = {np.ndarray: "cpu"}
# What operations are nearly always called with: no array of these is on a CUDA device.
_HOST_TYPES = frozenset({np.ndarray, float, int, bool, type(None)})
_STAY: AbstractContextManager = nullcontext()


def check_device(device: str) -> str:
    """Return the device's own name, if it can be used.

    That is "cuda" for "cuda:0", and "cuda:sim" for "cuda" where that is simulated.

    Raises:
        ValueError: for a device that is unknown or that this installation cannot use; it says what
            is missing.
    """
    if device == "cpu":
        return device
    kind, number = _read(device)
    problem = _problem(kind) or _beyond(kind, number)
    if problem is not None:
        raise ValueError(f"device: {problem}")
    return _named(kind, number)


def is_available(device: str) -> bool:
    """Return whether tensors can live on `device`.

    Raises:
        ValueError: for a device that is unknown.
    """
    kind, number = _read(device)
    return (_problem(kind) or _beyond(kind, number)) is None


def count_devices(device: str) -> int:
    """Return how many devices there are of the kind of `device`; 0 if none can be used.

    Raises:
        ValueError: for a device that is unknown.
    """
    kind, _ = _read(device)
    if kind == "cpu":
        return 1
    return 0 if _problem(kind) is not None else _module(kind).cuda.runtime.getDeviceCount()


def array_module(device: str) -> Any:
    """Return the module that makes arrays on `device`: NumPy, CuPy or the simulator.

    Raises:
        ValueError: see `check_device`.
    """
    return np if device == "cpu" else _module(_read(check_device(device))[0])


def get_array_module(*values: Any) -> Any:
    """Return the module that made the first array among `values`; NumPy where there is none."""
    for value in values:
        kind = _kind_or_none(type(value))
        if kind is not None:
            return _module(kind)
    return np


def is_array(value: Any) -> bool:
    """Return whether `value` is an array of one of the devices."""
    return _kind_or_none(type(value)) is not None


def device_of(array: Any) -> str:
    """Return where an array's memory is.

    Raises:
        TypeError: when it is no array.
    """
    kind = _kind_or_none(type(array))
    if kind is None:
        raise TypeError(f"array: got {type(array).__name__}, expected an array of some device")
    return kind if kind == "cpu" else _named(kind, array.device.id)


def on_one_device(a: Any, b: Any) -> bool:
    """Return whether two arrays are on the same device."""
    if type(a) is not type(b):
        return device_of(a) == device_of(b)
    return isinstance(a, np.ndarray) or a.device.id == b.device.id


def on_device(device: str) -> AbstractContextManager:
    """Return a context in which `device` is the current one, so that arrays are made there.

    Raises:
        ValueError: see `check_device`.
    """
    kind, number = ("cpu", 0) if device == "cpu" else _read(check_device(device))
    return _STAY if kind == "cpu" else _current(kind, number) or _STAY


def on_device_of(array: Any) -> AbstractContextManager:
    """Return a context in which the device of `array` is the current one, to compute with it."""
    kind = _kind_or_none(type(array))
    if kind is None or kind == "cpu":
        return _STAY
    return _current(kind, array.device.id) or _STAY


def to_device(array: Any, device: str) -> Any:
    """Return an array with these values on `device`; itself if it is there already.

    Raises:
        ValueError: see `check_device`.
        TypeError: see `device_of`.
    """
    target, source = check_device(device), device_of(array)
    if target == source:
        return array
    (kind, number), (source_kind, _) = _read(target), _read(source)
    if kind != source_kind and source_kind != "cpu":
        array = _module(source_kind).asnumpy(array)
    if kind == "cpu":
        return array
    with _current(kind, number) or _STAY:
        return _module(kind).asarray(array)


def to_host(array: Any) -> np.ndarray:
    """Return an array with these values in NumPy's hands; itself if it is there already."""
    return to_device(array, "cpu")


def mixed_devices(op: str, argument: str, device: str, other: str, expected: str) -> RuntimeError:
    """Return the error for an operation on two devices: `argument` is not where `other` is."""
    return RuntimeError(
        f"{op}: {argument} is on {device!r}, expected {expected!r} like {other}; "
        "move one of them with .to(device)"
    )


def check_one_device(op: str, values: Sequence[Any]) -> AbstractContextManager | None:
    """Raise the error of `mixed_devices` unless all arrays among `values` are on one device.

    Returns:
        A context in which that device is the current one; None where it is, and on the CPU.
    """
    if _HOST_TYPES.issuperset(map(type, values)):  # nearly always, and every call passes here
        return None
    found: tuple[str, int] | None = None
    first = 0
    for i, value in enumerate(values):
        kind = _kind_or_none(type(value))
        if kind is None:
            continue
        place = (kind, 0 if kind == "cpu" else value.device.id)
        if found is None:
            found, first = place, i
        elif place != found:
            raise mixed_devices(op, f"input {i}", _named(*place), f"input {first}", _named(*found))
    return None if found is None or found[0] == "cpu" else _current(*found)


def _read(device: Any) -> tuple[str, int]:
    """Return kind and number of a device, "cuda" being simulated where the environment says so."""
    match = _NAME.fullmatch(device) if isinstance(device, str) else None
    if match is None or (match[1] == "cpu" and match[2]):
        raise ValueError(
            f"device: got {device!r}, expected one of {', '.join(map(repr, DEVICES))}, or one of "
            "several as 'cuda:1' or 'cuda:sim:1'"
        )
    kind = match[1]
    if kind == "cuda" and os.environ.get(SIMULATE, "") not in ("", "0"):
        kind = "cuda:sim"
    return kind, int(match[2] or 0)


def _named(kind: str, number: int) -> str:
    return f"{kind}:{number}" if number else kind


def _module(kind: str) -> Any:
    if kind not in _modules:
        _modules[kind] = _import_cupy() if kind == "cuda" else _import_simulator()
    return _modules[kind]


def _current(kind: str, number: int) -> AbstractContextManager | None:
    """Return a context in which a CUDA device is the current one; None if it is."""
    cuda = _module(kind).cuda
    return None if cuda.runtime.getDevice() == number else cuda.Device(number)


def _kind_or_none(array_type: type) -> str | None:
    try:
        return _kind_of_type[array_type]
    except KeyError:
        package = array_type.__module__
        kind = None
        if issubclass(array_type, np.ndarray):
            kind = "cpu"
        elif array_type.__name__ == "ndarray" and package.split(".")[0] == "cupy":
            kind = "cuda"
        elif array_type.__name__ == "ndarray" and package.startswith("minicnn.cudasim"):
            kind = "cuda:sim"
        return _kind_of_type.setdefault(array_type, kind)


def _beyond(kind: str, number: int) -> str | None:
    """Say that there are not as many devices as `number` asks for; None if there are."""
    if number == 0:
        return None
    count = _module(kind).cuda.runtime.getDeviceCount()
    if number < count:
        return None
    there_are = (
        f"there is 1 {kind!r} device" if count == 1 else f"there are {count} {kind!r} devices"
    )
    more = " (MINICNN_CUDASIM_DEVICES=N simulates more)" if kind == "cuda:sim" else ""
    return f"got {_named(kind, number)!r}, but {there_are}, counted from 0{more}"


@cache
def _problem(name: str) -> str | None:
    """Say why no device of a kind can be used; None if one can."""
    if name == "cuda":
        try:
            cupy = _import_cupy()
        except ModuleNotFoundError:
            return (
                "'cuda' needs CuPy: install minicnn[cuda12] or minicnn[cuda13], for the driver's "
                "version of CUDA; without a GPU, 'cuda:sim' runs the same kernels on the CPU"
            )
        except ImportError as error:
            return f"'cuda' needs CuPy, which cannot be imported: {error}"
        if not cupy.cuda.is_available():
            return (
                "'cuda' needs an NVIDIA GPU and its driver, and CuPy finds none; "
                "'cuda:sim' runs the same kernels on the CPU"
            )
    if name == "cuda:sim":
        simulator = _import_simulator()
        try:
            simulator.empty(1)  # builds its runtime, where that has not been done before
        except simulator.CompilerNotFoundError as error:
            return f"'cuda:sim' runs kernels on the CPU, but {error}"
    return None


def _import_cupy() -> Any:
    import cupy

    return cupy


def _import_simulator() -> Any:
    from minicnn import cudasim

    return cudasim


def set_num_threads(count: int) -> None:
    """Let kernels use `count` threads, at least 1 and at most as many as the machine has cores.

    $NUMBA_NUM_THREADS, read when the kernels load, is another limit. The count is that of the
    Python thread that sets it; each begins with the limit.

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
