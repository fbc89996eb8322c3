"""Save and load tensors by name, safely: safetensors, and PyTorch's own files.

A file is written beside its target, flushed to the disk and then renamed over it. Whatever happens
in between (a full disk, a kill, a power cut), the old file or the new one is there, whole. A file
that is not whole, or not of the format it should have, is refused with one line that names it.

Keys of state dicts are PyTorch's, so the files go both ways between minicnn and torchvision.

`load_weights` takes either kind and tells them apart by their content, never by their name.

Source: the format is described at https://github.com/huggingface/safetensors (section "Format");
PyTorch's in `minicnn.torch_file`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minicnn.torch_file import read_torch_file, write_torch_file

PathLike = str | os.PathLike[str]

# The format's names of dtypes.
_DTYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32",
    "float64": "F64", "complex64": "C64",
}  # fmt: skip
_METADATA = "__metadata__"  # the header's own entry, among those of the tensors
_TORCH_FORMATS = {"zip": "PyTorch (ZIP)", "stream": "PyTorch (before 1.6)"}
LONGEST_HEADER = 100_000_000  # bytes; the format's limit

# How files begin that people mistake for weights.
_FOREIGN = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"\x89HDF": "an HDF5 file, as Keras writes",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x7fELF": "a program",
    b"<": "an HTML or XML page, such as a failed download leaves",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself",
}


class Weights(NamedTuple):
    """What a file of weights holds.

    Attributes:
        tensors: arrays by name.
        format: in words: "safetensors", "PyTorch (ZIP)" or "PyTorch (before 1.6)".
        inside: the key under which a PyTorch checkpoint had them, or "" if at the top.
        metadata: strings of a safetensors header.
    """

    tensors: dict[str, np.ndarray]
    format: str
    inside: str
    metadata: dict[str, str]


def write_atomically(path: PathLike, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Args:
        path: the file; a link is followed. Its folder must exist.
        data: the whole content.

    Raises:
        OSError: the folder is missing or not writable, the disk is full, ...; it carries the
            target's name. The old file is then untouched and nothing is left beside it.
    """
    with _replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def _replacing(path: PathLike) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` if the block ends well, as above."""
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open a folder
        return
    try:
        os.fsync(descriptor)
    except OSError:  # nor can some network file systems flush one
        pass
    finally:
        os.close(descriptor)


def save_tensors(
    path: PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays to a safetensors file, atomically.

    Args:
        path: the file, replaced if it exists.
        tensors: arrays of bool, integers, float16 to float64 or complex64, in any memory order.
        metadata: strings kept in the file's header.

    Raises:
        TypeError: a value is not a NumPy array, or metadata is not text.
        ValueError: the format has no such dtype.
        OSError: the file could not be written (see `write_atomically`).
    """
    _check_arrays(tensors)
    for key, value in (metadata or {}).items():
        if not isinstance(value, str):
            raise TypeError(f"metadata[{key!r}] must be a string, got {type(value).__name__}")
    strange = sorted({str(a.dtype) for a in tensors.values() if a.dtype.name not in _DTYPES})
    if strange:
        raise ValueError(f"cannot store arrays of {', '.join(strange)} in {path}")
    if _METADATA in tensors:
        raise ValueError(f"no array in {path} can be called {_METADATA}")
    # Widest first, so that every array lies on a multiple of its elements' size.
    names = sorted(tensors, key=lambda name: -tensors[name].itemsize)
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        array = tensors[name]
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # One array after the other: the library would copy all of them twice to write them.
    with _replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            array = tensors[name]
            in_order = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
            file.write(in_order.reshape(-1).view(np.uint8).data)


def _check_arrays(tensors: Mapping[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"tensors: got the name {name!r}, expected a string")
        if not isinstance(array, np.ndarray):
            raise TypeError(f"tensors[{name!r}] must be a NumPy array, got {type(array).__name__}")


def load_tensors(path: PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a safetensors file.

    Returns:
        The arrays by name (writable copies) and the header's strings.

    Raises:
        ValueError: the file is cut off, damaged, of another format, or holds a dtype NumPy lacks.
        OSError: it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # an error from here carries errno and name; the library's does not
        pass
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"{path} is not a whole safetensors file: {reason}") from error


def save_state_dict(
    path: PathLike, state_dict: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a module's ``state_dict()`` (tensors or arrays by name) to a safetensors file.

    Raises:
        TypeError, ValueError, OSError: see `save_tensors`.
    """
    save_tensors(path, {name: _as_array(value) for name, value in state_dict.items()}, metadata)


def load_state_dict(path: PathLike) -> dict[str, np.ndarray]:
    """Read what ``Module.load_state_dict`` takes: arrays by name.

    Raises:
        ValueError, OSError: see `load_tensors`.
    """
    return load_tensors(path)[0]


def save_torch_file(path: PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to a file that `torch.load` reads, weights only, atomically.

    Args:
        path: the file, replaced if it exists.
        tensors: arrays of bool, signed integers, uint8, floats or complex numbers.

    Raises:
        TypeError: a value is not a NumPy array.
        ValueError: PyTorch's files have no such dtype.
        OSError: the file could not be written (see `write_atomically`).
    """
    _check_arrays(tensors)
    with _replacing(path) as file:
        write_torch_file(file, tensors)


def load_weights(path: PathLike) -> dict[str, np.ndarray]:
    """Read arrays by name from a safetensors file or a PyTorch file (`.pth`, `.pt`).

    The content decides which it is. Nothing in a PyTorch file is unpickled, whatever it holds (see
    `minicnn.torch_file`); in a checkpoint the state dict is found under its usual keys.

    Raises:
        ValueError: the file is neither (says what it is, where that is known), or is cut off,
            damaged, or asks for more than plain tensors.
        OSError: it cannot be read.
    """
    return read_weights(path).tensors


def read_weights(path: PathLike) -> Weights:
    """Read what `load_weights` reads, and say what kind of file it was.

    Raises:
        ValueError, OSError: see `load_weights`.
    """
    with open(path, "rb") as file:
        start = file.read(512)
        length = int.from_bytes(start[:8], "little")
        if start[8:9] == b"{" and length <= LONGEST_HEADER:
            tensors, metadata = load_tensors(path)
            return Weights(tensors, "safetensors", "", metadata)
        if not start.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x80")):
            raise ValueError(
                f"{path} holds no weights that can be read: it is {_describe(start)}; expected "
                f"safetensors or a file of torch.save"
            )
        file.seek(0)
        try:
            tensors, kind, inside = read_torch_file(file)
        except ValueError as error:
            raise ValueError(f"{path} holds no weights that can be read: {error}") from error
    return Weights(tensors, _TORCH_FORMATS[kind], inside, {})


def _describe(start: bytes) -> str:
    """Say what a file that begins so may be."""
    for mark, what in _FOREIGN.items():
        if start.startswith(mark):
            return what
    if not start:
        return "empty"
    if start[257:262] == b"ustar":
        return "a tar archive; if PyTorch 0.1 wrote it, load and save it with a newer one"
    if re.fullmatch(rb"[\t\n\r -~]+", start):
        return "text"
    return f"of an unknown kind (it begins with {start[:8].hex(' ')})"


def _as_array(value: Any) -> np.ndarray:
    """Return a tensor's or array's values on the host: files know no devices."""
    return value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
