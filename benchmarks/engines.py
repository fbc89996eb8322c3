"""Engines: a network on one side, ready to make a training step or to infer a batch.

An engine is built in a process of its own (see `benchmarks.worker`). Building loads the weights;
`step` does the work once and ends with its result on the host: the loss, or the scores. Ours is
here; `benchmarks.pytorch` and `benchmarks.others` hold the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu import no_gpu, timed_by_events
from benchmarks.networks import OPTIONS, TRAINING, Job
from benchmarks.timing import sampled

Array = NDArray[Any]

# Processor time of the whole process: some libraries compute in threads of their own even with one.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Engine:
    """A network on one side."""

    def __init__(self, job: Job):
        self.job = job

    def step(self) -> float | Array:
        """Train on the batch once and return the loss, or return the scores (N, classes)."""
        raise NotImplementedError

    def gradients(self) -> dict[str, float]:
        """Return the size of each parameter's gradient by the last step, {} if out of reach."""
        return {}

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Switch dropout off for a while: each side draws its own numbers."""
        yield

    def transfer(self) -> float | None:
        """Return the seconds it takes to bring the batch to the device, None on the CPU."""
        return None

    def run(self, calls: int, clock: str, samples: int) -> list[float]:
        """Return the seconds of one step, `samples` times the mean over `calls` of them."""
        return sampled(self.step, calls, CLOCKS[clock], samples)


class Ours(Engine):
    """minicnn on a device; it also makes the weights that all sides start from."""

    def __init__(self, job: Job, device: str = "cpu"):
        super().__init__(job)
        import minicnn
        from minicnn import optim
        from minicnn.models import create_model
        from minicnn.serialization import load_state_dict, save_state_dict

        minicnn.set_num_threads(job.threads)
        minicnn.manual_seed(0)
        self.device = device
        self.model = create_model(job.table.ours)
        if Path(job.weights).exists():
            self.model.load_state_dict(load_state_dict(job.weights))
        else:
            save_state_dict(job.weights, self.model.state_dict())
        self.model.to(device).train(job.mode == TRAINING)
        self.images, self.labels = (minicnn.tensor(x).to(device) for x in job.data())
        self.optimizer = optim.SGD(self.model.parameters(), **OPTIONS)
        self.no_grad = minicnn.no_grad

    def step(self) -> float | Array:
        if self.job.mode != TRAINING:
            with self.no_grad():
                return self.model(self.images).cpu().numpy()
        loss = self.model.loss(self.model(self.images), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def gradients(self) -> dict[str, float]:
        return {
            name: float(np.linalg.norm(parameter.grad.cpu().numpy()))
            for name, parameter in self.model.named_parameters()
            if parameter.grad is not None
        }

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        with dropout_off(self.model.modules()):
            yield


class OursOnGPU(Ours):
    """minicnn on a CUDA device, timed by the device's own events, transfers apart.

    Raises:
        RuntimeError: there is no device, or it is simulated and has no time.
    """

    def __init__(self, job: Job, device: str = "cuda"):
        if (reason := no_gpu(device)) is not None:
            raise RuntimeError(reason)
        super().__init__(job, device)

    def run(self, calls: int, clock: str, samples: int) -> list[float]:
        from minicnn.backend import array_module

        return timed_by_events(array_module(self.device).cuda, self.step, calls, samples)

    def transfer(self) -> float:
        import minicnn
        from minicnn.backend import array_module

        images, labels = (minicnn.tensor(x) for x in self.job.data())

        def move() -> None:
            images.to(self.device)
            labels.to(self.device)

        return min(timed_by_events(array_module(self.device).cuda, move, 1, 5))


@contextmanager
def dropout_off(modules: Any) -> Iterator[None]:
    """Set the probability of every Dropout among `modules` to 0, and back again."""
    found = [(m, m.p) for m in modules if type(m).__name__ == "Dropout"]
    for module, _ in found:
        module.p = 0.0
    try:
        yield
    finally:
        for module, p in found:
            module.p = p
