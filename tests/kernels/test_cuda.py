"""Every CUDA kernel, rung and dtype against its reference and its Numba twin.

On the simulated device: on both routes, in three thread orders, with too few blocks, and in check
mode, which must find nothing. On a real GPU, where there is one: with enough blocks and too few.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from minicnn.backend import array_module, is_available
from minicnn.kernelcheck import (
    CONFIGURATIONS,
    build_ahead,
    cases,
    check_case,
    expected_results,
    needed_builds,
    run_case,
)
from minicnn.kernelcheck.case import make_arguments
from minicnn.kernels import _launch
from minicnn.kernels.gemm import tiles_for
from tests import census
from tests.needs import FOUND, needs_compiler, needs_nvrtc

DTYPES = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}
TARGETS = {"shim": [needs_compiler], "ptx": [needs_compiler, needs_nvrtc], "cuda": []}


def pytest_generate_tests(metafunc):
    if "target" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("device")
    if chosen == "cpu":
        targets = []
    elif chosen == "cuda":
        targets = ["cuda"]
    else:
        targets = ["shim", "ptx", *(["cuda"] if chosen is None and is_available("cuda") else [])]
    metafunc.parametrize("target", [pytest.param(t, marks=TARGETS[t]) for t in targets])


@pytest.fixture(scope="module", autouse=True)
def built_ahead(request):
    """Keep all cores compiling in a first run: the cases need one, and mostly wait."""
    modes = list(dict.fromkeys(way.mode for way in CONFIGURATIONS))
    found = {"shim": FOUND["compiler"], "ptx": FOUND["compiler"] and FOUND["nvrtc"]}

    def needed():
        for item in request.session.items:
            asked = item.callspec.params if hasattr(item, "callspec") else {}
            if item.path == request.path and found.get(asked.get("target"), False):
                case, dtype = cases(asked["stem"])[asked["index"]], DTYPES[asked["dtype"]]
                yield from needed_builds(asked["stem"], case, dtype, [asked["target"]], modes)

    with build_ahead(needed()):
        yield


@cache
def arguments_and_results(stem, index, name):
    case = cases(stem)[index]
    arguments = make_arguments(case, DTYPES[name])
    return arguments, expected_results(stem, case, arguments)


def ways(target):
    """Yield the ways in which a case must give its results: name, build, context.

    Check mode is another build of the kernel, in which the compiler rounds products elsewhere.
    """
    if target == "cuda":
        yield "as many blocks as it takes", "", nullcontext()
        yield "at most 2 blocks", "", _launch.limit_blocks(2)
    for way in CONFIGURATIONS:
        if way.route == target:
            yield str(way), way.mode, way.active()


def asked() -> Iterator[Any]:
    """Yield every case with each dtype; rungs that float64 does not take by itself are slow."""
    for stem in _launch.stems():
        for i, case in enumerate(cases(stem)):
            for dtype in DTYPES:
                unusual = dtype == "double" and case.label.startswith("fused")
                marks = [pytest.mark.slow] if unusual else []
                yield pytest.param(stem, i, dtype, id=f"{stem}: {case}-{dtype}", marks=marks)


@pytest.mark.parametrize("stem, index, dtype", list(asked()))
def test_kernel_equals_its_reference_and_its_twin(stem, index, dtype, target):
    case = cases(stem)[index]
    arguments, expected = arguments_and_results(stem, index, dtype)
    xp = array_module("cuda" if target == "cuda" else "cuda:sim")
    before = {}
    for name, build, context in ways(target):
        with context, _launch.record() as launches:
            try:
                results = check_case(stem, case, arguments, expected, xp)
            except Exception as error:
                raise AssertionError(f"{name}: {error}") from error
        # No kernel adds in the order in which threads arrive: no order and no number of blocks may
        # change a bit.
        bits = [array.tobytes() for array in results]
        assert bits == before.setdefault(build, bits), f"{name}: other bits than the first run's"
        census.count(target, (f"{launch.stem}: {launch.kernel}" for launch in launches))


def instantiations():
    """Return those of the tiled kernels that a host function can choose, by its own rules."""
    found = set()
    for name, dtype in DTYPES.items():
        thread_rows = {tiles_for(rows, 1, dtype)[0] for rows in range(1, 300)}
        for rows, wide in product(thread_rows, (1, 16 // dtype.itemsize)):
            for op in ("forward", "backward_data", "backward_weight"):
                found.add(f"conv2d_{op}_tiled_cuda<{name}, {rows}, {wide}>")
            for a, b in product((0, 1), (0, 1)):
                found.add(f"gemm_tiled_cuda<{name}, {rows}, {wide}, {a}, {b}>")
    return found


@needs_compiler
def test_every_instantiation_of_the_tiled_kernels_is_launched_by_a_case():
    launched = set()
    for stem in ("conv2d", "gemm"):
        for case, dtype in product(cases(stem), DTYPES.values()):
            with _launch.record(run=False) as launches:
                run_case(stem, case, make_arguments(case, dtype), array_module("cuda:sim"))
            launched |= {one.kernel for one in launches if one.kernel.count(",") > 1}
    assert launched == instantiations()


@needs_compiler
@pytest.mark.parametrize("stem", _launch.stems())
def test_every_kernel_is_launched_by_a_case_in_both_dtypes(stem):
    launched = set()
    xp = array_module("cuda:sim")
    for case in cases(stem):
        for dtype in DTYPES.values():
            with _launch.record() as launches:
                run_case(stem, case, make_arguments(case, dtype), xp)
            launched |= {launch.kernel for launch in launches if launch.stem == stem}
    for signature in _launch.signatures(stem).values():
        for c_name in DTYPES if signature.template else [""]:
            prefix = f"{signature.name}<{c_name}" if c_name else signature.name
            assert any(kernel.startswith(prefix) for kernel in launched), f"{prefix} never ran"
