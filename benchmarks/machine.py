"""Describe what the figures were measured on, and prepare the process that measures."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping

PACKAGES = (
    "numpy", "numba", "llvmlite", "torch", "torchvision", "jax", "tinygrad", "onnxruntime",
)  # fmt: skip

# They make OpenBLAS take another machine's kernels for its own.
MISLEADING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# GNU's malloc keeps what is freed: a library that asks for the same megabytes at every step then
# finds its pages mapped. The harder opponent of two.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment(threads: int, keep_memory: bool) -> dict[str, str]:
    """Return the environment for a process that measures.

    Args:
        threads: for every library that reads it from there.
        keep_memory: whether malloc is told to keep what is freed; a process can only be told
            before it starts.
    """
    result = {
        name: value
        for name, value in os.environ.items()
        if name not in MISLEADING and name not in KEEP_MEMORY
    }
    result |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    return result | (KEEP_MEMORY if keep_memory else {})


def restart(wanted: Mapping[str, str]) -> None:
    """Start this program again with another environment, unless it has it already."""
    if dict(os.environ) != dict(wanted):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], dict(wanted))


def load_torch() -> None:
    """Import PyTorch, where it is installed, before minicnn, which sets how long idle threads spin.

    An OpenMP reads that when it is loaded: so PyTorch's keeps its own setting.
    """
    if importlib.util.find_spec("torch") is not None:
        import torch  # noqa: F401


def describe() -> dict[str, object]:
    """Return the processor, the system and the versions of all that takes part."""
    import numpy as np

    from minicnn import __version__
    from minicnn.kernels._vector import REGISTER_BITS

    versions = {"python": platform.python_version(), "minicnn": __version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions["blas"] = f"{blas['name']} {blas.get('version', '')}".strip()
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "register_bits": REGISTER_BITS,
        "system": platform.platform(terse=True),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
