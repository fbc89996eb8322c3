"""Benchmarks in the process of the tests: it is not started again, and keeps its threads."""

from __future__ import annotations

import importlib.util

import pytest

import minicnn
from benchmarks import machine


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Keep the environment and the numbers of threads as they are."""
    monkeypatch.setattr(machine, "restart", lambda wanted: None)
    threads = minicnn.get_num_threads()
    theirs = None
    if importlib.util.find_spec("torch") is not None:
        import torch

        theirs = torch.get_num_threads()
    yield
    minicnn.set_num_threads(threads)
    if theirs is not None:
        torch.set_num_threads(theirs)
