"""RawModule and its functions: which kernels are found, which arguments are refused, and how."""

from __future__ import annotations

import re
import timeit
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicnn import cudasim
from tests.cudasim.launching import kernel, zeros
from tests.needs import needs_compiler

pytestmark = needs_compiler
CODE = """
extern "C" __global__ void k(
    const float* input, int height, float scale, bool flag, float* output
) {
    output[threadIdx.x] = flag ? scale * input[threadIdx.x] + height : 0.f;
}
template <typename T> __global__ void twice(T* a) { a[threadIdx.x] *= T(2); }
__global__ void plain(float* a) { a[0] = 5.f; }
"""


def arguments(**changed: Any) -> tuple:
    values = {
        "input": zeros(4),
        "height": np.int32(3),
        "scale": np.float32(2),
        "flag": np.bool_(True),
        "output": zeros(4),
    }
    return tuple({**values, **changed}.values())


def refused(
    error: type, message: str, args: Any = None, grid: Any = (1,), block: Any = (4,)
) -> None:
    for mode in ("fast", "check"):
        with cudasim.settings(mode=mode), pytest.raises(error, match=re.escape(message)):
            kernel(CODE)(grid, block, arguments() if args is None else args)


def test_right_arguments() -> None:
    args = arguments(input=cudasim.ones(4, np.float32))
    kernel(CODE)((1,), (4,), args)
    np.testing.assert_array_equal(args[-1].get(), 5)


def test_python_numbers_are_refused() -> None:
    message = "k: argument height is the Python int 3, expected numpy.int32"
    refused(TypeError, message, arguments(height=3))
    message = "k: argument scale is the Python float 2.0, expected numpy.float32"
    refused(TypeError, message, arguments(scale=2.0))
    refused(TypeError, "k: argument flag is the Python bool True", arguments(flag=True))


def test_numbers_of_another_dtype_are_refused() -> None:
    message = "k: argument scale is numpy.float64, expected numpy.float32 for float"
    refused(TypeError, message, arguments(scale=np.float64(2)))
    message = "k: argument height is numpy.int64, expected numpy.int32 for int"
    refused(TypeError, message, arguments(height=np.int64(3)))


def test_arrays_of_another_dtype_are_refused() -> None:
    message = "k: argument input is an array of float64, expected float32 for float*"
    refused(TypeError, message, arguments(input=zeros(4, np.float64)))


def test_host_arrays_are_refused() -> None:
    message = "k: argument output is a NumPy array in the host's memory"
    refused(TypeError, message, arguments(output=np.zeros(4, np.float32)))


def test_numbers_for_arrays_and_arrays_for_numbers_are_refused() -> None:
    message = "k: argument input is a float32, expected a device array for float*"
    refused(TypeError, message, arguments(input=np.float32(1)))
    message = "k: argument height is ndarray, expected numpy.int32 for int"
    refused(TypeError, message, arguments(height=zeros(1, np.int32)))


def test_strided_arrays_are_refused() -> None:
    message = "k: argument input of shape (4,) has strides (8,), expected C-contiguous"
    refused(ValueError, message, arguments(input=zeros(8)[::2]))


def test_wrong_number_of_arguments_is_refused() -> None:
    message = "k: got 4 arguments, expected 5: float* input, int height, float scale, bool flag"
    refused(ValueError, message, arguments()[:4])


def test_wrong_grids_and_blocks_are_refused() -> None:
    refused(TypeError, "k: grid is a int, expected a tuple", grid=1)
    refused(TypeError, "k: block is a list, expected a tuple", block=[4])
    refused(
        ValueError, "k: grid is (1, 2, 3, 4), expected one to three integers", grid=(1, 2, 3, 4)
    )
    refused(ValueError, "k: block is (-1,), expected one to three integers", block=(-1,))
    refused(cudasim.SimulationError, "has 2048 threads, and a GPU runs 1024", block=(64, 32))
    refused(cudasim.SimulationError, ", 64 in z", block=(1, 1, 65))
    refused(cudasim.SimulationError, "65535", grid=(1, 65536))


def test_none_is_a_null_pointer() -> None:
    code = 'extern "C" __global__ void k(const float* a, int* out) { *out = a == nullptr; }'
    out = zeros(1, np.int32)
    kernel(code)((1,), (1,), (None, out))
    assert out.item() == 1


def test_which_kernels_are_found() -> None:
    module = cudasim.RawModule(code=CODE, name_expressions=["twice<double>", "plain"])
    a, b = cudasim.ones(4, np.float64), zeros(1)
    module.get_function("twice<double>")((1,), (4,), (a,))
    module.get_function("plain")((1,), (1,), (b,))
    np.testing.assert_array_equal(a.get(), 2)
    assert b.item() == 5
    assert module.get_function("k").name == "k"
    with pytest.raises(ValueError, match="kernel.cu has no kernel other; it has k, twice, plain"):
        module.get_function("other")
    with pytest.raises(ValueError, match="twice is a template, so that CuPy finds it only if"):
        module.get_function("twice<float>")
    with pytest.raises(ValueError, match='plain is not extern "C"'):
        cudasim.RawModule(code=CODE).get_function("plain")


def test_a_module_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "_two.h").write_text("__device__ inline float two() { return 2.f; }\n")
    path = tmp_path / "mine.cu"
    path.write_text(
        '#include "_two.h"\nextern "C" __global__ void k(float* a) {\n a[threadIdx.x] = two();\n}'
    )
    a = zeros(4)
    module = cudasim.RawModule(path=str(path))
    module.get_function("k")((1,), (4,), (a,))
    np.testing.assert_array_equal(a.get(), 2)
    with cudasim.settings(mode="check"), pytest.raises(cudasim.SimulationError) as caught:
        module.get_function("k")((1,), (5,), (a,))
    assert (caught.value.findings[0].file, caught.value.findings[0].line) == ("mine.cu", 3)


def test_raw_kernel_and_options() -> None:
    code = 'extern "C" __global__ void k(float* a) { a[0] = VALUE; }'
    for options in (("-DVALUE=3",), ("-D", "VALUE=3"), ("--define-macro=VALUE=3", "--std=c++17")):
        a = zeros(1)
        cudasim.RawKernel(code, "k", options)((1,), (1,), (a,))
        assert a.item() == 3
    with pytest.raises(TypeError, match="options: got the string"):
        cudasim.RawKernel(code, "k", "-DVALUE=3")
    with pytest.raises(TypeError, match="expected code or path"):
        cudasim.RawModule()


def test_limit_of_dynamic_shared_memory_is_checked() -> None:
    function = kernel(CODE)
    assert function.max_dynamic_shared_size_bytes == 48 * 1024
    with pytest.raises(ValueError, match="max_dynamic_shared_size_bytes: got 999999"):
        function.max_dynamic_shared_size_bytes = 999_999


def test_settings() -> None:
    before = cudasim.get_settings()
    assert (before.mode, before.order, before.route) == ("fast", "ascending", "shim")
    with cudasim.settings(mode="check", threads=3):
        with cudasim.settings(order="random", seed=7) as inner:
            assert inner == cudasim.get_settings()
            assert (inner.mode, inner.order, inner.seed, inner.threads) == ("check", "random", 7, 3)
    assert cudasim.get_settings() == before
    for name, value in [
        ("mode", "slow"),
        ("order", "up"),
        ("route", "nvcc"),
        ("threads", 0),
        ("seed", -1),
    ]:
        with pytest.raises(ValueError, match=f"{name}: got {value!r}"):
            with cudasim.settings(**{name: value}):  # type: ignore[arg-type]
                pass


def test_a_launch_costs_little() -> None:
    """LeNet is trained through hundreds of thousands of launches; measured: 11 us."""
    function, args = kernel(CODE), arguments()
    function((1,), (4,), args)
    best = min(timeit.repeat(lambda: function((1,), (4,), args), number=200, repeat=10)) / 200
    assert best < 100e-6
