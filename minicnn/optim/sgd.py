"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from minicnn.backend import get_array_module
from minicnn.kernels.optimizer import sgd_step
from minicnn.optim.optimizer import Optimizer, Parameters, check_at_least


class SGD(Optimizer):
    """Stochastic gradient descent, in PyTorch's dialect.

        g = gradient + weight_decay * parameter
        v = momentum * v + (1 - dampening) * g        (the first step: v = g)
        parameter -= lr * v                           (Nesterov: lr * (g + momentum * v))

    Caffe's and the AlexNet paper's velocity carries the rate (v = momentum * v + lr * g): equal
    while the rate is constant, different for some steps after it has changed.

    Args:
        params: tensors, or dicts with options of their own.
        lr: the learning rate.
        momentum: share of the velocity that is kept.
        dampening: share of the gradient that is kept from the velocity.
        weight_decay: the factor of an L2 penalty.
        nesterov: look ahead along the velocity; needs momentum and no dampening.

    Raises:
        ValueError: for options out of range.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
    2013.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        for option in ("lr", "momentum", "weight_decay"):
            check_at_least("SGD", group, option)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError("SGD: nesterov needs a momentum above 0 and a dampening of 0")

    def update(
        self, values: NDArray, gradient: NDArray, state: dict[str, Any], group: Mapping[str, Any]
    ) -> None:
        first = bool(group["momentum"]) and "momentum_buffer" not in state
        if first:
            state["momentum_buffer"] = get_array_module(values).zeros_like(values)
        sgd_step(
            values,
            gradient,
            state["momentum_buffer"] if group["momentum"] else None,
            lr=group["lr"],
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            first=first,
        )
