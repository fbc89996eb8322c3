"""The checker: each example's fault is named with its line, and right kernels pass."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim.checker import check_launch, execute, launches, load
from tests.needs import needs_compiler, needs_nvrtc

pytestmark = needs_compiler

EXAMPLES = Path(__file__).parent / "examples"
FAULTS = {
    "block_sum.cu": ("race", 9, "part"),
    "divergent.cu": ("barrier divergence", None, None),
    "histogram.cu": ("race", 6, "bins"),
    "off_by_one.cu": ("out-of-bounds", 5, "x"),
    "subtract_max.cu": ("race", 11, "best"),
    "unwritten.cu": ("uninitialised read", 5, "total"),
}
RIGHT = ["saxpy.cu", "transpose.cu"]

COPY = """
template <typename T> __global__ void copy(const T* x, T* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}
__global__ void plain(float* y) { y[threadIdx.x] = 2.f; }
"""
LAST_WINS = """
__global__ void slot(int* next, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[atomicAdd(next, 1)] = i;
}
"""


def test_every_example_is_tested():
    assert {path.name for path in EXAMPLES.glob("*.cu")} == {*FAULTS, *RIGHT}


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_of_an_example_is_found(name):
    kind, line, array = FAULTS[name]
    report = cudasim.check(EXAMPLES / name)
    assert not report.ok
    (finding,) = report.findings
    assert (finding.kind, finding.file, finding.array) == (kind, name, array)
    assert line in (None, finding.line)
    text = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
    assert text[finding.line - 1].strip() in finding.message
    assert "cure" in finding.message.lower()
    assert f"{name}:{finding.line}" in str(report)
    assert report.launches[0].orders == [["ascending", "descending", "random"]]


@pytest.mark.parametrize("name", RIGHT)
def test_right_examples_pass(name):
    report = cudasim.check(str(EXAMPLES / name))
    assert report.ok, str(report)
    assert str(report).count("no finding") == len(report.launches)


@needs_nvrtc
@pytest.mark.parametrize("name", [*FAULTS, *RIGHT])
def test_nvidias_compiler_sees_the_same(name):
    report = cudasim.check(EXAMPLES / name, route="ptx")
    found = {(finding.kind, finding.line, finding.array) for finding in report.findings}
    kind, line, array = FAULTS.get(name, (None, None, None))
    assert {(k, line and at, what) for k, at, what in found} == (
        {(kind, line, array)} if name in FAULTS else set()
    )


def test_a_fault_that_one_order_hides_is_shown_with_the_others():
    report = cudasim.check(EXAMPLES / "off_by_one.cu", orders=["random"])
    assert report.launches[0].orders == [["random"]]


def test_examples_compute_what_they_say():
    source = load(EXAMPLES / "saxpy.cu")
    (launch,) = launches(source, "saxpy<double>", {"a": 3, "x": "[50]", "y": "[50]:ones"})
    expected = 3 * launch.arguments["x"] + 1
    np.testing.assert_allclose(execute(source, launch)["y"], expected, rtol=1e-15)
    source = load(EXAMPLES / "transpose.cu")
    for launch in launches(source):
        written = execute(source, launch)
        np.testing.assert_array_equal(written["output"], launch.arguments["input"].T)
        assert list(written) == ["output"]


def test_arguments_are_arrays_numbers_or_text():
    x = np.arange(5.0)
    assert cudasim.check(COPY, "copy<double>", 1, 32, [x, np.zeros(5), 5]).ok
    assert cudasim.check(COPY, "copy<double>", (1,), (32,), {"x": x, "y": "[5]:empty"}).ok
    report = cudasim.check(COPY, "copy<double>", 1, 32, {"x": x, "y": "[4]:empty", "n": 5})
    assert [finding.kind for finding in report.findings] == ["out-of-bounds"]
    assert report.findings[0].file == "kernel.cu"
    with pytest.raises(ValueError, match="x: got float32, expected float64"):
        cudasim.check(COPY, "copy<double>", args={"x": x.astype(np.float32)})
    with pytest.raises(ValueError, match="got 2 arguments, expected x, y, n"):
        cudasim.check(COPY, "copy", args=[x, x])
    with pytest.raises(ValueError, match=r"kernel: got None, expected one of copy, plain"):
        cudasim.check(COPY, args=[x, x, 5])


def test_kernels_need_not_be_templates():
    assert cudasim.check(COPY, "plain", 1, 64, {"y": "[64]:empty"}).ok


def test_results_that_depend_on_the_order_are_noted_and_are_no_finding():
    (report,) = cudasim.check(LAST_WINS, args={"next": "[1]:zeros", "out": "[n]"}).launches
    assert report.findings == []
    assert set(report.differences) == {"out"}
    assert "out depends on the order of threads" in str(report)
    alone = check_launch(load(LAST_WINS), report.launch, ["random"])
    assert alone.differences == {}


def test_what_a_kernel_prints_is_kept_once(capsys):
    text = '__global__ void k(int* x, int n) { if (threadIdx.x == 3) printf("thread %d\\n", n); }'
    (report,) = cudasim.check(text, grid=1, args={"n": 5}).launches
    assert report.printed == "thread 5\n"
    assert report.accesses == {}
    assert str(report).splitlines()[1:] == [
        "it printed:", "thread 5", "no finding in no access to memory",
    ]  # fmt: skip
    assert capsys.readouterr().out == ""


def test_includes_are_read_and_named(tmp_path):
    (tmp_path / "double.h").write_text(
        "__device__ float doubled(const float* x, int i) {\n    return 2 * x[i + 1];\n}\n"
    )
    (tmp_path / "my.cu").write_text(
        '#include "double.h"\n'
        "__global__ void k(const float* x, float* y, int n) {\n"
        "    int i = threadIdx.x;\n"
        "    if (i < n) y[i] = doubled(x, i);\n"
        "}\n"
    )
    (finding,) = cudasim.check(tmp_path / "my.cu", args={"n": 20}).findings
    assert (finding.kind, finding.file, finding.line) == ("out-of-bounds", "double.h", 2)


def test_files_that_cannot_be_checked(tmp_path):
    with pytest.raises(OSError):
        cudasim.check(tmp_path / "none.cu")
    with pytest.raises(ValueError, match="holds no __global__ function"):
        cudasim.check("int f() { return 1; }")
    with pytest.raises(ValueError, match=re.escape("holds host code ('int main('); take it out")):
        cudasim.check(COPY + "int main() { }")
    with pytest.raises(ValueError, match=r"^kernel\.cu:3: "):
        cudasim.check("\n__global__ void k() { }\nint main() { }")
    with pytest.raises(ValueError, match="orders: got none, expected some of ascending"):
        cudasim.check(COPY, orders=())
    with pytest.raises(cudasim.CompileError, match=r"kernel\.cu:2"):
        cudasim.check("\n__global__ void k(float* x) { x[0] = nothing; }", args={"x": "[1]"})
