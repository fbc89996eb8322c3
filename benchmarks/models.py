"""Whole networks: training steps and inference, ours beside all that are installed.

A training step is forward, loss, backward, and SGD with momentum. Every side starts from the same
weights and sees the same batch. Before anything is timed, the losses of three steps and the size of
every parameter's gradient are compared with PyTorch's, or the scores; dropout is off for that.

Each side is a process of its own (`benchmarks.workers`): PyTorch is measured as it is installed,
and again with a malloc that keeps what is freed, which must be told before a process starts.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.checks import compare
from benchmarks.gpu import no_gpu
from benchmarks.machine import environment
from benchmarks.networks import INFERENCE, NETWORKS, TRAINING, Job
from benchmarks.timing import GPU, OURS, Case, Settings, Side, WrongResult, measure
from benchmarks.workers import WorkerSide

PYTORCH = ("PyTorch as installed", "PyTorch tuned", "PyTorch channels_last")
# Of the others, what each needs to be installed, itself first.
PACKAGES = {
    **dict.fromkeys(PYTORCH, ("torch", "torchvision")),
    "JAX": ("jax", "torch", "torchvision"),
    "tinygrad": ("tinygrad", "torch", "torchvision"),
    "ONNX Runtime": ("onnxruntime", "onnx", "torch", "torchvision"),
}
SIDES = (OURS, GPU, *PACKAGES)
ONLY_INFERENCE = ("ONNX Runtime",)
KEEPING_MEMORY = PYTORCH[1:]

LOSS, GRADIENT, SCORES = 1e-4, 1e-2, 1e-3  # relative
# Of the change that an update makes to the loss. Without momentum the second would make half of it.
# Batch norm on few images carries rounding far: between PyTorch's two memory orders, ResNet-50 on 8
# images differs by 11 % and 6 %.
CHANGE = 0.3
# What is below this share of the largest gradient is rounding: a bias in front of a batch norm.
NOTHING = 1e-5


def run(
    mode: str, networks: Sequence[str], sides: Sequence[str], batch: int | None, settings: Settings
) -> Iterator[Case]:
    """Measure each network, one after the other; where there is a GPU, with smaller batches too.

    From those follows the batch from which on the GPU is the faster (`report.break_even`).

    Args:
        mode: training or inference.
        networks: of `NETWORKS`; all if there are none.
        sides: of `SIDES`, beside ours; all if there are none.
        batch: images at a time, or None for each network's own.
        settings: how to measure.

    Raises:
        ValueError: for a name that is not on the list, and without PyTorch to check against.
    """
    _known("networks", networks, NETWORKS)
    _known("sides", sides, SIDES)
    chosen = [s for s in SIDES if s == OURS or not sides or s in sides]
    oracle = next((s for s in chosen if s in PYTORCH and not why_missing(s, mode)), None)
    if oracle is None:
        raise ValueError("sides: results are checked against PyTorch's: install torchvision")
    for name in networks or [n for n in NETWORKS if n != "alexnet_paper"]:
        with tempfile.TemporaryDirectory() as folder:
            weights, size = str(Path(folder) / "weights.safetensors"), batch or NETWORKS[name].batch
            yield measure(case(Job(name, mode, size, settings.threads, weights), chosen), settings)
            if GPU in chosen and not why_missing(GPU, mode):
                for smaller in smaller_batches(size):
                    job = Job(name, mode, smaller, settings.threads, weights)
                    few = case(job, (OURS, GPU, oracle))
                    few.family = f"{mode}, smaller batches"
                    yield measure(few, settings)


def smaller_batches(size: int) -> list[int]:
    """Return the powers of 2 below a batch."""
    return [2**power for power in range(size.bit_length()) if 2**power < size]


def case(job: Job, sides: Sequence[str]) -> Case:
    """Return a network as a case, each side a process that is started by its first call."""
    return Case(
        f"{job.network}, {job.batch}",
        [_side(name, job) for name in sides],
        check_training if job.mode == TRAINING else check_inference,
        job.mode,
        images=job.batch,
    )


def _side(name: str, job: Job) -> Side:
    if reason := why_missing(name, job.mode):
        return Side(name, missing=reason)
    where = environment(job.threads, keep_memory=name in KEEPING_MEMORY)
    return WorkerSide(name, job=job, environment=where)


def why_missing(side: str, mode: str) -> str:
    """Say why a side cannot take part; "" if it can."""
    if side in ONLY_INFERENCE and mode != INFERENCE:
        return "only infers"
    if side == GPU:
        return no_gpu() or ""
    absent = [p for p in PACKAGES.get(side, ()) if importlib.util.find_spec(p) is None]
    if side == "tinygrad" and shutil.which(os.environ.get("CC", "clang")) is None:
        absent.append("clang")
    return f"not installed: {', '.join(absent)}" if absent else ""


def check_training(name: str, results: dict[str, Any]) -> None:
    """Hold to PyTorch's the first loss, its gradients' sizes, and what two updates change."""
    found, expected = results[name], results[_oracle(results)]
    own, their = found["losses"], expected["losses"]
    if not abs(own[0] - their[0]) <= LOSS * abs(their[0]):
        raise WrongResult(f"the first loss is {own[0]:.6f}, PyTorch's {their[0]:.6f}")
    least = NOTHING * max(expected["gradients"].values())
    for parameter, size in found["gradients"].items():
        wanted = expected["gradients"].get(parameter)
        if wanted is None or not abs(size - wanted) <= GRADIENT * max(wanted, least):
            raise WrongResult(f"the gradient of {parameter} has size {size}, PyTorch's {wanted}")
    for step in range(1, len(their)):
        change, wanted = own[step] - own[step - 1], their[step] - their[step - 1]
        if not abs(change - wanted) <= CHANGE * abs(wanted) + LOSS * abs(their[step]):
            raise WrongResult(
                f"update {step} changes the loss by {change:.6f}, PyTorch's by {wanted:.6f}"
            )


def check_inference(name: str, results: dict[str, Any]) -> None:
    """Hold the scores to PyTorch's."""
    found, expected = (np.array(results[n]["scores"]) for n in (name, _oracle(results)))
    compare(found, expected, SCORES, "a score")


def _oracle(results: dict[str, Any]) -> str:
    """Return the first of PyTorch's sides that has a result."""
    for name in PYTORCH:
        if name in results:
            return name
    raise WrongResult("PyTorch gave nothing to check it against")


def _known(argument: str, names: Sequence[str], known: Sequence[str] | dict[str, Any]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"{argument}: got {', '.join(unknown)}, expected some of {', '.join(known)}"
        )
