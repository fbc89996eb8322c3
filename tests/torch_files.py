"""PyTorch files put together by hand, byte by byte, sound ones and others.

Each function returns pickle instructions that leave one value on the stack. They follow Python's
`pickletools`, not the writer that they help to test.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # as torch.save begins its streams
VERSION = b"\x80\x02M\xe9\x03."
MACHINE = b"\x80\x02}."


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def group(*items: bytes) -> bytes:
    """A tuple."""
    return b"(" + b"".join(items) + b"t"


def numbers(values: Sequence[int]) -> bytes:
    return group(*map(number, values))


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + group(*arguments) + b"R"


def mapping(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def storage(key: str, count: int, kind: str = "FloatStorage", *view: bytes) -> bytes:
    persistent = (text("storage"), name("torch", kind), text(key), text("cpu"), number(count))
    return group(*persistent, *view) + b"Q"


def tensor(
    stored: bytes, size: Sequence[int], stride: Sequence[int], offset: int = 0, *more: bytes
) -> bytes:
    flags = (b"\x89", call("collections", "OrderedDict"), *more)
    place = (number(offset), numbers(size), numbers(stride))
    return call("torch._utils", "_rebuild_tensor_v2", stored, *place, *flags)


def whole(*instructions: bytes) -> bytes:
    """A pickle."""
    return b"\x80\x02" + b"".join(instructions) + b"."


def write_zip(
    path: Path, pickled: bytes, storages: Mapping[str, bytes], byteorder: bytes | None = b"little"
) -> Path:
    """Write the format of PyTorch 1.6 and later."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        if byteorder is not None:
            archive.writestr("x/byteorder", byteorder)
        for key, data in storages.items():
            archive.writestr(f"x/data/{key}", data)
        archive.writestr("x/version", b"3\n")
    return path


def stream(pickled: bytes, storages: Mapping[str, bytes], width: int = 4) -> bytes:
    """Return the format before it; `width` is the size of the elements."""
    file = io.BytesIO()
    file.write(MAGIC + VERSION + MACHINE + pickled)
    file.write(whole(b"](" + b"".join(map(text, storages)) + b"e"))
    for data in storages.values():
        file.write(struct.pack("<q", len(data) // width) + data)
    return file.getvalue()


def write(path: Path, pickled: bytes, storages: Mapping[str, bytes], format: str) -> Path:
    """Write either."""
    if format == "zip":
        return write_zip(path, pickled, storages)
    path.write_bytes(stream(pickled, storages))
    return path
