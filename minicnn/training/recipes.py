"""Settings that work: what `minicnn train` uses where the user says nothing.

Tables rather than code: a recipe belongs to an optimizer, a dataset or a network.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from minicnn import nn
from minicnn.data import Dataset, Pictures, fill_in
from minicnn.models import MODELS, create_model
from minicnn.training.config import TrainingConfig
from minicnn.training.papers import recipe_settings

DEFAULTS: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 64,
    "optimizer": "sgd",
    "schedule": "cosine",
    "warmup_epochs": 0.5,
}

OPTIMIZER_OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "adam": {"lr": 1e-3},
    "adamw": {"lr": 1e-3, "weight_decay": 1e-2},
}

# What a network wants otherwise, and how it wants its pixels, which come as 0 to 1.
MODEL_SETTINGS: dict[str, dict[str, Any]] = {
    "lenet5": {"optimizer": "adam", "epochs": 10},
}
MODEL_INPUT: dict[str, dict[str, Any]] = {
    # The paper's white is -0.1 and its black 1.175 (section II.A): (pixel - mean) / std with these.
    "lenet5": {"mean": [0.1 / 1.275], "std": [1 / 1.275]},
}

# What a dataset wants otherwise: a small one must be gone through more often.
DATA_SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 30},
}
# Mean and standard deviation of the training pixels; of other data they are computed.
DATA_INPUT: dict[str, dict[str, Any]] = {
    "mnist": {"mean": [0.1307], "std": [0.3081]},
    "fashion-mnist": {"mean": [0.2860], "std": [0.3530]},
}
# Changes that leave an image in its class.
AUGMENTATION: dict[str, list[dict[str, Any]]] = {
    "mnist": [{"name": "RandomShift", "max_shift": 2}],
    "fashion-mnist": [
        {"name": "RandomHorizontalFlip"},
        {"name": "RandomShift", "max_shift": 1},
    ],
    "digits": [{"name": "RandomShift", "max_shift": 2}],
    "folder": [{"name": "RandomHorizontalFlip"}],
}

# An image that lacks at most this share of the network's input is framed, others are scaled.
MOST_PADDING = 0.25


def default_config(
    model: str, data: str, train: Dataset, recipe: str | None = None, **settings: Any
) -> TrainingConfig:
    """Return the settings of a run, defaults filled in.

    Args:
        model, data: names of the network and the dataset.
        train: the training images, for their shape and class names.
        recipe: a name of `minicnn.training.papers.RECIPES`, whose settings replace the defaults.
        settings: what the user chose; entries of `optimizer_options` and `model_options` add to or
            replace the defaults.

    Raises:
        ValueError: a name or option unknown, or a setting out of range.
    """
    model_options = {**fitting_options(model, train), **settings.pop("model_options", {})}
    with nn.init.skip_init():
        input_shape = build(model, model_options).input_shape
    if recipe is not None:
        chosen = recipe_settings(recipe, input_shape[1:], settings)
    else:
        chosen = {
            **DEFAULTS,
            **MODEL_SETTINGS.get(model, {}),
            **DATA_SETTINGS.get(data, {}),
            **settings,
        }
        chosen["optimizer_options"] = {
            **OPTIMIZER_OPTIONS.get(chosen["optimizer"], {}),
            **chosen.get("optimizer_options", {}),
        }
    if isinstance(train, Pictures):
        fit, test_fit = picture_transforms(input_shape[1:])
    else:
        fit = test_fit = fit_transforms(train.image_shape[1:], input_shape[1:])
    statistics = MODEL_INPUT.get(model) or DATA_INPUT.get(data) or {}
    normalize = {"name": "Normalize", **statistics}
    chosen = {
        "train_transforms": [*fit, *AUGMENTATION.get(data, []), normalize],
        "test_transforms": [*test_fit, normalize],
        **chosen,
    }
    # Both lists are fitted at once: of pictures, every sample is a walk through the files.
    sample = functools.cache(train.sample)
    for name in ("train_transforms", "test_transforms"):
        if isinstance(chosen[name], list):
            chosen[name] = fill_in(chosen[name], sample)
    return TrainingConfig.from_dict(
        {
            "model": model,
            "data": data,
            "classes": list(train.classes),
            "image_shape": list(train.image_shape),
            "model_options": model_options,
            **chosen,
        }
    )


def build(model: str, options: dict[str, Any]) -> Any:
    """Build a network; an option it does not have is a ValueError, since a user wrote it."""
    try:
        return create_model(model, **options)
    except TypeError as error:
        raise ValueError(f"model_options: {error}") from error


def fitting_options(model: str, train: Dataset) -> dict[str, Any]:
    """Return the builder's options for these images, as far as it has any."""
    known = inspect.signature(MODELS[model]).parameters if model in MODELS else {}
    wanted = {"in_channels": train.image_shape[0], "num_classes": len(train.classes)}
    return {name: value for name, value in wanted.items() if name in known}


def fit_transforms(size: tuple[int, ...], wanted: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return the transforms that bring images (H, W) to the size a network takes."""
    gaps = [want - have for have, want in zip(size, wanted, strict=True)]
    if not any(gaps):
        return []
    if all(
        gap >= 0 and gap % 2 == 0 and gap <= MOST_PADDING * want
        for gap, want in zip(gaps, wanted, strict=True)
    ):
        return [{"name": "Pad", "padding": [gap // 2 for gap in gaps]}]
    return [{"name": "Resize", "size": list(wanted)}]


def picture_transforms(wanted: tuple[int, ...]) -> tuple[list[dict[str, Any]], ...]:
    """Return what brings pictures of any size to a network's (H, W), in training and in tests.

    The shorter side becomes 8/7 of the longer one wanted, as 256 is of 224; then a window is cut
    out, at random or in the centre.
    """
    short: dict[str, Any] = {"name": "ResizeShortSide", "size": -(-8 * max(wanted) // 7)}
    size = list(wanted)
    return [short, {"name": "RandomCrop", "size": size}], [
        short,
        {"name": "CenterCrop", "size": size},
    ]
