"""`minicnn kernels`: the listing, the report, its file and its exit code."""

from __future__ import annotations

import json

import pytest

from minicnn.cudasim import nvrtc, toolkit
from minicnn.kernelcheck import budgets
from tests.needs import needs_compiler, needs_nvdisasm, needs_nvrtc


def test_every_op_is_listed_with_its_kernels(cli):
    code, out, err = cli("kernels")
    assert (code, err) == (0, "")
    line = next(line for line in out.splitlines() if line.split()[:1] == ["relu_forward"])
    assert line.split() == [
        "relu_forward", "relu_forward_cpu", "relu_forward_cuda", "activation.py,", ".cu",
    ]  # fmt: skip
    assert "gemm_plain_shared_cuda" in out


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


@pytest.mark.parametrize("words", [(), ("report",)])
def test_help(cli, words):
    code, out, _ = cli("kernels", *words, "--help")
    assert code == 0
    assert "minicnn kernels" in out
