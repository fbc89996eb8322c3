"""`minicnn recipes`, and training from one."""

from __future__ import annotations

import json

from minicnn.training.papers import RECIPES
from minicnn.training.run_folder import RunFolder


def test_all_are_listed(cli):
    code, out, _ = cli("recipes")
    assert code == 0
    for name, recipe in RECIPES.items():
        assert name in out and recipe.source.split(",")[0] in out


def test_one_is_shown_whole(cli):
    code, out, _ = cli("recipes", "resnet-cifar")
    assert code == 0 and "warmup" in out
    assert json.loads(out[out.index("{") :]) == RECIPES["resnet-cifar"].settings


def test_an_unknown_one_is_one_line(cli):
    code, out, err = cli("recipes", "pizza")
    assert (code, out) == (2, "") and "recipe: got 'pizza'" in err and err.count("\n") == 1


def test_training_starts_from_it(cli, tmp_path):
    run = tmp_path / "run"
    result = cli(
        "train", "lenet", "--data", "digits", "--recipe", "resnet-cifar", "--epochs", 1,
        "--batch-size", 720, "--lr", 0.05, "--out", run,
    )  # fmt: skip
    assert result.code == 2 and "at least 28x28" in result.err  # digits are 8 x 8
    result = cli(
        "train", "lenet", "--data", "digits", "--recipe", "resnet-cifar", "--epochs", 1,
        "--batch-size", 720, "--lr", 0.05, "--out", run,
        "--set", 'train_transforms=[{"name": "Resize", "size": 28}]',
        "--set", 'test_transforms=[{"name": "Resize", "size": 28}]',
    )  # fmt: skip
    assert result.code == 0, result.err
    config = RunFolder.find(run).load_config()
    assert config.optimizer_options == {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4}
    assert config.schedule_options == {"milestones": [82, 123]}
