"""Profiles of kernels whose memory access the textbooks work out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim.profiling import KernelProfile, Row
from tests.cudasim.launching import kernel, marked, zeros
from tests.needs import needs_compiler

pytestmark = needs_compiler
HEAD = 'extern "C" __global__ void k'
TRANSPOSE = f"""{HEAD}(const float* a, float* b, int n) {{
    __shared__ float tile[32][32 + PAD];
    int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
    tile[threadIdx.y][threadIdx.x] = a[y * n + x];  // IN
    __syncthreads();
    b[(blockIdx.x * 32 + threadIdx.y) * n + blockIdx.y * 32 + threadIdx.x] =  // OUT
        tile[threadIdx.x][threadIdx.y];  // TURNED
}}"""
GEMM_STORE = f"""{HEAD}(const float4* A, float* out) {{
    __shared__ float As[16][64 + PAD];
    const int row = threadIdx.x / 4, column = threadIdx.x % 4 * 4;
    float4 a = A[row * 4 + threadIdx.x % 4];  // LOAD
    As[column][row] = a.x;  // STORE
    __syncthreads();
    out[threadIdx.x] = As[0][threadIdx.x % 64];
}}"""


def profiled(code: str, grid: Any, block: Any, args: tuple, **options: Any) -> KernelProfile:
    """Return the profile of one launch of a kernel named k."""
    with cudasim.profile(**options.pop("profile", {})) as prof:
        kernel(code, **options)(grid, block, args)
    (found,) = prof.kernels.values()
    return found


def row(found: KernelProfile, line: int, kind: str, space: str = "global") -> Row:
    """Return the one row of a line and kind."""
    rows = [r for r in found.rows if (r.line, r.kind, r.space) == (line, kind, space)]
    assert len(rows) == 1
    return rows[0]


def transpose(pad: int) -> KernelProfile:
    a = cudasim.asarray(np.random.default_rng(0).random((64, 64), np.float32))
    b = cudasim.empty((64, 64), np.float32)
    found = profiled(TRANSPOSE, (2, 2), (32, 32), (a, b, np.int32(64)), options=(f"-DPAD={pad}",))
    np.testing.assert_array_equal(b.get(), a.get().T)
    return found


def test_naive_transpose_stores_a_sector_a_lane() -> None:
    code = f"""{HEAD}(const float* a, float* b, int n) {{
        int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
        b[x * n + y] = a[y * n + x];  // HERE
    }}"""
    found = profiled(code, (2, 2), (32, 32), (zeros(4096), zeros(4096), np.int32(64)))
    load, store = (row(found, marked(code), kind) for kind in ("load", "store"))
    assert (load.requests, load.lanes, load.bytes) == (128, 4096, 16384)
    assert (load.sectors_per_request, load.coalescing) == (4, 1)
    assert (store.sectors_per_request, store.coalescing) == (32, 0.125)
    assert found.sectors == 128 * 36
    assert found.transferred_bytes == 128 * 36 * 32
    assert found.coalescing == 8 / 36


def test_tiled_transpose_without_padding_conflicts_32_way() -> None:
    found = transpose(pad=0)
    turned = row(found, marked(TRANSPOSE, "TURNED"), "load", "shared")
    assert (turned.bank_conflict, turned.worst_degree) == (32, 32)
    assert row(found, marked(TRANSPOSE, "IN"), "store", "shared").bank_conflict == 1
    assert found.coalescing == 1
    assert found.worst_degree == 32
    assert found.bank_conflict == 16.5


def test_tiled_transpose_with_padding_is_free_of_conflicts() -> None:
    found = transpose(pad=1)
    assert found.worst_degree == 1
    assert found.coalescing == 1


def test_every_byte_is_counted_once() -> None:
    found = transpose(pad=1)
    assert (found.arrays["a"].read, found.arrays["a"].written) == (16384, 0)
    assert (found.arrays["b"].read, found.arrays["b"].written) == (0, 16384)
    assert found.unique_bytes == 2 * 16384
    assert (found.launches, found.blocks, found.threads) == (1, 4, 4096)


def test_float4_load_is_one_wide_request() -> None:
    found = profiled(GEMM_STORE, (1,), (256,), (zeros(1024), zeros(256)), options=("-DPAD=0",))
    load = row(found, marked(GEMM_STORE, "LOAD"), "load")
    assert (load.width, load.requests, load.sectors_per_request) == (16, 8, 16)
    assert load.coalescing == 1


@pytest.mark.parametrize(("pad", "degree"), [(0, 4), (4, 2)])
def test_gemm_tile_stored_transposed(pad: int, degree: int) -> None:
    options = (f"-DPAD={pad}",)
    found = profiled(GEMM_STORE, (1,), (256,), (zeros(1024), zeros(256)), options=options)
    store = row(found, marked(GEMM_STORE, "STORE"), "store", "shared")
    assert (store.bank_conflict, store.worst_degree) == (degree, degree)


@pytest.mark.parametrize(
    ("type", "index", "degree"),
    [
        ("float", "0", 1),  # one word for all lanes is one read
        ("float", "t * 2", 2),
        ("float", "t * 32", 32),
        ("float", "t * 33", 1),
        ("double", "t", 1),  # by half warps
        ("double", "t * 2", 2),
        ("float4", "t", 1),  # by quarter warps
        ("float4", "t * 2", 2),
    ],
)
def test_bank_conflicts(type: str, index: str, degree: int) -> None:
    code = f"""{HEAD}(float* out) {{
        __shared__ {type} s[1100];
        int t = threadIdx.x;
        for (int i = t; i < 1100; i += 32) s[i] = {type}();
        __syncthreads();
        {type} value = s[{index}];  // HERE
        out[t] = *(float*)&value;
    }}"""
    code = code if type != "float4" else code.replace("1100", "600")
    load = row(profiled(code, (1,), (32,), (zeros(32),)), marked(code), "load", "shared")
    assert (load.bank_conflict, load.worst_degree) == (degree, degree)


@pytest.mark.parametrize(
    ("index", "sectors", "ideal"), [("t + 1", 5, 4), ("t * 2", 8, 4), ("0", 1, 1), ("t / 8", 1, 1)]
)
def test_sectors_of_a_request(index: str, sectors: int, ideal: int) -> None:
    code = f"""{HEAD}(const float* a, float* out) {{
        int t = threadIdx.x;
        out[t] = a[{index}];  // HERE
    }}"""
    load = row(profiled(code, (1,), (32,), (zeros(100), zeros(32))), marked(code), "load")
    assert (load.sectors, load.ideal_sectors) == (sectors, ideal)


def test_atomics_are_requests_of_their_own() -> None:
    code = f"""{HEAD}(float* sum) {{
        atomicAdd(&sum[threadIdx.x % 8], 1.f);  // HERE
    }}"""
    found = profiled(code, (2,), (64,), (zeros(8),))
    atomic = row(found, marked(code), "atomic")
    assert (atomic.requests, atomic.lanes, atomic.sectors) == (4, 128, 4)
    assert (found.arrays["sum"].read, found.arrays["sum"].written) == (32, 32)


def test_large_grids_are_sampled_and_scaled_up() -> None:
    code = HEAD + "(float* a) { a[blockIdx.x * blockDim.x + threadIdx.x] += 1.f; }"
    a = zeros(1000 * 32)
    found = profiled(code, (1000,), (32,), (a,), profile={"blocks": 10})
    assert found.profiled_blocks == 10
    assert {r.requests for r in found.rows} == {1000}
    assert found.arrays["a"].read == found.arrays["a"].written == 1000 * 128
    np.testing.assert_array_equal(a.get(), 1)


def test_launches_add_up_and_bytes_of_each_count() -> None:
    function = kernel(HEAD + "(float* a) { a[threadIdx.x] = 1.f; }")
    with cudasim.profile() as prof:
        for _ in range(3):
            function((1,), (32,), (zeros(32),))
    found = prof.kernels["k"]
    assert (found.launches, found.rows[0].requests, found.arrays["a"].written) == (3, 3, 3 * 128)


def test_profile_prints_a_table() -> None:
    text = str(transpose(pad=0))
    assert "k: 1 launch, 4 blocks, 4096 threads" in text
    assert "32.0-way bank conflict (worst 32)" in text
    assert "a: 16384 different bytes read, 0 written" in text


def test_profile_mode_needs_a_profile() -> None:
    function = kernel(HEAD + "(float* a) { a[threadIdx.x] = 1.f; }")
    with cudasim.settings(mode="profile"), pytest.raises(RuntimeError, match="cudasim.profile"):
        function((1,), (32,), (zeros(32),))
    with pytest.raises(ValueError, match="blocks: got 0"):
        with cudasim.profile(blocks=0):
            pass


def test_a_fault_in_profile_mode_is_an_error() -> None:
    function = kernel(HEAD + "(float* a) { a[threadIdx.x] = 1.f; }")
    with cudasim.profile(), pytest.raises(cudasim.SimulationError) as caught:
        function((1,), (33,), (zeros(32),))
    assert caught.value.findings[0].kind == "out-of-bounds"
    with cudasim.profile() as prof:
        function((1,), (32,), (zeros(32),))
    assert prof.kernels["k"].rows[0].requests == 1
