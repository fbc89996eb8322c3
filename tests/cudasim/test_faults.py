"""One planted fault a test: each must be found, in the right line, with array, block and thread."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import cudasim
from tests.cudasim.launching import findings, kernel, marked, runs, zeros
from tests.needs import needs_compiler

pytestmark = needs_compiler
HEAD = 'extern "C" __global__ void k'

GEMM = """
extern "C" __global__ void k(const float* A, const float* B, float* C, int M, int N, int K) {
    __shared__ float As[16][16];
    __shared__ float Bs[16][16];
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const int row = blockIdx.x * 16 + ty;
    float sum = 0.f;
    for (int k0 = 0; k0 < K; k0 += 16) {
        As[ty][tx] = row < M ? A[row * K + k0 + tx] : 0.f;  // STORE
        Bs[ty][tx] = B[(k0 + ty) * N + tx];
        FIRST_BARRIER
        for (int k = 0; k < 16; ++k)
            sum += As[ty][k] * Bs[k][tx];  // LOAD
        SECOND_BARRIER
    }
    if (row BELOW M)
        C[row * N + tx] = sum;  // RESULT
}
"""
WARP_SUM = """
extern "C" __global__ void k(const float* x, float* sum) {
    extern __shared__ float part[];
    float value = x[threadIdx.x];
    for (int lane = 16; lane > 0; lane /= 2)
        value += __shfl_down_sync(0xffffffffu, value, lane);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = value;  // STORE
    BARRIER
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < blockDim.x / 32; ++warp)
            value += part[warp];  // LOAD
        *sum = value;
    }
}
"""


def gemm_text(
    first: str = "__syncthreads();", second: str = "__syncthreads();", below: str = "<"
) -> str:
    text = GEMM.replace("FIRST_BARRIER", first).replace("SECOND_BARRIER", second)
    return text.replace("BELOW", below)


def gemm_arguments(rows: int = 16) -> tuple:
    rng = np.random.default_rng(0)
    a = cudasim.asarray(rng.standard_normal((rows, 32)).astype(np.float32))
    b = cudasim.asarray(rng.standard_normal((32, 16)).astype(np.float32))
    c = cudasim.zeros((rows, 16), np.float32)
    return a, b, c, np.int32(rows), np.int32(16), np.int32(32)


def test_right_gemm_is_silent() -> None:
    arguments = gemm_arguments()
    runs(gemm_text(), 1, 256, arguments)
    a, b, c = (x.get() for x in arguments[:3])
    np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)


def test_missing_first_barrier() -> None:
    text = gemm_text(first="")
    found = findings(text, 1, 256, gemm_arguments())
    assert {"race", "uninitialised read"} <= {f.kind for f in found}
    race = next(f for f in found if f.kind == "race")
    assert marked(text, "LOAD") in (race.line, race.other_line)
    assert race.array in ("As", "Bs")


def test_missing_second_barrier() -> None:
    text = gemm_text(second="")
    (race, *_) = findings(text, 1, 256, gemm_arguments())
    assert race.kind == "race"
    assert race.array in ("As", "Bs")
    stores = marked(text, "STORE"), marked(text, "STORE") + 1
    assert {race.line, race.other_line} & set(stores)
    assert marked(text, "LOAD") in (race.line, race.other_line)


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_races_are_found_in_any_order(order: str) -> None:
    kinds = {f.kind for f in findings(gemm_text(second=""), 1, 256, gemm_arguments(), order=order)}
    assert "race" in kinds


def test_store_one_row_too_far() -> None:
    text = gemm_text(below="<=")
    (found,) = findings(text, 1, 256, gemm_arguments(rows=12))
    assert (found.kind, found.line, found.array) == ("out-of-bounds", marked(text, "RESULT"), "C")
    assert found.block == (0, 0, 0)
    assert found.thread == (12 * 16, 0, 0)
    assert "element 192 of 192 float (byte 768 of 768)" in found.message
    assert "C[row * N + tx] = sum;" in found.message


def test_right_warp_sum_is_silent() -> None:
    x, total = cudasim.asarray(np.arange(96, dtype=np.float32)), zeros(1)
    runs(WARP_SUM.replace("BARRIER", "__syncthreads();"), 1, 96, (x, total), shared_mem=12)
    assert total.item() == 95 * 96 / 2


def test_missing_barrier_after_warp_sums() -> None:
    text = WARP_SUM.replace("BARRIER", "")
    found = findings(text, 1, 96, (zeros(96), zeros(1)), shared_mem=12)
    assert {f.kind for f in found} == {"race", "uninitialised read"}
    unset = next(f for f in found if f.kind == "uninitialised read")
    assert (unset.line, unset.array) == (marked(text, "LOAD"), "part")
    race = next(f for f in found if f.kind == "race")
    assert {race.line, race.other_line} == {marked(text, "LOAD"), marked(text, "STORE")}


def test_dynamic_shared_memory_too_small() -> None:
    text = WARP_SUM.replace("BARRIER", "__syncthreads();")
    (found,) = findings(text, 1, 96, (zeros(96), zeros(1)), shared_mem=8)
    assert (found.kind, found.line, found.array) == ("out-of-bounds", marked(text, "STORE"), "part")
    assert found.thread == (64, 0, 0)


def test_dynamic_shared_memory_forgotten() -> None:
    (found,) = findings(WARP_SUM.replace("BARRIER", ""), 1, 96, (zeros(96), zeros(1)))
    assert (found.kind, found.line, found.array) == ("limit", 3, "part")
    assert "the launch gave it none" in found.message


def test_shared_index_past_the_declared_bound() -> None:
    text = f"""{HEAD}(float* a) {{
        __shared__ float s[4][8];
        int t = threadIdx.x;
        s[t / 8][t % 8] = 1.f;
        __syncthreads();
        a[t] = s[t / 8][t % 8 + 1];  // HERE
    }}"""
    found = findings(text, 1, 32, [zeros()])
    assert (found[0].kind, found[0].line, found[0].array) == ("out-of-bounds", marked(text), "s")
    assert "index 8" in found[0].message


def test_shared_index_past_the_array() -> None:
    text = f"""{HEAD}(float* a, int shift) {{
        __shared__ float s[32];
        float* p = s;
        p[threadIdx.x + shift] = a[threadIdx.x];  // HERE
    }}"""
    (found,) = findings(text, 1, 32, [zeros(), np.int32(1)])
    assert (found.kind, found.line, found.array) == ("out-of-bounds", marked(text), "s")
    assert found.thread == (31, 0, 0)
    assert "byte 128 of 128" in found.message


def test_plain_add_for_atomic() -> None:
    text = f"""{HEAD}(float* sum) {{
        sum[threadIdx.x % 4] += 1.f;  // HERE
    }}"""
    (race, *_) = findings(text, 2, 32, [zeros(4)])
    assert (race.kind, race.line, race.other_line) == ("race", marked(text), marked(text))
    assert race.array == "sum"


def test_atomics_do_not_race_with_each_other() -> None:
    text = HEAD + "(float* sum) { atomicAdd(&sum[threadIdx.x % 4], 1.f); }"
    total = zeros(4)
    runs(text, 2, 32, [total])
    np.testing.assert_array_equal(total.get(), 3 * 16)


def test_atomic_races_with_plain_access() -> None:
    text = f"""{HEAD}(int* n, int* out) {{
        atomicAdd(n, 1);  // OTHER
        out[threadIdx.x] = *n;  // HERE
    }}"""
    (race, *_) = findings(text, 1, 32, [zeros(1, np.int32), zeros(32, np.int32)])
    assert race.kind == "race"
    assert {race.line, race.other_line} == {marked(text), marked(text, "OTHER")}
    assert "changed atomically" in race.message or "atomically changes" in race.message


def test_race_between_blocks() -> None:
    text = f"""{HEAD}(float* a) {{
        a[threadIdx.x] = float(blockIdx.x);  // HERE
    }}"""
    (race,) = findings(text, 2, 32, [zeros()])
    assert (race.kind, race.line, race.other_line) == ("race", marked(text), marked(text))
    assert race.block == (1, 0, 0)
    assert "by block (0, 0, 0)" in race.message
    assert race.count == 32


def test_barrier_in_divergent_code() -> None:
    text = f"""{HEAD}(float* a) {{
        if (threadIdx.x < 32)
            __syncthreads();  // OTHER
        else
            __syncthreads();  // HERE
    }}"""
    (found,) = findings(text, 1, 64, [zeros()])
    assert found.kind == "barrier divergence"
    assert (found.line, found.other_line) == (marked(text), marked(text, "OTHER"))


def test_barrier_under_a_condition() -> None:
    text = f"""{HEAD}(float* a) {{
        for (int d = 32; d > 0; d /= 2)
            if (threadIdx.x < d) {{
                a[threadIdx.x] += a[threadIdx.x + d];
                __syncthreads();  // HERE
            }}
    }}"""
    found = findings(text, 1, 64, [zeros()])
    diverging = next(f for f in found if f.kind == "barrier divergence")
    assert diverging.line == marked(text)


def test_return_before_a_barrier() -> None:
    text = f"""{HEAD}(float* a, int n) {{
        if (threadIdx.x >= n) return;
        __syncthreads();  // HERE
        a[threadIdx.x] = 1.f;
    }}"""
    (found,) = findings(text, 1, 64, [zeros(), np.int32(50)])
    assert (found.kind, found.line) == ("barrier divergence", marked(text))
    assert found.thread == (50, 0, 0)


def test_shuffle_and_barrier_wait_for_each_other() -> None:
    text = f"""{HEAD}(float* a) {{
        float v = a[threadIdx.x];
        if (threadIdx.x < 16)
            v = __shfl_down_sync(0xffffffffu, v, 8);  // HERE
        __syncthreads();  // OTHER
        a[threadIdx.x] = v;
    }}"""
    (found,) = findings(text, 1, 32, [zeros()])
    assert found.kind == "deadlock"
    assert (found.line, found.other_line) == (marked(text), marked(text, "OTHER"))


def test_shuffle_from_an_absent_lane() -> None:
    text = f"""{HEAD}(float* a) {{
        float v = a[threadIdx.x];
        v += __shfl_down_sync(0xffffffffu, v, 8);  // HERE
        a[threadIdx.x] = v;
    }}"""
    (found,) = findings(text, 1, 20, [zeros()])
    assert (found.kind, found.line) == ("warp divergence", marked(text))
    assert found.count == 8
    assert "which the block does not have" in found.message


def test_shuffle_from_a_lane_that_left() -> None:
    text = f"""{HEAD}(float* a) {{
        if (threadIdx.x >= 24) return;
        a[threadIdx.x] = __shfl_down_sync(0xffffffffu, 1.f, 8);  // HERE
    }}"""
    (found,) = findings(text, 1, 32, [zeros()])
    assert (found.kind, found.line) == ("warp divergence", marked(text))
    assert "which does not take part" in found.message


def test_shuffle_without_being_in_the_mask() -> None:
    text = f"""{HEAD}(float* a) {{
        a[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.f, 0);  // HERE
    }}"""
    (found,) = findings(text, 1, 32, [zeros()])
    assert (found.kind, found.line, found.thread) == ("warp divergence", marked(text), (16, 0, 0))


def test_lanes_at_different_primitives() -> None:
    text = f"""{HEAD}(float* a) {{
        if (threadIdx.x < 16)
            a[threadIdx.x] = __shfl_sync(0xffffffffu, 1.f, 0);  // OTHER
        else
            a[threadIdx.x] = __shfl_sync(0xffffffffu, 2.f, 0);  // HERE
    }}"""
    (found,) = findings(text, 1, 32, [zeros()])
    assert (found.kind, found.line) == ("warp divergence", marked(text))
    assert found.other_line == marked(text, "OTHER")


WARP_SYNCHRONOUS = """
extern "C" __global__ void k(float* a) {
    __shared__ QUALIFIER float s[64];
    int t = threadIdx.x;
    s[t] = a[t];  // OTHER
    s[t + 32] = 0.f;
    SYNC
    float v = s[t] + s[t + 16];  // HERE
    SYNC
    s[t] = v;
    a[t] = s[t];
}
"""


@pytest.mark.parametrize("qualifier", ["", "volatile"])
def test_warp_synchronous_code_without_syncwarp(qualifier: str) -> None:
    text = WARP_SYNCHRONOUS.replace("QUALIFIER", qualifier).replace("SYNC", "")
    found = findings(text, 1, 32, [zeros()])
    race = next(f for f in found if f.kind == "race")
    assert race.array == "s"
    assert marked(text) in (race.line, race.other_line)


def test_warp_synchronous_code_with_syncwarp_is_silent() -> None:
    runs(
        WARP_SYNCHRONOUS.replace("QUALIFIER", "").replace("SYNC", "__syncwarp();"), 1, 32, [zeros()]
    )


def test_syncwarp_orders_nothing_between_warps() -> None:
    text = f"""{HEAD}(float* a) {{
        __shared__ float s[64];
        s[threadIdx.x] = 1.f;  // OTHER
        __syncwarp();
        a[threadIdx.x] = s[63 - threadIdx.x];  // HERE
    }}"""
    found = findings(text, 1, 64, [zeros()])
    race = next(f for f in found if f.kind == "race")
    assert {race.line, race.other_line} == {marked(text), marked(text, "OTHER")}


def test_shared_memory_reused_without_a_second_barrier() -> None:
    text = f"""{HEAD}(float* a) {{
        __shared__ float s[64];
        for (int i = 0; i < 2; ++i) {{
            s[threadIdx.x] = a[threadIdx.x];  // HERE
            __syncthreads();
            a[threadIdx.x] = s[63 - threadIdx.x];  // OTHER
        }}
    }}"""
    for race in findings(text, 1, 64, [zeros()]):
        assert (race.kind, race.array) == ("race", "s")
        assert {race.line, race.other_line} == {marked(text), marked(text, "OTHER")}


def test_misaligned_vector() -> None:
    text = f"""{HEAD}(float* a) {{
        float4 v = *reinterpret_cast<float4*>(a + 1);  // HERE
        a[0] = v.x;
    }}"""
    (found,) = findings(text, 1, 1, [zeros()])
    assert (found.kind, found.line, found.array) == ("misaligned", marked(text), "a")


def test_index_overflows() -> None:
    text = f"""{HEAD}(float* a, int n) {{
        int j = n * n;  // HERE
        a[0] = float(j);
    }}"""
    (found,) = findings(text, 1, 1, [zeros(), np.int32(70000)])
    assert (found.kind, found.line) == ("overflow", marked(text))
    assert "70000 * 70000" in found.message


def test_shift_by_the_width() -> None:
    text = f"""{HEAD}(int* a, int n) {{
        a[0] = 1 << n;  // HERE
    }}"""
    (found,) = findings(text, 1, 1, [zeros(4, np.int32), np.int32(32)])
    assert (found.kind, found.line) == ("undefined behaviour", marked(text))
    assert "shifted by 32" in found.message


@pytest.mark.parametrize("mode", ["check", "fast"])
def test_division_by_zero(mode: str) -> None:
    text = f"""{HEAD}(int* a, int n) {{
        a[0] = 7 / n;  // HERE
    }}"""
    (found,) = findings(text, 1, 1, [zeros(4, np.int32), np.int32(0)], mode=mode)
    assert (found.kind, found.line) == ("undefined behaviour", marked(text))


def test_uninitialised_shared_memory() -> None:
    text = f"""{HEAD}(float* a) {{
        __shared__ float s[32];
        if (threadIdx.x > 0) s[threadIdx.x] = 0.f;
        __syncthreads();
        a[threadIdx.x] = s[threadIdx.x];  // HERE
    }}"""
    (found,) = findings(text, 1, 32, [zeros()])
    assert (found.kind, found.line, found.array) == ("uninitialised read", marked(text), "s")
    assert found.thread == (0, 0, 0)


def test_shared_memory_of_the_block_before_counts_as_uninitialised() -> None:
    text = f"""{HEAD}(float* a) {{
        __shared__ float s[1];
        if (blockIdx.x == 0) s[0] = 1.f;
        a[blockIdx.x] = s[0];  // HERE
    }}"""
    (found,) = findings(text, 2, 1, [zeros()])
    assert (found.kind, found.line, found.block) == ("uninitialised read", marked(text), (1, 0, 0))


def test_read_of_an_empty_array() -> None:
    text = f"""{HEAD}(const float* a, float* b) {{
        b[threadIdx.x] = a[threadIdx.x];  // HERE
    }}"""
    (found,) = findings(text, 1, 32, [cudasim.empty(32, np.float32), zeros()])
    assert (found.kind, found.line, found.array) == ("uninitialised read", marked(text), "a")
    assert found.count == 32


def test_empty_array_written_by_a_kernel_is_initialised() -> None:
    array = cudasim.empty(32, np.float32)
    runs(HEAD + "(float* a) { a[threadIdx.x] = 1.f; }", 1, 32, [array])
    runs(HEAD + "(float* a) { a[threadIdx.x] += 1.f; }", 1, 32, [array])


def test_empty_array_written_in_fast_mode_is_initialised() -> None:
    array = cudasim.empty(32, np.float32)
    kernel(HEAD + "(float* a) { a[threadIdx.x] = 1.f; }")((1,), (32,), (array,))
    runs(HEAD + "(float* a) { a[threadIdx.x] += 1.f; }", 1, 32, [array])


def test_too_much_static_shared_memory() -> None:
    text = f"""{HEAD}(float* a) {{
        __shared__ float s[12289];  // HERE
        s[0] = a[0];
    }}"""
    (found,) = findings(text, 1, 1, [zeros()])
    assert (found.kind, found.line, found.array) == ("limit", marked(text), "s")
    assert "49156 bytes" in found.message


def test_too_much_dynamic_shared_memory() -> None:
    text = HEAD + "(float* a) { extern __shared__ float s[]; s[0] = a[0]; a[0] = s[0]; }"
    (found,) = findings(text, 1, 1, [zeros()], shared_mem=50_000)
    assert found.kind == "limit"
    function = kernel(text)
    function.max_dynamic_shared_size_bytes = 50_000
    function((1,), (1,), (zeros(),), shared_mem=50_000)


def test_too_many_threads() -> None:
    (found,) = findings(HEAD + "(float* a) { a[0] = 1.f; }", 1, 1025, [zeros()])
    assert found.kind == "limit"
    assert "1025 threads" in found.message


def test_more_threads_than_the_launch_bound() -> None:
    text = """constexpr int TILE = 16;
    extern "C" __global__ void __launch_bounds__(TILE * TILE) k(float* a) { a[0] = 1.f; }"""
    (found,) = findings(text, 1, 257, [zeros()])
    assert (found.kind, found.line) == ("limit", 2)
    assert "__launch_bounds__ allows 256" in found.message


def test_wild_pointer() -> None:
    text = f"""{HEAD}(float* a) {{
        a[-100000000000LL] = 1.f;  // HERE
    }}"""
    (found,) = findings(text, 1, 1, [zeros()])
    assert (found.kind, found.line, found.array) == ("out-of-bounds", marked(text), None)


def test_null_pointer() -> None:
    text = f"""{HEAD}(float* a) {{
        a[0] = 1.f;  // HERE
    }}"""
    (found,) = findings(text, 1, 1, [None])
    assert (found.kind, found.line) == ("out-of-bounds", marked(text))


def test_assertion() -> None:
    text = f"""{HEAD}(float* a, int n) {{
        assert(threadIdx.x < n);  // HERE
    }}"""
    (found,) = findings(text, 1, 32, [zeros(), np.int32(9)], mode="fast")
    assert (found.kind, found.line, found.thread) == ("assertion", marked(text), (9, 0, 0))
    assert "assert(threadIdx.x < n) failed" in found.message


def test_neighbouring_bytes_do_not_race() -> None:
    runs(HEAD + "(unsigned char* a) { a[threadIdx.x] = 1; }", 1, 33, [zeros(33, np.uint8)])


def test_stack_overflow() -> None:
    text = f"""{HEAD}(float* a) {{
        volatile float big[40000];
        for (int i = 0; i < 40000; ++i) big[i] = 1.f;
        a[0] = big[3];
    }}"""
    (found,) = findings(text, 1, 1, [zeros()], mode="fast")
    assert found.kind == "memory fault"
    assert "128 KiB" in found.message


# Fast mode has no hooks: guard pages and the values of unwritten memory must tell.


def test_fast_mode_catches_an_overrun() -> None:
    text = f"""{HEAD}(float* a) {{
        a[threadIdx.x] = 1.f;  // HERE
    }}"""
    (found,) = findings(text, 1, 65, [zeros(64)], mode="fast")
    assert (found.kind, found.line, found.array) == ("memory fault", marked(text), "a")
    assert "element 64 of 64 float" in found.message


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_fast_mode_notices_a_write_just_outside(index: int) -> None:
    """Five floats end 12 bytes before the guard page; these bytes are looked at afterwards."""
    text = HEAD + "(const float* x, float* a, int i) { a[i] = x[0]; }"
    (found,) = findings(text, 1, 1, [zeros(5), zeros(5), np.int32(index)], mode="fast")
    assert (found.kind, found.array) == ("memory fault", "a")
    assert f"element {index} of 5 float" in found.message


def test_fast_mode_catches_use_after_free() -> None:
    array = zeros(64)
    address = array.data.ptr
    del array
    text = f"""{HEAD}(unsigned long long p) {{
        *(float*)p = 1.f;  // HERE
    }}"""
    (found,) = findings(text, 1, 1, [np.uint64(address)], mode="fast")
    assert (found.kind, found.line) == ("memory fault", marked(text))


def test_fast_mode_starts_memory_as_nan() -> None:
    out = zeros(2)
    text = (
        HEAD
        + "(const float* a, float* out) { __shared__ float s[1]; out[0] = a[0]; out[1] = s[0]; }"
    )
    kernel(text)((1,), (1,), (cudasim.empty(1, np.float32), out))
    assert np.isnan(out.get()).all()


@pytest.mark.parametrize("order", ["ascending", "random"])
def test_fast_mode_shows_a_missing_barrier_as_wrong_numbers(order: str) -> None:
    arguments = gemm_arguments()
    with cudasim.settings(order=order, seed=1):
        kernel(gemm_text(first=""))((1,), (256,), arguments)
    a, b, c = (x.get() for x in arguments[:3])
    assert not np.allclose(c, a @ b, rtol=1e-3, atol=1e-3)


def test_launches_work_after_every_kind_of_failure() -> None:
    """A launch that was given up leaves nothing behind that disturbs the next one."""
    right = kernel(gemm_text())
    for wrong in (gemm_text(below="<="), gemm_text(first="")):
        findings(wrong, 1, 256, gemm_arguments(rows=12))
        arguments = gemm_arguments()
        right((1,), (256,), arguments)
        a, b, c = (x.get() for x in arguments[:3])
        np.testing.assert_allclose(c, a @ b, rtol=1e-4, atol=1e-5)


def test_finding_names_the_file_of_an_include() -> None:
    text = f"""#line 1 "_reduce.h"
__device__ void helper(float* a) {{
    a[threadIdx.x] = 1.f;
}}
#line 40 "softmax.cu"
{HEAD}(float* a) {{
    helper(a + 1);
}}"""
    (found,) = findings(text, 1, 64, [zeros(64)])
    assert (found.file, found.line, found.thread) == ("_reduce.h", 2, (63, 0, 0))


def test_faults_in_64_bit_and_double_code() -> None:
    text = """template <typename T>
    __global__ void k(const T* a, long long n, T* out) {
        long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
        if (i <= n) out[i] = a[i];  // HERE
    }"""
    args = [zeros(40, np.float64), np.int64(40), zeros(40, np.float64)]
    (found,) = findings(text, 2, 32, args, name="k<double>")
    assert (found.kind, found.line, found.array) == ("out-of-bounds", marked(text), "a")
    assert (found.block, found.thread) == ((1, 0, 0), (8, 0, 0))
