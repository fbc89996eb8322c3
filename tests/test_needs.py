"""The marks that skip a test where a tool is missing, and the variable that forbids it."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from tests import needs


def test_a_missing_tool_skips(monkeypatch):
    monkeypatch.setitem(needs.FOUND, "nvrtc", False)
    monkeypatch.delenv("MINICNN_EXPECT", raising=False)
    mark = needs.needs("nvrtc").mark
    assert mark.args == (True,)
    assert "pip install nvidia-cuda-nvrtc" in mark.kwargs["reason"]


def test_a_missing_tool_that_is_expected_fails(monkeypatch):
    monkeypatch.setitem(needs.FOUND, "nvrtc", False)
    monkeypatch.setenv("MINICNN_EXPECT", "compiler, nvrtc")
    with pytest.raises(RuntimeError, match=r"MINICNN_EXPECT names nvrtc, which is missing"):
        needs.needs("nvrtc")


def test_a_tool_that_is_there_never_skips(monkeypatch):
    monkeypatch.setitem(needs.FOUND, "nvrtc", True)
    for listed in ("", "nvrtc"):
        monkeypatch.setenv("MINICNN_EXPECT", listed)
        assert needs.needs("nvrtc").mark.args == (False,)


def test_a_misspelt_name_is_refused():
    with pytest.raises(ValueError, match=r"MINICNN_EXPECT: got \['nvrct'\], expected some of"):
        needs.expected("torch,nvrct")


def test_what_was_found_is_what_there_is():
    assert needs.FOUND["compiler"] == bool(shutil.which("g++") or shutil.which("clang++"))
    assert needs.FOUND["torch"] == bool(importlib.util.find_spec("torch"))
