"""minicnn: a from-scratch convolutional deep-learning engine with hand-written kernels.

    import minicnn
    from minicnn import nn, optim
    import minicnn.functional as F

Tensors and autograd load at once and need NumPy alone; the packages that reach the compiled kernels
(`functional`, `nn`, `optim`, ...) load on first use, because Numba takes half a second to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from minicnn.autograd import Function, grad
from minicnn.backend import get_num_threads, set_num_threads
from minicnn.creation import (
    arange,
    empty,
    from_numpy,
    full,
    ones,
    ones_like,
    rand,
    randn,
    tensor,
    zeros,
    zeros_like,
)
from minicnn.grad_mode import (
    AnomalyError,
    detect_anomaly,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from minicnn.kernels._memory import empty_cache, max_memory_allocated, reset_peak_memory_stats
from minicnn.random import Generator, default_generator, manual_seed
from minicnn.tensor import Tensor, bool_, float32, float64, int32, int64, uint8

if TYPE_CHECKING:
    from minicnn import cuda, data, functional, models, nn, optim, training
    from minicnn.functional import cat, concatenate, stack, where

__version__ = "0.1.0"

_LAZY_PACKAGES = ("cuda", "data", "functional", "models", "nn", "optim", "training")
_LAZY_NAMES = {
    "cat": "functional",
    "concatenate": "functional",
    "stack": "functional",
    "where": "functional",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY_PACKAGES:
        return importlib.import_module(f"minicnn.{name}")
    if name in _LAZY_NAMES:
        value = getattr(importlib.import_module(f"minicnn.{_LAZY_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'minicnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY_PACKAGES, *_LAZY_NAMES})


__all__ = [
    "AnomalyError", "Function", "Generator", "Tensor", "arange", "bool_", "cat", "concatenate",
    "cuda", "data", "default_generator", "detect_anomaly", "empty", "empty_cache", "enable_grad",
    "float32", "float64", "from_numpy", "full", "functional", "get_num_threads", "grad", "int32",
    "int64", "is_grad_enabled", "manual_seed", "max_memory_allocated", "models", "nn", "no_grad",
    "ones", "ones_like", "optim", "rand", "randn", "reset_peak_memory_stats", "set_grad_enabled",
    "set_num_threads", "stack", "tensor", "training", "uint8", "where", "zeros", "zeros_like",
]  # fmt: skip
