"""The GPU, real or simulated, as a whole."""

from __future__ import annotations

from minicnn import backend


def is_available() -> bool:
    """Return whether tensors can live on "cuda"."""
    return backend.is_available("cuda")


def synchronize() -> None:
    """Wait until the GPU has done all that it was given: calls return before it has.

    Raises:
        ValueError: when "cuda" cannot be used; it says what is missing.
    """
    backend.array_module("cuda").cuda.Device().synchronize()
