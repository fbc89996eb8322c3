"""Optimizer steps: one pass over a parameter, its gradient and its running averages, in place.

SGD, with g = gradient + weight_decay * parameter and v the velocity:

    v         <- momentum * v + (1 - dampening) * g          (v <- g in the first step)
    parameter <- parameter - lr * v                          (lr * (g + momentum * v) with nesterov)

Without momentum, parameter <- parameter - lr * g. The learning rate multiplies the velocity, as in
PyTorch; in Caffe's and the AlexNet paper's form it is inside, which differs once it changes.

Adam, with g as above; AdamW (`decoupled`) with g = gradient and weight decay beside the step:

    parameter  <- parameter * (1 - lr * weight_decay)        (decoupled only)
    exp_avg    <- exp_avg + (1 - beta1) * (g - exp_avg)
    exp_avg_sq <- beta2 * exp_avg_sq + (1 - beta2) * g^2
    parameter  <- parameter - lr / (1 - beta1^step) * exp_avg / denominator
                  denominator = sqrt(exp_avg_sq) / sqrt(1 - beta2^step) + eps,    step = 1, 2, ...

Arrays are read flat; one iteration updates element `i` of all of them. Scalars are formed in
float64 and cast once to the parameter's dtype, which the kernels compute in.

Bytes moved: SGD with momentum reads 3 arrays and writes 2, Adam reads 4 and writes 3; as array
expressions either would take several times as many passes. About 5 and 15 flops an element.

Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013,
section 2 (momentum, Nesterov); Kingma and Ba, "Adam: a method for stochastic optimization", 2015,
section 2, algorithm 1; Loshchilov and Hutter, "Decoupled weight decay regularization", 2019,
section 2, algorithm 2.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minicnn.kernels._dispatch import array_module, contiguous
from minicnn.kernels._jit import parallel_jit, prange
from minicnn.kernels._launch import launch

Array = NDArray


def sgd_step_reference(
    parameter: Array,
    gradient: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> tuple[Array, Array | None]:
    """Define the step by a plain loop, in float64; return the new parameter and velocity."""
    new_parameter = np.zeros(parameter.shape)
    new_velocity = None if velocity is None else np.zeros(parameter.shape)
    for i in np.ndindex(*parameter.shape):
        g = float(gradient[i]) + weight_decay * float(parameter[i])
        if velocity is not None and new_velocity is not None:
            v = g if first else momentum * float(velocity[i]) + (1 - dampening) * g
            new_velocity[i] = v
            g = g + momentum * v if nesterov else v
        new_parameter[i] = parameter[i] - lr * g
    return new_parameter, new_velocity


def adam_step_reference(
    parameter: Array,
    gradient: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> tuple[Array, Array, Array]:
    """Define the step by a plain loop, in float64; return the new parameter and averages."""
    new = np.zeros(parameter.shape), np.zeros(parameter.shape), np.zeros(parameter.shape)
    for i in np.ndindex(*parameter.shape):
        w, g = float(parameter[i]), float(gradient[i])
        if decoupled:
            w = w - lr * weight_decay * w
        else:
            g = g + weight_decay * w
        m = beta1 * float(exp_avg[i]) + (1 - beta1) * g
        v = beta2 * float(exp_avg_sq[i]) + (1 - beta2) * g * g
        m_hat = m / (1 - beta1**step)
        v_hat = v / (1 - beta2**step)
        new[0][i], new[1][i], new[2][i] = w - lr * m_hat / (math.sqrt(v_hat) + eps), m, v
    return new


def sgd_step(
    parameter: Array,
    gradient: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first: bool,
) -> None:
    """Update `parameter` and `velocity` in place.

    Without velocity there is no momentum. In the `first` step the velocity is only written.
    """
    xp = array_module("sgd_step", parameter)
    scalar = parameter.dtype.type
    flat_parameter = _flat(parameter)
    flat_velocity = flat_parameter[:0] if velocity is None else _flat(velocity)
    arguments = (
        _flat(gradient),
        scalar(lr),
        scalar(momentum),
        scalar(1 - dampening),
        scalar(weight_decay),
        nesterov,
        first,
    )
    arrays = flat_parameter, flat_velocity
    if xp is np:
        sgd_step_cpu(*arguments, *arrays)
    else:
        has_velocity = velocity is not None
        launch("optimizer", "sgd_step_cuda", parameter.size, *arguments, has_velocity, *arrays)
    _write_back(flat_parameter, parameter)
    if velocity is not None:
        _write_back(flat_velocity, velocity)


def adam_step(
    parameter: Array,
    gradient: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Update `parameter`, `exp_avg` and `exp_avg_sq` in place; `step` counts from 1."""
    xp = array_module("adam_step", parameter)
    scalar = parameter.dtype.type
    in_place = parameter, exp_avg, exp_avg_sq
    flat = [_flat(array) for array in in_place]
    arguments = (
        _flat(gradient),
        scalar(lr / (1 - beta1**step)),
        scalar(1 - beta1),
        scalar(beta2),
        scalar(1 - beta2),
        scalar(math.sqrt(1 - beta2**step)),
        scalar(eps),
        scalar(1 - lr * weight_decay if decoupled else 1),
        scalar(0 if decoupled else weight_decay),
        *flat,
    )
    if xp is np:
        adam_step_cpu(*arguments)
    else:
        launch("optimizer", "adam_step_cuda", parameter.size, *arguments)
    for values, array in zip(flat, in_place, strict=True):
        _write_back(values, array)


def _flat(array: Array) -> Array:
    """Return the elements in C order, without a copy where they lie so."""
    return contiguous(array).reshape(-1)


def _write_back(values: Array, array: Array) -> None:
    """Finish an update in place where `_flat` had to copy."""
    if not array.flags.c_contiguous:
        array[...] = values.reshape(array.shape)


@parallel_jit
def sgd_step_cpu(
    gradient, lr, momentum, undamped, weight_decay, nesterov, first, parameter, velocity
):
    for i in prange(parameter.size):
        g = gradient[i]
        if weight_decay != 0:
            g += weight_decay * parameter[i]
        if velocity.size > 0:
            v = g if first else momentum * velocity[i] + undamped * g
            velocity[i] = v
            g = g + momentum * v if nesterov else v
        parameter[i] -= lr * g


@parallel_jit
def adam_step_cpu(
    gradient, step_size, rate1, beta2, rate2, root_correction2, eps, shrink, weight_decay,
    parameter, exp_avg, exp_avg_sq,
):  # fmt: skip
    # np.divide, not /: Numba's operator tests the divisor for 0, and the loop would stay scalar.
    scale = np.divide(parameter.dtype.type(1), root_correction2)
    for i in prange(parameter.size):
        g = gradient[i]
        if weight_decay != 0:
            g += weight_decay * parameter[i]
        exp_avg[i] += rate1 * (g - exp_avg[i])
        exp_avg_sq[i] = beta2 * exp_avg_sq[i] + rate2 * g * g
        denominator = math.sqrt(exp_avg_sq[i]) * scale + eps
        parameter[i] = shrink * parameter[i] - np.divide(step_size * exp_avg[i], denominator)
