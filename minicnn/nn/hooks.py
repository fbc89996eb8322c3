"""Backward hooks: identity operations that catch the gradients at a module's borders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from minicnn.autograd import Function
from minicnn.tensor import Tensor

if TYPE_CHECKING:
    from minicnn.nn.module import Module

Gradients = tuple["Tensor | None", ...]
ForwardPreHook = Callable[["Module", tuple[Any, ...]], Any]
ForwardHook = Callable[["Module", tuple[Any, ...], Any], Any]
FullBackwardHook = Callable[["Module", Gradients, Gradients], "Tensor | Gradients | None"]


class ModuleBorder(Function):
    """Identity on several tensors; backward calls `arrived(gradients)` and passes its result on."""

    mixes_devices = True

    def forward(self, *arrays: Any, arrived: Callable[[Gradients], Gradients]) -> Any:
        self._arrived = arrived
        return tuple(array.view() for array in arrays)

    def backward(self, *grad_outputs: Tensor | None) -> Gradients:
        return self._arrived(grad_outputs)


def watch_backward(
    module: Module,
    hooks: Sequence[FullBackwardHook],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Run `module.forward` so that backward calls `hooks` with the gradients of inputs and outputs.

    The hooks see the gradient that came through this module alone, even if an input is used
    elsewhere too. They run when the gradients of the inputs are there or, if no input requires one,
    with the gradients of the outputs.

    Raises:
        TypeError: when the output is neither a Tensor nor a tuple or list with Tensors.
    """
    wanted_inputs = [_tracked(x) for x in args]
    grad_output: Gradients = ()

    def outputs_arrived(gradients: Gradients) -> Gradients:
        nonlocal grad_output
        grad_output = _spread(wanted_outputs, gradients)
        if not any(wanted_inputs):
            _call(module, hooks, (None,) * len(args), grad_output)
        return gradients

    def inputs_arrived(gradients: Gradients) -> Gradients:
        grad_input = _call(module, hooks, _spread(wanted_inputs, gradients), grad_output)
        return tuple(g for g, wanted in zip(grad_input, wanted_inputs, strict=True) if wanted)

    output = module.forward(*_at_border(args, inputs_arrived), **kwargs)
    if not isinstance(output, (Tensor, tuple, list)):
        raise TypeError(
            f"{type(module).__name__}: a backward hook needs forward to return a Tensor or a tuple "
            f"of Tensors, got {type(output).__name__}"
        )
    outputs = (output,) if isinstance(output, Tensor) else tuple(output)
    wanted_outputs = [_tracked(x) for x in outputs]
    outputs = _at_border(outputs, outputs_arrived)
    return outputs[0] if isinstance(output, Tensor) else type(output)(outputs)


def _tracked(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _at_border(values: Sequence[Any], arrived: Callable[[Gradients], Gradients]) -> tuple[Any, ...]:
    """Pass the tensors that require gradients through a border; leave everything else as it is."""
    tracked = [x for x in values if _tracked(x)]
    if not tracked:
        return tuple(values)
    passed = ModuleBorder.apply(*tracked, arrived=arrived)
    for before, after in zip(tracked, passed, strict=True):
        # They share memory, so a change in place of one is a change of the other.
        after._version = before._version
    replacements = iter(passed)
    return tuple(next(replacements) if _tracked(x) else x for x in values)


def _spread(wanted: Sequence[bool], gradients: Gradients) -> Gradients:
    """Put the gradients in the places of the values they belong to, None everywhere else."""
    arrived = iter(gradients)
    return tuple(next(arrived) if there else None for there in wanted)


def _call(
    module: Module, hooks: Sequence[FullBackwardHook], grad_input: Gradients, grad_output: Gradients
) -> Gradients:
    """Run the hooks in order; each may replace the gradients of the inputs."""
    for hook in hooks:
        changed = hook(module, grad_input, grad_output)
        if changed is None:
            continue
        changed = (changed,) if isinstance(changed, Tensor) else tuple(changed)
        if len(changed) != len(grad_input):
            raise RuntimeError(
                f"{type(module).__name__}: a backward hook returned {len(changed)} gradients, "
                f"expected {len(grad_input)}, one for each input"
            )
        grad_input = changed
    return grad_input
