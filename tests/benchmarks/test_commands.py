"""Each command once, with tiny sizes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import benchmarks.__main__ as commands
from benchmarks import ladder, workers
from benchmarks.__main__ import main
from benchmarks.worker import Server
from minicnn.kernels import conv2d, gemm
from tests.needs import needs_torch

TINY = ["--threads", "1", "--rounds", "1"]


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    """Let a turn be a single call."""
    monkeypatch.setattr(commands, "KERNEL_TURN", 0)
    monkeypatch.setattr(commands, "NETWORK_TURN", 0)


def run(*words):
    result = CliRunner().invoke(main, [*words, *TINY], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_kernels(tmp_path):
    path, picture = tmp_path / "run.json", tmp_path / "run.png"
    output = run(
        "kernels", "--batch-scale", "0.02", "--only", "lenet 1", "--only", "dropout",
        "--json", str(path), "--plot", str(picture),
    )  # fmt: skip
    assert "conv LeNet 1 forward" in output and "strided or thin weight" in output
    found = json.loads(path.read_text())
    assert [len(case["sides"]) for case in found["cases"]] == [4, 4, 2]
    assert all("best" in case["sides"][0] for case in found["cases"])
    assert found["settings"] == {"threads": 1, "clock": "cpu", "rounds": 1, "seconds": 0}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_ladder(tmp_path, monkeypatch):
    monkeypatch.setattr(ladder, "COPIED", 1 << 16)
    path, picture = tmp_path / "run.json", tmp_path / "roofline.png"
    output = run(
        "ladder", "--layer", "LeNet 2", "--batch-scale", "0.01", "--size", "64",
        "--json", str(path), "--plot", str(picture),
    )  # fmt: skip
    assert "multiply-adds on registers alone" in output and "% of copy" in output
    found = json.loads(path.read_text())
    assert found["peak"] > 0 and found["bandwidth"] > 0
    assert not any("wrong" in side for case in found["cases"] for side in case["sides"])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_every_rung_is_on_the_ladder_and_has_its_idea():
    product = ladder.product_case(8)
    convolution = ladder.convolution_case(ladder.find_layer("LeNet 2").scaled(0.01), "forward")
    for case, module in ((product, gemm), (convolution, conv2d)):
        names = [side.name for side in case.sides]
        assert len(names) >= 2
        ideas = ladder.ideas(module)
        assert all(len(ideas.get(name, "")) > 20 for name in names), (names, ideas)


class Inside:
    """A worker in this process: what it is asked and answers goes through JSON all the same."""

    def __init__(self, side, environment):
        self.server = Server(side)

    def ask(self, do, **arguments):
        answer = getattr(self.server, do)(**json.loads(json.dumps(arguments)))
        return json.loads(json.dumps(answer))

    def close(self):
        self.server = None


@needs_torch
@pytest.mark.parametrize("command", ["training", "models"])
def test_whole_networks(command, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "Worker", Inside)
    check_whole_networks(command, tmp_path / "run.json")


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("command", ["training", "models"])
def test_whole_networks_in_processes_of_their_own(command, tmp_path):
    check_whole_networks(command, tmp_path / "run.json")


def check_whole_networks(command, path):
    pytest.importorskip("torchvision")
    output = run(
        command, "lenet", "--batch-size", "2", "--side", "PyTorch tuned", "--json", str(path)
    )
    assert "lenet, 2" in output
    (case,) = json.loads(path.read_text())["cases"]
    assert [side["name"] for side in case["sides"]] == ["minicnn", "PyTorch tuned"]
    assert all(side["best"] > 0 and "peak_bytes" in side for side in case["sides"]), case


def test_arguments_out_of_range_are_named():
    for words, message in (
        (["kernels", "--only", "VGG 9"], "only: got 'VGG 9'"),
        (["kernels", "--threads", "2", "--clock", "cpu"], "clock: got 'cpu' with 2 threads"),
        (["ladder", "--layer", "VGG 9"], "layer: got 'VGG 9'"),
        (["training", "lenet7"], "networks: got lenet7"),
    ):
        result = CliRunner().invoke(main, words)
        assert result.exit_code != 0 and message in result.output, result.output
