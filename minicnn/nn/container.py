"""Modules made of modules: a chain, a list, a dict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from minicnn.nn.module import Module

Self = TypeVar("Self", bound="_Numbered")


class _Numbered(Module):
    """What Sequential and ModuleList share: modules in order, found by position."""

    _modules: dict[str, Module]  # type: ignore[assignment]

    def append(self: Self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), _checked(module))
        return self

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._part(dict(list(self._modules.items())[index]))
        return self._modules[self._name_at(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._name_at(index), _checked(module))

    def _name_at(self, index: int) -> str:
        names = list(self._modules)
        if not -len(names) <= index < len(names):
            raise IndexError(f"index: got {index}, but there are {len(names)} modules")
        return names[index]

    def _part(self, modules: dict[str, Module]) -> Module:
        raise NotImplementedError(f"{type(self).__name__} cannot be sliced")


class Sequential(_Numbered):
    """Run modules one after the other.

    Args:
        modules: the modules in order, or one mapping of names to modules.

    Indexing gives a module (`net[0]`, `net[-1]`) or, for a slice, a Sequential of the same modules
    under the same names.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named: Iterable[tuple[str, Any]] = modules[0].items()
        else:
            named = ((str(i), module) for i, module in enumerate(modules))
        for name, module in named:
            self.add_module(name, _checked(module))

    def forward(self, input: Any) -> Any:
        for module in self:
            input = module(input)
        return input

    def _part(self, modules: dict[str, Module]) -> Module:
        return Sequential(modules)


class ModuleList(_Numbered):
    """A list whose modules are registered; it has no forward of its own.

    A slice is a ModuleList too, numbered from 0.
    """

    def __init__(self, modules: Iterable[Module] = ()):
        super().__init__()
        self.extend(modules)

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add several modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def _part(self, modules: dict[str, Module]) -> Module:
        return ModuleList(modules.values())


class ModuleDict(Module):
    """A dict whose modules are registered; it has no forward of its own."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add or replace several modules."""
        for name, module in modules.items():
            self[name] = module

    def __getitem__(self, name: str) -> Any:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, _checked(module))

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Any]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return self._modules.items()


def _checked(module: Any) -> Module:
    if not isinstance(module, Module):
        raise TypeError(f"module: got {type(module).__name__}, expected a Module")
    return module
