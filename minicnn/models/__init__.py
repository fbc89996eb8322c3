"""The networks, one paper a file, and the names by which programs find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicnn.models.lenet import LeNet, LeNet5
from minicnn.nn import Module

MODELS: dict[str, Callable[..., Module]] = {
    "lenet": LeNet,
    "lenet5": LeNet5,
}


def create_model(name: str, **options: Any) -> Module:
    """Build a network by name.

    Args:
        name: a key of `MODELS`.
        options: arguments of its builder.

    Returns:
        The network; `.input_shape` is the (C, H, W) it takes, `.num_classes` how many scores it
        gives.

    Raises:
        ValueError: when there is no network of that name, or for options out of range.
        TypeError: for an option that the network does not have.
    """
    if name not in MODELS:
        raise ValueError(f"model: got {name!r}, expected one of {', '.join(sorted(MODELS))}")
    return MODELS[name](**options)


__all__ = ["MODELS", "LeNet", "LeNet5", "create_model"]
