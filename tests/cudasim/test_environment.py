"""Defaults of the settings from the environment."""

from __future__ import annotations

import pytest

from minicnn.cudasim.settings import _from_environment, get_settings


def test_without_variables_kernels_run_fast(monkeypatch):
    for name in ("MODE", "ORDER", "SEED", "THREADS", "ROUTE", "DEVICES"):
        monkeypatch.delenv(f"MINICNN_CUDASIM_{name}", raising=False)
    found = _from_environment()
    assert (found.mode, found.order, found.seed, found.route) == ("fast", "ascending", 0, "shim")
    assert found.threads >= 1 and found.devices == 2
    assert type(get_settings()) is type(found)


def test_every_setting_has_its_variable(monkeypatch):
    wanted = {
        "mode": "check", "order": "random", "seed": 7, "threads": 3, "route": "ptx", "devices": 4,
    }  # fmt: skip
    for name, value in wanted.items():
        monkeypatch.setenv(f"MINICNN_CUDASIM_{name.upper()}", str(value))
    assert vars(_from_environment()) == wanted


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MODE", "careful", r"MINICNN_CUDASIM_MODE: got 'careful', expected one of \['fast', "),
        ("ORDER", "up", "MINICNN_CUDASIM_ORDER: got 'up'"),
        ("THREADS", "0", "MINICNN_CUDASIM_THREADS: got 0, expected an integer of at least 1"),
        ("SEED", "-1", "MINICNN_CUDASIM_SEED: got '-1', expected an integer of at least 0"),
        ("ROUTE", "sass", "MINICNN_CUDASIM_ROUTE: got 'sass'"),
        ("DEVICES", "0", "MINICNN_CUDASIM_DEVICES: got 0, expected an integer of at least 1"),
    ],
)
def test_wrong_values_name_their_variable(monkeypatch, variable, value, message):
    monkeypatch.setenv(f"MINICNN_CUDASIM_{variable}", value)
    with pytest.raises(ValueError, match=message):
        _from_environment()
