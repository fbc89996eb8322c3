"""What the networks for digits reach on MNIST: minutes each, so only on demand."""

from __future__ import annotations

import pytest

from benchmarks.digits import ABLATIONS, NETWORKS, Result, Run, markdown, train

LEAST = {"alexnet_small": 0.992}  # of the others, 99.3 %


@pytest.mark.slow
@pytest.mark.parametrize("run", NETWORKS, ids=lambda run: run.command)
def test_accuracy_after_minutes_of_training(run, tmp_path):
    result = train(run, tmp_path)
    assert result.test_accuracy >= LEAST.get(run.model, 0.993)
    assert result.seconds < 600


@pytest.mark.slow
def test_56_layers_train_worse_without_skip_connections(tmp_path):
    residual, plain = (train(run, tmp_path) for run in ABLATIONS if run.model == "resnet56")
    assert "--no-skip" in plain.run.options and "--no-skip" not in residual.run.options
    assert plain.train_loss > 2 * residual.train_loss


def test_the_table():
    result = Result(Run("lenet", ("--epochs", "2")), 431_080, 2_293_000, 2, 0.03125, 0.9912, 95.4)
    assert markdown([result]).splitlines()[-1] == (
        "| `lenet --epochs 2` | 431,080 | 2.3 | 2 | 0.0312 | 99.12% | 1:35 |"
    )
