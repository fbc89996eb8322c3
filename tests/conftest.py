"""Settings for all tests, and the devices they run on.

    pytest                      the CPU and, where there is a C++ compiler, the simulated GPU
    pytest --device cuda        a real GPU in the simulated one's place; also cpu, cuda:sim:1, ...

A test takes `device` (every one of them), `gpu` (those of CUDA) or `xp` (a device's array module).
"""

from __future__ import annotations

from typing import Any

import pytest

from minicnn.backend import array_module, check_device
from tests import census, needs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default=None,
        help="the one device for tests that ask for devices (default: cpu and cuda:sim)",
    )  # fmt: skip


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where something was installed or asked for, its absence must not turn into skips."""
    missing = sorted(name for name in needs.expected() if not needs.FOUND[name])
    if missing:
        pytest.exit(f"MINICNN_EXPECT names what is missing: {', '.join(missing)}", returncode=1)
    chosen = session.config.getoption("device")
    if chosen is not None:
        try:
            check_device(chosen)
        except ValueError as error:
            pytest.exit(f"--{error}", returncode=1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `device` on every device, one that takes `gpu` on those of CUDA."""
    chosen = metafunc.config.getoption("device")
    devices = ["cpu", "cuda:sim"] if chosen is None else [chosen]
    for name, wanted in (("device", devices), ("gpu", [d for d in devices if d != "cpu"])):
        if name in metafunc.fixturenames:
            marks: dict[str, Any] = {"cuda:sim": needs.needs_compiler}
            values = [pytest.param(d, marks=marks.get(d, ())) for d in wanted]
            metafunc.parametrize(name, values, indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """A device: the CPU, and a CUDA device, simulated or real."""
    return request.param


@pytest.fixture
def gpu(request: pytest.FixtureRequest) -> str:
    """A CUDA device, simulated or real: for tests that compare it with the CPU."""
    return request.param


@pytest.fixture
def xp(device: str) -> Any:
    """The module whose arrays live on `device`."""
    return array_module(device)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that skipped what it must not."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and census.unexpected(reporter.stats.get("skipped", [])):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if summary := census.lines(skipped):
        terminalreporter.section("CUDA kernels and skips")
        terminalreporter.write_line("\n".join(summary))
    if forbidden := census.unexpected(skipped):
        terminalreporter.section("skipped, although MINICNN_EXPECT says they need not", red=True)
        terminalreporter.write_line("\n".join(forbidden))
