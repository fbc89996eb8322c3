"""Training on a CUDA device: the CPU's losses, the same bits through a break, moving runs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import minicnn
import minicnn.functional as F
from minicnn import Tensor, optim
from minicnn.data import DataLoader, load_dataset
from minicnn.models import create_model
from minicnn.serialization import load_state_dict
from minicnn.training import Observer, RunFolder, Trainer, evaluate
from minicnn.training.checkpoint import load_checkpoint
from minicnn.training.predict import predict
from minicnn.training.report import write_results
from tests.tiny import make_config, weights_of


class Killed(BaseException):
    """Ends training as a kill does."""


class KillAt(Observer):
    def __init__(self, step: int):
        self.at = step

    def step(self, trainer):
        if trainer.state.step == self.at:
            raise Killed


def losses_of_lenet(device, batches, dtype=np.float32):
    """Train LeNet on given batches; return the loss of each step."""
    minicnn.manual_seed(0)
    model = create_model("lenet").to(device, dtype)
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for images, labels in batches:
        scores = model(Tensor(images).to(device, dtype))
        loss = F.cross_entropy(scores, Tensor(labels).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def random_batches(steps, size):
    rng = np.random.default_rng(1)
    for _ in range(steps):
        yield rng.random((size, 1, 28, 28), np.float32), rng.integers(0, 10, size)


def test_lenet_learns_with_the_losses_of_the_cpu(gpu):
    batches = list(random_batches(4, 8))
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        on_cpu, on_gpu = (losses_of_lenet(device, batches, dtype) for device in ("cpu", gpu))
        np.testing.assert_allclose(on_gpu, on_cpu, rtol=tolerance)
        assert len(set(on_gpu)) == 4  # the weights have moved


def rounded(images, seed):
    """Return the images with every pixel moved to a neighbouring float32, up or down by chance."""
    up = np.random.default_rng(seed).random(images.shape) < 0.5
    return np.nextafter(images, np.where(up, np.float32(2), np.float32(-1)))


@pytest.mark.slow
def test_lenet_trains_on_real_digits_with_the_losses_of_the_cpu(gpu):
    """One rounding grows from step to step; the device may stray as far as roundings on the CPU.

    The curve without roundings is float64's. How far they lead away from it show CPU runs in
    float32 on images that differ by one rounding.
    """
    if "MINICNN_MNIST" not in os.environ:
        pytest.skip("needs MNIST's files in the folder that MINICNN_MNIST names")
    loader = DataLoader(load_dataset("mnist")[0], 64, shuffle=True, seed=0)
    batches = [batch for batch, _ in zip(loader, range(300), strict=False)]
    exact = losses_of_lenet("cpu", batches, np.float64)

    def strayed(losses):
        return np.maximum.accumulate(abs(losses - exact) / exact)

    on_cpu = [
        strayed(losses_of_lenet("cpu", [(rounded(x, seed), y) for x, y in batches]))
        for seed in (1, 2, 3)
    ]
    losses = losses_of_lenet(gpu, batches)
    assert strayed(losses)[20] < 1e-5
    assert (strayed(losses) <= 2 * np.maximum.reduce(on_cpu) + 1e-6).all()
    assert losses[-20:].mean() < 0.2 < 2 < losses[:3].mean()


@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "adam", "optimizer_options": {"lr": 0.01}, "clip_norm": 1.0}],
    ids=["sgd", "adam"],
)
def test_a_broken_run_ends_with_the_bits_of_the_unbroken_one(gpu, begin, go_on, settings):
    trainer, run = begin("unbroken", device=gpu, **settings)
    assert {p.device for p in trainer.model.parameters()} == {gpu}
    trainer.run(run, Observer())
    broken, run = begin("broken", device=gpu, **settings)
    for step in (1, 4, 7):
        with pytest.raises(Killed):
            broken.run(run, KillAt(step))
        broken, run = go_on(run.path)
    broken.run(run, Observer())
    assert weights_of(broken) == weights_of(trainer)
    assert broken.state.history[-1].test_loss == trainer.state.history[-1].test_loss


def test_a_run_goes_on_on_another_device_and_comes_back(gpu, begin, digits):
    trainer, run = begin("unbroken")
    trainer.run(run, Observer())
    moved, run = begin("moved")
    for device, step in ((gpu, 3), ("cpu", 8)):
        with pytest.raises(Killed):
            moved.run(run, KillAt(step))
        moved = Trainer(make_config(device=device), *digits)
        moved.restore(run)
        assert {p.device for p in moved.model.parameters()} == {device}
    moved.run(run, Observer())
    for name, value in load_checkpoint(run.checkpoint)["model"].items():
        np.testing.assert_allclose(
            value, trainer.model.state_dict()[name].numpy(), rtol=1e-4, atol=1e-5
        )


def test_results_are_written_from_any_device(gpu, begin):
    trainer, run = begin(device=gpu, epochs=1)
    trainer.run(run, Observer())
    result = write_results(trainer, run)
    assert run.filters.exists() and run.curves.exists() and run.confusion.exists()
    assert run.load_config().device == run.load_metrics()["device"] == gpu
    weights = load_state_dict(run.weights)
    twin = Trainer(make_config(), trainer.train, trainer.test)
    twin.model.load_state_dict(weights)
    on_cpu = twin.evaluate()
    assert on_cpu.loss == pytest.approx(result.loss, rel=1e-5)
    assert abs(on_cpu.correct - result.correct) <= 1
    model = trainer.model.eval()
    images = trainer.test.images[:5]
    expected = predict(twin.model.eval(), trainer.config, images)
    np.testing.assert_allclose(predict(model, trainer.config, images), expected, rtol=1e-4)
    assert evaluate(model, DataLoader(trainer.test, 32)).total == len(trainer.test)


def test_a_run_folder_says_where_it_was_computed(begin, tmp_path):
    trainer, run = begin(epochs=1)
    trainer.run(run, Observer())
    assert RunFolder.find(Path(run.path)).load_metrics()["device"] == "cpu"
