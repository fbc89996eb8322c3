"""Module: a computation with parameters, buffers and sub-modules, found by attribute assignment.

A Module holds state and structure; every computation is a call of `minicnn.functional`. What is
assigned as an attribute is registered in the order of assignment, and that order is the order of
`parameters()`, of `state_dict()` and of the printed tree. Names and behaviour are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from minicnn.backend import is_array
from minicnn.creation import zeros_like
from minicnn.grad_mode import mode, no_grad
from minicnn.nn.hooks import ForwardHook, ForwardPreHook, FullBackwardHook, watch_backward
from minicnn.tensor import Handle, Tensor, read_targets

Self = TypeVar("Self", bound="Module")
MOST_KEYS_LISTED = 10


class Parameter(Tensor):
    """A tensor that a Module registers as trainable when it is assigned as an attribute.

    Args:
        data: the initial values, shared, not copied: an array, a Tensor, or numbers.
        requires_grad: False freezes it.
    """

    def __init__(self, data: Any, requires_grad: bool = True):
        super().__init__(data, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of every layer and network: assign state in `__init__`, write `forward`.

        class Classifier(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(784, 10)

            def forward(self, images):
                return self.linear(F.relu(images.flatten(1)))

    Attributes:
        training: True in training mode; layers such as Dropout look at it.
    """

    training: bool
    # Names of state that `load_state_dict` leaves as it is if the file is too old to have it.
    _may_be_missing: tuple[str, ...] = ()
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]

    def __init__(self) -> None:
        # Past __setattr__, which needs these dicts to work.
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _transient_buffers=set(),
            _forward_pre_hooks=[],
            _forward_hooks=[],
            _backward_hooks=[],
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass writes its own."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward` and the hooks around it."""
        if "_modules" not in self.__dict__:
            raise AttributeError(_not_initialised(self, "call the module"))
        mode.modules.append(self)
        try:
            for pre_hook in tuple(self._forward_pre_hooks):
                changed = pre_hook(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
            if self._backward_hooks:
                output = watch_backward(self, tuple(self._backward_hooks), args, kwargs)
            else:
                output = self.forward(*args, **kwargs)
            for hook in tuple(self._forward_hooks):
                changed = hook(self, args, output)
                if changed is not None:
                    output = changed
            return output
        finally:
            mode.modules.pop()

    # Registration ------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if "_modules" not in self.__dict__:
            if isinstance(value, (Parameter, Module)):
                raise AttributeError(_not_initialised(self, f"assign {name}"))
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._register(self._parameters, name, value)
        elif isinstance(value, Module):
            self._register(self._modules, name, value)
        elif name in self._parameters:
            self._replace(self._parameters, name, value, "a Parameter")
        elif name in self._modules:
            self._replace(self._modules, name, value, "a Module")
        elif name in self._buffers:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(_wrong_kind(self, name, value, "a Tensor"))
            self._buffers[name] = value
        else:
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # Only called when ordinary lookup has failed; __dict__ may still be empty while unpickling.
        for registry in ("_parameters", "_buffers", "_modules"):
            members = self.__dict__.get(registry)
            if members is not None and name in members:
                return members[name]
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
        )

    def __delattr__(self, name: str) -> None:
        for members in (self._parameters, self._buffers, self._modules):
            if members.pop(name, self) is not self:
                self._transient_buffers.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._parameters, *self._buffers, *self._modules})

    def _register(self, members: dict[str, Any], name: str, value: Any) -> None:
        """Put `value` under `name` and nowhere else."""
        if not isinstance(name, str):
            raise TypeError(f"name: got {name!r}, expected a string")
        if not name or "." in name:
            raise ValueError(f"name: got {name!r}, expected one without dots that is not empty")
        if hasattr(type(self), name):
            raise ValueError(
                f"name: {name!r} is taken by an attribute of class {type(self).__name__}"
            )
        self.__dict__.pop(name, None)
        self._transient_buffers.discard(name)
        for other in (self._parameters, self._buffers, self._modules):
            if other is not members:
                other.pop(name, None)
        members[name] = value

    def _replace(self, members: dict[str, Any], name: str, value: Any, expected: str) -> None:
        if value is not None:
            raise TypeError(_wrong_kind(self, name, value, expected))
        members[name] = None

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """Register a parameter, or None to say that this module has none of that name."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise TypeError(_wrong_kind(self, name, parameter, "a Parameter"))
        self._register(self._parameters, name, parameter)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a tensor that belongs to the module's state but is not trained.

        Args:
            name: the attribute and key it gets.
            tensor: the values, or None.
            persistent: whether it appears in `state_dict()`.
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(_wrong_kind(self, name, tensor, "a Tensor"))
        self._register(self._buffers, name, tensor)
        if not persistent:
            self._transient_buffers.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Register a sub-module under a name that need not be a Python identifier."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(_wrong_kind(self, name, module, "a Module"))
        self._register(self._modules, name, module)

    # Walks -------------------------------------------------------------------------------------

    def named_modules(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield (path, module) for this module and all below, depth first; shared ones once."""
        seen: set[Module] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if remove_duplicate and module in seen:
                continue
            seen.add(module)
            yield path, module
            children = [
                (name, child) for name, child in module._modules.items() if child is not None
            ]
            stack += [(_join(path, name), child) for name, child in reversed(children)]

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield (name, module) for the direct sub-modules; shared ones once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """Yield the direct sub-modules."""
        return (module for _, module in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield (path, parameter) in order of registration; shared ones once."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters, which is what an optimiser takes."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (path, buffer) in order of registration; shared ones once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield the buffers."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named_members(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[Tensor] = set()
        owners = self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in owners:
            for name, tensor in getattr(module, registry).items():
                if tensor is None or (remove_duplicate and tensor in seen):
                    continue
                seen.add(tensor)
                yield _join(path, name), tensor

    def get_submodule(self, target: str) -> Module:
        """Return the module at a path such as `features.0`; the empty path is the module itself.

        Raises:
            AttributeError: when there is none.
        """
        module: Module = self
        for name in target.split(".") if target else []:
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(
                    f"target: {type(self).__name__} has no module {target!r} "
                    f"({type(module).__name__} has no {name!r})"
                )
            module = child
        return module

    # State -------------------------------------------------------------------------------------

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Return parameters and persistent buffers by path, detached but sharing memory.

        A parameter that is registered twice appears under both paths.
        """
        return {name: tensor.detach() for name, tensor in self._named_state(prefix)}

    def _named_state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules(prefix.removesuffix("."), remove_duplicate=False):
            members = {**module._parameters, **module._buffers}
            for name, tensor in members.items():
                if tensor is not None and name not in module._transient_buffers:
                    yield _join(path, name), tensor

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor | NDArray], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy values into parameters and buffers; either all of them or, on any error, none.

        Args:
            state_dict: Tensors or arrays by path; cast to the dtype of what they fill.
                Batch norm's `num_batches_tracked`, which PyTorch had not before 0.4.1, may lack.
            strict: False passes over missing and unexpected keys; shapes must agree all the same.

        Returns:
            The keys that were missing and those that were unexpected.

        Raises:
            TypeError: when `state_dict` is not a mapping.
            ValueError: naming all missing keys, unexpected keys, wrong shapes and non-numbers.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict: got {type(state_dict).__name__}, expected a mapping")
        own = dict(self._named_state())
        excused = {
            _join(path, name)
            for path, module in self.named_modules(remove_duplicate=False)
            for name in module._may_be_missing
        }
        missing = [key for key in own if key not in state_dict and key not in excused]
        unexpected = [key for key in state_dict if key not in own]
        values = {key: _values(state_dict[key]) for key in own if key in state_dict}
        problems = []
        if strict:
            problems += _listed("missing keys", missing) + _listed("unexpected keys", unexpected)
        problems += _listed(
            "not numbers", [key for key, value in values.items() if value.dtype.kind not in "biuf"]
        )
        problems += _listed(
            "wrong shapes",
            [
                f"{key} is {own[key].shape}, got {value.shape}"
                for key, value in values.items()
                if value.shape != own[key].shape
            ],
        )
        if problems:
            raise ValueError(
                f"state_dict does not fit this {type(self).__name__}: {'; '.join(problems)}"
            )
        with no_grad():
            for key, value in values.items():
                own[key].copy_(value)
        return IncompatibleKeys(missing, unexpected)

    # Modes and conversion ----------------------------------------------------------------------

    def train(self: Self, mode: bool = True) -> Self:
        """Put this module and all below it into training mode, or evaluation mode if False."""
        if not isinstance(mode, bool):
            raise TypeError(f"mode: got {mode!r}, expected True or False")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Put this module and all below it into evaluation mode."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Freeze all parameters (False) or thaw them (True)."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = zeros_like(parameter.grad)

    def apply(self: Self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module below this one, then on this one."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    def to(
        self: Self, *targets: Any, device: str | None = None, dtype: DTypeLike | None = None
    ) -> Self:
        """Move all parameters and buffers in place, and convert those of floating point.

        They stay the objects they are, so an optimizer that holds them goes on with them.

        Args:
            targets: a device ("cpu", "cuda", "cuda:sim:1" and the like), a dtype (float32 or
                float64), both, or a tensor whose device and dtype are meant.
        """
        device, dtype = read_targets(targets, device, dtype)
        if dtype is not None and np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype: got {np.dtype(dtype)}, expected float32 or float64")
        for tensor in (*self.parameters(), *self.buffers()):
            _convert(tensor, device, dtype)
        return self

    def cpu(self: Self) -> Self:
        """Move all parameters and buffers to the host's memory."""
        return self.to("cpu")

    def cuda(self: Self) -> Self:
        """Move all parameters and buffers to the GPU."""
        return self.to("cuda")

    def float(self: Self) -> Self:
        """Convert all floating-point parameters and buffers to float32."""
        return self.to(np.float32)

    def double(self: Self) -> Self:
        """Convert all floating-point parameters and buffers to float64."""
        return self.to(np.float64)

    # Hooks -------------------------------------------------------------------------------------

    def register_forward_pre_hook(self, hook: ForwardPreHook) -> Handle:
        """Call `hook(module, args)` before each forward; its result, unless None, replaces args."""
        self._forward_pre_hooks.append(hook)
        return Handle(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: ForwardHook) -> Handle:
        """Call `hook(module, args, output)` after each forward; its result may replace output."""
        self._forward_hooks.append(hook)
        return Handle(self._forward_hooks, hook)

    def register_full_backward_hook(self, hook: FullBackwardHook) -> Handle:
        """Call `hook(module, grad_input, grad_output)` once the gradients of the inputs are known.

        Both are tuples, with None where there is no gradient. What the hook returns, unless None,
        replaces `grad_input`.
        """
        self._backward_hooks.append(hook)
        return Handle(self._backward_hooks, hook)

    # Text --------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the printed module."""
        return ""

    def __repr__(self) -> str:
        lines = self.extra_repr().split("\n") if self.extra_repr() else []
        own_text = not self._modules and len(lines) <= 1
        lines += [f"({name}): {module!r}" for name, module in self._modules.items()]
        body = (
            "".join(lines) if own_text else "\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n"
        )
        return f"{type(self).__name__}({body})"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _values(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.data
    return value if is_array(value) else np.asarray(value)


def _listed(what: str, items: list[str]) -> list[str]:
    """Return one clause that names the items, the first few of them when there are many."""
    if not items:
        return []
    more = len(items) - MOST_KEYS_LISTED
    shown = ", ".join(items[:MOST_KEYS_LISTED])
    return [f"{what}: {shown}" + (f" and {more} more" if more > 0 else "")]


def _convert(tensor: Tensor, device: str | None, dtype: DTypeLike | None) -> None:
    """Move a tensor and its gradient in place."""
    with no_grad():
        moved = tensor.to(device=device, dtype=dtype if tensor.dtype.kind == "f" else None)
    if moved is tensor:
        return
    tensor.data = moved.data
    if tensor.grad is not None:
        tensor.grad = tensor.grad.detach().to(device=device, dtype=dtype)


def _not_initialised(module: Module, action: str) -> str:
    name = type(module).__name__
    return f"{name}: call super().__init__() in {name}.__init__ before you {action}"


def _wrong_kind(module: Module, name: str, value: Any, expected: str) -> str:
    return (
        f"{type(module).__name__}.{name}: got {type(value).__name__}, expected {expected} or None"
    )
