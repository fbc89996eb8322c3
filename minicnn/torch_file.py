"""Read the weights in PyTorch's `.pth` and `.pt` files without PyTorch, and write them.

`torch.save` has two formats. Both hold a pickle that describes the tensors, and their bytes apart
from it:

- since 1.6 a ZIP archive, nothing in it compressed: `NAME/data.pkl`, one member `NAME/data/KEY` for
  each storage, and `NAME/byteorder`;
- before (and today on request) a stream: three small pickles with a magic number, a version and the
  writer's machine, the pickle of the object, the pickle of a list of keys, and then for each key
  the number of elements (8 bytes) and the elements, always in little-endian order.

Nothing is unpickled: `minicnn.torch_pickle` reads the description and refuses whatever is no plain
tensor. What it says is then checked against the file before an element is read, so that the memory
needed is bounded by the size of the file, whatever the description claims.

Arrays have the dtype of the file, except that bfloat16, which NumPy lacks, becomes float32 (each
value exactly). float8 and quantised, sparse or complex32 tensors are refused.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minicnn.torch_pickle import (
    ADVICE,
    Storage,
    StoredTensor,
    check_dtypes,
    read_pickle,
    write_pickle,
)

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
WRAPPERS = ("state_dict", "model_state_dict", "model")
# Tensors may share and repeat elements; together they may be this many times the file.
MOST_REPEATS = 16
MOST_LISTED = 10
CHUNK = 1 << 20
ALIGNMENT = 64
LOCAL_HEADER = 30  # bytes before a member, without its name and padding

Reader = Callable[[Storage], np.ndarray]


class TorchFile(NamedTuple):
    """The state dict in a file.

    Attributes:
        tensors: C-contiguous, writable arrays that share nothing, by name in the file's order.
        format: "zip" or "stream".
        inside: the key of the outer dict that held the state dict, such as "state_dict", or "".
    """

    tensors: dict[str, np.ndarray]
    format: str
    inside: str


def read_torch_file(file: BinaryIO) -> TorchFile:
    """Read the state dict in a file of `torch.save`.

    A state dict is a dict of tensors by name. If the file holds a dict of other things (a
    checkpoint), the state dict is looked for under `WRAPPERS`; nothing else of it is read.

    Args:
        file: an open file on disk, not empty; its first bytes tell the format.

    Raises:
        ValueError: the file is cut off or damaged, is another ZIP archive or pickle, asks for
            something beyond plain tensors, or holds no state dict.
    """
    start = file.read(4)
    file.seek(0)
    return _read_zip(file) if start.startswith(b"PK") else _read_stream(file)


# The ZIP archive ---------------------------------------------------------------------------------


def _read_zip(file: BinaryIO) -> TorchFile:
    """Read the format of PyTorch 1.6 and later."""
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, size)
            root = _root(members)
            order = archive.read(root + "byteorder") if root + "byteorder" in members else b"little"
            if order not in (b"little", b"big"):
                raise ValueError(f"its byte order is {order[:20]!r}, expected little or big")
            pickled = read_pickle(io.BytesIO(archive.read(root + "data.pkl")))
            for key, storage in pickled.storages.items():
                there = members.get(f"{root}data/{key}")
                if there is None or there.file_size != storage.nbytes:
                    found = "nothing" if there is None else f"{there.file_size} bytes"
                    raise ValueError(
                        f"storage {key} should be {storage.nbytes} bytes, the archive holds {found}"
                    )

            def read(storage: Storage) -> np.ndarray:
                with archive.open(f"{root}data/{storage.key}") as member:
                    return _read_bytes(member, storage.nbytes)

            stored, inside = _state_dict(pickled.value)
            return TorchFile(_arrays(stored, read, size, order == b"big"), "zip", inside)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, struct.error) as error:
        raise ValueError(f"the archive is cut off or damaged: {error}") from error


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's members by name.

    Raises:
        ValueError: they are a program's; one is compressed or encrypted; they claim more than the
            file holds, as those of a decompression bomb do; or two have one name.
    """
    infos = archive.infolist()
    if any(info.filename.endswith("/constants.pkl") for info in infos):
        raise ValueError(
            "it is a TorchScript archive (a program with its weights), expected a state dict; "
            "if you trust it, open it with torch.jit.load and save its state_dict()"
        )
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ValueError(
                f"it is a ZIP archive, but not PyTorch's: {ascii(info.filename)} is compressed or "
                f"encrypted"
            )
    if any(not 0 <= info.header_offset < size for info in infos):
        raise ValueError("the archive is cut off or damaged: a member begins outside of it")
    if sum(info.file_size for info in infos) > size:
        raise ValueError("the archive's members claim more bytes than the file has")
    members = {info.filename: info for info in infos}
    if len(members) != len(infos):
        raise ValueError("the archive holds two members of one name")
    return members


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    """Return the folder that holds everything, with its slash."""
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    roots = [root for root in roots if root.count("/") == 1]
    if len(roots) != 1:
        names = ", ".join(ascii(name) for name in list(members)[:3]) or "nothing"
        raise ValueError(f"it is a ZIP archive, but not PyTorch's: it holds {names}, no data.pkl")
    return roots[0]


# The stream --------------------------------------------------------------------------------------


def _read_stream(file: BinaryIO) -> TorchFile:
    """Read the format of PyTorch before 1.6."""
    size = os.fstat(file.fileno()).st_size
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if read_pickle(data).value != MAGIC:
            raise ValueError(f"it is a Python pickle, but not PyTorch's; {ADVICE}")
        if read_pickle(data).value != VERSION:
            raise ValueError(f"it is of an unknown version of PyTorch's format, not {VERSION}")
        read_pickle(data)  # about the writer's machine; the order of bytes does not depend on it
        pickled = read_pickle(data)
        keys = read_pickle(data).value
        begins = _begins(data, keys, pickled.storages)

    def read(storage: Storage) -> np.ndarray:
        file.seek(begins[storage.key])
        return _read_bytes(file, storage.nbytes)

    stored, inside = _state_dict(pickled.value)
    return TorchFile(_arrays(stored, read, size, False), "stream", inside)


def _begins(data: mmap.mmap, keys: Any, storages: Mapping[str, Storage]) -> dict[str, int]:
    """Return where the elements of each storage begin, and check that the file ends with them."""
    names = keys if type(keys) is list and all(type(key) is str for key in keys) else []
    if len(names) != len(storages) or set(names) != set(storages):
        raise ValueError("its list of storages is not that of its tensors")
    begins, position = {}, data.tell()
    for key in names:
        storage = storages[key]
        count = int.from_bytes(data[position : position + 8], "little")
        begins[key] = position + 8
        if count * storage.dtype.stored.itemsize != storage.nbytes:
            raise ValueError(f"storage {key} has another length than its tensors say")
        position += 8 + storage.nbytes
    if position != len(data):
        raise ValueError(f"the file is cut off or damaged: {len(data)} bytes instead of {position}")
    return begins


# From descriptions to arrays ---------------------------------------------------------------------


def _state_dict(value: Any) -> tuple[dict[str, StoredTensor], str]:
    """Return the state dict in what a pickle held, and the key that it was under."""
    inside = ""
    if type(value) is dict and any(type(item) is not StoredTensor for item in value.values()):
        inside = next((key for key in WRAPPERS if type(value.get(key)) is dict), "")
        value = value[inside] if inside else value
    if type(value) is not dict or not value:
        kind = "one tensor" if type(value) is StoredTensor else f"a {type(value).__name__}"
        what = "an empty dict" if value == {} else kind
        raise ValueError(f"it holds {what}, expected a state dict: tensors by name")
    others = [
        f"{ascii(key)} ({type(item).__name__})"
        for key, item in value.items()
        if type(item) is not StoredTensor or type(key) is not str
    ]
    if others:
        more = f" and {len(others) - MOST_LISTED} more" if len(others) > MOST_LISTED else ""
        raise ValueError(
            f"it holds no state dict, but {', '.join(others[:MOST_LISTED])}{more}; expected "
            f"tensors by name, at the top or under one of {', '.join(WRAPPERS)}"
        )
    return value, inside


def _arrays(
    stored: Mapping[str, StoredTensor], read: Reader, size: int, big_endian: bool
) -> dict[str, np.ndarray]:
    """Read the storages of some tensors one after the other, and make arrays of them."""
    claimed = sum(tensor.nbytes for tensor in stored.values())
    if claimed > MOST_REPEATS * size:
        raise ValueError(
            f"its tensors repeat elements until they take {claimed:,} bytes, more than "
            f"{MOST_REPEATS} times the file's {size:,}"
        )
    users: dict[str, list[str]] = {}
    for name, tensor in stored.items():
        users.setdefault(tensor.storage.key, []).append(name)
    arrays = {}
    for names in users.values():
        data = read(stored[names[0]].storage)
        for name in names:
            array = _array(stored[name], data, big_endian)
            own = len(names) == 1 and array.flags.c_contiguous and array.nbytes == data.nbytes
            arrays[name] = array if own else np.array(array, order="C")
    return {name: arrays[name] for name in stored}


def _array(tensor: StoredTensor, data: np.ndarray, big_endian: bool) -> np.ndarray:
    """Return a tensor's elements, in its storage's memory if they can stay there."""
    dtype = tensor.dtype.stored
    if not tensor.nbytes:
        array = np.empty(tensor.size, dtype)
    else:
        usable = data[: data.nbytes // dtype.itemsize * dtype.itemsize]
        flat = usable.view(dtype.newbyteorder(">" if big_endian else "<"))[tensor.offset :]
        strides = [
            step * dtype.itemsize if side > 1 else 0
            for side, step in zip(tensor.size, tensor.stride, strict=True)
        ]
        array = as_strided(flat, tensor.size, strides).astype(dtype, copy=False)
    if tensor.dtype.name == "bfloat16":
        array = np.left_shift(array, 16, dtype=np.uint32, out=np.empty(array.shape, np.uint32))
        return array.view(np.float32)
    return np.asarray(array != 0) if tensor.dtype.name == "bool" else array


def _read_bytes(file: Any, count: int) -> np.ndarray:
    """Read exactly so many bytes."""
    data = np.empty(count, np.uint8)
    view, done = data.data, 0
    while done < count:
        more = file.readinto(view[done : done + CHUNK])
        if not more:
            raise ValueError("the file is cut off or damaged: it ends within a tensor")
        done += more
    return data


# Writing -----------------------------------------------------------------------------------------


def write_torch_file(file: BinaryIO, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a state dict as `torch.save` does today; `torch.load` reads it, weights only.

    Args:
        file: open for writing, seekable, empty.
        tensors: arrays by name, in any memory order.

    Raises:
        ValueError: PyTorch's files cannot hold a dtype.
    """
    check_dtypes(tensors)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in _new_members(tensors):
            info = zipfile.ZipInfo(f"archive/{name}")
            # Padded as PyTorch does, so that tensors can be mapped into memory where they lie.
            begin = file.tell() + LOCAL_HEADER + len(info.filename) + 4
            padding = -begin % ALIGNMENT
            info.extra = b"FB" + struct.pack("<H", padding) + bytes(padding)
            archive.writestr(info, data)


def _new_members(tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Any]]:
    """Yield the names and contents of an archive's members."""
    yield "data.pkl", write_pickle(tensors)
    yield "byteorder", b"little"
    for key, array in enumerate(tensors.values()):
        flat = np.asarray(array, array.dtype.newbyteorder("<"), order="C").reshape(-1)
        yield f"data/{key}", flat.view(np.uint8).data
    yield "version", b"3\n"
