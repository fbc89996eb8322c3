"""What a `.cu` text says about its kernels: names, template parameters, parameters.

Read by pattern, not by a C++ parser: enough for kernels written as

    template <typename T, int TILE = 16>
    __global__ void __launch_bounds__(256) scale(const T* __restrict__ input, T factor, int n)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

DTYPES: dict[str, type[np.generic]] = {
    "bool": np.bool_,
    "char": np.int8,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "short": np.int16,
    "unsigned short": np.uint16,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "size_t": np.uint64,
    "float": np.float32,
    "double": np.float64,
}

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_KERNEL = re.compile(
    r"(?:template\s*<(?P<template>[^>]*)>\s*)?"
    r'(?:extern\s+"C"\s+)?(?:static\s+)?__global__\s+(?:void\s+)?'
    r"(?:__launch_bounds__\s*\([^()]*\)\s*)?(?:void\s+)?"
    r"(?P<name>\w+)\s*\((?P<parameters>[^)]*)\)\s*\{"
)
_DYNAMIC_SHARED = re.compile(r"\bextern\s+__shared__|\b__shared__\s+extern")
_QUALIFIER = re.compile(r"\b(?:const|volatile|__restrict__|__restrict|restrict)\b")
# A float4* may point into any array of floats.
_VECTOR = re.compile(r"(float|double|int|uint)([234])")


@dataclass(frozen=True)
class Parameter:
    """One parameter: `const T* __restrict__ input` is ("input", "T", pointer, constant)."""

    name: str
    ctype: str
    pointer: bool
    constant: bool


@dataclass(frozen=True)
class Declaration:
    """A kernel as the text declares it.

    Attributes:
        name: without template arguments.
        template: the template's parameters as (kind, name, default or ""), such as
            ("typename", "T", "").
        parameters: in order.
        dynamic_shared: whether it has an array whose size the launch decides.
    """

    name: str
    template: tuple[tuple[str, str, str], ...]
    parameters: tuple[Parameter, ...]
    dynamic_shared: bool


def find_kernels(source: str) -> list[Declaration]:
    """Return the kernels that a `.cu` text defines, in its order."""
    plain = _COMMENT.sub(" ", source)
    heads = list(_KERNEL.finditer(plain))
    ends = [head.start() for head in heads[1:]] + [len(plain)]
    return [
        Declaration(
            head["name"],
            _template(head["template"]),
            tuple(_parameter(part) for part in head["parameters"].split(",") if part.strip()),
            bool(_DYNAMIC_SHARED.search(plain, head.end(), end)),
        )
        for head, end in zip(heads, ends, strict=False)
    ]


def element_dtype(ctype: str) -> np.dtype | None:
    """Return the NumPy dtype of a C type, for float4 that of its parts; None for others."""
    vector = _VECTOR.fullmatch(ctype)
    if vector:
        ctype = "unsigned" if vector[1] == "uint" else vector[1]
    return np.dtype(DTYPES[ctype]) if ctype in DTYPES else None


def _template(text: str | None) -> tuple[tuple[str, str, str], ...]:
    parts = []
    for part in (text or "").split(","):
        declared, _, default = part.partition("=")
        words = declared.split()
        if words:
            parts.append((" ".join(words[:-1]), words[-1], default.strip()))
    return tuple(parts)


def _parameter(text: str) -> Parameter:
    constant = bool(re.search(r"\bconst\b", text))
    words = _QUALIFIER.sub(" ", text).replace("*", " * ").replace("[]", " * ").split()
    pointer = "*" in words
    *ctype, name = [word for word in words if word != "*"] or [""]
    return Parameter(name, " ".join(ctype), pointer, constant)
