"""What is built ahead is all that the launches of a case need, and nothing is built twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim import build
from minicnn.kernelcheck import build_ahead, cases, needed_builds, run_case
from minicnn.kernelcheck.case import make_arguments
from minicnn.kernels import _launch
from tests.needs import needs_compiler

pytestmark = needs_compiler
FLOAT32 = np.dtype(np.float32)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Begin with an empty cache; return the list of what the compiler is asked to compile."""
    cudasim.zeros(1)  # the runtime stays
    monkeypatch.setenv("MINICNN_CUDASIM_CACHE", str(tmp_path))
    _launch.fetch.cache_clear()
    texts, run = [], build._run

    def counted(command, text=None):
        texts.extend([] if text is None else [text])
        run(command, text)

    monkeypatch.setattr(build, "_run", counted)
    yield texts
    _launch.fetch.cache_clear()


def test_a_case_finds_everything_built(compiled):
    case = cases("activation")[0]
    modes = ["fast", "check"]
    needed = needed_builds("activation", case, FLOAT32, ["shim"], modes)
    assert not compiled
    with build_ahead([*needed, *needed], threads=2) as builds:
        wait(builds)
    assert len(builds) == len(compiled) == len(modes)
    for mode in modes:
        with cudasim.settings(mode=mode):
            run_case("activation", case, make_arguments(case, FLOAT32), cudasim)
    assert len(compiled) == len(modes)


def test_what_is_not_begun_at_the_end_is_given_up(compiled):
    needed = needed_builds("activation", cases("activation")[0], FLOAT32, ["shim"], ["fast"])
    more = needed_builds("softmax", cases("softmax")[0], FLOAT32, ["shim"], ["fast", "check"])
    with build_ahead([*needed, *more], threads=1) as builds:
        wait(builds[:1])
    assert builds[0].done() and builds[-1].cancelled()


def test_threads_that_need_the_same_library_build_it_once(compiled):
    text = 'extern "C" int answer() { return 42; }\n'
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: build.build(text, ["-O0", "-fPIC"], "same"), range(8)))
    assert len(paths) == 1
    assert compiled == [text]
