"""The training loop: epochs of steps, each epoch's end tested, all of it resumable to the bit.

A step's result depends on the settings, the weights, the optimizer's and schedule's state, the
batch (a function of seed, epoch and batch number) and the default generator (dropout). `state_dict`
holds these and the running sums, so a run that goes on from a checkpoint computes exactly what it
would have without the break, wherever the break fell.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from minicnn.backend import check_device, set_num_threads
from minicnn.data import DataLoader, Dataset, build_transform, with_crops
from minicnn.models.classifier import Classifier, scores_of
from minicnn.models.initialize import initialize
from minicnn.nn import Module
from minicnn.optim import SGD, Adam, AdamW, Optimizer, clip_grad_norm_
from minicnn.random import default_generator, manual_seed
from minicnn.serialization import save_state_dict
from minicnn.tensor import Tensor
from minicnn.training.checkpoint import load_checkpoint, save_checkpoint
from minicnn.training.config import TrainingConfig
from minicnn.training.evaluate import Evaluation, evaluate
from minicnn.training.history import EpochMetrics, from_rows, to_rows
from minicnn.training.progress import Observer, watch_compiling
from minicnn.training.recipes import build
from minicnn.training.run_folder import RunFolder
from minicnn.training.schedules import Schedule
from minicnn.training.signals import StopRequest

OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
# What may differ from machine to machine; anything else makes another run. Kernels give the same
# bits with any number of threads. On another device they round otherwise, but a run may move there.
FREE_SETTINGS = ("data_folder", "device", "threads")


class Interrupted(Exception):
    """Training was stopped by a signal, after its state was saved."""


class Diverged(ArithmeticError):
    """The loss or the weights are no longer finite; nothing was saved since they were."""


@dataclass
class TrainingState:
    """How far a run is, and the running sums of its current epoch.

    Attributes:
        epoch: epochs finished.
        batch: batches done in the current one.
        step: batches done in all.
        loss_sum: sum of the loss over the current epoch's images.
        correct: how many of them were named rightly.
        seen: how many there were.
        seconds: time spent on them.
        history: one entry for each finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[EpochMetrics] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """The running training loss."""
        return self.loss_sum / max(self.seen, 1)

    @property
    def accuracy(self) -> float:
        """The running training accuracy."""
        return self.correct / max(self.seen, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return {**asdict(self), "history": to_rows(self.history)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrainingState:
        """Return what `state_dict` described.

        Raises:
            ValueError: other fields than this class has.
        """
        names = {item.name for item in fields(cls)}
        if set(state) != names:
            raise ValueError(f"training state: got {sorted(state)}, expected {sorted(names)}")
        return cls(**{**state, "history": from_rows(state["history"])})


class Trainer:
    """A network with its data, optimizer and schedule, ready to be trained.

    Seeds the default generator and, where the settings say so, sets the number of threads. Two
    trainers of equal settings begin and end with equal bits.

    Args:
        config: the settings.
        train, test: the images.

    Attributes:
        config, train, test: as given.
        device: where the network is; batches go there one by one.
        model, optimizer, schedule, loader: what the settings name.
        state: how far training is.
        batches: steps in an epoch.

    Raises:
        ValueError: a name, option or shape that does not fit; nothing is written to disk by then.
    """

    def __init__(self, config: TrainingConfig, train: Dataset, test: Dataset):
        self.config, self.train, self.test = config, train, test
        self.device = check_device(config.device)
        if config.threads is not None:
            set_num_threads(config.threads)
        manual_seed(config.seed)
        self.model: Classifier = build(config.model, config.model_options)
        initialize(self.model, config.init)
        self.model.to(self.device)
        self.optimizer = _build_optimizer(config, self.model)
        transform = build_transform(config.train_transforms)
        self.loader = DataLoader(
            train, config.batch_size, shuffle=True, seed=config.seed, transform=transform
        )
        self.batches = len(self.loader)
        check_data(config, self.model, train, test)
        self.schedule = Schedule(config, self.optimizer, self.batches)
        self.state = TrainingState()

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.batches

    @property
    def is_done(self) -> bool:
        """Whether every epoch is finished."""
        return self.state.epoch >= self.config.epochs

    # The loop ----------------------------------------------------------------------------------

    def run(self, folder: RunFolder, observer: Observer) -> None:
        """Train to the last epoch, keeping the run's folder up to date.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the checkpoint holds the very last step.
            Diverged: the loss or a weight is NaN or infinite; the checkpoint is from before.
            OSError: a file could not be written; the old one is whole.
        """
        with StopRequest() as stop, watch_compiling(observer):
            observer.begin(self)
            try:
                while not self.is_done:
                    self._train_epoch(folder, observer, stop)
                    self._finish_epoch(folder, observer, stop)
                    if stop and not self.is_done:
                        raise Interrupted(self._place())
            finally:
                observer.end()

    def _train_epoch(self, folder: RunFolder, observer: Observer, stop: StopRequest) -> None:
        """Train from the current batch to the end of the epoch."""
        state = self.state
        self.model.train()
        self.loader.load_state_dict(
            {"seed": self.config.seed, "epoch": state.epoch, "position": state.batch}
        )
        since = time.perf_counter()
        for images, labels in self.loader:
            self._step(images, labels)
            now = time.perf_counter()
            state.seconds += now - since
            since = now
            observer.step(self)
            if stop:
                self.save(folder)
                raise Interrupted(self._place())
            if state.batch % self.config.save_every == 0 and state.batch < self.batches:
                self.save(folder)

    def _step(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Learn from one batch."""
        state = self.state
        target = Tensor(labels).to(self.device)
        output = self.model(Tensor(images).to(self.device))
        loss = self.model.loss(output, target, self.config.label_smoothing)
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} in {self._place()}")
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        state.batch += 1
        state.step += 1
        state.loss_sum += value * len(labels)
        found = scores_of(output).argmax(1).cpu().numpy()
        state.correct += int((found == labels).sum())
        state.seen += len(labels)
        self.schedule.after_step(state.step)

    def _finish_epoch(self, folder: RunFolder, observer: Observer, stop: StopRequest) -> None:
        """Test the network, note the epoch's figures and save everything."""
        state = self.state

        def watch(images: int) -> None:
            observer.test(self, images)
            if stop:
                self.save(folder)
                raise Interrupted(self._place())

        result = self.evaluate(watch)
        metrics = EpochMetrics(
            epoch=state.epoch + 1,
            step=state.step,
            learning_rate=self.schedule.rate,
            train_loss=state.mean_loss,
            train_accuracy=state.accuracy,
            test_loss=result.loss,
            test_accuracy=result.accuracy,
            seconds=state.seconds,
            images_per_second=state.seen / max(state.seconds, 1e-9),
        )
        self.schedule.after_epoch(result.loss)
        self.state = TrainingState(
            epoch=state.epoch + 1, step=state.step, history=[*state.history, metrics]
        )
        self.save(folder)
        save_state_dict(folder.weights, self.model.state_dict())
        folder.write_metrics(self.config, self.state.history, finished=False)
        observer.epoch(self, metrics)

    def evaluate(self, on_batch: Any = None) -> Evaluation:
        """Measure the network on the test images."""
        return evaluate(self.model, test_loader(self.config, self.test), on_batch)

    def _place(self) -> str:
        """Name the step at hand, counted from 1, as people do."""
        state = self.state
        return f"epoch {min(state.epoch + 1, self.config.epochs)}, step {state.step + 1}"

    # Saving and going on -----------------------------------------------------------------------

    def save(self, folder: RunFolder) -> None:
        """Write the run's checkpoint.

        Raises:
            Diverged: a weight is not finite; the last checkpoint stays.
            OSError: it could not be written; the last one is whole.
        """
        for name, parameter in self.model.named_parameters():
            if not np.isfinite(parameter.detach().cpu().numpy()).all():
                raise Diverged(f"{name} is not finite before {self._place()}")
        save_checkpoint(folder.checkpoint, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {
            "config": self.config.to_dict(),
            "training": self.state.state_dict(),
            "model": {name: x.cpu().numpy() for name, x in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": default_generator.get_state(),
        }

    def restore(self, folder: RunFolder) -> None:
        """Go on where the run's checkpoint was saved; without one, at the beginning.

        Raises:
            ValueError: the file is damaged, or of another network or other settings; names it.
        """
        if not folder.checkpoint.exists():
            return
        state = load_checkpoint(folder.checkpoint)
        try:
            saved = TrainingConfig.from_dict(state["config"])
            changed = self.config.differences(saved, ignore=FREE_SETTINGS)
            if changed:
                raise ValueError(f"it was made with other settings ({', '.join(changed)})")
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.state = TrainingState.from_state(state["training"])
            default_generator.set_state(state["generator"])
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"{folder.checkpoint} does not fit this run: {reason}") from error


def _build_optimizer(config: TrainingConfig, model: Module) -> Optimizer:
    if config.optimizer not in OPTIMIZERS:
        raise ValueError(
            f"optimizer: got {config.optimizer!r}, expected one of {', '.join(OPTIMIZERS)}"
        )
    try:
        return OPTIMIZERS[config.optimizer](model.parameters(), **config.optimizer_options)
    except TypeError as error:
        raise ValueError(f"optimizer_options: {error}") from error


def test_loader(config: TrainingConfig, test: Dataset, crops: str | None = None) -> DataLoader:
    """Return the loader of the test images, in their order.

    Args:
        config: the run's settings.
        test: the images.
        crops: "five" or "ten" views of each in place of the centre, see `data.with_crops`.

    Raises:
        ValueError: the run's test transforms have no CenterCrop.
    """
    if crops is None:
        specs, size = config.test_transforms, config.batch_size
    else:
        specs = with_crops(config.test_transforms, crops)
        # As many views at once as images otherwise, so that memory suffices for both.
        size = max(1, config.batch_size // 10)
    return DataLoader(test, size, transform=build_transform(specs))


def check_data(config: TrainingConfig, model: Module, train: Dataset, test: Dataset) -> None:
    """Refuse images or classes that the network does not take.

    Raises:
        ValueError: no images, other classes than the run's, or another shape than the network's.
    """
    if len(config.classes) != model.num_classes:
        raise ValueError(
            f"{config.model} tells {model.num_classes} classes apart, "
            f"got {len(config.classes)} from {config.data}"
        )
    for name, images, transforms in (
        ("training", train, config.train_transforms),
        ("test", test, config.test_transforms),
    ):
        if not len(images):
            raise ValueError(f"{config.data} has no {name} images")
        if list(images.classes) != config.classes:
            raise ValueError(f"{config.data} has other classes than this run's settings name")
        first = DataLoader(images.subset([0]), 1, transform=build_transform(transforms), prefetch=0)
        shape = next(iter(first))[0].shape[1:]
        if shape != tuple(model.input_shape):
            raise ValueError(
                f"{config.model} takes images of {_times(model.input_shape)}, "
                f"got {_times(shape)} from {config.data}"
            )


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
