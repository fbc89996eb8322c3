"""Save and load tensors in the safetensors format, safely.

A file is written beside its target, flushed to the disk and then renamed over it. Whatever happens
in between (a full disk, a kill, a power cut), the old file or the new one is there, whole. A file
that is not a whole safetensors file is refused with one line that names it.

Keys of state dicts are PyTorch's, so the files go both ways between minicnn and torchvision.

Source: the format is described at https://github.com/huggingface/safetensors (section "Format").
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

PathLike = str | os.PathLike[str]


def write_atomically(path: PathLike, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Args:
        path: the file; a link is followed. Its folder must exist.
        data: the whole content.

    Raises:
        OSError: the folder is missing or not writable, the disk is full, ...; it carries the
            target's name. The old file is then untouched and nothing is left beside it.
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
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
    from safetensors import SafetensorError
    from safetensors.numpy import save

    for name, array in tensors.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(f"tensors[{name!r}] must be a NumPy array, got {type(array).__name__}")
    for key, value in (metadata or {}).items():
        if not isinstance(value, str):
            raise TypeError(f"metadata[{key!r}] must be a string, got {type(value).__name__}")
    # The library writes an array's bytes as they lie in memory, so they must lie in C order.
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        data = save(contiguous, dict(metadata) if metadata else None)
    except SafetensorError as error:
        dtypes = sorted({str(array.dtype) for array in tensors.values()})
        raise ValueError(
            f"cannot store arrays of {', '.join(dtypes)} in {path}: {error}"
        ) from error
    write_atomically(path, data)


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


def _as_array(value: Any) -> np.ndarray:
    """Return a tensor's or array's values on the host: files know no devices."""
    return value if isinstance(value, np.ndarray) else value.detach().cpu().numpy()
