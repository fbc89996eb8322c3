"""The command as a whole: help, version, errors, exit codes, speed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import minicnn
from minicnn.cli import COMMANDS

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command(cli):
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in out
    assert not re.search(r"\w\.\.\.$", out, re.MULTILINE)  # no line is cut off


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(cli, name):
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: minicnn {name}")
    assert "--debug" in out


def test_version(cli):
    assert cli("--version") == (0, f"minicnn {minicnn.__version__}\n", "")


def test_without_arguments_help_is_shown(cli):
    code, _, err = cli()
    assert code == 2
    assert "Usage: minicnn" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'"),
        (["train", "--epoch", "3"], "No such option '--epoch'"),
        (["train", "lenet", "--epochs", "0"], "0 is not in the range x>=1"),
        (["train", "lenet", "--lr", "fast"], "'fast' is not a valid float"),
        (["train"], "Missing argument 'MODEL'"),
        (["eval"], "Missing argument 'RUN'"),
        (["predict", "run"], "Missing argument 'IMAGE...'"),
        (["summary", "lenet", "--input", "28x28"], "got '28x28', expected CxHxW"),
        (["summary", "lenet", "--input", "1x0x28"], "got '1x0x28', expected CxHxW"),
        (["summary", "nonsense"], "model: got 'nonsense', expected one of"),
        (["gradcheck", "nonsense"], "op: got 'nonsense', expected some of"),
        (["data", "nonsense"], "expected one of mnist"),
        (["eval", "nowhere"], "nowhere is not a folder with a run in it"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line_and_exit_code_2(cli, arguments, message):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("minicnn: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_debug_shows_where_an_error_came_from(cli):
    code, _, err = cli("eval", "nowhere", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("minicnn: error: nowhere")
    assert "Traceback" in cli("--debug", "eval", "nowhere").err


def test_ctrl_c_outside_training_exits_with_130(cli, monkeypatch):
    import minicnn.data

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(minicnn.data, "load_dataset", interrupted)
    code, _, err = cli("data", "digits")
    assert code == 130
    assert err.strip() == "minicnn: interrupted"


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom minicnn.cli import main\nassert main(['--help']) == 0\n"
        "heavy = {'numba', 'matplotlib', 'PIL', 'rich', 'minicnn.training'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_python_m_minicnn():
    done = subprocess.run(
        [sys.executable, "-m", "minicnn", "eval", "nowhere"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("minicnn: error: nowhere")
