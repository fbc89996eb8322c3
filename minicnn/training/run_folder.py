"""The folder of a run: what lies where, how one is begun and how one is found again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minicnn.serialization import write_atomically
from minicnn.training.config import TrainingConfig
from minicnn.training.history import EpochMetrics, best_epoch, to_csv, to_rows

CONFIG = "config.json"


class RunFolder:
    """Names of a run's files, and the writing of the small ones.

    =====================  ==================================================================
    config.json            the settings, a `TrainingConfig`
    checkpoint.safetensors all that resuming needs (see `training.checkpoint`)
    weights.safetensors    the weights of the last finished epoch, under PyTorch's keys
    metrics.csv            the history, one line an epoch
    metrics.json           the same, the best and last epoch, and whether the run is finished
    curves.png             loss and accuracy by epoch
    confusion.png          the confusion matrix of the test images
    filters.png            the filters of the first convolution
    =====================  ==================================================================

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path):
        self.path = path
        self.config = path / CONFIG
        self.checkpoint = path / "checkpoint.safetensors"
        self.weights = path / "weights.safetensors"
        self.metrics_csv = path / "metrics.csv"
        self.metrics_json = path / "metrics.json"
        self.curves = path / "curves.png"
        self.confusion = path / "confusion.png"
        self.filters = path / "filters.png"

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def begin(
        cls, config: TrainingConfig, path: Path | None = None, parent: Path = Path("runs")
    ) -> RunFolder:
        """Make the folder of a new run and write its settings there.

        Args:
            config: the run's settings.
            path: the folder, new or empty; None takes `<parent>/<model>-<data>`, with a number
                behind it if that is taken.
            parent: where folders without a path of their own go.

        Raises:
            ValueError: the path holds something already.
            OSError: the folder cannot be made or written; nothing new is left there.
        """
        if path is None:
            folder, is_new = _make_numbered(parent, f"{config.model}-{config.data}"), True
        else:
            cls.check_free(path)
            folder, is_new = path, not path.exists()
            folder.mkdir(parents=True, exist_ok=True)
        run = cls(folder)
        try:
            config.save(run.config)
        except BaseException:
            if is_new:
                folder.rmdir()
            raise
        return run

    @staticmethod
    def check_free(path: Path) -> None:
        """Refuse a folder that holds something.

        Raises:
            ValueError: the path is a file, or a folder that is not empty.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(f"{path} is not an empty folder; a new run needs one of its own")

    @classmethod
    def find(cls, path: Path) -> RunFolder:
        """Return the run in an existing folder.

        Raises:
            ValueError: there is no such folder, or no run in it.
        """
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder with a run in it")
        if not (path / CONFIG).is_file():
            raise ValueError(f"{path} is not the folder of a run: it has no {CONFIG}")
        return cls(path)

    def load_config(self) -> TrainingConfig:
        """Read the run's settings.

        Raises:
            ValueError, OSError: see `TrainingConfig.load`.
        """
        return TrainingConfig.load(self.config)

    def write_metrics(
        self, config: TrainingConfig, history: Sequence[EpochMetrics], finished: bool
    ) -> None:
        """Write the history as CSV and JSON; JSON comes last, so `finished` holds for both.

        Raises:
            OSError: a file could not be written.
        """
        rows = to_rows(history)
        best = best_epoch(history)
        summary = {
            "model": config.model,
            "data": config.data,
            "device": config.device,
            "finished": finished,
            "last": rows[-1] if rows else None,
            "best": to_rows([best])[0] if best else None,
            "epochs": rows,
        }
        write_atomically(self.metrics_csv, to_csv(history).encode())
        write_atomically(self.metrics_json, (json.dumps(summary, indent=2) + "\n").encode())

    def load_metrics(self) -> dict[str, Any]:
        """Read metrics.json; an empty dict when no epoch has ended yet.

        Raises:
            ValueError: the file is not JSON.
        """
        try:
            return json.loads(self.metrics_json.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{self.metrics_json} is not a JSON file: {error}") from error

    @property
    def is_finished(self) -> bool:
        """Whether every epoch was trained and every result written."""
        return self.load_metrics().get("finished") is True


def _make_numbered(parent: Path, name: str) -> Path:
    """Make the folder `name`, `name-2`, `name-3`, ..., the first that is free."""
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
