"""NVRTC through ctypes: PTX and machine code for GPUs that nobody here has."""

from __future__ import annotations

import json

import pytest

from minicnn.cudasim import errors, nvrtc, toolkit
from tests.needs import needs_nvrtc

SOURCE = """#line 1 "scale.cu"
template <typename T>
__global__ void scale_cuda(const T* input, T factor, int total, T* __restrict__ output) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        output[i] = factor * input[i];
    }
}
"""
NAMES = ["scale_cuda<float>", "scale_cuda<double>"]
LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1kIfEvPKT_iPS0_' for 'sm_80'
ptxas info    : Function properties for _Z1kIfEvPKT_iPS0_
ptxas         .     48 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 18 registers, used 1 barriers, 48 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Compile time = 6.108 ms
ptxas info    : Compiling entry function 'plain' for 'sm_80'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, 376 bytes cmem[0], 176 bytes cmem[2]
ptxas info    : Function properties for __internal_accurate_pow
ptxas         .     8 bytes stack frame, 4 bytes spill stores, 0 bytes spill loads
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICNN_CUDASIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_nvrtc
@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
def test_every_architecture(arch):
    ptx = nvrtc.compile(SOURCE, NAMES, arch, "ptx")
    assert f".target sm_{arch}" in ptx.text
    assert "mul.ftz.f32" in ptx.text  # flushes subnormals, as CuPy has it
    assert 'scale.cu"' in ptx.text and ".loc\t1 4 " in ptx.text
    code = nvrtc.compile(SOURCE, NAMES, arch, "cubin")
    assert code.code[:4] == b"\x7fELF"
    taken = code.resources()
    assert set(taken) == set(NAMES)
    for resources in taken.values():
        assert 8 <= resources.registers <= 32
        assert (resources.spills, resources.shared, resources.stack) == (0, 0, 0)


@needs_nvrtc
def test_shared_memory_barriers_and_defines_are_seen():
    source = """
    extern "C" __global__ void reverse(float* x) {
        __shared__ float row[SIZE];
        row[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = row[SIZE - 1 - threadIdx.x];
    }
    """
    resources = nvrtc.compile(source, (), 90, "cubin", ["-DSIZE=96"]).resources()["reverse"]
    assert resources.shared == 96 * 4
    assert resources.barriers == 1


@needs_nvrtc
def test_options_that_cupy_adds_may_be_given_again():
    assert nvrtc.compile(SOURCE, NAMES, 80, "ptx", ["--std=c++17"]).lowered_names.keys() == set(
        NAMES
    )


@needs_nvrtc
def test_a_refused_source_shows_file_and_line():
    with pytest.raises(errors.CompileError, match=r'scale.cu:4: error: .*"INFINITY"'):
        nvrtc.compile(SOURCE.replace("factor *", "INFINITY *"), NAMES)
    with pytest.raises(errors.CompileError, match="no_such_kernel"):
        nvrtc.compile(SOURCE, ["no_such_kernel<float>"])
    with pytest.raises(errors.CompileError, match="arch"):
        nvrtc.compile(SOURCE, NAMES, 12)


@needs_nvrtc
def test_what_was_compiled_is_kept(own_cache, monkeypatch):
    first = nvrtc.compile(SOURCE, NAMES)
    (kept,) = own_cache.glob("nvrtc-*.json")
    monkeypatch.setattr(nvrtc, "_compile", lambda *_: pytest.fail("compiled again"))
    assert nvrtc.compile(SOURCE, NAMES) == first
    monkeypatch.undo()
    monkeypatch.setenv("MINICNN_CUDASIM_CACHE", str(own_cache))
    nvrtc.compile(SOURCE.replace("factor *", "2 * factor *"), NAMES)
    assert len(list(own_cache.glob("nvrtc-*.json"))) == 2
    for damage in ("{", json.dumps({"code": "AAAA"})):
        kept.write_text(damage)
        assert nvrtc.compile(SOURCE, NAMES) == first


@needs_nvrtc
def test_it_knows_the_architectures_of_the_report():
    assert nvrtc.version() >= (12, 8)
    assert set(nvrtc.ARCHITECTURES) <= set(nvrtc.supported_architectures())


def test_log_of_the_assembler():
    taken = nvrtc.parse_log(LOG)
    assert taken["_Z1kIfEvPKT_iPS0_"] == nvrtc.Resources(18, 12, 16, 48, 1024, 1)
    assert taken["_Z1kIfEvPKT_iPS0_"].spills == 28
    assert taken["plain"] == nvrtc.Resources(255, 0, 0, 0, 0, 0)
    assert taken["__internal_accurate_pow"].spills == 4


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(toolkit, "find_library", lambda name: None)
    with pytest.raises(nvrtc.NvrtcNotFoundError, match="pip install nvidia-cuda-nvrtc"):
        nvrtc.compile(SOURCE)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind: got 'sass', expected one of"):
        nvrtc.compile(SOURCE, kind="sass")


def test_the_newest_library_of_a_folder_is_taken(tmp_path, monkeypatch):
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    for name in (
        "libnvrtc.so.9",
        "libnvrtc.so.13",
        "libnvrtc.alt.so.14",
        "libnvrtc-builtins.so.15",
    ):
        (folder / name).touch()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert toolkit.find_library("nvrtc") == folder / "libnvrtc.so.13"


def test_tools_are_found_in_wheels_then_where_cuda_home_says(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr(toolkit, "USUAL_PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.delenv("CUDA_PATH", raising=False)
    assert toolkit.find_tool("nvdisasm") is None
    assert toolkit.find_header("cuda_occupancy.h") is None
    for place in (tmp_path / "cuda", tmp_path / "nvidia" / "cuda_nvdisasm"):
        for kind, name in (("bin", "nvdisasm"), ("include", "cuda_occupancy.h")):
            (place / kind).mkdir(parents=True)
            (place / kind / name).touch(mode=0o755)
        assert toolkit.find_tool("nvdisasm") == place / "bin" / "nvdisasm"
    assert toolkit.find_header("cuda_occupancy.h") == place / "include" / "cuda_occupancy.h"
