"""A kernel's parameters: what each argument of a launch must be, and the bytes that C gets of it.

CuPy passes what it is given: a Python float as eight bytes where the kernel reads four, an array of
the wrong dtype as a pointer like any other. Here every argument is held to the types that the
compiled kernel itself tells, and an error names kernel, parameter, what came and what was expected.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minicnn.cudasim.devices import current
from minicnn.cudasim.errors import ArgumentTypeError, ArgumentValueError, CompileError

# By the letters of the signature: NumPy's dtype, the C name, and struct's letter.
_SCALARS: dict[str, tuple[np.dtype, str, str]] = {
    key: (np.dtype(dtype), name, letter)
    for key, dtype, name, letter in [
        ("b1", np.bool_, "bool", "?"),
        ("i1", np.int8, "signed char", "b"),
        ("u1", np.uint8, "unsigned char", "B"),
        ("i2", np.int16, "short", "h"),
        ("u2", np.uint16, "unsigned short", "H"),
        ("i4", np.int32, "int", "i"),
        ("u4", np.uint32, "unsigned", "I"),
        ("i8", np.int64, "long long", "q"),
        ("u8", np.uint64, "unsigned long long", "Q"),
        ("f4", np.float32, "float", "f"),
        ("f8", np.float64, "double", "d"),
    ]
}


@dataclass(frozen=True)
class _Parameter:
    """What one argument must be; `scalar` is the NumPy type of a number, None for an array."""

    name: str
    pointer: bool
    dtype: np.dtype | None
    ctype: str
    scalar: type | None


class Signature:
    """A kernel's parameters: checks arguments and packs them into cells of eight bytes."""

    def __init__(self, kernel: str, types: Sequence[str], names: Sequence[str]):
        self.kernel = kernel
        self.types = types
        self.names = [
            names[i] if i < len(names) and names[i] else f"argument {i}" for i in range(len(types))
        ]
        self.parameters = [self._parameter(*pair) for pair in zip(types, self.names, strict=True)]
        letters = [
            "Q" if p.pointer else _SCALARS[t][2]
            for p, t in zip(self.parameters, types, strict=True)
        ]
        # Every value at the start of a cell: short ones are followed by padding.
        self._packer = struct.Struct(
            "=" + "".join(f"{a}{8 - struct.calcsize('=' + a)}x" for a in letters)
        )
        self.pointers = sum(1 << i for i, p in enumerate(self.parameters) if p.pointer)
        self.written = sum(1 << i for i, t in enumerate(types) if t[0] == "P" and t[1] != "C")
        # A GPU flushes denormal floats, never doubles; the CPU knows one switch for both.
        self.flush = any(t.endswith("f4") for t in types) or not any(
            t.endswith("f8") for t in types
        )

    def _parameter(self, key: str, name: str) -> _Parameter:
        if key[0] == "P":
            kind = key.lstrip("PC")
            known = kind in _SCALARS
            dtype, ctype = (_SCALARS[kind][0], _SCALARS[kind][1]) if known else (None, "void")
            return _Parameter(name, True, dtype, f"{ctype}*", None)
        if key not in _SCALARS:
            raise CompileError(f"{self.kernel}: parameter {name} is neither a pointer nor a number")
        dtype, ctype, _ = _SCALARS[key]
        return _Parameter(name, False, dtype, ctype, dtype.type)

    def pack(self, args: Sequence[Any]) -> bytes:
        """Return the arguments' values.

        Raises:
            ArgumentTypeError, ArgumentValueError: naming the kernel and the parameter.
        """
        parameters = self.parameters
        if len(args) != len(parameters):
            wanted = ", ".join(f"{p.ctype} {p.name}" for p in parameters)
            raise ArgumentValueError(
                f"{self.kernel}: got {len(args)} arguments, expected {len(parameters)}: {wanted}"
            )
        values = []
        for argument, parameter in zip(args, parameters, strict=True):
            if parameter.scalar is not None:
                if type(argument) is not parameter.scalar:
                    raise self._wrong_number(argument, parameter)
                values.append(argument)
            elif argument is None:
                values.append(0)
            else:
                values.append(self._address(argument, parameter))
        return self._packer.pack(*values)

    def _address(self, array: Any, parameter: _Parameter) -> int:
        name = f"{self.kernel}: argument {parameter.name}"
        if isinstance(array, np.ndarray):
            raise ArgumentTypeError(
                f"{name} is a NumPy array in the host's memory, expected a device array; "
                "move it with cudasim.asarray()"
            )
        try:
            pointer, dtype, contiguous = array.data, array.dtype, array.flags.c_contiguous
            address, device = pointer.ptr, pointer.device_id
        except AttributeError:
            kind = type(array).__name__
            raise ArgumentTypeError(
                f"{name} is a {kind}, expected a device array for {parameter.ctype}"
            ) from None
        if parameter.dtype is not None and dtype != parameter.dtype:
            raise ArgumentTypeError(
                f"{name} is an array of {dtype}, expected {parameter.dtype} for {parameter.ctype}"
            )
        if device != current.number:
            raise ArgumentValueError(
                f"{name} is on device {device}, expected device {current.number}, the current one; "
                f"launch inside `with cudasim.cuda.Device({device}):`"
            )
        if not contiguous:
            raise ArgumentValueError(
                f"{name} of shape {array.shape} has strides {array.strides}, expected C-contiguous "
                "memory; a kernel gets the bare pointer: pass cudasim.ascontiguousarray()"
            )
        return address

    def _wrong_number(self, value: Any, parameter: _Parameter) -> ArgumentTypeError:
        name = f"{self.kernel}: argument {parameter.name}"
        assert parameter.scalar is not None
        wanted = f"numpy.{parameter.scalar.__name__}"
        if isinstance(value, (bool, int, float, complex)) and not isinstance(value, np.generic):
            return ArgumentTypeError(
                f"{name} is the Python {type(value).__name__} {value!r}, expected {wanted}; CuPy "
                f"would pass 8 or 16 bytes where the kernel reads {parameter.ctype}"
            )
        kind = f"numpy.{value.dtype}" if isinstance(value, np.generic) else type(value).__name__
        return ArgumentTypeError(f"{name} is {kind}, expected {wanted} for {parameter.ctype}")
