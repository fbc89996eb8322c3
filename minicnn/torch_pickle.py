"""Read the pickles inside PyTorch's files without unpickling anything, and write them.

A pickle is a program for a small stack machine, and Python's machine lets it import and call
whatever it names: opening a foreign file with `pickle` or an old `torch.load` hands it the
computer. The machine here knows only the instructions that a state dict needs. A name is looked up
in a table of this file (`KNOWN`); no module is imported, no object is built but dicts, lists,
tuples, strings, numbers and the two records below, and the first name or instruction beyond that
ends the reading. So a file that asks for `os.system` has run nothing when it is refused.

What `torch.save` writes for a tensor is a call of `torch._utils._rebuild_tensor_v2` with a storage,
which is named by its key only (a "persistent id"), an offset, a size and strides. Whether they stay
within the storage is checked here, in Python's unbounded integers.

Source: the instructions are described in Python's `pickletools`; the calls are those of PyTorch's
`torch/_utils.py` and `torch/serialization.py`.
"""

from __future__ import annotations

import math
import pickletools
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import numpy as np

MOST_DIMENSIONS = 64  # NumPy's limit
LARGEST = 2**48  # elements: more than any memory has, far less than overflows an address
NETWORKS = ("torch.nn.modules.", "torchvision.models.", "timm.models.")
ADVICE = "if you trust the file, load it with PyTorch and save its state_dict()"


class Readable(Protocol):
    """What a pickle is read from: an open file, a BytesIO or an mmap."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""

    def readline(self) -> bytes:
        """Return the next line."""

    def tell(self) -> int:
        """Return the position."""


class DType(NamedTuple):
    """A dtype of PyTorch: its name there, and how NumPy sees its bytes."""

    name: str
    stored: np.dtype


class Storage(NamedTuple):
    """A run of bytes that the file keeps elsewhere, under a key."""

    key: str
    dtype: DType
    nbytes: int


class StoredTensor(NamedTuple):
    """A tensor as the file describes it; offset and strides count elements of the storage."""

    storage: Storage
    dtype: DType
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of its elements, laid out one after the other."""
        return math.prod(self.size) * self.dtype.stored.itemsize


class Pickled(NamedTuple):
    """What a pickle says: a value, and every storage it mentions, by key."""

    value: Any
    storages: dict[str, Storage]


# name, storage class, NumPy's view of the bytes. A bfloat16 is the upper half of a float32.
_DTYPES = [
    ("float64", "DoubleStorage", "f8"),
    ("float32", "FloatStorage", "f4"),
    ("float16", "HalfStorage", "f2"),
    ("bfloat16", "BFloat16Storage", "u2"),
    ("int64", "LongStorage", "i8"),
    ("int32", "IntStorage", "i4"),
    ("int16", "ShortStorage", "i2"),
    ("int8", "CharStorage", "i1"),
    ("uint8", "ByteStorage", "u1"),
    ("bool", "BoolStorage", "u1"),
    ("complex64", "ComplexFloatStorage", "c8"),
    ("complex128", "ComplexDoubleStorage", "c16"),
    ("uint16", "", "u2"),
    ("uint32", "", "u4"),
    ("uint64", "", "u8"),
]
_BYTES = DType("bytes", np.dtype("u1"))
_STORAGE_CLASSES = {name: storage for name, storage, _ in _DTYPES if storage}


# The calls that a state dict makes --------------------------------------------------------------


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """`collections.OrderedDict`; Python 2 gives it a list of pairs."""
    result: dict[Any, Any] = {}
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise ValueError("its pickle builds a dict of what are not pairs")
        _set_item(result, *pair)
    return result


def _size(numbers: Any = ()) -> tuple[Any, ...]:
    """`torch.Size`."""
    return tuple(numbers)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *flags: Any, dtype: Any = None
) -> StoredTensor:
    """`torch._utils._rebuild_tensor`, and `_v2`, which adds flags about gradients."""
    if type(storage) is not Storage:
        raise ValueError("its pickle makes a tensor of something that is no storage")
    if len(flags) > 2 and flags[2]:
        raise ValueError("a tensor in it is stored conjugated or negated, which is not read")
    if dtype is None:
        dtype = storage.dtype
    sizes_fit = type(size) is tuple and type(stride) is tuple and len(size) == len(stride)
    numbers = (offset, *size, *stride) if sizes_fit else (None,)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a tensor in it has an offset, size or stride that is no natural number")
    tensor = StoredTensor(storage, dtype, offset, size, stride)
    if len(size) > MOST_DIMENSIONS or math.prod(side or 1 for side in size) > LARGEST:
        raise ValueError(f"a tensor in it claims {len(size)} dimensions and too many elements")
    if tensor.nbytes:
        last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
        if (last + 1) * dtype.stored.itemsize > storage.nbytes:
            raise ValueError(
                f"a tensor of size {size} in it reaches beyond its storage of {storage.nbytes} "
                f"bytes"
            )
    return tensor


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any,
    metadata: Any = None,
) -> StoredTensor:  # fmt: skip
    """`torch._utils._rebuild_tensor_v3`: the dtype is the tensor's, the storage is bytes."""
    if type(dtype) is not DType:
        raise ValueError("its pickle makes a tensor of something that is no dtype")
    return _tensor(storage, offset, size, stride, grad, hooks, metadata, dtype=dtype)


def _parameter(data: Any, *flags: Any) -> StoredTensor:
    """`torch._utils._rebuild_parameter`, and `Parameter` itself in files of 2017."""
    if type(data) is not StoredTensor:
        raise ValueError("its pickle makes a parameter of something that is no tensor")
    return data


# All that a pickle can name. The functions are those above, whatever the names stand for elsewhere.
KNOWN: dict[str, Any] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.storage.UntypedStorage": _BYTES,
}
for _dtype, _storage, _stored in _DTYPES:
    KNOWN[f"torch.{_dtype}"] = DType(_dtype, np.dtype(_stored))
    if _storage:
        KNOWN[f"torch.{_storage}"] = KNOWN[f"torch.{_dtype}"]


# The machine -------------------------------------------------------------------------------------

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict,
}  # fmt: skip
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(file: Readable) -> Pickled:
    """Read one pickle, up to its end; the file is left there.

    Raises:
        ValueError: it asks for something that a state dict does not need (named), or is damaged.
            Nothing was imported, called or built on its behalf.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            # An odd escape in a name, of which pickletools warns, is no news to anyone.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", SyntaxWarning)
            for opcode, argument in _instructions(file):
                machine.step(opcode, argument)
        return Pickled(machine.stack.pop(), machine.storages)
    except (IndexError, KeyError) as error:
        raise ValueError("its pickle is damaged: it takes what is not there") from error


def _instructions(file: Readable) -> Iterator[tuple[str, Any]]:
    """Yield the name and argument of each instruction."""
    try:
        for opcode, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]
            yield opcode.name, argument
    except (ValueError, OverflowError, struct.error) as error:
        raise ValueError(f"its pickle is cut off or damaged: {str(error)[:100]}") from error


class _Machine:
    """The stack, the marks on it, and what was put aside by number."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Carry out one instruction."""
        stack = self.stack
        if opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode]())
        elif opcode in _TUPLES:
            stack.append(tuple(self._pop(_TUPLES[opcode])))
        elif opcode in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if argument is None else argument] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode == "MARK":
            self.marks.append(len(stack))
        elif opcode == "TUPLE":
            stack.append(tuple(self._pop_mark()))
        elif opcode in ("APPEND", "APPENDS"):
            items = self._pop_mark() if opcode == "APPENDS" else self._pop(1)
            _expect(stack[-1], list, "appends to").extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = self._pop_mark() if opcode == "SETITEMS" else self._pop(2)
            target = _expect(stack[-1], dict, "sets items of")
            if len(items) % 2:
                raise IndexError(len(items))
            for key, value in zip(items[::2], items[1::2], strict=True):
                _set_item(target, key, value)
        elif opcode == "GLOBAL":
            stack.append(_look_up(_name(argument)))
        elif opcode == "STACK_GLOBAL":
            stack.append(_look_up(".".join(_text(part) for part in self._pop(2))))
        elif opcode == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(_call(function, arguments))
        elif opcode == "BUILD":
            # The state of a dict or parameter: versions of modules, whether to train. Not needed.
            target, _ = self._pop(2)
            if type(target) not in (dict, StoredTensor):
                raise ValueError("its pickle sets the state of something that has none")
            stack.append(target)
        elif opcode == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(_refusal(f"uses the instruction {opcode} {_name(argument)}"))

    def _pop(self, count: int) -> list[Any]:
        """Return the last items of the stack, which loses them."""
        if len(self.stack) < count:
            raise IndexError(count)
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_mark(self) -> list[Any]:
        """Return what was put on the stack since the last mark."""
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def _storage(self, persistent: Any) -> Storage:
        """Return the storage that a persistent id means."""
        kind, dtype, key, _, numel, *view = (
            persistent if type(persistent) is tuple and len(persistent) in (5, 6) else (None,) * 5
        )
        if kind != "storage" or type(dtype) is not DType:
            raise ValueError(_refusal(f"refers to something that is no storage ({_text(kind)})"))
        if type(key) is not str or not (key.isascii() and key.isdigit()):
            raise ValueError(f"a storage in it is called {_text(key)}, expected a number")
        if type(numel) is not int or not 0 <= numel <= LARGEST:
            raise ValueError(f"storage {key} in it claims {_text(numel)} elements")
        if view != [] and view != [None]:
            raise ValueError(f"storage {key} in it is a part of another, which is not read")
        storage = Storage(key, dtype, numel * dtype.stored.itemsize)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"storage {key} in it is described twice, differently")
        return storage


def _look_up(name: str) -> Any:
    """Return what a name stands for here.

    Raises:
        ValueError: nothing.
    """
    if name in KNOWN:
        return KNOWN[name]
    if name.startswith(NETWORKS):
        raise ValueError(
            f"it is a whole pickled network ({_text(name)}), expected its state dict; nothing of "
            f"it was run; {ADVICE}"
        )
    raise ValueError(_refusal(f"asks for {_text(name)}"))


def _call(function: Any, arguments: Any) -> Any:
    """Call one of the functions of this file: no other can have come onto the stack."""
    if type(function) is not FunctionType or type(arguments) is not tuple:
        raise ValueError(_refusal("calls something that is no function"))
    try:
        return function(*arguments)
    except TypeError as error:
        raise ValueError("its pickle makes a call with wrong arguments") from error


def _set_item(target: dict[Any, Any], key: Any, value: Any) -> None:
    # Hashing a tuple nested a million deep would overflow the stack of the interpreter.
    if type(key) not in (str, int):
        raise ValueError(f"a dict in it has a key of type {type(key).__name__}, expected text")
    target[key] = value


def _expect(value: Any, kind: type, action: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"its pickle {action} something that is no {kind.__name__}")
    return value


def _name(argument: Any) -> str:
    """Return module.name from what `pickletools` gives: both in one string."""
    return argument.replace(" ", ".") if type(argument) is str else _text(argument)


def _text(value: Any) -> str:
    """Return what a message may show of a value: one short line, whatever it is."""
    if type(value) is str:
        return value if value.isprintable() and len(value) < 100 else ascii(value[:100])
    return str(value)[:100] if type(value) in (int, bool) else type(value).__name__


def _refusal(what: str) -> str:
    return (
        f"its pickle {what}, which plain tensors do not need (a pickle can run any program); "
        f"nothing of it was run; {ADVICE}"
    )


# Writing -----------------------------------------------------------------------------------------


def check_dtypes(tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse what `write_pickle` cannot describe.

    Raises:
        ValueError: PyTorch's files have no storage of an array's dtype.
    """
    for name, array in tensors.items():
        if array.dtype.name not in _STORAGE_CLASSES:
            raise ValueError(f"tensors[{name!r}]: PyTorch's files have no storage of {array.dtype}")


def write_pickle(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return the pickle of a state dict whose storages are called 0, 1, 2, ... in its order.

    Args:
        tensors: arrays by name, of dtypes that `check_dtypes` lets pass; the storages must hold
            their elements in C order.
    """
    made = _global("collections", "OrderedDict") + b")R"
    entries = [
        _string(name)
        + _global("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + b"(" + _string("storage") + _global("torch", _STORAGE_CLASSES[array.dtype.name])
        + _string(str(key)) + _string("cpu") + _integer(array.size) + b"tQ"
        + _integer(0) + _integers(array.shape) + _integers(_strides(array.shape))
        + b"\x89" + made  # no gradient, no hooks
        + b"tR"
        for key, (name, array) in enumerate(tensors.items())
    ]  # fmt: skip
    return b"\x80\x02" + made + b"(" + b"".join(entries) + b"u."


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Return C order's strides, counted in elements."""
    return [math.prod(side or 1 for side in shape[axis + 1 :]) for axis in range(len(shape))]


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _string(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(number: int) -> bytes:
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _integers(numbers: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, numbers)) + b"t"
