"""What a test needs from the machine; where it is missing the test skips, or must not.

    from tests.needs import needs_nvrtc

    @needs_nvrtc
    def test_...

The environment variable MINICNN_EXPECT names what this machine is said to have, such as
`compiler,nvrtc,nvdisasm,cupy,torch`. If one of these is missing, the tests that need it fail: an
incomplete machine cannot look like a tested one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

from minicnn.cudasim import toolkit

COMPILERS = ("g++", "clang++")


def has_compiler() -> bool:
    """Say whether a C++ compiler is there."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name)


FOUND = {
    "compiler": has_compiler(),
    "nvrtc": toolkit.find_library("nvrtc") is not None,
    "nvdisasm": toolkit.find_tool("nvdisasm") is not None,
    "cupy": importlib.util.find_spec("cupy") is not None,
    "torch": importlib.util.find_spec("torch") is not None,
}
REMEDY = {
    "compiler": "g++ or clang++",
    "nvrtc": "pip install nvidia-cuda-nvrtc",
    "nvdisasm": "pip install nvidia-cuda-nvdisasm",
    "cupy": "pip install cupy-cuda13x",
    "torch": "pip install torch",
}


def expected(listed: str | None = None) -> set[str]:
    """Return the names in MINICNN_EXPECT, or in `listed`.

    Raises:
        ValueError: it holds a name that no test can need.
    """
    text = os.environ.get("MINICNN_EXPECT", "") if listed is None else listed
    names = {name.strip() for name in text.split(",")} - {""}
    if unknown := names - set(FOUND):
        raise ValueError(f"MINICNN_EXPECT: got {sorted(unknown)}, expected some of {list(FOUND)}")
    return names


def needs(name: str) -> pytest.MarkDecorator:
    """Return the mark of tests that need `name`: skip where it is missing, unless expected.

    Raises:
        RuntimeError: it is missing although MINICNN_EXPECT names it.
    """
    if not FOUND[name] and name in expected():
        raise RuntimeError(f"MINICNN_EXPECT names {name}, which is missing ({REMEDY[name]})")
    return pytest.mark.skipif(not FOUND[name], reason=f"needs {name} ({REMEDY[name]})")


needs_compiler = needs("compiler")
needs_nvrtc = needs("nvrtc")
needs_nvdisasm = needs("nvdisasm")
needs_cupy = needs("cupy")
needs_torch = needs("torch")
