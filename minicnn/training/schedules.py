"""The learning-rate schedules a run can name, each told in epochs and stepped once a batch.

A schedule that moves with every batch is smooth whatever the size of an epoch, and its state is one
integer. Only `plateau` looks at a result and so moves once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minicnn.optim import Optimizer
from minicnn.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from minicnn.training.config import TrainingConfig

WARMUP_START = 0.01


def _constant(optimizer: Optimizer, steps: int, per_epoch: int) -> LRScheduler:
    """Keep the rate."""
    return MultiStepLR(optimizer, [])


def _step(
    optimizer: Optimizer, steps: int, per_epoch: int, *, step_size: int = 5, gamma: float = 0.1
) -> LRScheduler:
    """Multiply the rate by gamma every step_size epochs."""
    return StepLR(optimizer, step_size * per_epoch, gamma)


def _multistep(
    optimizer: Optimizer, steps: int, per_epoch: int, *, milestones: list[int], gamma: float = 0.1
) -> LRScheduler:
    """Multiply the rate by gamma when the epochs in milestones are done."""
    return MultiStepLR(optimizer, [epoch * per_epoch for epoch in milestones], gamma)


def _cosine(
    optimizer: Optimizer, steps: int, per_epoch: int, *, eta_min: float = 0.0
) -> LRScheduler:
    """Lower the rate to eta_min along half a cosine."""
    return CosineAnnealingLR(optimizer, max(steps, 1), eta_min)


def _polynomial(
    optimizer: Optimizer, steps: int, per_epoch: int, *, power: float = 1.0
) -> LRScheduler:
    """Lower the rate to 0 along a power of the steps that are left."""
    return PolynomialLR(optimizer, max(steps, 1), power)


def _one_cycle(
    optimizer: Optimizer, steps: int, per_epoch: int, *, pct_start: float = 0.3, **options: Any
) -> LRScheduler:
    """Raise the rate to lr over the share pct_start of the run, then lower it to nearly nothing."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=pct_start, **options)


def _plateau(
    optimizer: Optimizer, steps: int, per_epoch: int, *, factor: float = 0.1, patience: int = 2
) -> ReduceLROnPlateau:
    """Multiply the rate by factor when the test loss has not fallen for over patience epochs."""
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience)


SCHEDULES: dict[str, Callable[..., LRScheduler | ReduceLROnPlateau]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "one-cycle": _one_cycle,
    "plateau": _plateau,
}
WITHOUT_WARMUP = ("one-cycle", "plateau")


class Schedule:
    """The schedule of a run, warm-up included.

    Args:
        config: names it and gives its options, the warm-up and the number of epochs.
        optimizer: whose rates it sets, from now on.
        batches: steps in an epoch.

    Raises:
        ValueError: unknown name or option, or a warm-up before a schedule that takes none.
    """

    def __init__(self, config: TrainingConfig, optimizer: Optimizer, batches: int):
        name = config.schedule
        if name not in SCHEDULES:
            raise ValueError(f"schedule: got {name!r}, expected one of {', '.join(SCHEDULES)}")
        if config.warmup_epochs and name in WITHOUT_WARMUP:
            raise ValueError(
                f"warmup_epochs: got {config.warmup_epochs}, but {name} takes no warm-up"
            )
        self.total = config.epochs * batches
        warmup = min(round(config.warmup_epochs * batches), self.total)
        try:
            main = SCHEDULES[name](
                optimizer, self.total - warmup, batches, **config.schedule_options
            )
        except TypeError as error:
            reason = str(error).replace(f"{SCHEDULES[name].__name__}()", name)
            raise ValueError(f"schedule_options: {reason}") from error
        if warmup and isinstance(main, LRScheduler):
            rise = LinearLR(optimizer, WARMUP_START, 1.0, warmup)
            main = SequentialLR(optimizer, [rise, main], [warmup])
        self.scheduler = main

    @property
    def rate(self) -> float:
        """The learning rate of the next step, of the first parameter group."""
        return self.scheduler.get_last_lr()[0]

    def after_step(self, step: int) -> None:
        """Set the rates for the step after the `step`-th."""
        if isinstance(self.scheduler, LRScheduler) and step < self.total:
            self.scheduler.step()

    def after_epoch(self, test_loss: float) -> None:
        """Let a schedule that looks at results see this one."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(test_loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called; the optimizer loads its rates itself.

        Raises:
            ValueError: the state of another schedule.
        """
        self.scheduler.load_state_dict(state)
