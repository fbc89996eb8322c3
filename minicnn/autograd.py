"""Reverse-mode differentiation: the record of what was computed, and the walk back through it.

A `Function` is one recorded operation. Its `edges` lead to the vertices that made its inputs: other
Functions, or the leaf tensors where gradients end up. `run_backward` counts how often each vertex
is used, then visits a vertex once all its users have sent their gradients. It is a loop, not a
recursion, so the depth of a graph is bounded by memory alone.

    y = x * w            vertices:  Mul          edges of Mul: x (leaf), w (leaf)
    z = y.relu()                    Relu         edges of Relu: Mul
    z.backward(g)        visits Relu, then Mul, then adds to x.grad and w.grad

`backward` of a Function is written in differentiable functions on Tensors. With `create_graph=True`
those calls are recorded like any others, which is all that second derivatives need.

Where there are several CUDA devices, `forward` and `backward` run with that of their arrays as the
current one: what they allocate and launch is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from minicnn.backend import (
    check_one_device,
    device_of,
    get_array_module,
    mixed_devices,
    on_device_of,
    to_host,
)
from minicnn.grad_mode import AnomalyError, mode, module_path, set_grad_enabled
from minicnn.kernels._memory import is_view

if TYPE_CHECKING:
    from minicnn.tensor import Tensor

Vertex = Any  # a Function or a leaf Tensor
Edge = tuple[Vertex, int]  # a vertex and which of its outputs


class Function:
    """One differentiable operation: `forward` on arrays, `backward` on Tensors.

    A subclass writes the two under each other:

        class Mul(Function):
            def forward(self, a, b):
                self.save(a, b)
                return a * b

            def backward(self, grad_output):
                a, b = self.saved
                return grad_output * b, grad_output * a

    `forward` gets arrays for Tensors and everything else as it came; options go by keyword. It may
    keep plain values (sizes, strides) as attributes, and hands arrays that `backward` needs to
    `save`. `backward` returns one gradient, or None, for each positional input. Integer outputs
    carry none.

    Attributes:
        name: the operation's name in messages, the class name in snake case.
        needs_grad: for each input, whether its gradient is wanted; `backward` may skip the others.
        view: the output shares memory with the first input (reshape and its like).
        broadcasts: gradients have the broadcast shape; they are summed back to each input's own.
        mixes_devices: the inputs may be on several devices.
    """

    name: ClassVar[str] = "function"
    view: ClassVar[bool] = False
    broadcasts: ClassVar[bool] = False
    mixes_devices: ClassVar[bool] = False
    needs_grad: tuple[bool, ...] = ()
    _hooks: dict[int, list[Callable]]
    _saved: Sequence[Any] | None
    _edges: list[Edge | None] | None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def forward(self, *arrays: Any, **options: Any) -> Any:
        raise TypeError(f"{self.name} defines no forward")

    def backward(self, *grad_outputs: Any) -> Any:
        raise RuntimeError(f"{self.name} has no derivative")

    # What a subclass calls -------------------------------------------------------------------

    def save(self, *arrays: Any) -> None:
        """Keep arrays for `backward`: inputs, outputs, or results on the way such as an argmax."""
        self._saved = arrays

    @property
    def saved(self) -> tuple[Any, ...]:
        """Return what `save` was given: arrays as Tensors, of which inputs and outputs know how
        they were made, and numbers as they came.
        """
        if self._saved is None:
            raise self._freed()
        return tuple(value.restore(self) for value in self._saved)

    # The engine ------------------------------------------------------------------------------

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """Run `forward`, and remember the call if a gradient is wanted of some input.

        Raises:
            RuntimeError: when the inputs are on several devices; it names function and inputs.
        """
        from minicnn.tensor import Tensor

        function = cls()
        function._saved = ()
        function._hooks = {}
        arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
        elsewhere = None if cls.mixes_devices else check_one_device(cls.name, arrays)
        function.needs_grad = tuple(
            mode.recording and isinstance(x, Tensor) and x.requires_grad for x in inputs
        )
        if elsewhere is None:
            result = function.forward(*arrays, **options)
        else:
            with elsewhere:
                result = function.forward(*arrays, **options)
        if mode.anomaly:
            _check_forward(function, arrays, result)
        results = result if isinstance(result, tuple) else (result,)
        outputs = tuple(Tensor._wrap(array) for array in results)
        if cls.view:
            outputs[0]._version = inputs[0]._version
        if any(function.needs_grad):
            function._record(inputs, arrays, outputs, results)
        return outputs if isinstance(result, tuple) else outputs[0]

    def _record(
        self,
        inputs: Sequence[Any],
        arrays: Sequence[Any],
        outputs: Sequence[Tensor],
        results: Sequence[Any],
    ) -> None:
        self._edges = [
            gradient_edge(x) if needed else None
            for x, needed in zip(inputs, self.needs_grad, strict=True)
        ]
        self._inputs = [
            (x.shape, x.dtype, _place(x.data)) if needed else None
            for x, needed in zip(inputs, self.needs_grad, strict=True)
        ]
        self._outputs = [(x.shape, x.dtype) for x in outputs]
        if mode.anomaly:
            self._module_path = module_path()
        self._saved = [
            _Saved(
                array, [*zip(inputs, arrays, strict=True)], [*zip(outputs, results, strict=True)]
            )
            for array in self._saved or ()
        ]
        for index, output in enumerate(outputs):
            if output.data.dtype.kind == "f":
                output._node, output._index = self, index

    def _release(self) -> None:
        self._saved = self._edges = None

    def _freed(self) -> RuntimeError:
        return RuntimeError(
            f"{self.name}: its saved values were freed by an earlier backward; "
            "pass retain_graph=True to that call to go through the graph again"
        )


class _Saved:
    """One array or number kept for backward: where it came from, and its version then.

    Arrays are recognised by identity: what `save` was given is an input's array, an output's,
    or neither.
    """

    __slots__ = ("array", "counter", "output_index", "place", "tensor", "version")

    def __init__(
        self,
        array: Any,
        inputs: Sequence[tuple[Any, Any]],
        outputs: Sequence[tuple[Tensor, Any]],
    ):
        self.array = array
        self.tensor: Tensor | None = None
        self.counter: list[int] | None = None
        self.output_index: int | None = None
        for i, (x, its_array) in enumerate(inputs):
            if its_array is array and hasattr(x, "_version"):
                self.tensor, self.counter, self.place = x, x._version, f"input {i}"
        for i, (x, its_array) in enumerate(outputs):
            if its_array is array:
                self.output_index, self.counter, self.place = i, x._version, f"output {i}"
        self.version = self.counter[0] if self.counter is not None else 0

    def restore(self, function: Function) -> Any:
        from minicnn.tensor import Tensor

        if isinstance(self.array, (int, float)):
            return self.array
        if self.counter is not None and self.counter[0] != self.version:
            raise RuntimeError(
                f"{function.name}: {self.place}, a {self.array.dtype} tensor of shape "
                f"{tuple(self.array.shape)}, was changed in place after it was saved for backward "
                f"(version {self.counter[0]}, saved at {self.version})"
            )
        if self.tensor is not None:
            return self.tensor
        tensor = Tensor._wrap(self.array)
        if self.output_index is not None and self.counter is not None:
            # The output itself is not kept (it would keep this Function alive in a circle); an
            # equal tensor with the same place in the graph stands in for it.
            tensor._node, tensor._index = function, self.output_index
            tensor._version = self.counter
        return tensor


def gradient_edge(tensor: Tensor) -> Edge:
    """Return the vertex where the gradient of `tensor` is delivered."""
    return (tensor, 0) if tensor._node is None else (tensor._node, tensor._index)


def run_backward(
    roots: Sequence[Tensor],
    gradients: Sequence[Tensor],
    *,
    retain_graph: bool,
    create_graph: bool,
    targets: Iterable[Edge] | None = None,
) -> dict[Edge, Tensor]:
    """Send `gradients` from `roots` back through the graph.

    Without `targets` the gradients of leaves are added to their `.grad`. With `targets` nothing is
    added anywhere and the gradients that arrive at those edges are returned.
    """
    starts = [gradient_edge(root) for root in roots]
    pending = _count_uses([vertex for vertex, _ in starts])
    arrived: dict[Vertex, dict[int, Tensor]] = {}
    wanted = set(targets) if targets is not None else None
    captured: dict[Edge, Tensor] = {}
    owned: dict[int, Tensor] = {}
    with set_grad_enabled(create_graph):
        for (vertex, index), gradient in zip(starts, gradients, strict=True):
            _add(arrived, vertex, index, gradient)
            owned[id(gradient.data)] = gradient
        for vertex, _ in starts:
            pending[vertex] -= 1
        ready = [vertex for vertex in dict.fromkeys(v for v, _ in starts) if pending[vertex] == 0]
        while ready:
            vertex = ready.pop()
            grads = arrived.pop(vertex, {})
            for index, hooks in vertex._hooks.items():
                for hook in tuple(hooks):
                    if index in grads:
                        replaced = hook(grads[index])
                        grads[index] = grads[index] if replaced is None else replaced
            if wanted is not None:
                for index in grads:
                    if (vertex, index) in wanted:
                        captured[vertex, index] = grads[index]
            if not isinstance(vertex, Function):
                if wanted is None and 0 in grads:
                    _accumulate(vertex, grads[0], owned, create_graph)
                continue
            _visit(vertex, grads, arrived, pending, ready)
            if not retain_graph:
                vertex._release()
    return captured


def _count_uses(starts: Sequence[Vertex]) -> dict[Vertex, int]:
    """Count, for each vertex below `starts`, how many edges (and starts) lead to it."""
    uses: dict[Vertex, int] = {}
    stack = []
    for vertex in starts:
        uses[vertex] = uses.get(vertex, 0) + 1
        if uses[vertex] == 1:
            stack.append(vertex)
    while stack:
        vertex = stack.pop()
        if not isinstance(vertex, Function):
            continue
        if vertex._edges is None:
            raise vertex._freed()
        for edge in vertex._edges:
            if edge is not None:
                uses[edge[0]] = uses.get(edge[0], 0) + 1
                if uses[edge[0]] == 1:
                    stack.append(edge[0])
    return uses


def _visit(
    function: Function,
    grads: dict[int, Tensor],
    arrived: dict[Vertex, dict[int, Tensor]],
    pending: dict[Vertex, int],
    ready: list[Vertex],
) -> None:
    """Run one `backward` and pass its results along the function's edges."""
    edges = function._edges
    assert edges is not None
    results: Sequence[Tensor | None] = [None] * len(edges)
    if grads:
        mode.visiting = function if mode.anomaly else None
        try:
            given = [grads.get(i) for i in range(len(function._outputs))]
            array = next(iter(grads.values())).data
            if type(array) is np.ndarray:
                result = function.backward(*given)
            else:
                with on_device_of(array):
                    result = function.backward(*given)
        finally:
            mode.visiting = None
        results = result if isinstance(result, (tuple, list)) else (result,)
        if len(results) != len(edges):
            raise RuntimeError(
                f"{function.name}: backward returned {len(results)} gradients, "
                f"expected {len(edges)}, one for each input"
            )
    for i, (edge, grad) in enumerate(zip(edges, results, strict=True)):
        if edge is None:
            continue
        if grad is not None:
            _add(arrived, *edge, _fit(function, i, grad))
        pending[edge[0]] -= 1
        if pending[edge[0]] == 0:
            ready.append(edge[0])


def _fit(function: Function, i: int, grad: Tensor) -> Tensor:
    """Bring a gradient to its input's shape and dtype, or say that it cannot be one.

    On another device it cannot: only `to_device` knows that the values are meant to travel.
    """
    expected = function._inputs[i]
    assert expected is not None  # this input has an edge, so it was recorded
    shape, dtype, place = expected
    if function.broadcasts and grad.shape != shape:
        grad = grad.sum_to(shape)
    if grad.shape != shape:
        raise RuntimeError(
            f"{function.name}: backward returned a gradient of shape {grad.shape} for input {i}, "
            f"expected {shape}"
        )
    if type(grad.data) is not place and _place(grad.data) != place:
        raise RuntimeError(
            f"{function.name}: backward returned a gradient on {grad.device!r} for input {i}, "
            "expected one on the device of that input"
        )
    return grad if grad.dtype == dtype else grad.to(dtype)


def _place(array: Any) -> Any:
    """Return something that tells whether two arrays are on one device: a type, or its name."""
    return np.ndarray if type(array) is np.ndarray else device_of(array)


def _add(
    arrived: dict[Vertex, dict[int, Tensor]], vertex: Vertex, index: int, grad: Tensor
) -> None:
    grads = arrived.setdefault(vertex, {})
    grads[index] = grads[index] + grad if index in grads else grad


def _accumulate(leaf: Tensor, grad: Tensor, owned: dict[int, Tensor], create_graph: bool) -> None:
    """Add to `leaf.grad`, which never shares memory with another gradient or with the caller's."""
    if leaf.grad is not None:
        leaf.grad = leaf.grad + grad
    elif id(grad.data) in owned or is_view(grad.data):
        leaf.grad = grad.clone()
    else:
        leaf.grad = grad if create_graph else grad.detach()
    owned[id(grad.data)] = grad


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `outputs` with respect to `inputs`, leaving every `.grad` alone.

    Args:
        outputs: what to differentiate.
        inputs: with respect to what; leaves or results of operations.
        grad_outputs: the upstream gradients, of the outputs' shapes; may be left out for scalars.
        retain_graph: keep the saved values for another pass; the default is `create_graph`.
        create_graph: record the computation of the gradients too, for higher derivatives.
        allow_unused: return None for an input that the outputs do not depend on.

    Raises:
        RuntimeError: when an input does not require a gradient or is unused.
    """
    from minicnn.tensor import Tensor

    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if grad_outputs is None:
        upstream: Sequence[Tensor | None] = [None] * len(outputs)
    else:
        upstream = [grad_outputs] if isinstance(grad_outputs, Tensor) else grad_outputs
    if len(upstream) != len(outputs):
        raise ValueError(
            f"grad_outputs: got {len(upstream)} tensors, expected {len(outputs)}, one an output"
        )
    for i, x in enumerate(inputs):
        if not x.requires_grad:
            raise RuntimeError(f"inputs[{i}] does not require a gradient")
    captured = run_backward(
        outputs,
        [root_gradient(o, g) for o, g in zip(outputs, upstream, strict=True)],
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        targets=[gradient_edge(x) for x in inputs],
    )
    result = tuple(captured.get(gradient_edge(x)) for x in inputs)
    if not allow_unused and None in [g if g is None else True for g in result]:
        unused = next(i for i, g in enumerate(result) if g is None)
        raise RuntimeError(
            f"inputs[{unused}] is not used by the outputs; pass allow_unused=True to get None"
        )
    return result


def root_gradient(output: Tensor, gradient: Any) -> Tensor:
    """Return the gradient to start from: `gradient` if it fits `output`, or 1 for a scalar."""
    from minicnn.tensor import Tensor

    if not output.requires_grad:
        raise RuntimeError(
            "backward: the tensor does not require a gradient, nor what it was computed from"
        )
    if gradient is None:
        if output.numel() != 1:
            raise RuntimeError(
                f"backward: a tensor of shape {output.shape} needs an explicit gradient; "
                "only a scalar can start from 1"
            )
        with on_device_of(output.data):
            return Tensor(get_array_module(output.data).ones_like(output.data))
    gradient = gradient if isinstance(gradient, Tensor) else Tensor(gradient)
    if gradient.device != output.device:
        raise mixed_devices("backward", "gradient", gradient.device, "the tensor", output.device)
    if gradient.shape != output.shape:
        raise ValueError(
            f"gradient: got shape {gradient.shape}, expected {output.shape}, the tensor's own"
        )
    return gradient if gradient.dtype == output.dtype else gradient.to(output.dtype)


def _check_forward(function: Function, arrays: Sequence[Any], result: Any) -> None:
    """Raise if a result is not finite; in a backward pass, name the operation it is of."""
    for array in result if isinstance(result, tuple) else (result,):
        if array.dtype.kind != "f" or _is_finite(array):
            continue
        visited = mode.visiting
        given = [x for x in arrays if getattr(getattr(x, "dtype", None), "kind", "") == "f"]
        verb = "made" if all(map(_is_finite, given)) else "was given and passed on"
        name, path = function.name, module_path()
        if visited is not None:
            name, path = f"backward of {visited.name}", getattr(visited, "_module_path", "")
        kind = "a NaN" if np.isnan(to_host(array)).any() else "an infinity"
        raise AnomalyError(f"{name}{f' in module {path}' if path else ''} {verb} {kind}")


def _is_finite(array: Any) -> bool:
    with on_device_of(array):
        return bool(get_array_module(array).isfinite(array).all())
