"""The build cache, the choice of compiler, and what is said when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim import build
from tests.cudasim.launching import kernel, zeros
from tests.needs import COMPILERS, needs_compiler

CODE = 'extern "C" __global__ void k(int* a) { a[threadIdx.x] += NUMBER; }'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINICNN_CUDASIM_CACHE", str(tmp_path))
    return tmp_path


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINICNN_CUDASIM_CACHE", str(tmp_path / "own"))
    assert build.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MINICNN_CUDASIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "minicnn" / "cudasim"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / ".cache" / "minicnn" / "cudasim"


@needs_compiler
def test_what_is_built_is_kept(cache: Path) -> None:
    for number, files in [(1, 1), (1, 1), (2, 2)]:
        a = zeros(4, np.int32)
        kernel(CODE, options=(f"-DNUMBER={number}",))((1,), (4,), (a,))
        np.testing.assert_array_equal(a.get(), number)
        assert len(list(cache.iterdir())) == files
    with cudasim.settings(mode="check"):
        kernel(CODE, options=("-DNUMBER=2",))((1,), (4,), (a,))
    assert len(list(cache.iterdir())) == 3


@needs_compiler
def test_two_processes_that_build_the_same(cache: Path) -> None:
    script = """
import numpy as np
from minicnn import cudasim
a = cudasim.zeros(4, np.int32)
code = 'extern "C" __global__ void k(int* a) { a[threadIdx.x] = 5; }'
cudasim.RawModule(code=code).get_function("k")((1,), (4,), (a,))
assert (a.get() == 5).all()
"""
    environment = {**os.environ, "MINICNN_CUDASIM_CACHE": str(cache)}
    command = [sys.executable, "-c", script]
    running = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said
    names = sorted(path.name for path in cache.iterdir())
    assert [name.split("-")[0] for name in names] == ["kernel", "runtime"]
    assert all(name.endswith(".so") for name in names)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(cudasim.CompilerNotFoundError, match="install g\\+\\+ .* or clang\\+\\+"):
        build.compiler()


def test_chosen_compiler_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(cudasim.CompilerNotFoundError, match="CXX=no-such-compiler"):
        build.compiler()


@needs_compiler
def test_chosen_compiler_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    wrapper = tmp_path / "my-compiler"
    log = tmp_path.parent / f"{tmp_path.name}-log"
    wrapper.write_text(f'#!/bin/sh\necho called >> {log}\nexec {build.compiler()} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", str(wrapper))
    kernel(CODE, options=("-DNUMBER=3",))((1,), (1,), (zeros(1, np.int32),))
    assert "called" in log.read_text()


@needs_compiler
def test_compile_errors_name_file_and_line() -> None:
    code = '#line 7 "mine.cu"\n\n' + CODE.replace("NUMBER", "undefined_name")
    with pytest.raises(cudasim.CompileError) as caught:
        kernel(code)((1,), (1,), (zeros(1, np.int32),))
    assert str(caught.value).startswith("k does not compile:\n")
    assert "mine.cu:8" in str(caught.value)
    assert "undefined_name" in str(caught.value)


@needs_compiler
@pytest.mark.parametrize("compiler", [c for c in COMPILERS if shutil.which(c)])
def test_each_compiler(compiler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right results and the same findings with each compiler that is installed."""
    monkeypatch.setenv("CXX", compiler)
    code = """extern "C" __global__ void k(const float4* a, float* out, int n) {
        __shared__ float s[32];
        float4 v = a[threadIdx.x];
        s[threadIdx.x] = v.x + v.y + v.z + v.w;
        __syncthreads();
        atomicAdd(out, s[31 - threadIdx.x]);
        if (n > 1) out[n] = 1.f;
    }"""
    function, out = kernel(code), zeros(1)
    a = cudasim.asarray(np.arange(128, dtype=np.float32))
    for mode in ("fast", "check"):
        out.fill(0)
        with cudasim.settings(mode=mode):
            function((1,), (32,), (a, out, np.int32(0)))
        assert out.item() == 127 * 64
    with cudasim.settings(mode="check"), pytest.raises(cudasim.SimulationError) as caught:
        function((1,), (32,), (a, out, np.int32(2)))
    assert (caught.value.findings[0].kind, caught.value.findings[0].line) == ("out-of-bounds", 7)
