"""Engines of what else may be installed: JAX, tinygrad, and ONNX Runtime for inference.

The networks are torchvision's. PyTorch traces one into a list of layers, and `Interpreter` runs the
list with another library's operations, so that a network need not be written once more for each.
Padding, ceiling and groups are PyTorch's; running statistics are left as they are, for they take no
time worth measuring.
"""

from __future__ import annotations

import operator
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from benchmarks.engines import Array, Engine
from benchmarks.networks import OPTIONS, TRAINING, Job
from benchmarks.pytorch import AUX_WEIGHT, build

Pads = tuple[tuple[int, int], tuple[int, int]]


class Interpreter:
    """The layers of a network, run with the operations of `ops`.

    Args:
        job: the network, its weights and its mode.
        ops: has a method for each kind of layer.

    Attributes:
        values: every parameter and running statistic by name.
        names: of those that are trained.
    """

    def __init__(self, job: Job, ops: Any):
        model = build(job)
        self.graph = fx.symbolic_trace(model)
        self.ops = ops
        self.values = {
            name: value.numpy()
            for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        self.names = [name for name, _ in model.named_parameters()]

    def __call__(self, values: Mapping[str, Any], x: Any, dropout: Any = None) -> list[Any]:
        """Return the scores, and those of heads on the way.

        Args:
            values: parameters and statistics, of the library's own arrays.
            x: the images.
            dropout: (array, probability) -> array, or None for no dropout.
        """
        found: dict[fx.Node, Any] = {}
        for node in self.graph.graph.nodes:
            arguments = fx.map_arg((node.args, node.kwargs), lambda n: found[n])
            if node.op == "placeholder":
                found[node] = x
            elif node.op == "output":
                result = arguments[0][0]
                return list(result) if isinstance(result, (tuple, list)) else [result]
            elif node.op == "call_module":
                layer = self.graph.get_submodule(node.target)
                own = {
                    key.rpartition(".")[2]: value
                    for key, value in values.items()
                    if key.rpartition(".")[0] == node.target
                }
                found[node] = self._layer(layer, own, arguments[0][0], dropout)
            else:
                found[node] = self._function(node.target, *arguments)
        raise AssertionError("a graph without an output")

    def _layer(self, layer: nn.Module, own: Mapping[str, Any], x: Any, dropout: Any) -> Any:
        ops, size = self.ops, x.shape[2:]
        if isinstance(layer, nn.Conv2d):
            return ops.conv(x, own["weight"], own.get("bias"), layer)
        if isinstance(layer, nn.Linear):
            return x @ own["weight"].T + own["bias"]
        if isinstance(layer, nn.BatchNorm2d):
            return ops.batch_norm(x, own, layer)
        if isinstance(layer, nn.ReLU):
            return ops.relu(x)
        if isinstance(layer, nn.MaxPool2d):
            kernel, stride, padding = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
            return ops.max_pool(x, kernel, stride, _pads(size, kernel, stride, padding, layer))
        if isinstance(layer, nn.AvgPool2d):
            kernel = _pair(layer.kernel_size)
            return _average(x, [_every(s, k) for s, k in zip(size, kernel, strict=True)], ops)
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            return _adaptive(x, layer.output_size, ops)
        if isinstance(layer, nn.LocalResponseNorm):
            return ops.lrn(x, layer)
        if isinstance(layer, nn.Flatten):
            return x.reshape(x.shape[0], -1)
        if isinstance(layer, nn.Dropout):
            return x if dropout is None else dropout(x, layer.p)
        raise NotImplementedError(f"no operation for {type(layer).__name__}")

    def _function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ops = self.ops
        if target is operator.add or target is torch.add:
            return args[0] + args[1]
        if target is torch.flatten:
            return args[0].reshape(args[0].shape[0], -1)
        if target is torch.cat:
            return ops.cat(args[0])
        if target is nn.functional.relu:
            return ops.relu(args[0])
        if target is nn.functional.adaptive_avg_pool2d:
            return _adaptive(args[0], args[1], ops)
        if isinstance(target, type) and issubclass(target, tuple):
            return args
        raise NotImplementedError(f"no operation for {target}")


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _pads(size: Any, kernel: Any, stride: Any, padding: Any, layer: nn.MaxPool2d) -> Pads:
    """Return the padding (before, behind) of both axes; in ceil mode the last window hangs over."""
    pads = []
    for n, k, s, p in zip(size, kernel, stride, padding, strict=True):
        out = (n + 2 * p - k) // s + 1
        if layer.ceil_mode and (out - 1) * s + k < n + 2 * p and out * s < n + p:
            out += 1
        pads.append((p, max(p, (out - 1) * s + k - n - p)))
    return pads[0], pads[1]


def _every(size: int, kernel: int) -> Array:
    """Return the matrix (out, size) that averages every `kernel` neighbours."""
    out = size // kernel
    matrix = np.zeros((out, size), np.float32)
    matrix[:, : out * kernel] = np.kron(np.eye(out), np.full((1, kernel), 1 / kernel))
    return matrix


def _adaptive(x: Any, output_size: Any, ops: Any) -> Any:
    matrices = []
    for size, out in zip(x.shape[2:], _pair(output_size), strict=True):
        matrix = np.zeros((out, size), np.float32)
        for i in range(out):
            first, last = i * size // out, -(-(i + 1) * size // out)
            matrix[i, first:last] = 1 / (last - first)
        matrices.append(matrix)
    return _average(x, matrices, ops)


def _average(x: Any, matrices: list[Array], ops: Any) -> Any:
    """Average along the rows and the columns of each map, as two products."""
    rows, columns = matrices
    if len(rows) == len(columns) == 1:
        return x.mean((2, 3)).reshape(*x.shape[:2], 1, 1)
    if all(len(matrix) == size for matrix, size in zip(matrices, x.shape[2:], strict=True)):
        return x
    return ops.array(rows) @ x @ ops.array(np.ascontiguousarray(columns.T))


def _few_cores(threads: int) -> None:
    """Show this process as many cores as it may use: these libraries take one thread for each."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads < len(cores):
            os.sched_setaffinity(0, cores[:threads])


class JAX(Engine):
    """JAX, a step compiled by XLA as a whole."""

    def __init__(self, job: Job):
        super().__init__(job)
        _few_cores(job.threads)
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        import jax

        self.jax = jax
        self.network = Interpreter(job, JAXOperations(job.mode == TRAINING))
        self.values = {k: jax.numpy.asarray(v) for k, v in self.network.values.items()}
        self.velocity = {k: jax.numpy.zeros_like(self.values[k]) for k in self.network.names}
        self.images, self.labels = map(jax.numpy.asarray, job.data())
        self.random = jax.random.key(0)
        self.count = 0
        self.infer = jax.jit(lambda values, images: self.network(values, images)[0])
        self.train = {
            dropping: jax.jit(self._train(dropping), donate_argnums=(0, 1))
            for dropping in (False, True)
        }
        self.dropping = True

    def step(self) -> float | Array:
        if self.job.mode != TRAINING:
            return np.asarray(self.infer(self.values, self.images))
        self.count += 1
        self.values, self.velocity, loss = self.train[self.dropping](
            self.values, self.velocity, self.images, self.labels, self.count
        )
        return float(loss)

    def without_dropout(self) -> Any:
        return _switched_off(self)

    def _train(self, dropping: bool) -> Callable[..., Any]:
        jax, jnp = self.jax, self.jax.numpy

        def loss_of(trained: Any, fixed: Any, images: Any, labels: Any, count: Any) -> Any:
            keys = iter(jax.random.split(jax.random.fold_in(self.random, count), 16))

            def dropout(x: Any, p: float) -> Any:
                return jnp.where(jax.random.bernoulli(next(keys), 1 - p, x.shape), x / (1 - p), 0)

            outputs = self.network(trained | fixed, images, dropout if dropping else None)
            losses = [
                -jnp.mean(jax.nn.log_softmax(s)[jnp.arange(len(labels)), labels]) for s in outputs
            ]
            return losses[0] + AUX_WEIGHT * sum(losses[1:])

        def train(values: Any, velocity: Any, images: Any, labels: Any, count: Any) -> Any:
            trained = {k: values[k] for k in velocity}
            fixed = {k: v for k, v in values.items() if k not in velocity}
            loss, slopes = jax.value_and_grad(loss_of)(trained, fixed, images, labels, count)
            velocity = {k: OPTIONS["momentum"] * v + slopes[k] for k, v in velocity.items()}
            trained = {k: v - OPTIONS["lr"] * velocity[k] for k, v in trained.items()}
            return trained | fixed, velocity, loss

        return train


class _switched_off:
    """A context in which an engine does not drop out."""

    def __init__(self, engine: Any):
        self.engine = engine

    def __enter__(self) -> None:
        self.engine.dropping = False

    def __exit__(self, *error: object) -> None:
        self.engine.dropping = True


class JAXOperations:
    """What `Interpreter` asks for, in JAX."""

    def __init__(self, training: bool):
        import jax

        self.jax, self.lax, self.array = jax, jax.lax, jax.numpy.asarray
        self.training = training

    def conv(self, x: Any, weight: Any, bias: Any, layer: nn.Conv2d) -> Any:
        assert not isinstance(layer.padding, str)
        y = self.lax.conv_general_dilated(
            x, weight, layer.stride, [(p, p) for p in layer.padding],
            rhs_dilation=layer.dilation, feature_group_count=layer.groups,
        )  # fmt: skip
        return y if bias is None else y + bias[:, None, None]

    def batch_norm(self, x: Any, own: Mapping[str, Any], layer: nn.BatchNorm2d) -> Any:
        mean, variance = own["running_mean"], own["running_var"]
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
        scale = own["weight"] / self.jax.numpy.sqrt(variance + layer.eps)
        return x * scale[:, None, None] + (own["bias"] - mean * scale)[:, None, None]

    def relu(self, x: Any) -> Any:
        return self.jax.nn.relu(x)

    def max_pool(self, x: Any, kernel: Any, stride: Any, pads: Pads) -> Any:
        whole = (0, 0)
        return self.lax.reduce_window(
            x, -np.inf, self.lax.max, (1, 1, *kernel), (1, 1, *stride), (whole, whole, *pads)
        )

    def lrn(self, x: Any, layer: nn.LocalResponseNorm) -> Any:
        size = layer.size
        pads = ((0, 0), (size // 2, (size - 1) // 2), (0, 0), (0, 0))
        near = self.lax.reduce_window(x * x, 0.0, self.lax.add, (1, size, 1, 1), (1, 1, 1, 1), pads)
        return x * (layer.k + layer.alpha / size * near) ** -layer.beta

    def cat(self, maps: Any) -> Any:
        return self.jax.numpy.concatenate(list(maps), 1)


class Tinygrad(Engine):
    """tinygrad, a step captured by its JIT; no search for better kernels (BEAM) is made."""

    def __init__(self, job: Job):
        super().__init__(job)
        _few_cores(job.threads)
        os.environ.setdefault("DEV", "CPU")
        os.environ["TRAINING"] = str(int(job.mode == TRAINING))
        from tinygrad import Tensor, TinyJit
        from tinygrad.nn.optim import SGD

        self.network = Interpreter(job, TinygradOperations(job.mode == TRAINING))
        self.values = {name: Tensor(value) for name, value in self.network.values.items()}
        trained = [self.values[name] for name in self.network.names]
        self.optimizer = SGD(trained, lr=OPTIONS["lr"], momentum=OPTIONS["momentum"])
        images, labels = job.data()
        self.images, self.labels = Tensor(images), Tensor(labels.astype(np.int32))
        self.dropping = True
        self.infer = TinyJit(lambda images: self.network(self.values, images)[0].realize())
        self.train = {dropping: TinyJit(self._train(dropping)) for dropping in (False, True)}

    def step(self) -> float | Array:
        if self.job.mode != TRAINING:
            return self.infer(self.images).numpy()
        return float(self.train[self.dropping](self.images, self.labels).item())

    def without_dropout(self) -> Any:
        return _switched_off(self)

    def _train(self, dropping: bool) -> Callable[..., Any]:
        def train(images: Any, labels: Any) -> Any:
            self.optimizer.zero_grad()
            outputs = self.network(
                self.values, images, (lambda x, p: x.dropout(p)) if dropping else None
            )
            losses = [scores.sparse_categorical_crossentropy(labels) for scores in outputs]
            loss = losses[0]
            for more in losses[1:]:
                loss = loss + AUX_WEIGHT * more
            loss.backward()
            return loss.realize(*self.optimizer.schedule_step())

        return train


class TinygradOperations:
    """What `Interpreter` asks for, in tinygrad."""

    def __init__(self, training: bool):
        from tinygrad import Tensor

        self.array = Tensor
        self.training = training

    def conv(self, x: Any, weight: Any, bias: Any, layer: nn.Conv2d) -> Any:
        return x.conv2d(weight, bias, layer.groups, layer.stride, layer.dilation, layer.padding)

    def batch_norm(self, x: Any, own: Mapping[str, Any], layer: nn.BatchNorm2d) -> Any:
        mean, variance = own["running_mean"], own["running_var"]
        if self.training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        return x.batchnorm(own["weight"], own["bias"], mean, (variance + layer.eps).rsqrt())

    def relu(self, x: Any) -> Any:
        return x.relu()

    def max_pool(self, x: Any, kernel: Any, stride: Any, pads: Pads) -> Any:
        (top, bottom), (left, right) = pads
        return x.pad((left, right, top, bottom), value=-np.inf).max_pool2d(kernel, stride)

    def lrn(self, x: Any, layer: nn.LocalResponseNorm) -> Any:
        size, channels = layer.size, x.shape[1]
        padded = (x * x).pad((0, 0, 0, 0, size // 2, (size - 1) // 2))
        near = sum(padded[:, i : i + channels] for i in range(size))
        return x * (layer.k + layer.alpha / size * near) ** -layer.beta

    def cat(self, maps: Any) -> Any:
        first, *rest = maps
        return first.cat(*rest, dim=1)


class ONNXRuntime(Engine):
    """ONNX Runtime on the graph that PyTorch exports."""

    def __init__(self, job: Job):
        super().__init__(job)
        import onnxruntime

        images, _ = job.data()
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = str(Path(folder) / "network.onnx")
            torch.onnx.export(
                build(job), (torch.from_numpy(images),), path, input_names=["images"], dynamo=False
            )
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = job.threads
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        self.images = images

    def step(self) -> float | Array:
        return self.session.run(None, {"images": self.images})[0]
