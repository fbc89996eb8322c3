"""Everything that decides how a run goes, as one plain value that JSON can hold."""

from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from minicnn.serialization import write_atomically


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The settings of a training run; two runs with equal settings end with equal bits.

    Attributes:
        model: a name of `minicnn.models.MODELS`.
        model_options: arguments of its builder.
        init: rules for its first values, see `minicnn.models.initialize`; empty for its own.
        data: a name of `minicnn.data.DATASETS`.
        data_folder: where its files lie; None for the cache, filled when empty.
        data_options: further arguments of `minicnn.data.load_dataset`.
        classes: the data's class names, in the order of the network's outputs.
        image_shape: (C, H, W) of the data's images, before any transform.
        train_transforms, test_transforms: arguments of `minicnn.data.build_transform`.
        device: where tensors live: "cpu", "cuda", "cuda:1", "cuda:sim" and the like.
        threads: how many threads the kernels use; None for all.
        seed: of the initial weights, the order of the data, augmentation and dropout.
        epochs: how often the training images are gone through.
        batch_size: images a step.
        optimizer, optimizer_options: a name of `training.trainer.OPTIMIZERS` and its arguments.
        schedule, schedule_options: a name of `training.schedules.SCHEDULES` and its arguments.
        warmup_epochs: over how many epochs, whole or not, the learning rate rises from near zero.
        label_smoothing: share of the target spread over all classes, 0 to below 1.
        clip_norm: largest norm of the gradient; None to leave it.
        save_every: steps between checkpoints within an epoch; each epoch's end has one as well.
    """

    model: str
    data: str
    model_options: dict[str, Any] = field(default_factory=dict)
    init: dict[str, Any] = field(default_factory=dict)
    data_folder: str | None = None
    data_options: dict[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    image_shape: list[int] = field(default_factory=list)
    train_transforms: list[dict[str, Any]] = field(default_factory=list)
    test_transforms: list[dict[str, Any]] = field(default_factory=list)
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0
    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "sgd"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    schedule_options: dict[str, Any] = field(default_factory=dict)
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    save_every: int = 200

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name, hint in hints.items():
            value = getattr(self, name)
            if not _is_a(value, hint):
                raise ValueError(f"{name}: got {value!r}, expected {_in_words(hint)}")
        for name in ("epochs", "batch_size", "save_every", "threads"):
            self._demand(name, "at least 1", lambda value: value >= 1)
        self._demand("seed", "at least 0", lambda value: value >= 0)
        self._demand("warmup_epochs", "at least 0", lambda value: value >= 0)
        self._demand("label_smoothing", "at least 0 and below 1", lambda value: 0 <= value < 1)
        self._demand("clip_norm", "more than 0", lambda value: value > 0)

    def _demand(self, name: str, words: str, holds: typing.Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if value is not None and not holds(value):
            raise ValueError(f"{name}: got {value!r}, expected {words}")

    @property
    def learning_rate(self) -> float | None:
        """The optimizer's base learning rate, where its options name one."""
        return self.optimizer_options.get("lr")

    def changed(self, **settings: Any) -> TrainingConfig:
        """Return a copy with some settings changed, checked anew."""
        return replace(self, **settings)

    def differences(self, other: TrainingConfig, ignore: tuple[str, ...] = ()) -> list[str]:
        """Return the names of the settings in which two configurations differ."""
        return [
            item.name
            for item in fields(self)
            if item.name not in ignore and getattr(self, item.name) != getattr(other, item.name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a dict that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Any, source: str = "configuration") -> TrainingConfig:
        """Build the configuration that `to_dict` gave.

        Args:
            settings: a dict; settings with a default may be missing.
            source: what error messages call it, such as the file it came from.

        Raises:
            ValueError: not a dict, a setting unknown, missing, of the wrong type or out of range.
        """
        if not isinstance(settings, dict):
            raise ValueError(f"{source}: expected a JSON object, got {type(settings).__name__}")
        known = {item.name for item in fields(cls)}
        for problem, names in (
            ("unknown setting", sorted(set(settings) - known)),
            ("missing setting", sorted({"model", "data"} - set(settings))),
        ):
            if names:
                raise ValueError(f"{source}: {problem} {', '.join(map(repr, names))}")
        try:
            return cls(**settings)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the settings as JSON, atomically.

        Raises:
            OSError: the file could not be written.
        """
        write_atomically(path, (json.dumps(self.to_dict(), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """Read settings that `save` wrote.

        Raises:
            ValueError: not JSON, or not a configuration; the message names the file.
            OSError: the file cannot be read.
        """
        try:
            settings = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is not a JSON file: {error}") from error
        return cls.from_dict(settings, source=str(path))


def _is_a(value: Any, hint: Any) -> bool:
    """Tell whether a value has a type as the fields above write it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is types.UnionType:
        return any(_is_a(value, choice) for choice in arguments)
    if origin is list:
        return isinstance(value, list) and all(_is_a(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint


def _in_words(hint: Any) -> str:
    """Name such a type in an error message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return " or ".join(_in_words(choice) for choice in arguments)
    if origin is list:
        return f"a list, each {_in_words(arguments[0])}"
    names = {str: "a string", int: "an integer", float: "a number", type(None): "null"}
    return names.get(hint, "an object")
