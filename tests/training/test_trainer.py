"""The loop: the same bits every time, through any break; nothing bad is ever saved."""

from __future__ import annotations

import errno
import os
import signal

import numpy as np
import pytest

import minicnn
from minicnn import default_generator
from minicnn.data import Dataset
from minicnn.serialization import load_state_dict
from minicnn.training import Diverged, Interrupted, Observer, Trainer
from minicnn.training.checkpoint import load_checkpoint, save_checkpoint
from tests.tiny import make_config, weights_of


class StopAt(Observer):
    """Raises, or sends a signal, at the given step or before the given epoch's figures."""

    def __init__(self, step: int = -1, testing: int = -1, by: signal.Signals | None = None):
        self.at_step, self.at_test, self.by = step, testing, by

    def step(self, trainer):
        if trainer.state.step == self.at_step:
            self._stop()

    def test(self, trainer, images):
        if trainer.state.epoch + 1 == self.at_test:
            self._stop()

    def _stop(self):
        if self.by is None:
            raise Killed
        os.kill(os.getpid(), self.by)


class Killed(BaseException):
    """Ends training as a kill does: no handler of an Exception sees it."""


def test_training_learns_and_fills_the_folder(begin, digits):
    trainer, run = begin(epochs=20, optimizer="adam", optimizer_options={"lr": 0.02})
    trainer.run(run, Observer())
    history = trainer.state.history
    assert [row.epoch for row in history] == list(range(1, 21))
    assert [row.step for row in history] == list(range(5, 101, 5))
    assert history[-1].train_loss < 0.8 * history[0].train_loss
    assert history[-1].test_accuracy > 0.5
    for name, value in load_state_dict(run.weights).items():
        np.testing.assert_array_equal(value, trainer.model.state_dict()[name].data)
    assert run.load_metrics()["last"]["test_accuracy"] == history[-1].test_accuracy
    assert not run.is_finished  # its pictures are still missing


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_running_figures_are_the_means_over_the_epochs_images(begin, smoothing):
    """With a learning rate of 0 the figures can be computed batch by batch from one network."""
    trainer, run = begin(
        epochs=1, optimizer="sgd", optimizer_options={"lr": 0.0}, train_transforms=[],
        test_transforms=[], model_options={"width": 3}, label_smoothing=smoothing,
    )  # fmt: skip
    trainer.model.dropout.p = 0.0
    weight, bias = trainer.model.conv.weight.data, trainer.model.conv.bias.data
    images = trainer.train.images / 255
    windows = np.lib.stride_tricks.sliding_window_view(images[:, 0], (3, 3), axis=(1, 2))
    maps = np.einsum("nyxij,oij->noyx", windows, weight[:, 0]) + bias[:, None, None]
    pooled = maps.clip(0).reshape(len(images), 3, 3, 2, 3, 2).max((3, 5)).reshape(len(images), -1)
    scores = pooled @ trainer.model.fc.weight.data.T + trainer.model.fc.bias.data
    shifted = scores - scores.max(1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    labels = trainer.train.labels
    trainer.run(run, Observer())
    row = trainer.state.history[0]
    truth = log_probs[np.arange(len(labels)), labels].mean()
    expected = -(1 - smoothing) * truth - smoothing * log_probs.mean()
    assert row.train_loss == pytest.approx(expected, rel=1e-5)
    assert row.train_accuracy == (scores.argmax(1) == labels).mean()


def test_clipping_bounds_the_step(begin):
    """Plain descent moves the weights by the rate times the gradient, whose norm is bounded."""
    trainer, run = begin(
        epochs=1, batch_size=150, optimizer="sgd", optimizer_options={"lr": 0.5},
        schedule="constant", warmup_epochs=0, clip_norm=0.01,
    )  # fmt: skip
    before = [parameter.data.copy() for parameter in trainer.model.parameters()]
    trainer.run(run, Observer())
    moves = [p.data - old for p, old in zip(trainer.model.parameters(), before, strict=True)]
    assert np.sqrt(sum((move**2).sum() for move in moves)) == pytest.approx(0.005, rel=1e-2)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(begin):
    results = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trainer, run = begin(name, seed=seed)
        np.random.default_rng().random(3)
        trainer.run(run, Observer())
        results.append((weights_of(trainer), trainer.state.history[-1].test_loss))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_the_number_of_threads_changes_no_bit(begin, same_threads):
    results = []
    for name, threads in (("all", same_threads), ("one", 1)):
        trainer, run = begin(name, threads=threads)
        trainer.run(run, Observer())
        assert minicnn.get_num_threads() == threads
        results.append(weights_of(trainer))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adam", "optimizer_options": {"lr": 0.01}, "clip_norm": 1.0},
        {"optimizer": "adamw", "optimizer_options": {"lr": 0.01}, "label_smoothing": 0.1},
        {"schedule": "one-cycle", "warmup_epochs": 0},
        {"schedule": "multistep", "schedule_options": {"milestones": [1]}, "warmup_epochs": 0.2},
        {"schedule": "plateau", "schedule_options": {"patience": 0}, "warmup_epochs": 0},
    ],
    ids=lambda settings: str(settings.get("schedule", settings.get("optimizer", "default"))),
)
def test_a_run_that_breaks_at_any_step_ends_with_the_bits_of_the_unbroken_one(
    begin, go_on, settings
):
    trainer, run = begin("unbroken", **settings)
    trainer.run(run, Observer())
    unbroken = weights_of(trainer)
    rng = np.random.default_rng(3)
    moments = [StopAt(step) for step in (1, *sorted(rng.choice(np.arange(2, 10), 3)), 10)]
    moments.insert(3, StopAt(testing=1))
    broken, run = begin("broken", **settings)
    for moment in moments:
        with pytest.raises(Killed):
            broken.run(run, moment)
        default_generator.numpy.random(5)  # whatever a new process had drawn
        broken, run = go_on(run.path)
    broken.run(run, Observer())
    assert weights_of(broken) == unbroken
    for row, expected in zip(broken.state.history, trainer.state.history, strict=True):
        for name in ("step", "learning_rate", "train_loss", "train_accuracy", "test_loss"):
            assert getattr(row, name) == getattr(expected, name), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [{"step": 3}, {"step": 5}, {"testing": 1}, {"testing": 2}])
def test_a_signal_saves_the_very_step_it_came_in(begin, go_on, number, moment):
    unbroken, run = begin("unbroken")
    unbroken.run(run, Observer())
    trainer, run = begin("stopped")
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="epoch [12], step"):
        trainer.run(run, StopAt(by=number, **moment))
    assert signal.getsignal(number) is before
    again, run = go_on(run.path)
    assert (
        again.state.step == trainer.state.step == moment.get("step", 5 * moment.get("testing", 0))
    )
    assert again.state == trainer.state
    again.run(run, Observer())
    assert weights_of(again) == weights_of(unbroken)


def test_metrics_never_contradict_the_checkpoint(begin, go_on, monkeypatch):
    """A kill between the checkpoint and the metrics leaves old metrics; going on mends them."""
    trainer, run = begin(epochs=3)

    def killed(*arguments, **options):
        raise Killed

    monkeypatch.setattr(run, "write_metrics", killed)
    with pytest.raises(Killed):
        trainer.run(run, Observer())
    assert not run.metrics_csv.exists()
    again, run = go_on(run.path)
    assert again.state.epoch == 1
    again.run(run, Observer())
    assert [row["epoch"] for row in run.load_metrics()["epochs"]] == [1, 2, 3]
    assert len(run.metrics_csv.read_text().splitlines()) == 4


def test_a_run_without_a_checkpoint_starts_again(begin, go_on):
    trainer, run = begin()
    with pytest.raises(Killed):
        trainer.run(run, StopAt(1))
    assert not run.checkpoint.exists()
    again, run = go_on(run.path)
    assert again.state.step == 0


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(begin, go_on):
    trainer, run = begin(schedule="constant", warmup_epochs=0)

    class Poison(Observer):
        def step(self, trainer):
            if trainer.state.step == 6:
                trainer.model.fc.weight.data[0, 0] = np.nan

    with pytest.raises(Diverged, match="^the loss is nan in epoch 2, step 7$"):
        trainer.run(run, Poison())
    again, _ = go_on(run.path)
    assert again.state.step == 5
    assert np.isfinite(again.model.fc.weight.data).all()


def test_weights_that_are_not_finite_are_never_saved(begin, go_on):
    """An overflow in the step itself shows in the loss only one step later."""
    trainer, run = begin(schedule="constant", warmup_epochs=0)

    class Poison(Observer):
        def step(self, trainer):
            if trainer.state.step == 7:
                trainer.model.fc.bias.data[3] = np.inf

    with pytest.raises(Diverged, match="fc.bias is not finite before epoch 2, step 8"):
        trainer.run(run, Poison())
    assert go_on(run.path)[0].state.step == 5


def test_a_huge_learning_rate_diverges(begin):
    trainer, run = begin(
        optimizer="sgd", optimizer_options={"lr": 1e30}, schedule="constant", warmup_epochs=0
    )
    with np.errstate(all="ignore"), pytest.raises(Diverged):
        trainer.run(run, Observer())
    assert not run.checkpoint.exists()


def test_a_full_disk_leaves_the_old_checkpoint(begin, go_on, monkeypatch):
    trainer, run = begin()
    with pytest.raises(Killed):
        trainer.run(run, StopAt(3))
    before = run.checkpoint.read_bytes()
    again, run = go_on(run.path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        again.run(run, Observer())
    assert caught.value.filename == str(run.checkpoint)
    assert run.checkpoint.read_bytes() == before
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoint.safetensors", "config.json",
    ]  # fmt: skip


def edit_checkpoint(run, change):
    state = load_checkpoint(run.checkpoint)
    change(state)
    save_checkpoint(run.checkpoint, state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["config"].update(epochs=3), r"made with other settings \(epochs\)"),
        (lambda s: s["config"].update(seed=5, batch_size=8), r"\(seed, batch_size\)"),
        (lambda s: s["config"].update(surprise=5), "unknown setting 'surprise'"),
        (lambda s: s["model"].pop("fc.bias"), "fc.bias"),
        (lambda s: s["model"].update({"fc.bias": np.zeros(3)}), "fc.bias"),
        (lambda s: s["model"].update({"other.bias": np.zeros(3)}), "other.bias"),
        (lambda s: s.pop("optimizer"), "'optimizer' is missing"),
        (lambda s: s["optimizer"]["param_groups"].clear(), "groups"),
        (lambda s: s["schedule"].pop("schedulers"), "schedulers"),
        (lambda s: s["training"].update(mood=1), "training state"),
        (lambda s: s["generator"].clear(), "generator|PCG64"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_name(begin, go_on, change, message):
    trainer, run = begin()
    with pytest.raises(Killed):
        trainer.run(run, StopAt(3))
    edit_checkpoint(run, change)
    with pytest.raises(ValueError, match=message) as caught:
        go_on(run.path)
    assert str(run.checkpoint) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_and_threads_may_change_between_break_and_resume(begin, digits, same_threads):
    trainer, run = begin()
    with pytest.raises(Killed):
        trainer.run(run, StopAt(3))
    moved = Trainer(trainer.config.changed(data_folder="elsewhere", threads=1), *digits)
    moved.restore(run)
    assert moved.state.step == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "nonsense"}, "model: got 'nonsense'"),
        ({"model_options": {"depth": 3}}, "model_options: .*depth"),
        ({"device": "tpu"}, "device: got 'tpu'"),
        ({"optimizer": "magic"}, "optimizer: got 'magic', expected one of sgd, adam, adamw"),
        ({"optimizer_options": {"lr": 0.1, "speed": 2}}, "optimizer_options: .*speed"),
        ({"optimizer_options": {"lr": -0.1}}, "lr"),
        ({"schedule": "magic"}, "schedule: got 'magic'"),
        ({"train_transforms": [{"name": "Sparkle"}]}, "Sparkle"),
        ({"train_transforms": [{"name": "Pad", "padding": 1}]}, "images of 1x8x8, got 1x10x10"),
        ({"test_transforms": [{"name": "CenterCrop", "size": 4}]}, "got 1x4x4 from digits"),
        ({"classes": list("012")}, "tells 10 classes apart, got 3 from digits"),
        ({"classes": list("abcdefghij")}, "other classes"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(digits, settings, message):
    with pytest.raises(ValueError, match=message):
        Trainer(make_config(**settings), *digits)


def test_an_empty_set_is_refused(digits):
    train, test = digits
    empty = Dataset(test.images[:0], test.labels[:0], test.classes)
    with pytest.raises(ValueError, match="digits has no test images"):
        Trainer(make_config(), train, empty)
    with pytest.raises(ValueError, match="digits has no training images"):
        Trainer(make_config(), empty, test)
