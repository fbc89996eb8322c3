"""Normalisation layers: batch norm and local response norm."""

from __future__ import annotations

from numpy.typing import DTypeLike

from minicnn import creation
from minicnn import functional as F
from minicnn.functional._check import dimensions, integer, nonnegative
from minicnn.nn import init
from minicnn.nn.module import Module, Parameter
from minicnn.tensor import Tensor, float32, int64


class _BatchNorm(Module):
    """What batch norm of every number of dimensions shares: state, modes, the running record."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _may_be_missing = ("num_batches_tracked",)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ):
        super().__init__()
        name = type(self).__name__
        self.num_features = integer(name, num_features, "num_features", 1)
        self.eps = nonnegative(name, eps, "eps")
        self.momentum = None if momentum is None else nonnegative(name, momentum, "momentum")
        self.affine = affine
        self.track_running_stats = track_running_stats
        dtype = float32 if dtype is None else dtype
        for key, there in (("weight", affine), ("bias", affine and bias)):
            values = Parameter(creation.empty(num_features, dtype=dtype)) if there else None
            self.register_parameter(key, values)
        for key in ("running_mean", "running_var"):
            there = track_running_stats
            self.register_buffer(key, creation.empty(num_features, dtype=dtype) if there else None)
        counter = creation.zeros((), dtype=int64) if track_running_stats else None
        self.register_buffer("num_batches_tracked", counter)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget what was tracked: mean 0, variance 1, no batch."""
        if self.running_mean is not None:
            self.running_mean.zero_()
        if self.running_var is not None:
            self.running_var.fill_(1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Set weight to 1, bias to 0, and forget what was tracked."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input(input)
        record = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if record else None,
            self.running_var if record else None,
            self.weight,
            self.bias,
            # Without a record the batch speaks for itself in both modes.
            self.training or (self.running_mean is None and self.running_var is None),
            self._share(),
            self.eps,
        )

    def _share(self) -> float:
        """Count a training batch; return its share in the running record."""
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1 / self.num_batches_tracked.item()
        return 0.0 if self.momentum is None else self.momentum

    def _check_input(self, input: Tensor) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not say what inputs it takes")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalise the channels of (N, C) or (N, C, L); see `functional.batch_norm`.

    Args:
        num_features: C.
        eps: keeps the root of the variance away from 0.
        momentum: the share of each training batch in the running mean and variance; None gives
            all batches the same share.
        affine: whether to learn weight and bias.
        track_running_stats: whether to keep the running record that evaluation uses; without it
            every batch is normalised by itself, in evaluation too.
        bias: False leaves the bias out.
        dtype: of parameters and buffers, float32 if None.

    Attributes:
        weight, bias: (C,), 1 and 0 at first, or None.
        running_mean, running_var: (C,), 0 and 1 at first, or None.
        num_batches_tracked: how many training batches there were, or None.
    """

    def _check_input(self, input: Tensor) -> None:
        if input.ndim not in (2, 3):
            raise ValueError(
                f"BatchNorm1d: input has shape {input.shape}, expected (N, C) or (N, C, L)"
            )


class BatchNorm2d(_BatchNorm):
    """Normalise the channels of images (N, C, H, W); arguments and attributes as BatchNorm1d."""

    def _check_input(self, input: Tensor) -> None:
        dimensions("BatchNorm2d", input, 4, "(N, C, height, width)")


class LocalResponseNorm(Module):
    """Divide by the energy of neighbouring channels; see `functional.local_response_norm`.

    Args:
        size: how many channels.
        alpha, beta, k: of the formula.
        divide_alpha: whether alpha is divided by size, as in PyTorch and Caffe; False is the form
            of the AlexNet paper.
    """

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        divide_alpha: bool = True,
    ):
        super().__init__()
        self.size = integer("LocalResponseNorm", size, "size", 1)
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.divide_alpha = divide_alpha

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(
            input, self.size, self.alpha, self.beta, self.k, divide_alpha=self.divide_alpha
        )

    def extra_repr(self) -> str:
        text = f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
        return text if self.divide_alpha else f"{text}, divide_alpha=False"
