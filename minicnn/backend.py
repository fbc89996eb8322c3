"""Where tensors live: the devices, the array module behind each, and the way between them.

    "cpu"       NumPy, with kernels compiled by Numba
    "cuda"      CuPy, with the `.cu` kernels on an NVIDIA GPU
    "cuda:sim"  minicnn.cudasim, a look-alike of CuPy: the same `.cu` kernels simulated on the CPU

With MINICNN_CUDASIM=1 in the environment "cuda" means the simulator. Its tensors say "cuda:sim"
all the same, so that nothing simulated passes for a GPU. The three modules have one interface, and
an array knows its own: code that holds one works through `get_array_module(array)`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

DEVICES = ("cpu", "cuda", "cuda:sim")
SIMULATE = "MINICNN_CUDASIM"

_modules: dict[str, Any] = {"cpu": np}
_device_of_type: dict[type, str | None] = {np.ndarray: "cpu"}


def check_device(device: str) -> str:
    """Return the device's own name ("cuda:sim" for "cuda" where that is simulated), if usable.

    Raises:
        ValueError: for a device that is unknown or that this installation cannot use; it says what
            is missing.
    """
    if device == "cpu":
        return device
    name = _own_name(device)
    problem = _problem(name)
    if problem is not None:
        raise ValueError(f"device: {problem}")
    return name


def is_available(device: str) -> bool:
    """Return whether tensors can live on `device`.

    Raises:
        ValueError: for a device that is unknown.
    """
    return _problem(_own_name(device)) is None


def array_module(device: str) -> Any:
    """Return the module that makes arrays on `device`: NumPy, CuPy or the simulator.

    Raises:
        ValueError: see `check_device`.
    """
    name = check_device(device)
    if name not in _modules:
        _modules[name] = _import_cupy() if name == "cuda" else _import_simulator()
    return _modules[name]


def get_array_module(*values: Any) -> Any:
    """Return the module that made the first array among `values`; NumPy where there is none."""
    for value in values:
        device = _device_or_none(type(value))
        if device is not None:
            return _modules.get(device) or array_module(device)
    return np


def is_array(value: Any) -> bool:
    """Return whether `value` is an array of one of the devices."""
    return _device_or_none(type(value)) is not None


def device_of(array: Any) -> str:
    """Return where an array's memory is.

    Raises:
        TypeError: when it is no array.
    """
    device = _device_or_none(type(array))
    if device is None:
        raise TypeError(f"array: got {type(array).__name__}, expected an array of some device")
    return device


def to_device(array: Any, device: str) -> Any:
    """Return an array with these values on `device`; itself if it is there already.

    Raises:
        ValueError: see `check_device`.
        TypeError: see `device_of`.
    """
    target, source = check_device(device), device_of(array)
    if target == source:
        return array
    host = array if source == "cpu" else array_module(source).asnumpy(array)
    return host if target == "cpu" else array_module(target).asarray(host)


def to_host(array: Any) -> np.ndarray:
    """Return an array with these values in NumPy's hands; itself if it is there already."""
    return to_device(array, "cpu")


def mixed_devices(op: str, argument: str, device: str, other: str, expected: str) -> RuntimeError:
    """Return the error for an operation on two devices: `argument` is not where `other` is."""
    return RuntimeError(
        f"{op}: {argument} is on {device!r}, expected {expected!r} like {other}; "
        "move one of them with .to(device)"
    )


def check_one_device(op: str, values: Sequence[Any]) -> None:
    """Raise the error of `mixed_devices` unless all arrays among `values` are on one device."""
    if len({type(value) for value in values}) == 1:  # nearly always, and every call passes here
        return
    found, first = None, 0
    for i, value in enumerate(values):
        device = _device_or_none(type(value))
        if device is not None and device != found:
            if found is not None:
                raise mixed_devices(op, f"input {i}", device, f"input {first}", found)
            found, first = device, i


def _own_name(device: Any) -> str:
    if not isinstance(device, str) or device not in DEVICES:
        raise ValueError(f"device: got {device!r}, expected one of {', '.join(map(repr, DEVICES))}")
    simulated = device == "cuda" and os.environ.get(SIMULATE, "") not in ("", "0")
    return "cuda:sim" if simulated else device


def _device_or_none(kind: type) -> str | None:
    try:
        return _device_of_type[kind]
    except KeyError:
        package = kind.__module__
        device = None
        if issubclass(kind, np.ndarray):
            device = "cpu"
        elif kind.__name__ == "ndarray" and package.split(".")[0] == "cupy":
            device = "cuda"
        elif kind.__name__ == "ndarray" and package.startswith("minicnn.cudasim"):
            device = "cuda:sim"
        return _device_of_type.setdefault(kind, device)


@cache
def _problem(name: str) -> str | None:
    """Say why a device cannot be used; None if it can."""
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
