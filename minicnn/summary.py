"""A table of a network's layers: output shape, parameters, multiply-adds, receptive field.

The network runs once on an image of zeros, in evaluation mode; forward hooks note what each layer
gets and gives. What only training runs, such as auxiliary heads, is counted on request. Along the
way the receptive field (how many input pixels an output value can depend on, in each direction)
follows the recurrence

    field <- field + (kernel - 1) * dilation * jump          jump <- jump * stride

where `jump` is the distance, in input pixels, between neighbours on the map. Where paths meet (a
sum, a concatenation) the larger field counts; the operations between layers are read from the
autograd graph. A dense layer on a flattened map sees all of it: field + (side - 1) * jump, which
can exceed the image where the map's outer values look beyond its edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from minicnn import nn
from minicnn.autograd import gradient_edge
from minicnn.creation import zeros
from minicnn.functional._check import integer, pair
from minicnn.grad_mode import enable_grad
from minicnn.tensor import Tensor

_WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


@dataclass(frozen=True)
class Row:
    """One call of a layer.

    Attributes:
        name: the path in the network, such as "features.0".
        type: the class.
        output_shape: without the batch.
        parameters: numbers in its own parameters; 0 where an earlier row has counted them.
        macs: multiply-adds of a convolution, transposed convolution or dense layer; 0 for others.
        receptive_field: (vertical, horizontal) input pixels that an output value can depend on.
    """

    name: str
    type: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    receptive_field: tuple[int, int]


@dataclass(frozen=True)
class Summary:
    """What `summarize` found; `str()` gives it as a table.

    Attributes:
        model: the network's class.
        input_shape: (C, H, W).
        rows: one for each call of a layer, in order.
        total_parameters: of the whole network, each counted once.
        trainable_parameters: those of them that require gradients.
    """

    model: str
    input_shape: tuple[int, ...]
    rows: tuple[Row, ...]
    total_parameters: int
    trainable_parameters: int

    @property
    def total_macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(row.macs for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "type", "output", "parameters", "MACs", "receptive field")
        body = [
            (
                row.name,
                row.type,
                _times(row.output_shape),
                f"{row.parameters:,}",
                f"{row.macs:,}",
                str(row.receptive_field[0]) if len(set(row.receptive_field)) == 1
                else _times(row.receptive_field),
            )
            for row in self.rows
        ]  # fmt: skip
        foot = ("total", "", "", f"{self.total_parameters:,}", f"{self.total_macs:,}", "")
        widths = [max(map(len, column)) for column in zip(head, *body, foot, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
            ).rstrip()
            for cells in (head, *body, foot)
        ]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        title = f"{self.model}, input {_times(self.input_shape)}"
        frozen = self.total_parameters - self.trainable_parameters
        notes = [f"{frozen:,} of the parameters are frozen"] if frozen else []
        return "\n".join([title, "", lines[0], rule, *lines[1:-1], rule, lines[-1], *notes])


def summarize(model: nn.Module, input_shape: Sequence[int], *, training: bool = False) -> Summary:
    """Run `model` once and describe its layers.

    A row stands for each call of a module that has no sub-modules or has parameters of its own.
    What a forward computes by plain functions has no row and is taken not to widen the receptive
    field.

    Args:
        model: any network on images; its modes, hooks and gradients are as before afterwards.
        input_shape: (C, H, W) of an image, without the batch.
        training: whether the network itself is in training mode, so that it runs its auxiliary
            heads. Its layers are in evaluation mode all the same: batch norm learns nothing from
            an image of zeros.

    Raises:
        ValueError: when the sizes are not positive integers or the network refuses such an image.
    """
    shape = tuple(integer("summarize", size, "input_shape", 1) for size in input_shape)
    parameters = list(model.parameters())
    image = zeros(1, *shape)
    if parameters:
        image = image.to(parameters[0].detach())
    image.requires_grad_()
    tracer = _Tracer(image)
    handles = [
        module.register_forward_hook(tracer.hook(path or type(module).__name__))
        for path, module in model.named_modules()
        if not module._modules or module._parameters
    ]
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    model.training = training and bool(model._modules)  # a lone layer is a layer
    try:
        # Unfilled weights may hold anything, see `nn.init.skip_init`; values do not matter here.
        with enable_grad(), np.errstate(all="ignore"):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return Summary(
        model=type(model).__name__,
        input_shape=shape,
        rows=tuple(tracer.rows),
        total_parameters=sum(p.numel() for p in parameters),
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
    )


@dataclass(frozen=True)
class _Field:
    """What one value of a map sees, and how the map lies on the image; (vertical, horizontal) each.

    Fractions, since a transposed convolution divides the jump.
    """

    size: tuple[Fraction, Fraction] = (Fraction(1), Fraction(1))
    jump: tuple[Fraction, Fraction] = (Fraction(1), Fraction(1))
    map_size: tuple[int, ...] = (1, 1)

    def through(self, reach: Sequence[int], step: Sequence[Fraction | int]) -> _Field:
        """Return the field behind a window: `reach` positions beyond the first, moved by `step`."""
        size = tuple(r + n * j for r, n, j in zip(self.size, reach, self.jump, strict=True))
        jump = tuple(j * s for j, s in zip(self.jump, step, strict=True))
        return _Field(size, jump, self.map_size)  # type: ignore[arg-type]


class _Tracer:
    """The forward hooks: they fill `rows` and remember the field of every tensor that passes by."""

    def __init__(self, image: Tensor):
        self.rows: list[Row] = []
        self._counted: set[Tensor] = set()
        self._fields: dict[Any, _Field] = {gradient_edge(image): _Field()}

    def hook(self, name: str) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._note(name, module, _tensors(args), _tensors(output))

        return note

    def _note(
        self, name: str, module: nn.Module, inputs: list[Tensor], outputs: list[Tensor]
    ) -> None:
        if not inputs or not outputs:
            return
        field = _widened(module, inputs[0], outputs[0], self._field_of(inputs))
        for output in outputs:
            self._fields[gradient_edge(output)] = field
        new = [p for p in module.parameters(recurse=False) if p not in self._counted]
        self._counted.update(new)
        self.rows.append(
            Row(
                name=name,
                type=type(module).__name__,
                output_shape=outputs[0].shape[1:],
                parameters=sum(p.numel() for p in new),
                macs=_macs(module, inputs[0], outputs[0]),
                receptive_field=(math.ceil(field.size[0]), math.ceil(field.size[1])),
            )
        )

    def _field_of(self, tensors: list[Tensor]) -> _Field:
        """Find the layers' outputs that `tensors` were computed from; the largest field wins."""
        found = [_Field()]
        seen = set()
        stack = [gradient_edge(tensor) for tensor in tensors]
        while stack:
            edge = stack.pop()
            if edge in seen:
                continue
            seen.add(edge)
            if edge in self._fields:
                found.append(self._fields[edge])
            else:
                stack += [e for e in getattr(edge[0], "_edges", None) or () if e is not None]
        return max(found, key=lambda field: field.size)


def _widened(module: nn.Module, input: Tensor, output: Tensor, field: _Field) -> _Field:
    """Return the field of a layer's output, given that of its input."""
    if input.ndim == 4:
        field = _Field(field.size, field.jump, input.shape[2:])
    if isinstance(module, nn.Linear) and input.ndim == 2:
        reach = [side - 1 for side in field.map_size]
        whole = field.through(reach, field.map_size)
        return _Field(whole.size, whole.jump)
    if input.ndim != 4 or output.ndim != 4:
        return field
    if isinstance(module, _WINDOWED):
        kernel, stride, dilation = (
            pair("summarize", getattr(module, key, 1), key, 1)
            for key in ("kernel_size", "stride", "dilation")
        )
        field = field.through([(k - 1) * d for k, d in zip(kernel, dilation, strict=True)], stride)
    elif isinstance(module, nn.ConvTranspose2d):
        # Its window reaches (k - 1) d fine positions, of which every stride-th is one of the input.
        reach = [
            (k - 1) * d // s
            for k, d, s in zip(module.kernel_size, module.dilation, module.stride, strict=True)
        ]
        field = field.through(reach, [Fraction(1, s) for s in module.stride])
    elif isinstance(module, _ADAPTIVE):
        sides = list(zip(input.shape[2:], output.shape[2:], strict=True))
        reach = [_widest_adaptive_window(n, m) - 1 for n, m in sides]
        field = field.through(reach, [Fraction(n, m) for n, m in sides])
    return _Field(field.size, field.jump, output.shape[2:])


def _widest_adaptive_window(size: int, windows: int) -> int:
    return max(-(-(i + 1) * size // windows) - i * size // windows for i in range(windows))


def _macs(module: nn.Module, input: Tensor, output: Tensor) -> int:
    """Count multiply-adds for one image: every weight is used once at each position."""
    if isinstance(module, nn.Conv2d):
        return module.weight.numel() * math.prod(output.shape[2:])
    if isinstance(module, nn.ConvTranspose2d):
        return module.weight.numel() * math.prod(input.shape[2:])
    if isinstance(module, nn.Linear):
        return module.weight.numel() * math.prod(output.shape[1:-1])
    return 0


def _tensors(values: Any) -> list[Tensor]:
    candidates: Iterable[Any] = values if isinstance(values, (tuple, list)) else (values,)
    return [value for value in candidates if isinstance(value, Tensor)]


def _times(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))
