"""Losses as modules; each forward is one call of `minicnn.functional`."""

from __future__ import annotations

from minicnn import functional as F
from minicnn.functional._check import nonnegative, probability
from minicnn.nn.module import Module
from minicnn.tensor import Tensor

REDUCTIONS = ("mean", "sum", "none")


class _Loss(Module):
    def __init__(self, reduction: str):
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{type(self).__name__}: reduction is {reduction!r}, expected one of "
                f"{', '.join(map(repr, REDUCTIONS))}"
            )
        self.reduction = reduction


class MSELoss(_Loss):
    """Square of the difference between input and target; see `functional.mse_loss`.

    Args:
        reduction: "mean", "sum" or "none".
    """

    def __init__(self, *, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """Squares of small differences, absolute values of large ones; see `functional.smooth_l1_loss`.

    Args:
        reduction: "mean", "sum" or "none".
        beta: where squares end; 0 gives the absolute value throughout.
    """

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = nonnegative("SmoothL1Loss", beta, "beta")

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class NLLLoss(_Loss):
    """Negative log-likelihood of class indices under log-probabilities; see `functional.nll_loss`.

    Args:
        weight: (C,) a factor for each class, or None.
        ignore_index: targets of this value count for nothing.
        reduction: "mean" (weighted), "sum" or "none".
    """

    weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"
    ):
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class CrossEntropyLoss(_Loss):
    """Cross-entropy of class indices under softmax of scores; see `functional.cross_entropy`.

    Args:
        weight: (C,) a factor for each class, or None.
        ignore_index: targets of this value count for nothing.
        reduction: "mean" (weighted), "sum" or "none".
        label_smoothing: the share of each target that is spread evenly over all classes.
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = probability("CrossEntropyLoss", label_smoothing, "label_smoothing")

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
