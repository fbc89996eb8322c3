"""Fixtures of the data room: the real MNIST, and a tiny set of the same form."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from minicnn.data import Dataset, load_dataset
from minicnn.data.mnist import MNIST, IdxSet


@pytest.fixture(scope="session")
def mnist() -> tuple[Dataset, Dataset]:
    """The real files: from MINICNN_MNIST or the cache, else fetched as the program fetches them."""
    return load_dataset("mnist")


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No folder named, an empty cache; returns the folder that the cache would be in."""
    for variable in ("MINICNN_MNIST", "MINICNN_FASHION_MNIST", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MINICNN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "home"


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file as its authors describe it, by struct."""
    sizes = struct.pack(f">{array.ndim}i", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + bytes(array.ravel().tolist())


@pytest.fixture(scope="session")
def tiny_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "t10k-labels-idx1-ubyte": np.array([3, 1, 4], np.uint8),
        "train-labels-idx1-ubyte": np.array([5, 0, 4, 1, 9, 2, 1], np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (3, 28, 28), np.uint8),
        "train-images-idx3-ubyte": rng.integers(0, 256, (7, 28, 28), np.uint8),
    }


@pytest.fixture(scope="session")
def tiny_files(tiny_arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Four raw IDX files by name."""
    return {name: idx_bytes(array) for name, array in tiny_arrays.items()}


@pytest.fixture
def tiny(tiny_files: dict[str, bytes], tiny_arrays: dict[str, np.ndarray]) -> IdxSet:
    """What MNIST's description would be if it had these files, and were to be found nowhere."""
    return dataclasses.replace(
        MNIST,
        mirrors=(),
        raw_sha256={name: hashlib.sha256(raw).hexdigest() for name, raw in tiny_files.items()},
        package_index=None,
        shapes={name: array.shape for name, array in tiny_arrays.items()},
    )
