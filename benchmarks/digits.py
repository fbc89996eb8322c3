"""Train every network for digits on MNIST, and each again with one of its ideas taken away.

Each run is a `minicnn train` of its own in a folder of its own, so that a table that was broken off
goes on where it stopped. The seconds are those of the training steps, compiling included where the
kernels are not cached yet.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minicnn import nn
from minicnn.models import create_model
from minicnn.summary import summarize
from minicnn.training import RunFolder


@dataclass(frozen=True)
class Run:
    """A row of the table.

    Attributes:
        model: the network.
        options: further words of the command line.
    """

    model: str
    options: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What a reader would type behind `minicnn train`."""
        return " ".join((self.model, *self.options))

    def folder(self, parent: Path) -> Path:
        """Return the folder of the run, named for its command."""
        return parent / self.command.replace(" ", "_").replace("/", "_")


NETWORKS = [
    Run("alexnet_small"),
    Run("vgg_small"),
    Run("nin_small"),
    Run("googlenet_small"),
    Run("resnet_small"),
    Run("densenet_small"),
]
# 56 layers on maps of 14 x 14: one epoch tells who learns.
DEEP = ("--epochs", "1", "--set", "model_options.stem_stride=2")
ABLATIONS = [
    Run("alexnet_small", ("--no-lrn",)),
    Run("alexnet_small", ("--dropout", "0")),
    Run("vgg_small", ("--no-batch-norm",)),
    Run("googlenet_small", ("--no-aux",)),
    Run("resnet56", DEEP),
    Run("resnet56", (*DEEP, "--no-skip")),
]


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        run: the command.
        parameters, macs: of the network, for one image.
        epochs: how many.
        train_loss, test_accuracy: after the last.
        seconds: of training in all.
    """

    run: Run
    parameters: int
    macs: int
    epochs: int
    train_loss: float
    test_accuracy: float
    seconds: float


def train(run: Run, parent: Path) -> Result:
    """Train, or go on, or read what is there; return the figures.

    Raises:
        RuntimeError: the command failed; holds its last line.
    """
    folder = run.folder(parent)
    begun = (folder / "config.json").exists()
    if not (begun and RunFolder.find(folder).is_finished):
        how = (
            ["--resume", str(folder)] if begun else [run.model, *run.options, "--out", str(folder)]
        )
        done = subprocess.run(
            [sys.executable, "-m", "minicnn", "train", *how], stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise RuntimeError(f"minicnn train {run.command}: {last}")
    return read(run, folder)


def read(run: Run, folder: Path) -> Result:
    """Return the figures of a finished run."""
    trained = RunFolder.find(folder)
    config, metrics = trained.load_config(), trained.load_metrics()
    with nn.init.skip_init():
        model = create_model(config.model, **config.model_options)
    summary = summarize(model, model.input_shape)
    return Result(
        run=run,
        parameters=summary.total_parameters,
        macs=summary.total_macs,
        epochs=len(metrics["epochs"]),
        train_loss=metrics["last"]["train_loss"],
        test_accuracy=metrics["last"]["test_accuracy"],
        seconds=sum(epoch["seconds"] for epoch in metrics["epochs"]),
    )


def markdown(results: Sequence[Result]) -> str:
    """Return the table as it stands in the README."""
    columns = (
        "`minicnn train`", "parameters", "million MACs", "epochs", "training loss",
        "test accuracy", "training",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for result in results:
        minutes, seconds = divmod(round(result.seconds), 60)
        lines.append(
            f"| `{result.run.command}` | {result.parameters:,} | {result.macs / 1e6:.1f} "
            f"| {result.epochs} | {result.train_loss:.4f} | {result.test_accuracy:.2%} "
            f"| {minutes}:{seconds:02} |"
        )
    return "\n".join(lines)
