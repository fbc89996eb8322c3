"""Several crops of each picture: averaged as by hand, by the commands too, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicnn import Tensor, nn
from minicnn.cli import main
from minicnn.data import Dataset, load_folder
from minicnn.training import TrainingConfig, evaluate
from minicnn.training.predict import predict
from minicnn.training.trainer import test_loader as make_loader

CROPPED: list[dict[str, Any]] = [
    {"name": "CenterCrop", "size": 4},
    {"name": "Normalize", "mean": [0.4], "std": [0.2]},
]


class Linear(nn.Module):
    """Scores that are sums over the pixels with fixed weights."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.table = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)

    def forward(self, images: Tensor) -> Tensor:
        return Tensor(images.data.reshape(len(images.data), 16) @ self.table)


@pytest.mark.parametrize("crops", ["five", "ten"])
def test_probabilities_are_averaged(crops):
    rng = np.random.default_rng(1)
    pixels, labels = rng.integers(0, 256, (23, 1, 6, 7), np.uint8), rng.integers(0, 3, 23)
    config = TrainingConfig(
        model="x", data="x", classes=["a", "b", "c"], image_shape=[1, 6, 7], batch_size=40,
        test_transforms=CROPPED,
    )  # fmt: skip
    model = Linear()
    wanted = np.zeros((23, 3))
    for row, image in zip(wanted, pixels[:, 0], strict=True):
        sides = (image, image[:, ::-1]) if crops == "ten" else (image,)
        views = [
            side[top : top + 4, left : left + 4]
            for side in sides
            for top, left in ((0, 0), (0, 3), (2, 0), (2, 3), (1, 1))
        ]
        for view in views:
            scores = ((view / 255 - 0.4) / 0.2).ravel() @ model.table.astype(np.float64)
            row += np.exp(scores) / np.exp(scores).sum() / len(views)

    dataset = Dataset(pixels, labels, config.classes)
    result = evaluate(model, make_loader(config, dataset, crops))
    assert result.loss == pytest.approx(-np.log(wanted[np.arange(23), labels]).mean(), rel=1e-4)
    assert result.correct == (wanted.argmax(1) == labels).sum() and result.total == 23
    np.testing.assert_allclose(predict(model, config, pixels, crops), wanted, atol=1e-5)
    plain = predict(model, config, pixels)
    assert np.abs(plain - wanted).max() > 0.01


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bright and dark pictures of several sizes, and a run trained on them."""
    image = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("story")
    rng = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 0)):
        (root / "pictures" / name).mkdir(parents=True)
        for index in range(10):
            shape = (*rng.integers(20, 60, 2), 3)
            pixels = rng.integers(low, low + 100, shape, np.uint8)
            image.fromarray(pixels).save(root / "pictures" / name / f"{index}.png")
    code = main(
        ["train", "lenet", "--data", "folder", "--data-folder", str(root / "pictures"), "--out",
         str(root / "run"), "--set", "data_options.lazy=true", "--epochs", "2", "--batch-size",
         "4", "--lr", "0.01"]
    )  # fmt: skip
    assert code == 0
    return root


def test_a_run_on_pictures_of_all_sizes(story, capsys):
    config = TrainingConfig.load(story / "run" / "config.json")
    assert config.image_shape == [3]
    assert [part["name"] for part in config.test_transforms] == [
        "ResizeShortSide", "CenterCrop", "Normalize",
    ]  # fmt: skip
    assert main(["eval", str(story / "run"), "--crops", "ten"]) == 0
    assert "(4 of 4)" in capsys.readouterr().out
    paths = [str(story / "pictures" / name / "0.png") for name in ("bright", "dark")]
    assert main(["predict", str(story / "run"), "--crops", "five", "--json", *paths]) == 0
    found = [entry["class"] for entry in json.loads(capsys.readouterr().out)]
    assert found == ["bright", "dark"]


def test_a_damaged_picture_ends_a_run_in_one_line(story, tmp_path, capsys):
    train = load_folder(story / "pictures", lazy=True)[0]
    victim = train.paths[-1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    try:
        code = main(
            ["train", "lenet", "--data", "folder", "--data-folder", str(story / "pictures"),
             "--out", str(tmp_path / "run"), "--set", "data_options.lazy=true", "--set",
             'train_transforms=[{"name": "RandomResizedCrop", "size": 28}]', "--set",
             'test_transforms=[{"name": "Resize", "size": 28}]', "--batch-size", "1",
             "--save-every", "1", "--epochs", "1"]
        )  # fmt: skip
    finally:
        victim.write_bytes(whole)
    assert code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert f"{victim}: unreadable image" in line and "go on from the last checkpoint" in line
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0


def test_without_a_centre_crop_it_is_refused(story, capsys):
    settings = json.loads((story / "run" / "config.json").read_text())
    settings["test_transforms"] = [{"name": "Resize", "size": 28}]
    other = story / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(settings))
    weights = (story / "run" / "weights.safetensors").read_bytes()
    (other / "weights.safetensors").write_bytes(weights)
    assert main(["eval", str(other), "--crops", "ten"]) == 2
    message = capsys.readouterr().err
    assert "expected test transforms with a CenterCrop for ten crops to replace, got Res" in message
    assert len(message.splitlines()) == 1
