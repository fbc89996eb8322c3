"""Check derivatives against finite differences.

    s(x) = sum of u * fn(x)         u: a random upstream gradient; ones would hide errors in a sum
    numeric  ds/dv = sum of u * (fn(x + eps v) - fn(x - eps v)) / (2 eps)
    analytic ds/dv = sum of v * grad_x s

v runs over every single element of a small input and over random unit directions of a large one,
which check the whole gradient with a few evaluations (Maclaurin and others' autograd does the
same). The function runs where its inputs are; the check's own arithmetic is NumPy's, on the host.
Everything is float64: central differences with eps = 1e-5 are then good to about 1e-9, where
float32 never gets below 1e-4.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn.autograd import grad
from minicnn.backend import to_device, to_host
from minicnn.grad_mode import enable_grad, no_grad
from minicnn.tensor import Tensor, float64

SMALL = 256  # elements up to which each one is checked
DIRECTIONS = 16  # random directions for larger inputs


class GradcheckError(AssertionError):
    """Analytic and numeric gradients disagree, or a value is not finite."""


@dataclass(frozen=True)
class GradcheckReport:
    """The worst disagreement that was found.

    Attributes:
        error: |analytic - numeric| divided by the largest gradient of that input (at least 1e-3).
        place: the input and the index, or the number of the random direction.
        analytic, numeric: the two derivatives there.
        comparisons: how many derivatives were compared.
    """

    error: float
    place: str
    analytic: float
    numeric: float
    comparisons: int


def gradcheck(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-5,
    tolerance: float = 1e-6,
    seed: int = 0,
    device: str | None = None,
) -> GradcheckReport:
    """Compare the gradients of `fn` with finite differences.

    Args:
        fn: a function of the inputs that returns a Tensor or several; called many times.
        inputs: Tensors, and whatever else `fn` takes. Those that require a gradient must be
            float64, away from kinks by more than `eps`.
        eps: the step of the central difference.
        tolerance: the largest relative error (see `GradcheckReport.error`) that passes.
        seed: of the upstream gradient and the directions.
        device: where to move the Tensors among the inputs first; None leaves them.

    Returns:
        The worst disagreement, when it is within the tolerance.

    Raises:
        GradcheckError: naming the worst index and both numbers; also for NaN, infinity, or a
            function that gives different results for the same input.
        TypeError: when an input to be checked is not float64.
        ValueError: when no input requires a gradient.
    """
    arguments = _arguments(inputs, device)
    checked = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad]
    for i in checked:
        if arguments[i].dtype != float64:
            raise TypeError(
                f"inputs[{i}]: got a {arguments[i].dtype} tensor, expected float64: finite "
                "differences in float32 cannot tell a right gradient from a wrong one"
            )
    if not checked:
        raise ValueError("inputs: none requires a gradient, expected at least one that does")
    rng = np.random.default_rng(seed)
    outputs = _outputs(fn(*arguments))
    values = [to_host(y.data) for y in outputs]
    _finite("the output", *values)
    with no_grad():
        again = [to_host(y.data) for y in _outputs(fn(*arguments))]
    if any(not np.array_equal(y, z) for y, z in zip(values, again, strict=True)):
        raise GradcheckError("the function gives different results for the same input")
    upstream = [rng.uniform(0.5, 1.5, y.shape) * rng.choice([-1.0, 1.0], y.shape) for y in outputs]
    gradients = _gradients(outputs, [arguments[i] for i in checked], upstream)

    worst = GradcheckReport(-1.0, "", 0.0, 0.0, 0)
    comparisons = 0
    for i, gradient in zip(checked, gradients, strict=True):
        _finite(f"the gradient of input {i}", gradient)
        pairs = []
        for place, direction in _directions(i, arguments[i].shape, rng):
            analytic = float((gradient * direction).sum())
            numeric = _difference(fn, arguments, i, direction, upstream, eps)
            _finite(f"the numeric derivative at {place}", np.float64(numeric))
            pairs.append((place, analytic, numeric))
        scale = max(
            [1e-3, *(abs(numeric) for _, _, numeric in pairs), np.abs(gradient).max(initial=0)]
        )
        comparisons += len(pairs)
        for place, analytic, numeric in pairs:
            error = abs(analytic - numeric) / scale
            if error > worst.error:
                worst = GradcheckReport(error, place, analytic, numeric, 0)
    report = GradcheckReport(
        builtins.max(worst.error, 0.0), worst.place, worst.analytic, worst.numeric, comparisons
    )
    if not report.error <= tolerance:
        raise GradcheckError(
            f"{report.place}: analytic {report.analytic:.9g}, numeric {report.numeric:.9g}, "
            f"relative error {report.error:.2e} exceeds {tolerance:.0e}"
        )
    return report


def gradgradcheck(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-5,
    tolerance: float = 1e-6,
    seed: int = 0,
    device: str | None = None,
) -> GradcheckReport:
    """Compare the second derivatives of `fn` with finite differences of its first.

    The function that is checked maps the inputs and the upstream gradients to the inputs'
    gradients. Arguments, result and errors are those of `gradcheck`.
    """
    arguments = _arguments(inputs, device)
    checked = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad]
    with no_grad():
        outputs = _outputs(fn(*arguments))
    rng = np.random.default_rng([seed, 2])
    upstream = [_beside(y, rng.uniform(0.5, 1.5, y.shape), requires_grad=True) for y in outputs]

    def gradient_of_fn(*values: Any) -> list[Tensor]:
        arguments, upstream = values[: -len(outputs)], values[-len(outputs) :]
        # Inside gradcheck's no_grad the graph is still needed: the gradient is the function's
        # value.

        with enable_grad():
            leaves = [arguments[i] for i in checked]
            found = grad(
                _outputs(fn(*arguments)), leaves, upstream, create_graph=True, allow_unused=True
            )
        return [g for g in found if g is not None]

    return gradcheck(
        gradient_of_fn, [*arguments, *upstream], eps=eps, tolerance=tolerance, seed=seed
    )


def _arguments(inputs: Tensor | Sequence[Any], device: str | None) -> list[Any]:
    arguments = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if device is None:
        return arguments
    return [
        x.detach().to(device).requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x
        for x in arguments
    ]


def _beside(tensor: Tensor, values: Any, requires_grad: bool = False) -> Tensor:
    """Return a tensor of host values where `tensor` is."""
    return Tensor(to_device(np.asarray(values), tensor.device), requires_grad)


def _outputs(result: Any) -> list[Tensor]:
    results = list(result) if isinstance(result, (tuple, list)) else [result]
    return [y for y in results if isinstance(y, Tensor) and y.dtype.kind == "f"]


def _gradients(
    outputs: list[Tensor], inputs: list[Tensor], upstream: list[np.ndarray]
) -> list[np.ndarray]:
    pairs = zip(outputs, upstream, strict=True)
    with_graph = [(y, _beside(y, u)) for y, u in pairs if y.requires_grad]
    if not with_graph:
        return [np.zeros(x.shape) for x in inputs]
    found = grad([y for y, _ in with_graph], inputs, [u for _, u in with_graph], allow_unused=True)
    return [
        np.zeros(x.shape) if g is None else np.array(to_host(g.data))
        for x, g in zip(inputs, found, strict=True)
    ]


def _directions(i: int, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Yield (name, direction): unit vectors of a small input, random directions of a large one."""
    if np.prod(shape, dtype=int) <= SMALL:
        for index in np.ndindex(*shape):
            direction = np.zeros(shape)
            direction[index] = 1
            yield f"input {i} at index {index}", direction
        return
    for number in range(DIRECTIONS):
        direction = rng.standard_normal(shape)
        yield f"input {i} in random direction {number}", direction / np.linalg.norm(direction)


def _difference(
    fn: Callable[..., Any],
    arguments: list[Any],
    i: int,
    direction: np.ndarray,
    upstream: list[np.ndarray],
    eps: float,
) -> float:
    results = []
    with no_grad():
        for step in (eps, -eps):
            values = to_host(arguments[i].data) + step * direction
            moved = _beside(arguments[i], values, requires_grad=True)
            outputs = _outputs(fn(*arguments[:i], moved, *arguments[i + 1 :]))
            results.append([to_host(y.data) for y in outputs])
    return float(
        sum((u * (plus - minus)).sum() for u, plus, minus in zip(upstream, *results, strict=True))
        / (2 * eps)
    )


def _finite(what: str, *arrays: Any) -> None:
    for array in arrays:
        if not np.isfinite(array).all():
            index = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
            raise GradcheckError(f"{what} is {np.asarray(array)[index]} at index {index}")
