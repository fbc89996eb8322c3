"""Settings for all tests."""

from __future__ import annotations

import importlib.util
import os

import pytest


def pytest_sessionstart() -> None:
    """Where PyTorch was installed for its oracle tests, its absence must not turn into skips."""
    if os.environ.get("MINICNN_EXPECT_TORCH") and not importlib.util.find_spec("torch"):
        pytest.exit("MINICNN_EXPECT_TORCH is set, but PyTorch is not installed", returncode=1)
