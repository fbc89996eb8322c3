"""The papers' recipes: each makes a run, and a user's settings go before it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minicnn.data import Dataset
from minicnn.training import Trainer, default_config
from minicnn.training.papers import RECIPES


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    """Eight colour pictures of 36 x 40, of two classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 3, 36, 40), np.uint8)
    return Dataset(images, np.arange(8) % 2, ["a", "b"], "pictures")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_a_run(name, pictures):
    if name.endswith("-cifar"):
        pictures = Dataset(pictures.images[..., :28, :28].copy(), pictures.labels, ["a", "b"])
    config = default_config("alexnet_small", "folder", pictures, recipe=name)
    recipe = RECIPES[name]
    for key in ("epochs", "batch_size", "optimizer_options", "schedule", "schedule_options"):
        assert getattr(config, key) == recipe.settings[key], key
    assert config.warmup_epochs == 0
    trainer = Trainer(config, pictures, pictures)
    images, _ = next(iter(trainer.loader))
    assert images.shape == (8, 3, 28, 28)
    assert np.isfinite(images).all()
    assert trainer.schedule.rate == recipe.settings["optimizer_options"]["lr"]
    json.dumps(config.to_dict())


def test_a_users_settings_go_before_the_recipe(pictures):
    config = default_config(
        "alexnet_small", "folder", pictures, recipe="alexnet", epochs=2, batch_size=4,
        optimizer_options={"lr": 0.5}, schedule_options={"patience": 7},
    )  # fmt: skip
    assert (config.epochs, config.batch_size) == (2, 4)
    assert config.optimizer_options == {"lr": 0.5, "momentum": 0.9, "weight_decay": 5e-4}
    assert config.schedule_options == {"factor": 0.1, "patience": 7}


def test_options_of_another_optimizer_or_schedule_are_left_out(pictures):
    config = default_config(
        "alexnet_small", "folder", pictures, recipe="resnet-cifar", optimizer="adam",
        schedule="cosine", train_transforms=["RandomHorizontalFlip"],
    )  # fmt: skip
    assert config.optimizer_options == {} and config.schedule_options == {}
    assert config.train_transforms == [{"name": "RandomHorizontalFlip"}]


def test_alexnets_pixels_are_bytes_around_the_mean_colour(pictures):
    config = default_config("alexnet_small", "folder", pictures, recipe="alexnet")
    mean = next(part for part in config.train_transforms if part["name"] == "SubtractMean")
    expected = pictures.images.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(mean["mean"], expected, rtol=1e-6)
    lighting = next(part for part in config.train_transforms if part["name"] == "PCALighting")
    assert len(lighting["eigenvalues"]) == 3 and lighting["std"] == 0.1
    assert config.train_transforms[-1] == {"name": "Normalize", "mean": [0.0], "std": [1 / 255]}


def test_vgg_starts_from_glorots_values(pictures):
    config = default_config("alexnet_small", "folder", pictures, recipe="vgg")
    trainer = Trainer(config, pictures, pictures)
    weight = trainer.model.classifier.fc7.weight.numpy()
    bound = (6 / (256 + 256)) ** 0.5
    assert 0.95 * bound < np.abs(weight).max() <= bound


@pytest.mark.parametrize(("side", "short"), [(224, 256), (227, 256), (112, 128), (448, 512)])
def test_shorter_sides_go_with_the_networks_input(pictures, side, short):
    sizes = {"input_size": side, "width": 0.1}
    config = default_config(
        "alexnet_torchvision", "folder", pictures, recipe="resnet", model_options=sizes
    )
    first, crop, *_ = config.test_transforms
    assert first == {"name": "ResizeShortSide", "size": short}
    assert crop == {"name": "CenterCrop", "size": [side, side]}
    drawn = config.train_transforms[0]
    assert (drawn["low"], drawn["high"]) == (short, round(short * 480 / 256))


def test_an_unknown_recipe(pictures):
    with pytest.raises(ValueError, match="recipe: got 'pizza', expected one of alexnet, vgg"):
        default_config("alexnet_small", "folder", pictures, recipe="pizza")
