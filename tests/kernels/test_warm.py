"""Compiling ahead: after it, training and inference find all their kernels compiled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from minicnn.kernelcheck import warm
from minicnn.kernels import _launch

ROOT = Path(__file__).parents[2]

TRAIN = """
import numpy as np

import minicnn
import minicnn.functional as F
from minicnn import nn, optim
from minicnn.kernelcheck import warm
from minicnn.kernels import _cache
from minicnn.models import MODELS

for call in warm.calls([np.dtype(np.float32)]):
    call.run()
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


def test_every_file_is_called_with_every_dtype():
    dtypes = [np.dtype(np.float32), np.dtype(np.float64)]
    called = {(call.stem, call.dtype) for call in warm.calls(dtypes)}
    assert called == {(stem, dtype) for stem in _launch.stems() for dtype in dtypes}
