"""`minicnn kernels`: the listing, the report, its file and its exit code."""

from __future__ import annotations

import json
import re

import pytest

from minicnn import warm
from minicnn.cudasim import nvrtc, toolkit
from minicnn.kernelcheck import budgets
from minicnn.kernels import _cache
from minicnn.kernels._jit import jit
from tests.needs import needs_compiler, needs_nvdisasm, needs_nvrtc


def test_every_op_is_listed_with_its_kernels(cli):
    code, out, err = cli("kernels")
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if line.split()[:1] == ["relu_forward"])
    assert line.split() == [
        "relu_forward", "relu_forward_cpu", "relu_forward_cuda", "activation.py,", ".cu",
    ]  # fmt: skip
    assert "gemm_plain_shared_cuda" in out


@pytest.fixture
def tiny_kernel(monkeypatch, tmp_path):
    """A folder for code, and one kernel that is new to this process in place of all the others."""
    monkeypatch.setenv("MINICNN_KERNELS_CACHE", str(tmp_path / "code"))

    def few(dtypes, tell, jobs):
        with _cache.watch(tell):
            for dtype in dtypes:
                jit(_square)(dtype.type(3))
                tell("square", "called")

    monkeypatch.setattr(warm, "warm", few)
    monkeypatch.setattr(warm, "count_calls", len)
    return tmp_path / "code"


def _square(x):
    return x * x


def test_warm_compiles_what_is_missing(cli, tiny_kernel):
    for words, compiled, there in [((), 1, 0), (("--float64",), 1, 0), ((), 0, 1)]:
        code, out, err = cli("kernels", "warm", *words)
        assert (code, err) == (0, "")
        *names, counts, place = out.splitlines()
        assert names == ["compiling test_kernels._square"] * compiled
        assert counts.startswith(f"kernels: {compiled} compiled, {there} there already; ")
        assert re.fullmatch(rf"{re.escape(str(tiny_kernel))}: 0\.\d+ MB", place)
    assert len(list(tiny_kernel.iterdir())) == 2


def test_warm_can_begin_with_nothing(cli, tiny_kernel):
    cli("kernels", "warm", "--float64")
    _, out, _ = cli("kernels", "warm", "--clear")
    assert "kernels: 1 compiled, 0 there already" in out
    assert len(list(tiny_kernel.iterdir())) == 1


def test_warm_shows_a_bar_on_a_terminal(cli, tiny_kernel, monkeypatch):
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, out, _ = cli("kernels", "warm")
    assert "compiling test_kernels._square" in out and "100%" in out


@needs_compiler
@needs_nvrtc
@needs_nvdisasm
def test_report_of_one_file(cli, tmp_path):
    path = tmp_path / "report.json"
    code, out, err = cli("kernels", "report", "smooth_l1", "--json", path)
    assert (code, err) == (0, "")
    assert "On sm_75 sm_80 sm_90 sm_100 sm_120, compiled by NVRTC" in out
    line = next(line for line in out.splitlines() if "smooth_l1_forward<float>" in line)
    assert line.split()[6:8] == ["0", "0"]  # after five counts of registers: spills, shared memory
    assert out.splitlines()[-1] == "4 kernels, 0 over their budget"
    kept = json.loads(path.read_text())
    assert [kernel["kernel"] for kernel in kept["kernels"][:2]] == [
        "smooth_l1_forward_cuda", "smooth_l1_backward_cuda",
    ]  # fmt: skip
    builds = kept["kernels"][0]["builds"]
    assert [build["arch"] for build in builds] == [75, 80, 90, 100, 120]
    assert all(0 < build["occupancy"]["share"] <= 1 for build in builds)
    assert kept["gpu"]["name"] == "A100"


@needs_compiler
@needs_nvrtc
@needs_nvdisasm
def test_a_kernel_over_its_budget_is_named_and_an_update_takes_it(cli, tmp_path, monkeypatch):
    path = tmp_path / "_budgets.csv"
    text = budgets.PATH.read_text(encoding="utf-8")
    lines = text.splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("dropout_forward_cuda<float>"))
    lines[row] = lines[row].replace(",100 100", ",100 101")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setattr(budgets, "PATH", path)
    monkeypatch.setattr(budgets.read, "__defaults__", (path,))
    monkeypatch.setattr(budgets.write, "__defaults__", (path,))
    same_compiler = budgets.read().compiler == ".".join(map(str, nvrtc.version()))
    code, out, err = cli("kernels", "report", "dropout")
    if same_compiler:
        assert code == 1
        assert err == "dropout_forward_cuda<float>: occupancy is 100% on sm_80, held to 101%\n"
        assert out.splitlines()[-1] == "2 kernels, 1 over their budget"
    code, out, err = cli("kernels", "report", "dropout", "--update")
    assert (code, err) == (0, "")
    assert "wrote _budgets.csv" in out
    if same_compiler:
        assert path.read_text(encoding="utf-8") == text


def test_an_unknown_file_is_an_error(cli):
    code, _, err = cli("kernels", "report", "nothing")
    assert code == 2
    assert err.startswith("minicnn: error: stem: got 'nothing', expected some of activation, ")


def test_without_the_compiler_the_error_says_what_to_install(cli, monkeypatch):
    monkeypatch.setattr(toolkit, "find_library", lambda name: None)
    nvrtc._library.cache_clear()
    code, _, err = cli("kernels", "report", "dropout")
    assert code == 2
    assert "pip install nvidia-cuda-nvrtc" in err


@pytest.mark.parametrize("words", [(), ("report",), ("warm",)])
def test_help(cli, words):
    code, out, _ = cli("kernels", *words, "--help")
    assert code == 0
    assert "minicnn kernels" in out
