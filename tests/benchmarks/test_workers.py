"""Sides in processes of their own, with engines that are made up."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from benchmarks import machine, models
from benchmarks.engines import dropout_off
from benchmarks.networks import INFERENCE, TRAINING, Job
from benchmarks.timing import GPU, OURS, Case, Settings, WrongResult, measure
from benchmarks.workers import Worker, WorkerFailed, WorkerSide, wait_asleep
from tests.benchmarks.engine import SPIN
from tests.needs import needs_torch

JOB = Job("lenet", INFERENCE, 2, 1, "no weights")
HERE = "tests.benchmarks.engine"
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux (/proc)")


def side(name, keep_memory=False):
    return WorkerSide(f"{HERE}:{name}", job=JOB, environment=machine.environment(1, keep_memory))


def test_each_process_has_the_environment_of_its_side(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "misleading")
    found = {}
    plain, keeping = side("Told"), side("Told", keep_memory=True)
    plain.name, keeping.name = "plain", "keeping"
    for each in (plain, keeping):
        each.name, name = f"{HERE}:Told", each.name
        found[name] = each.start()["scores"]
        assert len(each.run(2, "wall", samples=3)) == 3
        each.finish()
    assert found == {"plain": [[0.0, 0.0]], "keeping": [[1.0, 0.0]]}


def test_a_process_that_fails_is_refused_with_its_last_word():
    failing = side("Failing")
    measure(Case("case", [failing], lambda *_: None), Settings(rounds=1, seconds=0))
    assert failing.wrong == "the process ended with 1: MemoryError: no room for this"
    assert failing.worker is None


def test_a_process_that_dies_on_the_way_leaves_the_others_to_go_on():
    dying, living = side("Dying"), side("Told")
    measure(Case("case", [dying, living], lambda *_: None), Settings(rounds=3, seconds=0))
    assert dying.wrong == "the process ended with 3: no word"
    assert len(living.seconds) == 3 and living.peak_bytes is not None


@linux
def test_an_answer_counts_once_the_threads_sleep():
    restless = side("Restless")
    restless.start()
    assert restless.worker is not None
    start = time.monotonic()
    restless.run(1, "wall")
    assert time.monotonic() - start >= SPIN
    assert wait_asleep(restless.worker.process.pid)
    restless.finish()


def test_a_closed_worker_does_not_answer():
    worker = Worker(f"{HERE}:Told", machine.environment(1, False))
    worker.process.kill()
    with pytest.raises(WorkerFailed):
        worker.ask("check")
    worker.close()


def trained(losses=(2.0, 1.9, 1.7), **gradients):
    return {"losses": list(losses), "gradients": {"a": 1.0, "b": 0.5, **gradients}}


def test_losses_and_gradients_are_held_to_pytorchs():
    oracle = {"PyTorch tuned": trained()}
    models.check_training(OURS, oracle | {OURS: trained((2.0001, 1.91, 1.69), a=1.005)})
    for wrong in (
        trained((2.001, 1.9, 1.7)),
        trained((2.0, 1.95, 1.75)),  # half of the first update
        trained((2.0, 1.9, 1.8)),  # as without momentum
        trained((2.0, float("nan"), 1.7)),
        trained(b=0.4),
        trained(unknown=1.0),
    ):
        with pytest.raises(WrongResult):
            models.check_training(OURS, oracle | {OURS: wrong})
    with pytest.raises(WrongResult, match="nothing to check it against"):
        models.check_training(OURS, {OURS: trained()})


def test_scores_are_held_to_pytorchs():
    right = {"scores": [[1.0, 2.0]]}
    models.check_inference(OURS, {OURS: right, "PyTorch tuned": right})
    with pytest.raises(WrongResult):
        models.check_inference(OURS, {OURS: {"scores": [[1.0, 2.1]]}, "PyTorch tuned": right})


def test_what_is_missing_says_why(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert models.why_missing("JAX", TRAINING) == "not installed: jax, torch, torchvision"
    assert models.why_missing("ONNX Runtime", TRAINING) == "only infers"
    assert models.why_missing(OURS, TRAINING) == ""
    with pytest.raises(ValueError, match="results are checked against PyTorch's"):
        list(models.run(TRAINING, ["lenet"], [], 2, Settings()))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="networks: got lenet7, expected some of lenet"):
        list(models.run(TRAINING, ["lenet7"], [], 2, Settings()))
    with pytest.raises(ValueError, match="sides: got Theano, expected some of minicnn"):
        list(models.run(TRAINING, ["lenet"], ["Theano"], 2, Settings()))


def test_where_there_is_a_gpu_smaller_batches_are_measured_too(monkeypatch):
    monkeypatch.setattr(models, "why_missing", lambda side, mode: "")
    monkeypatch.setattr(models, "measure", lambda case, settings: case)
    chosen = [GPU, "PyTorch tuned"]
    cases = list(models.run(INFERENCE, ["lenet"], chosen, 6, Settings()))
    assert [case.name for case in cases] == ["lenet, 6", "lenet, 1", "lenet, 2", "lenet, 4"]
    assert all([s.name for s in case.sides] == [OURS, *chosen] for case in cases)


def test_dropout_is_off_only_for_a_while():
    class Dropout:
        p = 0.5

    layer = Dropout()
    with dropout_off([layer, object()]):
        assert layer.p == 0
    assert layer.p == 0.5


@needs_torch
@pytest.mark.parametrize("network", ["lenet", "alexnet_paper"])
def test_the_twins_of_torchs_side_have_our_keys(network, tmp_path):
    pytest.importorskip("torchvision")
    import torch

    from benchmarks import pytorch
    from minicnn.models import create_model
    from minicnn.nn.init import skip_init

    with skip_init():
        keys = set(create_model(Job(network, TRAINING, 2, 1, "").table.ours).state_dict())
    with torch.device("meta"):
        twin = pytorch.lenet() if network == "lenet" else pytorch.alexnet_paper()
    assert set(twin.state_dict()) == keys


def test_the_batch_is_that_of_the_network():
    images, labels = JOB.data()
    assert images.shape == (2, 1, 28, 28) and images.dtype == np.float32
    assert labels.shape == (2,) and labels.max() < 10
