"""A run that skips what it must not is a failed run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import census

ROOT = Path(__file__).parents[1]
WHY = "Skipped: needs nvrtc (pip install nvidia-cuda-nvrtc)"
REPORT = SimpleNamespace(nodeid="tests/test_x.py::test_y", longrepr=("x.py", 3, WHY))


def test_nothing_is_unexpected_where_nothing_is_expected(monkeypatch):
    monkeypatch.delenv("MINICNN_EXPECT", raising=False)
    assert census.unexpected([REPORT]) == []


@pytest.mark.parametrize(("expect", "count"), [("nvrtc", 1), ("torch", 0), ("", 0)])
def test_a_skip_for_want_of_what_is_there_is_unexpected(monkeypatch, expect, count):
    monkeypatch.setenv("MINICNN_EXPECT", expect)
    assert len(census.unexpected([REPORT])) == count


def test_a_skip_for_any_other_reason_is_unexpected(monkeypatch):
    monkeypatch.setenv("MINICNN_EXPECT", "compiler")
    other = SimpleNamespace(nodeid="a::b", longrepr=("x.py", 3, "Skipped: too lazy"))
    assert census.unexpected([other]) == ["a::b: too lazy"]


def test_such_a_run_fails(tmp_path):
    (tmp_path / "test_lazy.py").write_text(
        "import pytest\n\ndef test_lazy():\n    pytest.skip('too lazy')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c"]
    command += [ROOT / ".pytest.ini", "--rootdir", ROOT, "--confcutdir", ROOT]
    command += ["-p", "tests.conftest", tmp_path / "test_lazy.py"]
    for expect, code in (({"MINICNN_EXPECT": ""}, 1), ({}, 0)):
        environment = {k: v for k, v in os.environ.items() if k != "MINICNN_EXPECT"}
        done = subprocess.run(
            command, cwd=ROOT, env={**environment, **expect}, capture_output=True, text=True
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert ("test_lazy: too lazy" in done.stdout) == bool(code)
