"""Reading CUDA C: kernels and their parameters, shared arrays, lines and files, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim import rewrite
from minicnn.cudasim.errors import CompileError
from tests.cudasim.launching import kernel, zeros
from tests.needs import needs_compiler


def test_kernels_are_found_with_their_parameters() -> None:
    source = rewrite.read(
        """
// __global__ void not_this(int a)
/* nor __global__ void this(int a) */
template <typename T, int N = 4>
__global__ void __launch_bounds__(TILE * TILE, 2) first(
    const T* __restrict__ input, int (&sizes)[3], unsigned long long total,  // of all
    T* __restrict__ output
) {}
extern "C" __global__ __launch_bounds__(128) void second(float) {}
static __global__ void third() {}
extern "C" { __global__ void fourth(int a[4]) {} }
""",
        "a.cu",
    )
    assert list(source.kernels) == ["first", "second", "third", "fourth"]
    first, second, third, fourth = source.kernels.values()
    assert first.parameters[0] == "input" and first.parameters[2:] == ("total", "output")
    assert first.template == ("T", "N")
    assert first.launch_bound == "TILE * TILE"
    assert (second.launch_bound, second.extern_c, second.template) == ("128", True, None)
    assert (third.parameters, third.extern_c) == ((), False)
    assert (fourth.parameters, fourth.extern_c) == (("a",), True)
    assert first.line == 5


def test_text_keeps_its_lines() -> None:
    code = """/* two
lines */ __shared__ // here
float a[
  4];
#pragma unroll
for (;;) ;"""
    source = rewrite.read(code, "a.cu")
    body = source.text.split("\n", 1)[1].split("\n")
    assert len(body) == len(code.split("\n")) + 1
    assert "cudasim_shared" in body[1]
    assert body[4] == "#pragma GCC unroll 32"
    assert source.quote(3) == "float a["


@pytest.mark.parametrize(
    ("declared", "type", "names"),
    [
        ("__shared__ float a[32][33];", "float", ["a"]),
        ("__shared__ __align__(16) float a[64];", "float", ["a"]),
        ("__align__(16) __shared__ float a[64];", "float", ["a"]),
        ("static __shared__ unsigned char a[3];", "unsigned char", ["a"]),
        ("volatile __shared__ int a[3];", "int", ["a"]),
        ("__shared__ int flag, count[4];", "int", ["flag", "count"]),
        ("__shared__ float* p;", "float*", ["p"]),
    ],
)
def test_shared_declarations(declared: str, type: str, names: list[str]) -> None:
    text = rewrite.read(f"void f() {{ {declared} }}", "a.cu").text
    assert "__shared__" not in text
    for name in names:
        assert f'"{name}"' in text
    assert f"typedef {type} " in text


@needs_compiler
def test_shared_arrays_of_each_instantiation_are_their_own() -> None:
    code = """
template <typename T, int N> __device__ T reverse(T value) {
    __shared__ T s[N];
    s[threadIdx.x] = value;
    __syncthreads();
    return s[N - 1 - threadIdx.x];
}
extern "C" __global__ void k(float* a, double* b) {
    __shared__ __align__(16) float first[8], second;
    first[threadIdx.x] = a[threadIdx.x];
    if (threadIdx.x == 0) second = 100.f;
    a[threadIdx.x] = reverse<float, 8>(a[threadIdx.x]);
    b[threadIdx.x] = reverse<double, 8>(b[threadIdx.x]) + first[threadIdx.x] + second;
}"""
    a = cudasim.asarray(np.arange(8, dtype=np.float32))
    b = cudasim.asarray(np.arange(8, dtype=np.float64) * 10)
    with cudasim.settings(mode="check"):
        kernel(code)((1,), (8,), (a, b))
    np.testing.assert_array_equal(a.get(), np.arange(8)[::-1])
    np.testing.assert_array_equal(b.get(), np.arange(8)[::-1] * 10 + np.arange(8) + 100)


@needs_compiler
def test_dynamic_shared_memory_carved_up_by_hand() -> None:
    code = """extern "C" __global__ void k(float* a, int n) {
        extern __shared__ __align__(16) unsigned char memory[];
        float* x = (float*)memory;
        int* y = (int*)(x + n);
        x[threadIdx.x] = a[threadIdx.x];
        y[threadIdx.x] = threadIdx.x;
        __syncthreads();
        a[threadIdx.x] = x[n - 1 - threadIdx.x] + y[n - 1 - threadIdx.x];
    }"""
    a = cudasim.asarray(np.arange(40, dtype=np.float32))
    with cudasim.settings(mode="check"):
        kernel(code)((1,), (40,), (a, np.int32(40)), shared_mem=320)
    np.testing.assert_array_equal(a.get(), 2 * np.arange(40)[::-1])


def test_line_directives_name_files() -> None:
    code = '#line 1 "a.h"\nint one;\nint two;\n#line 12 "b.cu"\nint three;\n# 3 "c.cu"\nint four;'
    source = rewrite.read(code, "top.cu")
    places = [source.place(line) for line in (2, 3, 5, 7)]
    assert places == [("a.h", 1), ("a.h", 2), ("b.cu", 12), ("c.cu", 3)]
    assert "#line" not in source.plain
    assert source.in_files("x.cu:3: bad\nother.cu:3", "x.cu") == "a.h:2: bad\nother.cu:3"


def test_quoted_includes_are_put_in(tmp_path: Path) -> None:
    (tmp_path / "helper.h").write_text("#pragma once\nint helper;\n")
    code = 'int a;\n#include "helper.h"\n#include <stdio.h>\nint b;'
    source = rewrite.read(code, "a.cu", (str(tmp_path),))
    lines = source.plain.split("\n")
    assert source.place(lines.index("int helper;") + 1) == ("helper.h", 2)
    assert source.place(lines.index("int b;") + 1) == ("a.cu", 4)
    assert not any("stdio" in line for line in lines)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("int a;\n__shared__ float s[2] = {1, 2};", "a.cu:2: this form of __shared__"),
        ("\nvoid f() { k<<<1, 2>>>(); }", "a.cu:2: launches a kernel with <<< >>>"),
        ("#include <vector>", "a.cu:1: vector cannot be included"),
        ('#include "no.h"', 'a.cu:1: there is no "no.h"'),
    ],
)
def test_refusals_name_the_line(code: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        rewrite.read(code, "a.cu")
    assert message in str(caught.value)


@needs_compiler
def test_headers_that_need_nothing_are_accepted() -> None:
    code = """#include <cuda_runtime.h>
#include <float.h>
#include <math.h>
extern "C" __global__ void k(float* a) { a[0] = FLT_MAX; a[1] = INFINITY; }"""
    a = zeros(2)
    kernel(code)((1,), (1,), (a,))
    np.testing.assert_array_equal(a.get(), [np.finfo(np.float32).max, np.inf])


@needs_compiler
@pytest.mark.parametrize("unroll", ["", "4", "(4)", "N"])
def test_unrolled_loops_compute_the_same(unroll: str) -> None:
    code = f"""constexpr int N = 4;
    extern "C" __global__ void k(int* a) {{
        int sum = 0;
        #pragma unroll {unroll}
        for (int i = 0; i < 10; ++i) sum += i;
        a[0] = sum;
    }}"""
    a = zeros(1, np.int32)
    kernel(code)((1,), (1,), (a,))
    assert a.item() == 45


@needs_compiler
def test_explicit_specialisation_of_a_kernel() -> None:
    code = """template <typename T> __global__ void k(T* a) { a[0] = T(1); }
template <> __global__ void k<double>(double* a) { a[0] = 2; }"""
    a, b = zeros(1), zeros(1, np.float64)
    kernel(code, "k<float>")((1,), (1,), (a,))
    kernel(code, "k<double>")((1,), (1,), (b,))
    assert (a.item(), b.item()) == (1, 2)
