"""Kernels by way of NVIDIA's compiler: the same results, and the same faults in the same lines."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn.cudasim as cudasim
from minicnn.cudasim import nvrtc
from tests.cudasim.launching import findings, kernel, marked, runs, zeros
from tests.needs import needs_compiler, needs_nvrtc

pytestmark = [needs_compiler, needs_nvrtc]

GEMM = """#line 1 "gemm.cu"
template <typename T>
__global__ void __launch_bounds__(256) gemm(
    const T* __restrict__ a, const T* __restrict__ b, int rows, int columns, int depth,
    T* __restrict__ c
) {
    __shared__ T a_tile[16][16];
    __shared__ T b_tile[16][16];
    const int y = threadIdx.x / 16, x = threadIdx.x % 16;
    const int m = blockIdx.x * 16 + y, n = x;
    T sum = 0;
    for (int k = 0; k < depth; k += 16) {
        a_tile[y][x] = m < rows && k + x < depth ? a[m * depth + k + x] : T(0);  // FILL
        b_tile[y][x] = k + y < depth && n < columns ? b[(k + y) * columns + n] : T(0);
        __syncthreads();  // FILLED
        for (int step = 0; step < 16; ++step) {
            sum += a_tile[y][step] * b_tile[step][x];  // USE
        }
        __syncthreads();  // USED
    }
    if (m < rows && n < columns) {  // GUARD
        c[m * columns + n] = sum;  // STORE
    }
}
"""
HISTOGRAM = """extern "C" __global__ void k(const int* x, int* counts, int total) {
    __shared__ int part[4];
    if (threadIdx.x < 4) part[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        atomicAdd(&part[x[i]], 1);  // HERE
    }
    __syncthreads();
    if (threadIdx.x < 4) atomicAdd(&counts[threadIdx.x], part[threadIdx.x]);
}
"""
WARP_SUM = """extern "C" __global__ void k(const float* x, float* sums, unsigned* votes) {
    float value = x[threadIdx.x];
    votes[threadIdx.x] = __ballot_sync(0xffffffffu, value > 4.f);
    for (int apart = 16; apart > 0; apart /= 2) {
        value += __shfl_down_sync(0xffffffffu, value, apart);  // HERE
    }
    int all = __syncthreads_and(value >= 0.f), any = __any_sync(0xffffffffu, value < 0.f);
    sums[threadIdx.x] = all && !any ? value : -1.f;
}
"""


@pytest.fixture(autouse=True)
def route():
    with cudasim.settings(route="ptx"):
        yield


def gemm_arguments(dtype=np.float32, rows=21, columns=13, depth=19):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((rows, depth)), rng.standard_normal((depth, columns))
    c = cudasim.zeros((rows, columns), dtype)
    sizes = np.int32(rows), np.int32(columns), np.int32(depth)
    return cudasim.asarray(a.astype(dtype)), cudasim.asarray(b.astype(dtype)), *sizes, c


def found_in_gemm(old, new):
    assert GEMM.count(old) == 1
    text = GEMM.replace(old, new)
    arguments = gemm_arguments(rows=16)
    return findings(text, 1, 256, arguments, name="gemm<float>")


def line(mark):
    return marked(GEMM, mark) - 1  # the first line is a directive


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_of_a_template(dtype):
    name = "gemm<float>" if dtype == np.float32 else "gemm<double>"
    arguments = gemm_arguments(dtype)
    runs(GEMM, 2, 256, arguments, name=name)
    a, b, *_, c = (x.get() if hasattr(x, "get") else x for x in arguments)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, tolerance, tolerance)


def test_the_other_route_gives_the_same_bits_where_nothing_is_rounded_twice():
    text = """extern "C" __global__ void k(const float* x, float* y, int n) {
        for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) {
            y[i] = sqrtf(fabsf(x[i])) / (1.f + x[i] * x[i]) + fmaf(x[i], 3.f, floorf(x[i]));
        }
    }"""
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    results = []
    for route in ("ptx", "shim"):
        y = zeros(1000)
        with cudasim.settings(route=route):
            kernel(text)((3,), (64,), (cudasim.asarray(x), y, np.int32(1000)))
        results.append(y.get())
    np.testing.assert_allclose(*results, rtol=3e-7, atol=1e-7)


def test_shuffles_votes_and_barriers_that_vote():
    x = np.arange(64, dtype=np.float32) % 9
    sums, votes = zeros(64), zeros(64, np.uint32)
    runs(WARP_SUM, 1, 64, (cudasim.asarray(x), sums, votes))
    for warp in (0, 1):
        mine = slice(32 * warp, 32 * warp + 32)
        assert sums.get()[mine][0] == x[mine].sum()
        wanted = sum(1 << lane for lane in range(32) if x[mine][lane] > 4)
        assert set(votes.get()[mine].tolist()) == {wanted}


def test_atomics():
    x = np.random.default_rng(0).integers(0, 4, 500).astype(np.int32)
    counts = zeros(4, np.int32)
    kernel(HISTOGRAM)((3,), (64,), (cudasim.asarray(x), counts, np.int32(500)))
    assert counts.get().tolist() == np.bincount(x).tolist()


def test_functions_that_are_not_inlined():
    text = """
    __device__ __noinline__ double twice(double x) { return 2 * x; }
    extern "C" __global__ void k(double* x) { x[0] = pow(x[0], x[1]) + twice(exp(x[2])); }"""
    x = np.array([1.7, 2.3, 0.4])
    array = cudasim.asarray(x)
    kernel(text)((1,), (1,), (array,))
    np.testing.assert_allclose(array.get()[0], 1.7**2.3 + 2 * np.exp(0.4), rtol=1e-15)


def test_doubles_keep_subnormal_numbers_and_floats_do_not():
    text = """
    extern "C" __global__ void f(float* x) { x[0] = x[1] * 0.5f; }
    extern "C" __global__ void d(double* x) { x[0] = fmod(x[1], x[2]); }"""
    small = cudasim.asarray(np.array([1, 2e-38], np.float32))
    kernel(text, "f")((1,), (1,), (small,))
    assert small.get()[0] == 0
    double = cudasim.asarray(np.array([1, 5.5, 2.0]))
    kernel(text, "d")((1,), (1,), (double,))
    assert double.get()[0] == 1.5


@pytest.mark.parametrize("barrier", ["FILLED", "USED"])
def test_missing_barrier(barrier):
    found = found_in_gemm(f"__syncthreads();  // {barrier}", f"// {barrier}")
    races = [f for f in found if f.kind == "race"]
    assert {f.array for f in races} <= {"a_tile", "b_tile"}
    pairs = {frozenset((f.line, f.other_line)) for f in races}
    assert frozenset((line("FILL"), line("USE"))) in pairs
    assert {(f.file, f.other_file) for f in races} == {("gemm.cu", "gemm.cu")}
    if barrier == "FILLED":
        assert "uninitialised read" in {f.kind for f in found}


def test_store_one_row_too_far():
    text = GEMM.replace("m < rows && n < columns) {", "m <= rows && n < columns) {")
    (found,) = findings(text, 1, 256, gemm_arguments(rows=12), name="gemm<float>")
    assert (found.kind, found.line, found.array) == ("out-of-bounds", line("STORE"), "c")
    assert found.thread == (12 * 16, 0, 0)
    assert "element 156 of 156 float" in found.message
    assert "c[m * columns + n] = sum;" in found.message


def test_plain_add_for_atomic():
    text = HISTOGRAM.replace("atomicAdd(&part[x[i]], 1);", "part[x[i]] += 1;")
    x = cudasim.zeros(64, np.int32)
    found = findings(text, 1, 64, (x, zeros(4, np.int32), np.int32(64)))
    assert {(f.kind, f.line, f.array) for f in found} == {("race", marked(text), "part")}


def test_barrier_that_some_threads_do_not_reach():
    text = """extern "C" __global__ void k(float* x) {
    __shared__ float row[64];
    row[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x < 40) {
        __syncthreads();  // HERE
        x[threadIdx.x] = row[threadIdx.x ^ 1];
    }
}
"""
    kinds = {f.kind for f in findings(text, 1, 64, [zeros(64)])}
    assert kinds & {"barrier divergence", "deadlock"}


def test_shuffle_from_absent_lanes():
    text = WARP_SUM.replace("float value", "if (threadIdx.x >= 20) return;\n    float value")
    arguments = zeros(64), zeros(64), zeros(64, np.uint32)
    (found, *_) = findings(text, 1, 64, arguments)
    assert found.kind in ("warp divergence", "deadlock")


def test_uninitialised_memory():
    text = """extern "C" __global__ void k(const float* x, float* y, int n) {
    __shared__ float row[64];
    if (threadIdx.x < n) row[threadIdx.x] = x[threadIdx.x];  // FILL
    __syncthreads();
    y[threadIdx.x] = row[63 - threadIdx.x];  // HERE
}
"""
    found = findings(text, 1, 64, (zeros(64), zeros(64), np.int32(63)))
    shared = [(f.kind, f.line, f.array) for f in found]
    assert shared == [("uninitialised read", marked(text), "row")]
    never_written = cudasim.empty(64, np.float32)
    found = findings(text, 1, 64, (never_written, zeros(64), np.int32(64)))
    assert (found[0].kind, found[0].line, found[0].array) == (
        "uninitialised read", marked(text, "FILL"), "x",
    )  # fmt: skip


def test_misaligned_vector():
    text = """extern "C" __global__ void k(const float* x, float* y) {
    float4 v = *reinterpret_cast<const float4*>(x + 1);  // HERE
    y[0] = v.x + v.y + v.z + v.w;
}
"""
    (found,) = findings(text, 1, 1, (zeros(64), zeros(4)))
    assert (found.kind, found.line, found.array) == ("misaligned", marked(text), "x")


def test_assertion():
    text = """extern "C" __global__ void k(float* x, int n) {
    assert(threadIdx.x < n);  // HERE
    x[threadIdx.x] = 1.f;
}
"""
    found = findings(text, 1, 32, (zeros(32), np.int32(9)))
    assert (found[0].kind, found[0].line) == ("assertion", marked(text))
    assert "assert(threadIdx.x < n) failed" in found[0].message


def test_fault_in_fast_mode_has_its_line():
    text = """extern "C" __global__ void k(float* x) {
    x[threadIdx.x] = 1.f;  // HERE
}
"""
    (found,) = findings(text, 1, 65, [zeros(64)], mode="fast")
    assert (found.kind, found.line, found.array) == ("memory fault", marked(text), "x")


def test_launch_bound_holds():
    function = kernel(GEMM, "gemm<float>")
    with pytest.raises(cudasim.SimulationError, match="__launch_bounds__ allows 256"):
        function((1,), (288,), gemm_arguments())


def test_source_that_nvidias_compiler_refuses_is_shown_with_its_line():
    text = GEMM.replace("T sum = 0;", "T sum = __no_such_function(0);")
    with pytest.raises(cudasim.CompileError, match="gemm.cu:10: error: .*__no_such_function"):
        # The other route would refuse it first when it reads the signature.
        kernel(text, "gemm<float>")._compile("ptx", False)


def test_without_nvrtc_the_error_says_what_to_install(monkeypatch):
    from minicnn.cudasim import toolkit

    monkeypatch.setattr(toolkit, "find_library", lambda name: None)
    with pytest.raises(nvrtc.NvrtcNotFoundError, match="pip install nvidia-cuda-nvrtc"):
        kernel(GEMM, "gemm<float>")((2,), (256,), gemm_arguments())


def test_profile_sees_a_vector_load_as_one_access():
    text = """extern "C" __global__ void k(const float4* x, float* y) {
    float4 v = x[threadIdx.x];  // HERE
    y[threadIdx.x] = v.x * v.y + v.z * v.w;
}
"""
    with cudasim.profile() as profile:
        kernel(text)((1,), (32,), (zeros(128), zeros(32)))
    rows = {(row.kind, row.line, row.width): row for row in profile.kernels["k"].rows}
    assert rows["load", 2, 16].sectors == 16
    assert rows["store", 3, 4].sectors == 4
    assert all(row.coalescing == 1 for row in rows.values())
