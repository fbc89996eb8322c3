"""Threads, barriers, warps, atomics and orders do what CUDA says."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from minicnn import cudasim
from tests.cudasim.launching import kernel, zeros
from tests.needs import needs_compiler

pytestmark = needs_compiler
HEAD = 'extern "C" __global__ void k'
ORDERS = ("ascending", "descending", "random")
LANE = np.arange(32)


def lanes(body: str, out: Any = np.int32, block: int = 32) -> np.ndarray:
    """Return what each thread of one block computes by `body` from its lane number."""
    name = {np.int32: "int", np.float64: "double", np.uint32: "unsigned"}[out]
    result = zeros(block, out)
    code = (
        f"{HEAD}({name}* out) {{ const int lane = threadIdx.x % 32; out[threadIdx.x] = {body}; }}"
    )
    kernel(code)((1,), (block,), (result,))
    return result.get()


def test_indices_of_three_dimensions() -> None:
    code = f"""{HEAD}(int* out) {{
        int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        int i = block * (blockDim.x * blockDim.y * blockDim.z) + thread;
        out[i] = blockIdx.z * 100000 + blockIdx.y * 10000 + blockIdx.x * 1000 + threadIdx.z * 100
               + threadIdx.y * 10 + threadIdx.x;
    }}"""
    out = zeros(2 * 3 * 4 * 2 * 3 * 5, np.int32)
    kernel(code)((2, 3, 4), (5, 3, 2), (out,))
    want = [
        z * 100000 + y * 10000 + x * 1000 + c * 100 + b * 10 + a
        for z in range(4) for y in range(3) for x in range(2)
        for c in range(2) for b in range(3) for a in range(5)
    ]  # fmt: skip
    np.testing.assert_array_equal(out.get(), want)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ["fast", "check"])
def test_barriers_in_a_loop(order: str, mode: str) -> None:
    """Each round every thread takes its neighbour's number: after n rounds they are back."""
    code = f"""{HEAD}(int* out) {{
        __shared__ int ring[1024];
        int t = threadIdx.x, n = blockDim.x, mine = t;
        for (int round = 0; round < 7; ++round) {{
            ring[t] = mine;
            __syncthreads();
            mine = ring[(t + 1) % n];
            __syncthreads();
        }}
        out[blockIdx.x * n + t] = mine;
    }}"""
    for block in (1, 31, 33, 256, 1024):
        out = zeros(3 * block, np.int32)
        with cudasim.settings(order=order, mode=mode, seed=5):
            kernel(code)((3,), (block,), (out,))
        want = np.tile((np.arange(block) + 7) % block, 3)
        np.testing.assert_array_equal(out.get(), want)


@pytest.mark.parametrize("order", ORDERS)
def test_votes_at_barriers(order: str) -> None:
    code = f"""{HEAD}(int* out) {{
        int t = threadIdx.x, count = 0, all = 0, any = 0;
        for (int round = 0; round < 4; ++round) {{
            count += __syncthreads_count(t < 10 + round);
            all += __syncthreads_and(t < 99 + round);
            any += __syncthreads_or(t == 102 - round);
        }}
        out[t * 3] = count;
        out[t * 3 + 1] = all;
        out[t * 3 + 2] = any;
    }}"""
    out = zeros(300, np.int32)
    with cudasim.settings(order=order):
        kernel(code)((1,), (100,), (out,))
    want = [10 + 11 + 12 + 13, 3, 1]
    np.testing.assert_array_equal(out.get().reshape(100, 3), np.tile(want, (100, 1)))


@pytest.mark.parametrize("width", [32, 16, 8, 2])
def test_shuffles(width: int) -> None:
    first = LANE // width * width
    got = lanes(f"__shfl_sync(0xffffffffu, lane, lane + 3, {width})")
    np.testing.assert_array_equal(got, first + (LANE + 3) % width)
    got = lanes(f"__shfl_up_sync(0xffffffffu, lane, 3, {width})")
    np.testing.assert_array_equal(got, np.where(LANE - 3 >= first, LANE - 3, LANE))
    got = lanes(f"__shfl_down_sync(0xffffffffu, lane, 3, {width})")
    np.testing.assert_array_equal(got, np.where(LANE + 3 < first + width, LANE + 3, LANE))
    got = lanes(f"__shfl_xor_sync(0xffffffffu, lane, 1, {width})")
    np.testing.assert_array_equal(got, LANE ^ 1)


def test_shuffle_moves_eight_bytes() -> None:
    got = lanes("__shfl_xor_sync(0xffffffffu, lane + 1e-9 * lane, 31)", np.float64)
    np.testing.assert_array_equal(got, (31 - LANE) + 1e-9 * (31 - LANE))


def test_votes_of_a_warp() -> None:
    got = lanes("__ballot_sync(0xffffffffu, lane % 3 == 0)", np.uint32)
    np.testing.assert_array_equal(got, sum(1 << lane for lane in range(0, 32, 3)))
    np.testing.assert_array_equal(lanes("__any_sync(0xffffffffu, lane == 7)"), 1)
    np.testing.assert_array_equal(lanes("__all_sync(0xffffffffu, lane != 7)"), 0)
    np.testing.assert_array_equal(lanes("__all_sync(0xffffffffu, lane < 32)"), 1)


def test_halves_of_a_warp_by_themselves() -> None:
    body = "lane < 16 ? __shfl_sync(0xffffu, lane, 15) : __shfl_sync(0xffff0000u, lane, 16)"
    np.testing.assert_array_equal(lanes(body), np.where(LANE < 16, 15, 16))


@pytest.mark.parametrize("order", ORDERS)
def test_some_lanes_meet_while_others_wait_with_the_full_mask(order: str) -> None:
    code = f"""{HEAD}(int* out) {{
        int lane = threadIdx.x, mine = lane;
        if (lane < 16) mine = __shfl_xor_sync(0x0000ffffu, mine, 1);
        out[lane] = __shfl_xor_sync(0xffffffffu, mine, 16);
    }}"""
    out = zeros(32, np.int32)
    with cudasim.settings(order=order, seed=2):
        kernel(code)((1,), (32,), (out,))
    np.testing.assert_array_equal(out.get(), np.where(LANE < 16, LANE + 16, (LANE - 16) ^ 1))


def test_last_warp_may_be_short() -> None:
    got = lanes("__shfl_down_sync(0xffffffffu, lane, 1, 4)", block=40)
    want = np.where(np.arange(40) % 4 < 3, np.arange(40) % 32 + 1, np.arange(40) % 32)
    np.testing.assert_array_equal(got, want)


def tickets(order: str, seed: int = 0, blocks: int = 9, threads: int = 40) -> np.ndarray:
    """Return, for each thread of each block, when its turn came."""
    code = f"""{HEAD}(int* next, int* out) {{
        out[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1);
    }}"""
    out = zeros(blocks * threads, np.int32)
    with cudasim.settings(order=order, seed=seed, threads=1):
        kernel(code)((blocks,), (threads,), (zeros(1, np.int32), out))
    return out.get().reshape(blocks, threads)


def test_orders() -> None:
    count = 9 * 40
    np.testing.assert_array_equal(tickets("ascending").ravel(), np.arange(count))
    np.testing.assert_array_equal(tickets("descending").ravel(), np.arange(count)[::-1])
    one, other = tickets("random", 1), tickets("random", 2)
    assert sorted(one.ravel()) == list(range(count))
    assert (one != other).any()
    np.testing.assert_array_equal(one, tickets("random", 1))
    # Both blocks and threads are shuffled.
    assert (np.diff(one.min(axis=1)) < 0).any()
    assert (np.diff(one, axis=1) < 0).any()


@pytest.mark.parametrize("blocks", [1, 2, 3, 64, 97])
def test_random_order_runs_every_block_once(blocks: int) -> None:
    for seed in range(5):
        assert sorted(tickets("random", seed, blocks, 1).ravel()) == list(range(blocks))


def test_blocks_on_several_cpu_threads() -> None:
    code = f"""{HEAD}(int* sum, float* fsum, int* seen) {{
        __shared__ int part[64];
        part[threadIdx.x] = 1;
        __syncthreads();
        if (threadIdx.x == 0) {{
            int s = 0;
            for (int i = 0; i < 64; ++i) s += part[i];
            atomicAdd(sum, s);
        }}
        atomicAdd(fsum, 1.f);
        seen[blockIdx.x * 64 + threadIdx.x] += 1;
    }}"""
    function, total, ftotal = kernel(code), zeros(1, np.int32), zeros(1)
    seen = zeros(500 * 64, np.int32)
    with cudasim.settings(threads=4):
        for _ in range(20):
            function((500,), (64,), (total, ftotal, seen))
    assert total.item() == 20 * 500 * 64
    assert ftotal.item() == 20 * 500 * 64
    assert (seen.get() == 20).all()


def test_launches_from_several_python_threads() -> None:
    code = f"""{HEAD}(int* a) {{
        __shared__ int s[64];
        s[threadIdx.x] = a[blockIdx.x * 64 + threadIdx.x];
        __syncthreads();
        a[blockIdx.x * 64 + threadIdx.x] = s[63 - threadIdx.x] + 1;
    }}"""
    function = kernel(code)

    def work(number: int) -> bool:
        array = cudasim.full(640, number, np.int32)
        for _ in range(30):
            function((10,), (64,), (array,))
        return bool((array.get() == number + 30).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def test_fault_on_a_helping_cpu_thread() -> None:
    code = HEAD + "(float* a) { if (blockIdx.x > 50) a[1000000] = 1.f; a[threadIdx.x] = 0.f; }"
    function = kernel(code)
    for _ in range(3):
        with cudasim.settings(threads=4), pytest.raises(cudasim.SimulationError) as caught:
            function((200,), (64,), (zeros(64),))
        assert caught.value.findings[0].kind == "memory fault"


ATOMICS = {
    "atomicAdd(a, 3)": 13, "atomicSub(a, 3)": 7, "atomicMax(a, 12)": 12, "atomicMin(a, -2)": -2,
    "atomicExch(a, 5)": 5, "atomicCAS(a, 10, 1)": 1, "atomicCAS(a, 9, 1)": 10, "atomicAnd(a, 6)": 2,
    "atomicOr(a, 5)": 15, "atomicXor(a, 3)": 9,
}  # fmt: skip


@pytest.mark.parametrize("mode", ["fast", "check"])
def test_atomics(mode: str) -> None:
    for call, after in ATOMICS.items():
        a, before = cudasim.full(1, 10, np.int32), zeros(1, np.int32)
        with cudasim.settings(mode=mode):
            kernel(f"{HEAD}(int* a, int* before) {{ *before = {call}; }}")((1,), (1,), (a, before))
        assert (a.item(), before.item()) == (after, 10), call


def test_atomics_wrap_around() -> None:
    code = HEAD + "(unsigned* a, unsigned* out) { out[threadIdx.x] = atomicInc(a, 3); }"
    a, out = zeros(1, np.uint32), zeros(6, np.uint32)
    kernel(code)((1,), (6,), (a, out))
    np.testing.assert_array_equal(out.get(), [0, 1, 2, 3, 0, 1])
    code = code.replace("Inc", "Dec")
    kernel(code)((1,), (6,), (zeros(1, np.uint32), out))
    np.testing.assert_array_equal(out.get(), [0, 3, 2, 1, 0, 3])


def test_denormal_floats_are_flushed_in_kernels_only() -> None:
    code = HEAD + "(const float* a, float* b) { b[threadIdx.x] = a[threadIdx.x] * 0.5f; }"
    smallest = np.float32(2.0**-126)
    a, b = cudasim.full(4, smallest, np.float32), zeros(4)
    kernel(code)((1,), (4,), (a, b))
    np.testing.assert_array_equal(b.get(), 0)
    assert smallest * np.float32(0.5) > 0
    kernel(code, options=("-ftz=false",))((1,), (4,), (a, b))
    assert (b.get() > 0).all()


def test_denormal_doubles_stay() -> None:
    code = HEAD + "(const double* a, double* b) { b[threadIdx.x] = a[threadIdx.x] * 0.5; }"
    a, b = cudasim.full(4, 2.0**-1022, np.float64), zeros(4, np.float64)
    kernel(code)((1,), (4,), (a, b))
    np.testing.assert_array_equal(b.get(), 2.0**-1023)


def test_printf(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        HEAD
        + '(float* a) { printf("%d of %d: %.1f\\n", threadIdx.x, blockDim.x, a[threadIdx.x]); }'
    )
    kernel(code)((1,), (3,), (cudasim.asarray(np.array([1, 2, 4], np.float32)),))
    assert capsys.readouterr().out == "0 of 3: 1.0\n1 of 3: 2.0\n2 of 3: 4.0\n"


def test_float4_and_templates() -> None:
    code = """template <typename T, int N> __global__ void k(const T* a, T* out) {
        float4 v = reinterpret_cast<const float4*>(a)[threadIdx.x];
        out[threadIdx.x] = v.x + N * v.y + v.z * v.w + make_int2(3, 4).y;
    }"""
    a, out = cudasim.asarray(np.arange(32, dtype=np.float32)), zeros(8)
    kernel(code, "k<float, 3>")((1,), (8,), (a, out))
    v = np.arange(32, dtype=np.float32).reshape(8, 4)
    np.testing.assert_array_equal(out.get(), v[:, 0] + 3 * v[:, 1] + v[:, 2] * v[:, 3] + 4)


MATHS: dict[str, Any] = {
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "tanh": np.tanh, "expm1": np.expm1,
    "sin": np.sin,
    "floor": np.floor, "ceil": np.ceil, "rint": np.rint, "fabs": np.abs, "log1p": np.log1p,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mathematics_is_overloaded(dtype: Any) -> None:
    """T(0.7) tells float from double: an overload that fell back to the other shows."""
    calls = " ".join(f"out[{i}] = {name}(x);" for i, name in enumerate(MATHS))
    code = f"template <typename T> __global__ void k(T x, T* out) {{ {calls} }}"
    out = zeros(len(MATHS), dtype)
    name = "float" if dtype is np.float32 else "double"
    kernel(code, f"k<{name}>")((1,), (1,), (dtype(0.7), out))
    want = [function(dtype(0.7)) for function in MATHS.values()]
    np.testing.assert_allclose(out.get(), np.array(want, dtype), rtol=4 * np.finfo(dtype).eps)


def test_an_empty_grid_runs_one_block_as_in_cupy() -> None:
    out = zeros(4, np.int32)
    kernel(HEAD + "(int* a) { a[threadIdx.x] = gridDim.x; }")((0,), (4,), (out,))
    np.testing.assert_array_equal(out.get(), 1)


def in_a_new_process(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# A kernel that turns its array round, and swaps neighbours.
SETTING = """
import os
import numpy as np
from minicnn import cudasim
from minicnn.cudasim import build

code = """ + repr("""
extern "C" __global__ void k(int* a) {
    __shared__ int s[96];
    int t = threadIdx.x;
    s[t] = a[t];
    __syncthreads();
    a[t] = __shfl_xor_sync(0xffffffffu, s[95 - t], 1);
}""")


def test_the_portable_switch_of_stacks() -> None:
    out = in_a_new_process(
        SETTING
        + """
build.RUNTIME_FLAGS = (*build.RUNTIME_FLAGS, "-DCUDASIM_UCONTEXT")
kernel = cudasim.RawModule(code=code).get_function("k")
for order in ("ascending", "descending", "random"):
    for mode in ("fast", "check"):
        a = cudasim.arange(96, dtype=np.int32)
        with cudasim.settings(order=order, mode=mode):
            kernel((1,), (96,), (a,))
        print((a.get() == (95 - np.arange(96)) ^ 1).all())
try:
    with cudasim.settings(mode="check"):
        kernel((1,), (64,), (a,))
except cudasim.SimulationError as error:
    print(error.findings[0].kind)
"""
    )
    assert out.split("\n")[:-1] == ["True"] * 6 + ["uninitialised read"]


def test_a_forked_process_can_launch() -> None:
    out = in_a_new_process(
        SETTING
        + """
module = cudasim.RawModule(code='extern "C" __global__ void k(int* a) { a[blockIdx.x]++; }')
def launch():
    a = cudasim.zeros(960, np.int32)
    with cudasim.settings(threads=3):
        module.get_function("k")((960,), (1,), (a,))
    return bool((a.get() == 1).all())
print(launch(), flush=True)
child = os.fork()
if child == 0:
    os._exit(0 if launch() else 1)
print(os.waitpid(child, 0)[1])
"""
    )
    assert out.split() == ["True", "0"]
