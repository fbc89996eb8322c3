"""How many threads kernels use, on which of Numba's threading layers, and who may say so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest

import minicnn
from minicnn.kernels import _jit, activation

ROOT = Path(__file__).parents[1]

# The first argument names layers whose library is taken to be missing.
CHILD = """
import sys
for name in sys.argv[1].split():
    sys.modules[f"numba.np.ufunc.{name}"] = None
import numba, numpy as np
import minicnn
from minicnn.kernels import activation
if sys.argv[2] == "set first":
    minicnn.set_num_threads(1)
x = np.linspace(-1, 1, 100_003, dtype=np.float32)
expected = np.maximum(x, 0)
for count in (1, 3, 2):
    assert np.array_equal(activation.relu_forward(x), expected)
    minicnn.set_num_threads(count)
    assert minicnn.get_num_threads() == count
    assert np.array_equal(activation.relu_forward(x), expected)
try:
    minicnn.set_num_threads(4)
except ValueError as error:
    print(error)
print(numba.threading_layer())
"""


def child(missing: str, order: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, missing, order], cwd=ROOT, capture_output=True, text=True,
        check=False, env=os.environ | {"NUMBA_NUM_THREADS": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_openmp_comes_first():
    complaint = "threads: got 4, expected an integer from 1 to 3"
    assert child("", "set first") == [complaint, "omp"]


def test_without_openmp_and_tbb_numba_s_own_pool_serves():
    *_, layer = child("omppool tbbpool", "set later")
    assert layer == "workqueue"


@pytest.mark.parametrize("count", [0, -1, 1.0, "2", True, None, 10_000])
def test_another_count_is_refused(count):
    with pytest.raises(ValueError, match=r"^threads: got .*, expected an integer from 1 to \d+$"):
        minicnn.set_num_threads(count)


def test_each_python_thread_has_its_own_count():
    """A thread begins with all of them, whatever another one has set."""
    before = minicnn.get_num_threads()
    if numba.threading_layer() == "workqueue":
        pytest.skip("Numba's own pool ends the process when two Python threads use it at a time")
    x = np.linspace(-1, 1, 100_003, dtype=np.float32)
    expected, found = np.maximum(x, 0), []

    def work(count: int) -> None:
        first = minicnn.get_num_threads()
        minicnn.set_num_threads(count)
        same = all(np.array_equal(activation.relu_forward(x), expected) for _ in range(20))
        found.append((first, minicnn.get_num_threads() - count, same))

    limit = _jit.max_num_threads()
    minicnn.set_num_threads(1)
    try:
        threads = [threading.Thread(target=work, args=(count,)) for count in (1, limit, limit)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [(limit, 0, True)] * 3
        assert minicnn.get_num_threads() == 1
    finally:
        minicnn.set_num_threads(before)
