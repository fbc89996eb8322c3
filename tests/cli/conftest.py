"""Commands called in this process, and one short run for all who read one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import minicnn
from minicnn.cli import main


class Outcome(NamedTuple):
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs a command and returns its Outcome."""

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Outcome(code, written.out, written.err)

    return call


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of LeNet on digits, 2 epochs; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "lenet", "--data", "digits", "--epochs", "2", "--out", str(path)]) == 0
    return path


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(finished_run, tmp_path / "copied"))


@pytest.fixture
def same_threads() -> Iterator[int]:
    """Put the number of threads back after a test that changes it; the number itself."""
    count = minicnn.get_num_threads()
    yield count
    minicnn.set_num_threads(count)
