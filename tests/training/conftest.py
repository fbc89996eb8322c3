"""Runs of a tiny network on some of the 8 x 8 digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import minicnn
import minicnn.models
from minicnn.data import Dataset, load_digits
from minicnn.training import RunFolder, Trainer
from tests.tiny import Tiny, make_config


@pytest.fixture(autouse=True)
def tiny_is_a_model(monkeypatch):
    monkeypatch.setitem(minicnn.models.MODELS, "tiny", Tiny)


@pytest.fixture(scope="session")
def digits() -> tuple[Dataset, Dataset]:
    train, test = load_digits()
    return train.subset(slice(0, 150)), test.subset(slice(0, 60))


@pytest.fixture
def begin(tmp_path, digits):
    """Return a function that makes a trainer and the folder of its run."""

    def make(name: str = "run", **settings: Any) -> tuple[Trainer, RunFolder]:
        trainer = Trainer(make_config(**settings), *digits)
        return trainer, RunFolder.begin(trainer.config, tmp_path / name)

    return make


@pytest.fixture
def go_on(digits):
    """Return a function that goes on with the run in a folder, as a new process would."""

    def make(path: Path) -> tuple[Trainer, RunFolder]:
        run = RunFolder.find(path)
        trainer = Trainer(run.load_config(), *digits)
        trainer.restore(run)
        return trainer, run

    return make


@pytest.fixture
def same_threads() -> Iterator[int]:
    """Put the number of threads back after a test that changes it; the number itself."""
    count = minicnn.get_num_threads()
    yield count
    minicnn.set_num_threads(count)
