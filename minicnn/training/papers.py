"""The papers' training recipes, as data: what `minicnn train MODEL --recipe NAME` starts from.

A setting that the user gives replaces the recipe's. "input" stands for the height and width that
the network takes. Shorter sides of pictures are those for 224 x 224 and become as much smaller or
larger as the network's input is (AlexNet's 227 counts as 224). Transforms without numbers are
fitted on the training pictures. Epochs are those of ILSVRC-2012's 1.28 million pictures or CIFAR's
50,000, worked out from the papers' iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FLIP = {"name": "RandomHorizontalFlip"}
CROP = {"name": "RandomCrop", "size": "input"}
CENTER = {"name": "CenterCrop", "size": "input"}
MEAN = {"name": "SubtractMean"}
LIGHTING = {"name": "PCALighting", "std": 0.1}
# The first values of AlexNet and VGG are made for pixels of 0 to 255; ours are 0 to 1.
BYTES = {"name": "Normalize", "mean": [0.0], "std": [1 / 255]}
CIFAR_CROP = {"name": "RandomCrop", "size": "input", "padding": 4}
NORMALIZE = {"name": "Normalize"}
PLATEAU = {"factor": 0.1, "patience": 2}


def _short_side(size: int) -> dict[str, Any]:
    return {"name": "ResizeShortSide", "size": size}


def _random_side(low: int, high: int) -> dict[str, Any]:
    return {"name": "RandomShortSide", "low": low, "high": high}


@dataclass(frozen=True)
class Recipe:
    """How a paper trained its networks.

    Attributes:
        source: where it says so.
        differs: what is otherwise here, or was not stated there.
        settings: as `TrainingConfig` has them.
    """

    source: str
    differs: str
    settings: dict[str, Any]


RECIPES: dict[str, Recipe] = {
    "alexnet": Recipe(
        "Krizhevsky et al. 2012, sections 4 and 5",
        "The paper lowers the rate by hand, three times; here the test loss decides. It subtracts "
        "the mean picture; here, the mean colour.",
        {
            "epochs": 90,
            "batch_size": 128,
            "optimizer_options": {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": "plateau",
            "schedule_options": PLATEAU,
            "train_transforms": [
                _short_side(256), {"name": "CenterCrop", "size": 256}, CROP, FLIP, LIGHTING, MEAN,
                BYTES,
            ],
            "test_transforms": [_short_side(256), CENTER, MEAN, BYTES],
        },
    ),
    "vgg": Recipe(
        "Simonyan and Zisserman 2014, section 3.1",
        "First values as in Glorot and Bengio 2010, which the authors found later to do as well as "
        "starting from a trained network A; the test loss decides when the rate falls.",
        {
            "epochs": 74,
            "batch_size": 256,
            "optimizer_options": {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": "plateau",
            "schedule_options": PLATEAU,
            "init": {"*.bias": 0.0, "*.weight": {"name": "xavier_uniform"}},
            "train_transforms": [_random_side(256, 512), CROP, FLIP, LIGHTING, MEAN, BYTES],
            "test_transforms": [_short_side(384), CENTER, MEAN, BYTES],
        },
    ),
    "nin-cifar": Recipe(
        "Lin et al. 2013, section 4",
        "The paper gives no rate. It whitens the pictures; here each channel is normalised. The "
        "number of epochs is ours.",
        {
            "epochs": 120,
            "batch_size": 128,
            "optimizer_options": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": "plateau",
            "schedule_options": PLATEAU,
            "train_transforms": [CIFAR_CROP, FLIP, NORMALIZE],
            "test_transforms": [NORMALIZE],
        },
    ),
    "googlenet": Recipe(
        "Szegedy et al. 2014, section 6; rates as in Caffe's replication",
        "The paper trains asynchronously, lowers the rate by 4 % every 8 epochs "
        '(--schedule step --set schedule_options={"step_size":8,"gamma":0.96}) and averages the '
        "weights of the last steps. How strongly colours are distorted is ours; pictures are "
        "always scaled bilinearly.",
        {
            "epochs": 60,
            "batch_size": 32,
            "optimizer_options": {"lr": 0.01, "momentum": 0.9, "weight_decay": 2e-4},
            "schedule": "polynomial",
            "schedule_options": {"power": 0.5},
            "train_transforms": [
                {"name": "RandomResizedCrop", "size": "input"}, FLIP,
                {"name": "ColorJitter", "brightness": 0.4, "contrast": 0.4, "saturation": 0.4},
                MEAN, BYTES,
            ],
            "test_transforms": [_short_side(256), CENTER, MEAN, BYTES],
        },
    ),
    "resnet": Recipe(
        "He et al. 2015, section 3.4",
        "Statistics of batch norm are running averages, not computed anew after training.",
        {
            "epochs": 120,
            "batch_size": 256,
            "optimizer_options": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
            "schedule": "plateau",
            "schedule_options": PLATEAU,
            "train_transforms": [_random_side(256, 480), CROP, FLIP, LIGHTING, NORMALIZE],
            "test_transforms": [_short_side(256), CENTER, NORMALIZE],
        },
    ),
    "resnet-cifar": Recipe(
        "He et al. 2015, section 4.2",
        "The paper subtracts the mean picture; here each channel is normalised. For 110 layers it "
        "begins with a rate of 0.01 until the training error is below 80 %: add --warmup 1.",
        {
            "epochs": 164,
            "batch_size": 128,
            "optimizer_options": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
            "schedule": "multistep",
            "schedule_options": {"milestones": [82, 123]},
            "train_transforms": [CIFAR_CROP, FLIP, NORMALIZE],
            "test_transforms": [NORMALIZE],
        },
    ),
    "densenet": Recipe(
        "Huang et al. 2016, section 4.2",
        "Pictures are cropped as in the ResNet paper.",
        {
            "epochs": 90,
            "batch_size": 256,
            "optimizer_options": {
                "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4,
            },
            "schedule": "multistep",
            "schedule_options": {"milestones": [30, 60]},
            "train_transforms": [_random_side(256, 480), CROP, FLIP, LIGHTING, NORMALIZE],
            "test_transforms": [_short_side(256), CENTER, NORMALIZE],
        },
    ),
    "densenet-cifar": Recipe(
        "Huang et al. 2016, section 4.2",
        "This is the recipe with augmentation; without it the paper adds dropout of 0.2.",
        {
            "epochs": 300,
            "batch_size": 64,
            "optimizer_options": {
                "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4,
            },
            "schedule": "multistep",
            "schedule_options": {"milestones": [150, 225]},
            "train_transforms": [CIFAR_CROP, FLIP, NORMALIZE],
            "test_transforms": [NORMALIZE],
        },
    ),
}  # fmt: skip


def recipe_settings(
    name: str, input_size: tuple[int, int], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return a recipe's settings with the user's on top.

    Args:
        name: a key of `RECIPES`.
        input_size: what "input" stands for.
        settings: the user's; options of an optimizer or schedule of theirs replace the recipe's,
            others add to them.

    Raises:
        ValueError: an unknown name.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe: got {name!r}, expected one of {', '.join(RECIPES)}")
    recipe = {"optimizer": "sgd", "warmup_epochs": 0.0, **RECIPES[name].settings}
    for stage in ("train_transforms", "test_transforms"):
        recipe[stage] = [_sized(part, input_size) for part in recipe[stage]]
    whole = {**recipe, **settings}
    for kind in ("optimizer", "schedule"):
        options = f"{kind}_options"
        own = recipe[options] if whole[kind] == recipe[kind] else {}
        whole[options] = {**own, **settings.get(options, {})}
    return whole


def _sized(part: dict[str, Any], input_size: tuple[int, int]) -> dict[str, Any]:
    """Put a size where a transform says "input", and scale other sizes with it."""
    scale = 1.0 if max(input_size) in (224, 227) else max(input_size) / 224
    sized = {}
    for key, value in part.items():
        if value == "input":
            value = list(input_size)
        elif key in ("size", "low", "high") and isinstance(value, int):
            value = round(value * scale)
        sized[key] = value
    return sized
