"""The runtime as Python calls it: the functions that `runtime/*.cpp` export, through ctypes."""

from __future__ import annotations

import ctypes
from functools import cache

from minicnn.cudasim import build


class RawFinding(ctypes.Structure):
    """`Finding` of `runtime/internal.h`."""

    _fields_ = [
        ("kind", ctypes.c_int32),
        ("access", ctypes.c_int32),
        ("other_access", ctypes.c_int32),
        ("space", ctypes.c_int32),
        ("site", ctypes.c_uint32),
        ("other_site", ctypes.c_uint32),
        ("argument", ctypes.c_int32),
        ("access_bytes", ctypes.c_int32),
        ("column", ctypes.c_int32),
        ("spare", ctypes.c_int32),
        ("block", ctypes.c_int32 * 3),
        ("thread", ctypes.c_int32 * 3),
        ("other_block", ctypes.c_int32 * 3),
        ("other_thread", ctypes.c_int32 * 3),
        ("offset", ctypes.c_int64),
        ("array_bytes", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("name", ctypes.c_char * 64),
        ("detail", ctypes.c_char * 192),
    ]


class RawRow(ctypes.Structure):
    """`Row` of `runtime/statistics.cpp`."""

    _fields_ = [
        ("site", ctypes.c_uint32),
        ("kind", ctypes.c_int32),
        ("space", ctypes.c_int32),
        ("bytes", ctypes.c_int32),
        ("requests", ctypes.c_int64),
        ("lanes", ctypes.c_int64),
        ("sectors", ctypes.c_int64),
        ("ideal_sectors", ctypes.c_int64),
        ("cycles", ctypes.c_int64),
        ("ideal_cycles", ctypes.c_int64),
        ("worst_degree", ctypes.c_int64),
    ]


class RawArray(ctypes.Structure):
    """`ArrayRow` of `runtime/statistics.cpp`."""

    _fields_ = [
        ("argument", ctypes.c_int32),
        ("spare", ctypes.c_int32),
        ("array_bytes", ctypes.c_int64),
        ("read", ctypes.c_int64),
        ("written", ctypes.c_int64),
    ]


# The value in an 8-byte cell a parameter, and what the C function does not return but fills.
_SIGNATURES: dict[str, tuple[type | None, list]] = {
    "cudasim_allocate": (ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_int]),
    "cudasim_free": (None, [ctypes.c_void_p]),
    "cudasim_mark_initialised": (None, [ctypes.c_void_p, ctypes.c_size_t]),
    "cudasim_finding_bytes": (ctypes.c_int, []),
    "cudasim_take_findings": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "cudasim_take_printed": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "cudasim_take_rows": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "cudasim_take_arrays": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
    "cudasim_profiled_blocks": (ctypes.c_uint64, []),
    "cudasim_code_range": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]),
    "cudasim_launch": (
        ctypes.c_int,
        [
            ctypes.c_void_p,  # kernel
            ctypes.c_char_p,  # arguments
            ctypes.c_int,  # how many
            ctypes.c_uint64,  # which are pointers
            ctypes.c_uint64,  # which of them may be written through
            ctypes.c_void_p,  # code range
            ctypes.c_void_p,  # grid
            ctypes.c_void_p,  # block
            ctypes.c_uint,  # bytes of dynamic shared memory
            ctypes.c_uint,  # most bytes of shared memory
            ctypes.c_int,  # mode
            ctypes.c_int,  # order
            ctypes.c_uint64,  # seed
            ctypes.c_int,  # threads
            ctypes.c_int,  # flush denormals
            ctypes.c_uint64,  # profile every so many blocks
        ],
    ),
}


@cache
def runtime() -> ctypes.CDLL:
    """Return the runtime, built if need be."""
    path = build.build('#include "runtime.cpp"\n', build.RUNTIME_FLAGS, "runtime", ("-pthread",))
    # Kernels are loaded later and find the runtime's functions by name.
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    assert library.cudasim_finding_bytes() == ctypes.sizeof(RawFinding)
    return library
