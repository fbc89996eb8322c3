"""Compiling ahead: after it, training and inference find all their kernels compiled."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from minicnn import warm
from minicnn.kernels import _launch

ROOT = Path(__file__).parents[1]
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

TRAIN = """
import numpy as np

import minicnn
import minicnn.functional as F
from minicnn import nn, optim
from minicnn.kernels import _cache
from minicnn.models import MODELS
from minicnn.warm import warm

warm([np.dtype(np.float32)], lambda name, event: None)
layers = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 24, 5, groups=2, padding=2), nn.ReLU(), nn.LocalResponseNorm(5),
    nn.MaxPool2d(3, 2), nn.Conv2d(24, 32, 1, stride=2), nn.AvgPool2d(2), nn.Dropout(),
    nn.Flatten(), nn.Linear(32 * 4 * 4, 10),
)
compiled = []
with _cache.watch(lambda name, event: event == "compiling" and compiled.append(name)):
    for net, size in ((layers, (3, 33, 33)), (MODELS["lenet"](), (1, 28, 28))):
        for optimizer in (
            optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4),
            optim.Adam(net.parameters()),
        ):
            scores = net(minicnn.randn(4, *size))
            F.cross_entropy(scores, minicnn.tensor([1, 2, 3, 4])).backward()
            optimizer.step()
        with minicnn.no_grad():
            net.eval()(minicnn.randn(4, *size))
print("compiled:", *compiled)
"""


def test_nothing_is_left_to_compile_for_training():
    command = [sys.executable, "-c", TRAIN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "compiled:\n", done.stdout + done.stderr


@pytest.fixture
def few(monkeypatch):
    """Two files and two operations to warm."""
    monkeypatch.setattr(_launch, "stems", lambda: ["dropout", "smooth_l1"])
    monkeypatch.setattr(warm, "OPS", {name: warm.OPS[name] for name in ("relu", "cross_entropy")})


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_is_called(few, jobs):
    dtypes = [FLOAT32, FLOAT64]
    told: Counter[tuple[str, str]] = Counter()
    warm.warm(dtypes, lambda *event: told.update([event]), jobs)
    calls = {name: count for (name, event), count in told.items() if event == "called"}
    assert sum(calls.values()) == warm.count_calls(dtypes)
    assert set(calls) == {"dropout", "smooth_l1", "relu", "cross_entropy"}
    if jobs == 2:  # new processes, which have loaded nothing yet
        found = {name for name, event in told if event in ("loaded", "compiled")}
        assert {"dropout.dropout_forward_cpu", "smooth_l1.smooth_l1_backward_cpu"} <= found
