"""A network and settings so small that an epoch takes a blink."""

from __future__ import annotations

from typing import Any

from minicnn import functional as F
from minicnn import nn
from minicnn.models import Classifier
from minicnn.training import Trainer, TrainingConfig


class Tiny(Classifier):
    """A convolution, dropout (so that the generator matters) and a dense layer, on 8 x 8 images."""

    def __init__(self, num_classes: int = 10, width: int = 4):
        super().__init__(1, num_classes, 8)
        self.conv = nn.Conv2d(1, width, 3)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(width * 9, num_classes)

    def forward(self, images):
        x = F.max_pool2d(F.relu(self.conv(images)), 2)
        return self.fc(F.flatten(self.dropout(x), 1))


def make_config(**settings: Any) -> TrainingConfig:
    """Return the settings of a run of 2 epochs of 5 steps (32 images; the last has 22)."""
    normalize = {"name": "Normalize", "mean": 0.3, "std": 0.38}
    defaults = {
        "model": "tiny",
        "data": "digits",
        "classes": list("0123456789"),
        "image_shape": [1, 8, 8],
        "train_transforms": [{"name": "RandomShift", "max_shift": 1}, normalize],
        "test_transforms": [normalize],
        "epochs": 2,
        "batch_size": 32,
        "optimizer_options": {"lr": 0.05, "momentum": 0.9},
        "warmup_epochs": 0.4,
        "save_every": 2,
    }
    return TrainingConfig.from_dict({**defaults, **settings})


def weights_of(trainer: Trainer) -> dict[str, bytes]:
    """Return the bits of every parameter."""
    state = trainer.model.named_parameters()
    return {name: p.detach().cpu().numpy().tobytes() for name, p in state}
