"""The launcher: what it reads from a `.cu` file, what it refuses, what it starts."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.kernels import _launch
from tests.needs import needs_compiler

TEXT = """
// template <typename T> __global__ void commented_cuda(int x) {}
constexpr int TILE = 64;
template <typename T, int SIZE>
__global__ void __launch_bounds__(128) scale_cuda(
    const T* __restrict__ input, unsigned long long seed, bool flip, T factor, int total,
    const long long* target, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        output[i] = (flip ? -factor : factor) * input[i] * T(seed >> 60) + T(target[i]) * T(SIZE);
    }
}
__global__ void plain_cuda(int total, int* output) {
    for (int i = threadIdx.x; i < total; i += blockDim.x) {
        output[i] = i;
    }
}
"""


@pytest.fixture
def text():
    with _launch.replace_source("sample", TEXT):
        yield


def test_signatures_are_read_from_the_text(text):
    found = _launch.signatures("sample")
    assert list(found) == ["scale_cuda", "plain_cuda"]
    scale = found["scale_cuda"]
    assert scale.template == ("T", "SIZE")
    assert [(p.ctype, p.pointer, p.name) for p in scale.parameters] == [
        ("T", True, "input"),
        ("unsigned long long", False, "seed"),
        ("bool", False, "flip"),
        ("T", False, "factor"),
        ("int", False, "total"),
        ("long long", True, "target"),
        ("T", True, "output"),
    ]
    assert found["plain_cuda"].template == ()


def test_constants_are_read_from_the_text(text):
    assert _launch.constants("sample") == {"TILE": 64}


def test_includes_are_expanded_and_lines_keep_their_numbers(tmp_path, monkeypatch):
    (tmp_path / "_part.h").write_text("struct Part {};\n")
    (tmp_path / "whole.cu").write_text('// first\n#include "_part.h"\n// third\n')
    monkeypatch.setattr(_launch, "FOLDER", tmp_path)
    _launch._read.cache_clear()
    assert _launch.source("whole").splitlines() == [
        '#line 1 "whole.cu"', "// first", '#line 1 "_part.h"', "struct Part {};", "",
        '#line 3 "whole.cu"', "// third",
    ]  # fmt: skip
    _launch._read.cache_clear()


def arguments(xp, count, dtype=np.float32):
    input = xp.asarray(np.arange(count), dtype=dtype)
    target = xp.asarray(np.arange(count), dtype=np.int64)
    return input, 3 << 60, True, 0.5, target, xp.empty(count, dtype)


@needs_compiler
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_arrive_in_their_types(text, dtype):
    from minicnn import cudasim

    values = arguments(cudasim, 1000, dtype)
    with _launch.record() as launches:
        _launch.launch("sample", "scale_cuda", 1000, *values, block=128, template=(7,))
    index = np.arange(1000)
    np.testing.assert_array_equal(cudasim.asnumpy(values[-1]), -0.5 * index * 3 + index * 7)
    name = "float" if dtype == np.float32 else "double"
    assert launches == [_launch.Launch("sample", f"scale_cuda<{name}, 7>", 8, 128, 0)]


@needs_compiler
def test_the_grid_covers_the_items_up_to_the_limit(text):
    from minicnn import cudasim

    output = cudasim.empty(1000, np.int32)
    with _launch.record() as launches, _launch.limit_blocks(3):
        _launch.launch("sample", "plain_cuda", 1000, output)
        _launch.launch("sample", "plain_cuda", 1000, output, per_block=1000)
        _launch.launch("sample", "plain_cuda", 0, output)
    assert [launch.blocks for launch in launches] == [3, 1]


@needs_compiler
@pytest.mark.parametrize(
    "position, value, message",
    [
        (0, np.zeros(4, np.float32), "scale_cuda: input is a ndarray, expected a device array"),
        (0, [1.0], "scale_cuda: input has dtype object, expected float32 or float64"),
        (1, -1, "scale_cuda: seed is -1, expected a number that fits into uint64"),
        (1, 2.5, "scale_cuda: seed is 2.5, expected a number that fits into uint64"),
        (3, "x", "scale_cuda: factor is 'x', expected a number that fits into float32"),
    ],
)
def test_wrong_arguments_are_named(text, position, value, message):
    from minicnn import cudasim

    values = list(arguments(cudasim, 4))
    values[position] = value
    with pytest.raises((TypeError, ValueError), match=message.replace("(", "\\(")):
        _launch.launch("sample", "scale_cuda", 4, *values, template=(7,))


@needs_compiler
def test_wrong_arrays_are_named(text):
    from minicnn import cudasim

    values = list(arguments(cudasim, 4))
    values[4] = cudasim.zeros(4, np.int32)
    with pytest.raises(TypeError, match="target has dtype int32, expected int64"):
        _launch.launch("sample", "scale_cuda", 4, *values, template=(7,))
    values = list(arguments(cudasim, 4))
    values[0] = cudasim.zeros((2, 4), np.float32)[:, ::2]
    with pytest.raises(ValueError, match="input of shape .2, 2. has strides .16, 8., expected C-c"):
        _launch.launch("sample", "scale_cuda", 4, *values, template=(7,))
    with pytest.raises(TypeError, match="scale_cuda: got 1 arguments, expected input, seed, flip"):
        _launch.launch("sample", "scale_cuda", 4, values[0])
    with pytest.raises(ValueError, match="plain_cuda: 2147483647 items, expected at most"):
        _launch.launch("sample", "plain_cuda", 2**31 - 1, cudasim.zeros(4, np.int32))
