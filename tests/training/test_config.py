"""Settings survive JSON; wrong ones are refused by name."""

from __future__ import annotations

import json

import pytest

from minicnn.training import TrainingConfig
from tests.tiny import make_config


def test_settings_come_back_from_json(tmp_path):
    config = make_config(clip_norm=2.5, threads=1, label_smoothing=0.1)
    config.save(tmp_path / "config.json")
    assert TrainingConfig.load(tmp_path / "config.json") == config
    assert json.loads((tmp_path / "config.json").read_text())["clip_norm"] == 2.5


def test_only_model_and_data_are_needed():
    config = TrainingConfig.from_dict({"model": "lenet", "data": "mnist"})
    assert (config.epochs, config.batch_size, config.device, config.seed) == (10, 64, "cpu", 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: got 0, expected at least 1"),
        ({"epochs": 2.5}, "epochs: got 2.5, expected an integer"),
        ({"epochs": True}, "epochs: got True, expected an integer"),
        ({"epochs": "3"}, "epochs: got '3', expected an integer"),
        ({"batch_size": -64}, "batch_size: got -64, expected at least 1"),
        ({"save_every": 0}, "save_every: got 0, expected at least 1"),
        ({"threads": 0}, "threads: got 0, expected at least 1"),
        ({"threads": "2"}, "threads: got '2', expected an integer or null"),
        ({"seed": -1}, "seed: got -1, expected at least 0"),
        ({"seed": None}, "seed: got None, expected an integer"),
        ({"label_smoothing": 1.0}, "label_smoothing: got 1.0, expected at least 0 and below 1"),
        ({"label_smoothing": float("nan")}, "label_smoothing: got nan, expected a number"),
        ({"warmup_epochs": -1}, "warmup_epochs: got -1, expected at least 0"),
        ({"clip_norm": 0}, "clip_norm: got 0, expected more than 0"),
        ({"clip_norm": float("inf")}, "clip_norm: got inf, expected a number or null"),
        ({"model": 3}, "model: got 3, expected a string"),
        ({"classes": "0123"}, "classes: got '0123', expected a list, each a string"),
        ({"classes": [1]}, r"classes: got \[1\], expected a list, each a string"),
        ({"train_transforms": ["Pad"]}, "train_transforms: .* expected a list, each an object"),
        ({"optimizer_options": [1]}, r"optimizer_options: got \[1\], expected an object"),
        ({"model_options": {1: 2}}, "model_options: .* expected an object"),
        ({"speed": 3, "color": 1}, "unknown setting 'color', 'speed'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^configuration: {message}$"):
        make_config(**settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a JSON file"),
        ("[]", "expected a JSON object, got list"),
        ("{}", "missing setting 'data', 'model'"),
        ('{"model": "lenet", "data": "mnist", "epochs": null}', "epochs: got None"),
        ("\xff", "is not a JSON file"),
    ],
)
def test_files_that_hold_no_settings_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        TrainingConfig.load(path)
    assert str(path) in str(caught.value)


def test_differences_name_the_settings():
    config = make_config()
    assert config.differences(make_config()) == []
    other = make_config(epochs=3, data_folder="x", optimizer_options={"lr": 0.05, "momentum": 0.8})
    assert config.differences(other) == ["data_folder", "epochs", "optimizer_options"]
    assert config.differences(other, ignore=("data_folder",)) == ["epochs", "optimizer_options"]
    with pytest.raises(ValueError, match="epochs"):
        config.changed(epochs=-1)
