"""IDX, the file format of MNIST and Fashion-MNIST, raw or gzipped.

Big-endian: int32 magic 0x0800 + number of axes (0x08 says uint8), one int32 for each axis, then the
values. Images have three axes (magic 2051), labels one (magic 2049).

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", file formats.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicnn.data.dataset import DataError

_KINDS = {2051: "images", 2049: "labels"}


def read_idx(path: str | Path, ndim: int) -> NDArray[np.uint8]:
    """Read an IDX file of bytes with `ndim` axes: 3 for images (N, H, W), 1 for labels (N,).

    Raises:
        DataError: unreadable, cut, with bytes too many, or an IDX file of another kind.
    """
    return parse_idx(decompress(read_bytes(path), str(path)), str(path), ndim)


def read_bytes(path: str | Path) -> bytes:
    """Read a whole file; DataError names the file where that fails."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def decompress(data: bytes, origin: str, limit: int | None = None) -> bytes:
    """Unpack `data` if it is gzipped, else return it as it is.

    Args:
        data: the content of a file.
        origin: where it came from, for the error.
        limit: stop after `limit + 1` bytes, so that no stranger's file can fill the memory.

    Raises:
        DataError: a damaged or cut gzip stream.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.read(-1 if limit is None else limit + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{origin}: damaged or cut gzip file ({error})") from error


def parse_idx(
    raw: bytes, origin: str, ndim: int, shape: tuple[int, ...] | None = None
) -> NDArray[np.uint8]:
    """Read the array out of an unpacked IDX file; the array is read-only and shares its memory.

    Args:
        raw: the file.
        origin: where it came from, for the error.
        ndim: number of axes to expect.
        shape: shape to expect, if it is known.

    Raises:
        DataError: another magic number, another shape, too few or too many bytes.
    """
    expected = 0x0800 + ndim
    header = 4 * (1 + ndim)
    magic = int.from_bytes(raw[:4], "big")
    if len(raw) >= 4 and magic != expected:
        if magic in _KINDS and expected in _KINDS:
            raise DataError(
                f"{origin}: expected {_KINDS[expected]} (magic {expected}), got {_KINDS[magic]} "
                f"(magic {magic}): are the images and labels files swapped?"
            )
        raise DataError(f"{origin}: expected an IDX file with magic {expected}, got {magic}")
    if len(raw) < header:
        raise DataError(f"{origin}: expected an IDX header of {header} bytes, got {len(raw)} bytes")
    sizes = tuple(np.frombuffer(raw, ">u4", ndim, offset=4).tolist())
    if shape is not None and sizes != shape:
        raise DataError(f"{origin}: expected shape {shape}, got {sizes}")
    total = header + math.prod(sizes)
    if len(raw) < total:
        raise DataError(f"{origin}: cut short: expected {total} bytes, got {len(raw)}")
    if len(raw) > total:
        raise DataError(f"{origin}: trailing bytes: expected {total} bytes, got more")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(sizes)


def encode_idx(array: NDArray[np.uint8]) -> bytes:
    """Return the raw IDX file of a uint8 array."""
    header = np.array([0x0800 + array.ndim, *array.shape], ">u4")
    return header.tobytes() + array.tobytes()
