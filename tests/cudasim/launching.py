"""Launch a kernel given as text, and find the lines that its comments mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from minicnn import cudasim


def kernel(code: str, name: str = "k", options: Sequence[str] = ()) -> Any:
    """Return a kernel of a text; a template's instantiation by its name expression."""
    expressions = [name] if "<" in name else None
    module = cudasim.RawModule(code=code, options=options, name_expressions=expressions)
    return module.get_function(name)


def marked(code: str, mark: str = "HERE") -> int:
    """Return the number of the one line that holds `// <mark>`."""
    lines = [n for n, line in enumerate(code.splitlines(), 1) if line.endswith(f"// {mark}")]
    assert len(lines) == 1, f"{mark} marks {len(lines)} lines"
    return lines[0]


def zeros(size: int = 64, dtype: Any = np.float32) -> cudasim.ndarray:
    """Return a device array of zeros."""
    return cudasim.zeros(size, dtype)


def findings(
    code: str,
    grid: int,
    block: int,
    args: Sequence[Any],
    shared_mem: int = 0,
    mode: str = "check",
    order: str = "ascending",
    name: str = "k",
) -> list[cudasim.Finding]:
    """Return what a launch that must fail is said to do wrong."""
    with cudasim.settings(mode=mode, order=order, threads=1):
        with pytest.raises(cudasim.SimulationError) as caught:
            kernel(code, name)((grid,), (block,), tuple(args), shared_mem=shared_mem)
    assert caught.value.findings
    return caught.value.findings


def runs(
    code: str, grid: int, block: int, args: Sequence[Any], shared_mem: int = 0, name: str = "k"
) -> None:
    """Launch a kernel that does nothing wrong, in check mode and every order."""
    function = kernel(code, name)
    for order in ("ascending", "descending", "random"):
        with cudasim.settings(mode="check", order=order, seed=3):
            function((grid,), (block,), tuple(args), shared_mem=shared_mem)
