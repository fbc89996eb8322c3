"""What a person sees while a network trains: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from minicnn.kernels import _cache
from minicnn.training.history import EpochMetrics

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from minicnn.training.trainer import Trainer

HEADER = " epoch    loss  accuracy  test loss  test accuracy  images/s    time"
REFRESH_SECONDS = 0.1
PATIENCE = 10.0  # seconds between two lines about compiling


class Observer:
    """Is told how training goes, and does nothing with it; the ground for those that do."""

    def begin(self, trainer: Trainer) -> None:
        """Training starts or goes on, at `trainer.state`."""

    def compiling(self, count: int) -> None:
        """A kernel must be compiled, the first time it is used; `count` have been already."""

    def step(self, trainer: Trainer) -> None:
        """A step was made."""

    def test(self, trainer: Trainer, images: int) -> None:
        """A batch of the test images was looked at, the `images`-th image its last."""

    def epoch(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """An epoch ended with these figures."""

    def end(self) -> None:
        """Training ended, was stopped or failed."""


class LineObserver(Observer):
    """Prints a line for each epoch, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stdout
        self._has_heads = False
        self._told = -PATIENCE

    def compiling(self, count: int) -> None:
        """Print how many kernels are compiled, at once and then now and then."""
        now = time.perf_counter()
        if now - self._told >= PATIENCE:
            self._told = now
            self._print(compiling_line(count))

    def epoch(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Print the epoch's figures, the first time with the heads of the columns."""
        if not self._has_heads:
            self._print(HEADER)
            self._has_heads = True
        self._print(epoch_line(metrics, trainer.config.epochs))

    def _print(self, line: str) -> None:
        print(line, file=self.stream, flush=True)


class BarObserver(Observer):
    """Prints a line for each epoch and, below, a live bar: loss, accuracy, images/s, time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = self._refreshed = 0.0
        self._first_step = 0

    def begin(self, trainer: Trainer) -> None:
        """Print the heads of the columns and show the bar."""
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None, complete_style="blue", finished_style="blue"),
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("[dim]{task.fields[figures]}"),
            expand=True,
            transient=True,
            auto_refresh=False,
        )
        self._bar.console.print(HEADER, style="bold", highlight=False)
        name = f"epoch {trainer.state.epoch + 1}/{trainer.config.epochs}"
        self._task = self._bar.add_task(name, total=trainer.batches, figures="loading the kernels")
        self._bar.start()
        self._started = 0.0

    def compiling(self, count: int) -> None:
        """Say in the bar's line how many kernels are compiled."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, figures=compiling_line(count), refresh=True)

    def step(self, trainer: Trainer) -> None:
        """Move the bar, at most ten times a second."""
        now = time.perf_counter()
        state = trainer.state
        if not self._started:  # the first step loaded the kernels: it would spoil the estimate
            self._started, self._first_step = now, state.step
        if now - self._refreshed < REFRESH_SECONDS and state.batch < trainer.batches:
            return
        self._refreshed = now
        rate = state.seen / max(state.seconds, 1e-9)
        figures = f"loss {state.mean_loss:.4f}  accuracy {state.accuracy:.2%}  {rate:,.0f} images/s"
        if state.step > self._first_step:
            pace = (now - self._started) / (state.step - self._first_step)
            figures += f"  {clock(pace * (trainer.total_steps - state.step))} left"
        self._show(trainer, state.batch, trainer.batches, figures)

    def test(self, trainer: Trainer, images: int) -> None:
        """Show how far testing is."""
        now = time.perf_counter()
        if now - self._refreshed >= REFRESH_SECONDS:
            self._refreshed = now
            self._show(trainer, images, len(trainer.test), "testing")

    def epoch(self, trainer: Trainer, metrics: EpochMetrics) -> None:
        """Print the epoch's figures above the bar."""
        if self._bar is not None:
            line = epoch_line(metrics, trainer.config.epochs)
            self._bar.console.print(line, highlight=False)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, trainer: Trainer, done: int, total: int, figures: str) -> None:
        if self._bar is not None and self._task is not None:
            name = f"epoch {trainer.state.epoch + 1}/{trainer.config.epochs}"
            self._bar.update(
                self._task,
                completed=done,
                total=total,
                description=name,
                figures=figures,
                refresh=True,
            )


def make_observer() -> Observer:
    """Return the bar when a person looks on, else the lines."""
    return BarObserver() if sys.stdout.isatty() else LineObserver()


@contextmanager
def watch_compiling(observer: Observer) -> Iterator[None]:
    """Tell an observer of every kernel that is compiled inside the `with`."""
    done = 0

    def listen(name: str, event: _cache.Event) -> None:
        nonlocal done
        done += event == "compiled"
        if event == "compiling":
            observer.compiling(done)

    with _cache.watch(listen):
        yield


def epoch_line(metrics: EpochMetrics, epochs: int) -> str:
    """Return an epoch's figures under the columns of `HEADER`."""
    number = f"{metrics.epoch}/{epochs}"
    return (
        f"{number:>6}  {metrics.train_loss:6.4f}  {metrics.train_accuracy:8.2%}  "
        f"{metrics.test_loss:9.4f}  {metrics.test_accuracy:13.2%}  "
        f"{metrics.images_per_second:8,.0f}  {clock(metrics.seconds):>6}"
    )


def compiling_line(count: int) -> str:
    """Return what a first run shows while it waits for its kernels."""
    return f"compiling kernels (once): {count} done"


def clock(seconds: float) -> str:
    """Return a duration as m:ss or h:mm:ss.

    >>> clock(75.3), clock(3600)
    ('1:15', '1:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
