"""Where NVIDIA's compiler and tools lie: in wheels, on the system's paths, in a CUDA toolkit.

None of them needs a GPU or a driver. Wheels come first, since their versions are those that pip
was asked for; then what the shell would find; then the toolkit that CUDA_HOME or CUDA_PATH names,
and those in the usual place.
"""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Where the toolkit's installers put it; the newest version first.
USUAL_PLACES = ("/usr/local/cuda", "/opt/cuda")


def find_library(name: str) -> Path | None:
    """Return the shared library `lib<name>.so`, the newest where a folder holds several.

    Args:
        name: of the library, such as "nvrtc".
    """
    pattern = re.compile(rf"lib{re.escape(name)}\.so[.\d]*")
    for folder in [*_wheel_folders("lib"), *_toolkit_folders("lib64", "lib")]:
        files = [path for path in folder.glob(f"lib{name}.so*") if pattern.fullmatch(path.name)]
        if files:
            return max(files, key=_version)
    found = ctypes.util.find_library(name)
    return Path(found) if found else None


def find_tool(name: str) -> Path | None:
    """Return the program `name`, such as "nvdisasm"."""
    for folder in _wheel_folders("bin"):
        if os.access(folder / name, os.X_OK) and (folder / name).is_file():
            return folder / name
    places = os.pathsep.join(str(folder) for folder in _toolkit_folders("bin"))
    found = shutil.which(name) or shutil.which(name, path=places)
    return Path(found) if found else None


def find_header(name: str) -> Path | None:
    """Return the C header `name`, such as "cuda_occupancy.h"."""
    for folder in [*_wheel_folders("include"), *_toolkit_folders("include")]:
        if (folder / name).is_file():
            return folder / name
    return None


def _wheel_folders(kind: str) -> Iterator[Path]:
    """Yield the folders of NVIDIA's wheels: nvidia/cu13/lib, nvidia/cuda_nvrtc/lib, ..."""
    for entry in sys.path:
        yield from sorted((Path(entry) / "nvidia").glob(f"cu*/{kind}"), key=_version, reverse=True)


def _toolkit_folders(*kinds: str) -> Iterator[Path]:
    named = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    usual = [
        str(path)
        for place in map(Path, USUAL_PLACES)
        for path in [place, *sorted(place.parent.glob(f"{place.name}-*"), key=_version)[::-1]]
    ]
    for place in [*named, *usual]:
        for kind in kinds:
            yield Path(place) / kind


def _version(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]
