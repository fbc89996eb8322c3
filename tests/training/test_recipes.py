"""Every default fits: any network trains on any data that has its classes."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.data import Dataset, build_transform, load_digits
from minicnn.models import MODELS
from minicnn.training import Trainer, default_config
from minicnn.training.recipes import fit_transforms

# The published sizes would take gigabytes for the same few lines.
SIZES = ("lenet", "lenet5", *(name for name in MODELS if name.endswith("_small")))


@pytest.mark.parametrize("model", SIZES)
@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_defaults_make_a_trainer(model, data):
    train, test = load_digits()
    if data == "mnist":
        images = np.zeros((10, 1, 28, 28), np.uint8)
        train = test = Dataset(images, np.arange(10), list("0123456789"), "mnist")
    config = default_config(model, data, train)
    trainer = Trainer(config, train, test)
    images, labels = next(iter(trainer.loader))
    assert images.shape[1:] == trainer.model.input_shape
    assert config.image_shape == list(train.images.shape[1:])


def test_users_settings_win_and_options_add_up():
    train, _ = load_digits()
    config = default_config(
        "lenet", "digits", train, epochs=3, optimizer="adamw", optimizer_options={"lr": 0.5}
    )
    assert config.epochs == 3
    assert config.optimizer_options["lr"] == 0.5
    assert "weight_decay" in config.optimizer_options
    assert "momentum" not in config.optimizer_options


@pytest.mark.parametrize(
    ("model", "data", "settings", "message"),
    [
        ("nonsense", "digits", {}, "model: got 'nonsense'"),
        ("lenet", "digits", {"epochs": 0}, "epochs: got 0"),
        ("lenet", "digits", {"speed": 1}, "unknown setting 'speed'"),
        ("lenet", "digits", {"model_options": {"depth": 1}}, "model_options: .*depth"),
    ],
)
def test_wrong_settings_are_refused(model, data, settings, message):
    with pytest.raises(ValueError, match=message):
        default_config(model, data, load_digits()[0], **settings)


def test_lenet5_sees_white_at_minus_a_tenth_and_black_at_1_175():
    """Section II.A of the paper; MNIST's ink is 1, its ground 0."""
    train, _ = load_digits()
    steps = default_config("lenet5", "digits", train).test_transforms
    image = np.array([0, 1], np.float32).reshape(1, 1, 1, 2)
    out = build_transform(steps[-1:])(image, np.random.default_rng(0))
    np.testing.assert_allclose(out.ravel(), [-0.1, 1.175], atol=1e-6)


def test_other_data_is_normalised_by_its_own_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 3, 28, 28), dtype=np.uint8)
    images[:, 1] //= 3
    train = Dataset(images, rng.integers(0, 2, 20), ["cat", "dog"], "pets")
    config = default_config("lenet", "folder", train)
    assert config.model_options == {"in_channels": 3, "num_classes": 2}
    out = build_transform(config.test_transforms)(images / np.float32(255), rng)
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std((0, 2, 3)), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "wanted", "expected"),
    [
        ((28, 28), (28, 28), []),
        ((28, 28), (32, 32), [{"name": "Pad", "padding": [2, 2]}]),
        ((28, 30), (32, 32), [{"name": "Pad", "padding": [2, 1]}]),
        ((8, 8), (28, 28), [{"name": "Resize", "size": [28, 28]}]),
        ((29, 29), (32, 32), [{"name": "Resize", "size": [32, 32]}]),
        ((40, 28), (32, 32), [{"name": "Resize", "size": [32, 32]}]),
    ],
)
def test_images_are_framed_if_nearly_large_enough_else_scaled(size, wanted, expected):
    assert fit_transforms(size, wanted) == expected
