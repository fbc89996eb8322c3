"""What a host function says to an array that no kernel of its pair can read."""

from __future__ import annotations


def no_kernel(op: str, array: object) -> TypeError:
    """Return the error for `op` called on something that is not a NumPy array."""
    kind = f"{type(array).__module__}.{type(array).__qualname__}"
    return TypeError(f"{op}: expected a NumPy array, got {kind}")
