"""Kernels and launches read from text: what is understood, guessed and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from minicnn.cudasim.declarations import Parameter, find_kernels
from minicnn.cudasim.plans import Empty, example, prepare, read_plan, read_plans
from tests.needs import needs_compiler

SOURCE = """
// cudasim: saxpy<double> n=2000 x=float64[n] y=float64[n]:zeros
template <typename T>
__global__ void __launch_bounds__(256) saxpy(const T* __restrict__ x, T* y, T a, int n) {
}
/* __global__ void gone(int a) {} */
extern "C" __global__ void transpose(const float* in, float *out,
                                     int rows, unsigned cols) {
}
// __global__ void gone_too(int a) {}
__global__ void count(const unsigned char* image, int* bins) {}
template <int TILE, class U = double>
__global__ void tiles(float4* a, U scale, bool on, size_t n) {}
__global__ void declared(int n);
__global__ void row_sums(float* x) { extern __shared__ float part[]; }
"""
KERNELS = find_kernels(SOURCE)

pytestmark = needs_compiler  # the package opens the arena


def make(text, folder=Path()):
    return prepare(read_plan(text), KERNELS, folder)


def test_kernels_are_found_and_comments_are_not():
    assert [kernel.name for kernel in KERNELS] == [
        "saxpy",
        "transpose",
        "count",
        "tiles",
        "row_sums",
    ]
    saxpy, transpose, _, tiles, row_sums = KERNELS
    assert saxpy.template == (("typename", "T", ""),)
    assert saxpy.parameters[0] == Parameter("x", "T", pointer=True, constant=True)
    assert saxpy.parameters[2:] == (
        Parameter("a", "T", pointer=False, constant=False),
        Parameter("n", "int", pointer=False, constant=False),
    )
    assert transpose.parameters[1] == Parameter("out", "float", pointer=True, constant=False)
    assert row_sums.dynamic_shared and not tiles.dynamic_shared
    assert tiles.template == (("int", "TILE", ""), ("class", "U", "double"))


def test_a_plan_in_a_comment_sets_everything():
    (plan,) = read_plans(SOURCE)
    assert plan.line == 2
    launch = prepare(plan, KERNELS, Path())
    assert launch.expression == "saxpy<double>"
    assert (launch.grid, launch.block, launch.shared_mem) == ((8,), (256,), 0)
    assert launch.arguments["n"].dtype == np.int32
    assert launch.arguments["x"].dtype == launch.arguments["a"].dtype == np.float64
    assert not launch.arguments["y"].any() and launch.arguments["x"].std() > 0.9
    assert launch.guessed == ("a",)
    assert str(launch) == (
        "saxpy<double> grid=8 block=256 x=float64[2000] y=float64[2000] a=1.5 n=2000"
    )


def test_what_is_left_out_is_guessed_from_the_one_integer():
    launch = make("saxpy")
    assert launch.expression == "saxpy<float>"
    assert launch.arguments["x"].shape == launch.arguments["y"].shape == (1000,)
    assert launch.arguments["n"] == 1000 and launch.grid == (4,)
    assert make("saxpy x=float32[300]").arguments["n"] == 300
    assert make("saxpy x=float32[n*2]").arguments["x"].shape == (2000,)
    again = make("saxpy")
    np.testing.assert_array_equal(launch.arguments["x"], again.arguments["x"])
    assert (launch.arguments["x"] != launch.arguments["y"]).any()


def test_sizes_grids_and_blocks_may_depend_on_integers():
    launch = make(
        "transpose rows=3 cols=rows*2-1 in=[rows, cols]:arange out=[cols,rows]:empty "
        "grid=cols//2,3 block=16,16 shared=4*16*17"
    )
    assert (launch.grid, launch.block, launch.shared_mem) == ((2, 3), (16, 16), 1088)
    np.testing.assert_array_equal(launch.arguments["in"], np.arange(15.0).reshape(3, 5))
    assert launch.arguments["out"] == Empty((5, 3), np.dtype(np.float32))
    assert launch.arguments["cols"].dtype == np.uint32


def test_fills():
    launch = make("count image=[50] bins=int32[3]:7")
    assert launch.arguments["image"].dtype == np.uint8 and launch.arguments["image"].max() < 10
    np.testing.assert_array_equal(launch.arguments["bins"], [7, 7, 7])
    tiles = make("tiles<8> a=[2]:ones on=false")
    assert tiles.expression == "tiles<8, double>"
    np.testing.assert_array_equal(tiles.arguments["a"], np.ones(2, np.float32))
    assert tiles.arguments["on"].dtype == bool and not tiles.arguments["on"]
    assert tiles.arguments["scale"] == 1.5 and tiles.arguments["n"].dtype == np.uint64


def test_arrays_come_from_files(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(2, 3).T)
    launch = make("saxpy x=x.npy", tmp_path)
    assert launch.arguments["x"].flags.c_contiguous and launch.arguments["x"].shape == (3, 2)
    assert launch.arguments["n"] == 6
    with pytest.raises(OSError):
        make("saxpy x=y.npy", tmp_path)
    np.save(tmp_path / "z.npy", np.arange(6))
    with pytest.raises(ValueError, match="x: got int64, expected float32"):
        make("saxpy x=z.npy", tmp_path)


def test_what_cannot_be_guessed_is_shown_as_a_line_to_copy():
    with pytest.raises(ValueError, match="the integer rows cannot be guessed") as error:
        make("transpose")
    line = str(error.value).splitlines()[1].strip()
    assert line == example(KERNELS[1])
    (plan,) = read_plans(line)
    launch = prepare(plan, KERNELS, Path())
    assert launch.arguments["in"].size == launch.arguments["out"].size == 40 * 33
    with pytest.raises(ValueError, match="the size of image cannot be guessed"):
        make("count")
    with pytest.raises(
        ValueError, match="size of the dynamic shared memory cannot be guessed"
    ) as e:
        make("row_sums x=[4]")
    assert "shared=1024" in str(e.value)
    assert make("row_sums x=[4] shared=64").shared_mem == 64
    with pytest.raises(ValueError, match="template argument TILE cannot be guessed") as error:
        make("tiles")
    (plan,) = read_plans(str(error.value).splitlines()[1])
    assert prepare(plan, KERNELS, Path()).expression == "tiles<16, double>"


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("nope", "nope: no such kernel; the source has saxpy, transpose, count, tiles, row_sums"),
        ("saxpy z=1", "saxpy: z: no such parameter; it has x, y, a, n"),
        ("saxpy n=1.5", "n: got '1.5', expected a whole number"),
        ("saxpy n=3000000000", "n: got '3000000000', which does not fit into int"),
        ("saxpy x=float64[3]", "x: got float64, expected float32"),
        ("saxpy x=7", r"x: got '7', expected an array such as float32\[64,64\]:random"),
        ("saxpy x=[k]", "x: got 'k', expected a number, or sums and products of numbers and n"),
        ("saxpy x=[-1]", "x: got '-1', expected a whole number of at least 0"),
        ("saxpy grid=0", "grid: got '0', expected a whole number of at least 1"),
        ("saxpy block=32,0", "block: got '32,0'|'0', expected a whole number of at least 1"),
        ("saxpy shared=-1", "shared: got '?-1'?, expected a whole number of at least 0"),
        ("saxpy x=[4]:some", "x: got the fill 'some', expected a number or one of random, zeros"),
        ("saxpy a=__import__('os')", "a: got .*, expected a number"),
        ("saxpy grid=1,2,3,4", "grid: got '1,2,3,4', expected one to three numbers"),
        ("saxpy<float,3>", "got 2 template arguments, expected 1"),
        ("saxpy<half>", "a has type 'half', which plans cannot make"),
    ],
)
def test_wrong_plans_are_refused_by_name(plan, message):
    with pytest.raises(ValueError, match=message):
        make(plan)


@pytest.mark.parametrize("text", ["", "=3", "saxpy n", "saxpy n=1 n=2", "saxpy n= 3"])
def test_lines_of_another_form_are_refused(text):
    with pytest.raises(ValueError, match="line 3: got"):
        read_plan(text, 3)
