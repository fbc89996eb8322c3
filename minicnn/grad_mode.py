"""Switches of the engine, each for one thread: whether to record, whether to look for anomalies."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from typing import Any


class AnomalyError(RuntimeError):
    """A NaN or an infinity appeared while `detect_anomaly` was on."""


class _Mode(threading.local):
    recording = True
    anomaly = False

    def __init__(self):
        self.modules: list[Any] = []  # whose forward is running, outermost first
        self.visiting: Any = None  # the Function whose backward is running, in anomaly mode


mode = _Mode()


class _Switch(ContextDecorator):
    """Set one field of the mode for the length of a `with` block or of a decorated function."""

    def __init__(self, field: str, value: bool):
        self._field = field
        self._value = value
        self._previous: list[bool] = []

    def __enter__(self):
        self._previous.append(getattr(mode, self._field))
        setattr(mode, self._field, self._value)
        return self

    def __exit__(self, *exception):
        setattr(mode, self._field, self._previous.pop())


class no_grad(_Switch):
    """Record nothing: `with no_grad(): ...` or as a decorator."""

    def __init__(self):
        super().__init__("recording", False)


class enable_grad(_Switch):
    """Record again inside a `no_grad` block."""

    def __init__(self):
        super().__init__("recording", True)


class set_grad_enabled(_Switch):
    """Record or not, as `enabled` says, for the length of a `with` block."""

    def __init__(self, enabled: bool):
        super().__init__("recording", bool(enabled))


class detect_anomaly(_Switch):
    """Check every result, forward and backward, and raise at the first NaN or infinity.

    The `AnomalyError` names the operation and the module it ran in. Checking reads every result
    once more: use it to find a fault, not to train.
    """

    def __init__(self):
        super().__init__("anomaly", True)


def is_grad_enabled() -> bool:
    """Return whether operations are being recorded."""
    return mode.recording


def module_path() -> str:
    """Return the innermost running module's dotted name and class, e.g. `features.0 (Conv2d)`."""
    if not mode.modules:
        return ""
    names = []
    for parent, child in zip(mode.modules, mode.modules[1:], strict=False):
        for name, module in parent.named_modules():
            if module is child:
                names.append(name)
                break
    path = ".".join(name for name in names if name)
    return f"{path} ({type(mode.modules[-1]).__name__})".strip()
