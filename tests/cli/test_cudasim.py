"""`minicnn cudasim`: a kernel with a fault, in one command."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.needs import needs_compiler

pytestmark = needs_compiler

EXAMPLES = Path(__file__).parents[1] / "cudasim" / "examples"


def test_a_missing_barrier_is_diagnosed(cli):
    code, out, err = cli("cudasim", "check", EXAMPLES / "block_sum.cu")
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == "block_sum grid=4 block=256 x=float32[1000] sums=float32[4] n=1000"
    assert any(line.strip().startswith("race:") and "part" in line for line in lines)
    assert any("block_sum.cu:9" in line for line in lines)
    assert any("9 | if (threadIdx.x < half)" in line for line in lines)
    assert any("cure" in line and "__syncthreads()" in line for line in lines)
    assert lines[-1] == "1 finding in 1 launch"


def test_the_cure_cures(cli, tmp_path):
    text = (EXAMPLES / "block_sum.cu").read_text(encoding="utf-8")
    cured = tmp_path / "cured.cu"
    cured.write_text(text.replace("+ half];\n", "+ half];\n        __syncthreads();\n"))
    assert cured.read_text() != text
    code, out, err = cli("cudasim", "check", cured)
    assert (code, err) == (0, "")
    assert "no finding in 1,000 global loads, 4 global stores, 2,044 shared loads" in out
    assert out.splitlines()[-1] == "no finding in 1 launch"


def test_options_stand_in_for_the_comment(cli, tmp_path):
    file = tmp_path / "my.cu"
    file.write_text(
        "template <typename T> __global__ void fill(T* out, T value, int rows, int cols) {\n"
        "    int i = blockIdx.x * blockDim.x + threadIdx.x;\n"
        "    if (i < rows * cols) out[i] = value;\n"
        "}\n"
    )
    code, out, err = cli("cudasim", "check", file)
    assert (code, out) == (2, "")
    assert "the integer rows cannot be guessed" in err
    line = next(line for line in err.splitlines() if "// cudasim:" in line)
    options = ["--kernel", "fill<double>", "--arg", "rows=3", "--arg", "cols=5"]
    sizes = ["--arg", "out=[rows,cols]:empty", "--grid", "1", "--block", "32"]
    code, out, err = cli("cudasim", "check", file, *options, *sizes, "--order", "random")
    assert (code, err) == (0, "")
    assert out.startswith("fill<double> grid=1 block=32 out=float64[3,5] value=1.5 rows=3 cols=5")
    assert "no finding in 15 global stores" in out
    file.write_text(f"{line.strip()}\n{file.read_text()}")
    assert cli("cudasim", "check", file).code == 0
    code, out, _ = cli("cudasim", "check", file, "--arg", "out=[rows]")
    assert code == 1 and "out-of-bounds" in out


def test_run_shows_and_saves_what_is_written(cli, tmp_path):
    shutil.copy(EXAMPLES / "saxpy.cu", tmp_path)
    np.save(tmp_path / "x.npy", np.array([1, 2, 3], np.float32))
    arguments = ["--arg", "x=x.npy", "--arg", "y=float32[n]:10", "--arg", "n=3", "--arg", "a=2"]
    code, out, err = cli(
        "cudasim", "run", tmp_path / "saxpy.cu", *arguments, "--out", tmp_path / "out"
    )
    assert (code, err) == (0, "")
    assert "y = [12. 14. 16.]" in out
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "saxpy.y.npy"), [12, 14, 16])
    code, out, err = cli("cudasim", "run", EXAMPLES / "transpose.cu", "--out", tmp_path / "out")
    assert code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "saxpy.y.npy", "transpose_plain.output.npy", "transpose_tiled.output.npy",
    }  # fmt: skip


def test_profile_tells_two_transposes_apart(cli):
    code, out, err = cli("cudasim", "profile", EXAMPLES / "transpose.cu")
    assert (code, err) == (0, "")
    plain, tiled = out.split("transpose_tiled", 1)
    stores = [
        next(line for line in text.splitlines() if "global store" in line)
        for text in (plain, tiled)
    ]
    assert "32.0 sectors" in stores[0] and "12.5 %" in stores[0]
    assert " 4.0 sectors" in stores[1] and "100.0 %" in stores[1]
    assert "transpose.cu:9" in stores[0]
    assert "no conflict" in tiled and "output: 0 of its 65,536 bytes are read" in tiled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", EXAMPLES / "none.cu"], "does not exist"),
        (["check", EXAMPLES / "saxpy.cu", "--kernel", "axpy"], "axpy: no such kernel"),
        (["check", EXAMPLES / "saxpy.cu", "--arg", "n"], "--arg: got 'n', expected NAME=VALUE"),
        (["check", EXAMPLES / "saxpy.cu", "--arg", "n=x"], "n: got 'x', expected a number"),
        (["run", EXAMPLES / "saxpy.cu", "--arg", "z=1"], "z: no such parameter"),
        (["check", EXAMPLES / "transpose.cu", "--arg", "rows=1"], "choose by --kernel"),
        (["check", EXAMPLES / "saxpy.cu", "--order", "sideways"], "'sideways' is not one of"),
        (["run", EXAMPLES / "saxpy.cu", "--block", "2048"], "limit"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(cli, arguments, message):
    code, out, err = cli("cudasim", *arguments)
    launches = 1 if message == "limit" else 0  # what is wrong shows when the kernel is launched
    assert (code, len(out.splitlines())) == (2, launches)
    assert err.startswith("minicnn: error: ") and message in err


def test_a_text_that_does_not_compile_is_shown_with_its_line(cli, tmp_path):
    file = tmp_path / "my.cu"
    file.write_text("__global__ void k(float* x, int n) {\n    x[0] = nothing;\n}\n")
    code, _, err = cli("cudasim", "check", file)
    assert code == 2
    assert "my.cu:2" in err and "nothing" in err


def test_a_faulty_launch_is_an_error_of_run(cli):
    code, _, err = cli("cudasim", "run", EXAMPLES / "divergent.cu")
    assert code == 2 and "barrier divergence" in err


def test_ctrl_c_ends_a_kernel_that_never_ends(tmp_path):
    file = tmp_path / "endless.cu"
    file.write_text("__global__ void endless(int* x, int n) { for (int i = 0; i < n;) x[i] += 1; }")
    command = [sys.executable, "-m", "minicnn", "cudasim", "check", file]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("endless grid=")  # it is about to run
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT


def test_of_what_a_kernel_prints_the_first_lines_are_shown(cli, tmp_path):
    file = tmp_path / "chatty.cu"
    file.write_text('__global__ void chatty(int n) { printf("[b]thread %d\\n", threadIdx.x); }')
    code, out, err = cli("cudasim", "check", file, "--grid", "1", "--block", "64")
    assert (code, err) == (0, "")
    assert out.count("it printed: [b]thread ") == 10
    assert "... and 54 lines more" in out


def test_an_order_that_stopped_earlier_does_not_make_a_fault_rare(cli, tmp_path):
    file = tmp_path / "two.cu"
    file.write_text(
        "__global__ void two(int* x, int n) {\n"
        "    if (threadIdx.x < 4) x[n] = 1;\n"
        "    if (threadIdx.x > 4) x[n + 1] = 1;\n"
        "}\n"
    )
    code, out, err = cli("cudasim", "check", file, "--grid", "1", "--block", "8")
    assert (code, err) == (1, "")
    assert "two.cu:2" in out and "two.cu:3" in out
    assert "Seen only" not in out
