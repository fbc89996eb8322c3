"""The GPUs, real or simulated, as a whole."""

from __future__ import annotations

from minicnn import backend


def is_available() -> bool:
    """Return whether tensors can live on "cuda"."""
    return backend.is_available("cuda")


def device_count() -> int:
    """Return how many GPUs there are, and so which of "cuda:0", "cuda:1", ... can be used."""
    return backend.count_devices("cuda")


def synchronize(device: str = "cuda") -> None:
    """Wait until a GPU has done all that it was given: calls return before it has.

    Raises:
        ValueError: when the device cannot be used; it says what is missing.
    """
    if backend.check_device(device) != "cpu":
        with backend.on_device(device):
            backend.array_module(device).cuda.Device().synchronize()
