"""Adam, and AdamW with its decoupled weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray

from minicnn.backend import get_array_module
from minicnn.kernels.optimizer import adam_step
from minicnn.optim.optimizer import Optimizer, Parameters, check_at_least


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

        g = gradient + weight_decay * parameter
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        parameter -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: tensors, or dicts with options of their own.
        lr: the learning rate.
        betas: (beta1, beta2), each at least 0 and below 1.
        eps: keeps the division from zero.
        weight_decay: the factor of an L2 penalty.

    Raises:
        ValueError: for options out of range.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.
    """

    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def check_options(self, group: Mapping[str, Any]) -> None:
        name = type(self).__name__
        for option in ("lr", "eps", "weight_decay"):
            check_at_least(name, group, option)
        betas = group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"{name}: betas is {betas!r}, expected two numbers")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{name}: betas is {betas!r}, expected each at least 0 and below 1")

    def update(
        self, values: NDArray, gradient: NDArray, state: dict[str, Any], group: Mapping[str, Any]
    ) -> None:
        if not state:
            state["step"] = 0
            xp = get_array_module(values)
            state["exp_avg"] = xp.zeros_like(values)
            state["exp_avg_sq"] = xp.zeros_like(values)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        adam_step(
            values,
            gradient,
            state["exp_avg"],
            state["exp_avg_sq"],
            state["step"],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            decoupled=self.decoupled,
        )


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: parameter -= lr * weight_decay * parameter.

    Arguments as in `Adam`.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
    """

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)
