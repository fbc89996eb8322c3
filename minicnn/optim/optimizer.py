"""What all optimisers share: parameter groups with options of their own, state, and saving both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.backend import device_of, is_array, on_device_of, to_device, to_host
from minicnn.creation import zeros_like
from minicnn.grad_mode import enable_grad, no_grad
from minicnn.tensor import Tensor

Parameters = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Base class: a subclass checks a group's options and updates one parameter at a time.

    Args:
        params: tensors, or dicts {"params": tensors, option: value, ...} for groups of their own.
        defaults: the options of groups that do not give them.

    Attributes:
        param_groups: dicts of "params" (a list of tensors) and every option; change `group["lr"]`
            and the like at any time.
        state: what has been gathered for each parameter (a dict), from its first step on.

    Raises:
        TypeError: when `params` is a single tensor, a set (which has no order), or holds other
            things.
        ValueError: for no parameters, one given twice, one that is not a leaf, or an option out of
            range.
    """

    def __init__(self, params: Parameters, defaults: Mapping[str, Any]):
        if isinstance(params, (Tensor, Mapping, set, frozenset)):
            raise TypeError(
                f"params: got a {type(params).__name__}, expected a sequence of tensors or of dicts"
            )
        self.defaults = dict(defaults)
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        given: list[Any] = list(params)
        if not given:
            raise ValueError("params: got no parameters")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    def check_options(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError if an option of the group is out of range."""

    def update(
        self, values: NDArray, gradient: NDArray, state: dict[str, Any], group: Mapping[str, Any]
    ) -> None:
        """Change one parameter's values in place; `state` is its own dict, empty at first."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own, for example a layer that is thawed later.

        Args:
            group: "params" (a tensor or a sequence of them) and any options that differ from the
                defaults.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError("params: expected each group to be a dict with the key 'params'")
        unknown = [key for key in group if key not in self.defaults and key != "params"]
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: got unknown options {', '.join(map(repr, unknown))}, "
                f"expected some of {', '.join(map(repr, self.defaults))}"
            )
        params = group["params"]
        if isinstance(params, (set, frozenset)):
            raise TypeError("params: got a set, which has no order; expected a list")
        tensors = [params] if isinstance(params, Tensor) else list(params)
        known = {parameter for other in self.param_groups for parameter in other["params"]}
        for i, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"params[{i}]: got {type(tensor).__name__}, expected a Tensor")
            if not tensor.is_leaf:
                raise ValueError(f"params[{i}]: got a computed tensor, expected a leaf")
            if tensor in known:
                raise ValueError(f"params[{i}]: this parameter was given before")
            known.add(tensor)
        complete = {"params": tensors, **self.defaults}
        complete.update((key, value) for key, value in group.items() if key != "params")
        self.check_options(complete)
        self.param_groups.append(complete)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad = zeros_like(parameter.grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes the loss anew and calls backward; run first, if given.

        Returns:
            What the closure returned, else None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._step_one(parameter, parameter.grad, group)
        return loss

    def _step_one(self, parameter: Tensor, grad: Tensor, group: Mapping[str, Any]) -> None:
        # The kernels read memory from end to end, so values in another order go through a copy.
        values = parameter.detach().contiguous()
        state = self.state.setdefault(parameter, {})
        for key, value in state.items():
            if is_array(value) and device_of(value) != values.device:
                state[key] = to_device(value, values.device)  # the parameter has moved since
        with on_device_of(values.data):
            self.update(values.data, grad.contiguous().data, state, group)
        if parameter.data.flags.c_contiguous:
            parameter.bump_version()
        else:
            parameter.copy_(values)

    def state_dict(self) -> dict[str, Any]:
        """Return state and options as plain values; parameters are numbered in the order of groups.

        Returns:
            {"state": {number: {name: NumPy array or number}},
            "param_groups": [{"params": numbers, option: value, ...}]}
        """
        numbers: dict[Tensor, int] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                numbers[parameter] = len(numbers)
        return {
            "state": {
                numbers[parameter]: {key: _copy(value) for key, value in state.items()}
                for parameter, state in self.state.items()
            },
            "param_groups": [
                {**group, "params": [numbers[parameter] for parameter in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called; on any error nothing has changed.

        Args:
            state_dict: as `state_dict` returns it; the groups must have as many parameters as here.

        Raises:
            ValueError: when groups, parameters, options or the shapes of the state do not fit.
        """
        try:
            saved_groups, saved_state = state_dict["param_groups"], state_dict["state"]
            saved_sizes = [len(group["params"]) for group in saved_groups]
            numbers = [number for group in saved_groups for number in group["params"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"state_dict: not the state of an optimiser ({error!r})") from error
        sizes = [len(group["params"]) for group in self.param_groups]
        if saved_sizes != sizes:
            raise ValueError(
                f"state_dict: got groups of {saved_sizes} parameters, expected groups of {sizes}"
            )
        groups = [
            {**saved, "params": group["params"]}
            for saved, group in zip(saved_groups, self.param_groups, strict=True)
        ]
        for group in groups:
            missing = [key for key in self.defaults if key not in group]
            if missing:
                raise ValueError(
                    f"state_dict: the options {', '.join(map(repr, missing))} of "
                    f"{type(self).__name__} are missing"
                )
            self.check_options(group)
        parameters = [parameter for group in groups for parameter in group["params"]]
        of_number = dict(zip(numbers, parameters, strict=True))
        state = {}
        for number, values in saved_state.items():
            if number not in of_number:
                raise ValueError(
                    f"state_dict: has a state for parameter {number}, which is in no group"
                )
            parameter = of_number[number]
            state[parameter] = {
                key: _fitted(f"state_dict: {key} of parameter {number}", value, parameter)
                for key, value in values.items()
            }
        self.param_groups[:] = groups
        self.state = state

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            options = ", ".join(f"{key}={group[key]}" for key in sorted(group) if key != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters, {options}\n")
        return f"{type(self).__name__}(\n{''.join(lines)})"


def check_at_least(name: str, group: Mapping[str, Any], option: str, minimum: float = 0.0) -> None:
    """Raise ValueError unless `group[option]` is a number of at least `minimum`."""
    value = group[option]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= minimum:
        raise ValueError(
            f"{name}: {option} is {value!r}, expected a number of at least {minimum:g}"
        )


def _copy(value: Any) -> Any:
    return np.array(to_host(value)) if is_array(value) else value


def _fitted(name: str, value: Any, parameter: Tensor) -> Any:
    """Copy a state array to the parameter's dtype and device; numbers pass as they are."""
    if not is_array(value):
        return value
    if value.shape != parameter.shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {parameter.shape}")
    return to_device(to_host(value).astype(parameter.dtype), parameter.device)
