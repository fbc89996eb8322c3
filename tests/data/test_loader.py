"""The loader: a function of seed, epoch and batch; resumable; its thread ends with the loop."""

from __future__ import annotations

import gc
import itertools
import json
import threading
import time
from typing import Any

import numpy as np
import pytest

from minicnn.data import DataLoader, Dataset


def numbered(size: int = 23) -> Dataset:
    """Image n is filled with n, its label is n."""
    images = np.arange(size, dtype=np.uint8).reshape(size, 1, 1, 1) * np.ones((1, 2, 2), np.uint8)
    return Dataset(images, np.arange(size), [str(n) for n in range(size)])


def noise(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return images + rng.random(images.shape, np.float32)


class Recorder:
    """A transform that changes nothing and notes its thread and its first random number."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.draws: list[float] = []

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        self.threads.append(threading.current_thread().name)
        self.draws.append(rng.random())
        return images


def collect(loader: DataLoader) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(loader)


def same(left: list, right: list) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(a, b)
        for x, y in zip(left, right, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "minicnn-loader"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    assert threads() == []


@pytest.mark.parametrize("prefetch", [0, 1, 2, 50])
@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [5, 5, 5, 5, 3]), (True, [5, 5, 5, 5])])
def test_every_image_once_in_order(prefetch, drop_last, sizes):
    loader = DataLoader(numbered(), 5, drop_last=drop_last, prefetch=prefetch)
    batches = collect(loader)
    assert len(loader) == len(sizes)
    assert [len(images) for images, _ in batches] == sizes
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    assert images.dtype == np.float32 and labels.dtype == np.int64
    assert images.shape[1:] == (1, 2, 2)
    assert labels.tolist() == list(range(sum(sizes)))
    assert np.array_equal(images[:, 0, 0, 0], labels.astype(np.float32) / np.float32(255))


def test_shuffling_is_a_new_permutation_every_epoch():
    loader = DataLoader(numbered(), 4, shuffle=True, seed=1)
    epochs = [np.concatenate([labels for _, labels in loader]).tolist() for _ in range(3)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in [*epochs, range(23)]}) == 4
    assert (loader.epoch, loader.position) == (3, 0)


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_the_same_seed_gives_the_same_bits(prefetch):
    first = DataLoader(numbered(), 4, shuffle=True, seed=7, transform=noise)
    second = DataLoader(numbered(), 4, shuffle=True, seed=7, transform=noise, prefetch=prefetch)
    other = DataLoader(numbered(), 4, shuffle=True, seed=8, transform=noise)
    for _ in range(2):
        batches = collect(first)
        assert same(batches, collect(second))
        assert not same(batches, collect(other))


def test_order_and_batches_draw_from_different_streams():
    """NumPy pads seeds with zeros, so nearby seeds could easily be one stream."""
    recorder = Recorder()
    loader = DataLoader(numbered(), 4, shuffle=True, transform=recorder)
    for _ in range(3):
        collect(loader)
    orders = [np.random.default_rng([0, epoch]).random() for epoch in range(3)]
    orders += [np.random.default_rng([0, epoch, 0]).random() for epoch in range(3)]
    assert len(set(recorder.draws)) == 18
    assert not set(recorder.draws) & set(orders)


@pytest.mark.parametrize("stop", range(7))
def test_resumes_exactly_at_every_position(stop):
    unbroken = DataLoader(numbered(), 4, shuffle=True, seed=3, transform=noise)
    collect(unbroken)
    expected = collect(unbroken) + collect(unbroken)

    broken = DataLoader(numbered(), 4, shuffle=True, seed=3, transform=noise)
    collect(broken)
    seen = list(itertools.islice(broken, stop))
    state = json.loads(json.dumps(broken.state_dict()))
    assert state == {"seed": 3, "epoch": 1, "position": stop}

    resumed = DataLoader(numbered(), 4, shuffle=True, seed=99, transform=noise)
    resumed.load_state_dict(state)
    rest = collect(resumed)
    assert (resumed.epoch, resumed.position) == (2, 0)
    assert same(seen + rest + collect(resumed), expected)


def test_a_loop_left_early_goes_on_with_the_next_batch():
    loader = DataLoader(numbered(), 4)
    for _, labels in loader:
        if 8 in labels:
            break
    assert (loader.epoch, loader.position) == (0, 3)
    assert next(iter(loader))[1].tolist() == [12, 13, 14, 15]
    assert loader.position == 4


def test_position_counts_what_was_handed_out():
    recorder = Recorder()
    loader = DataLoader(numbered(40), 4, prefetch=3, transform=recorder)
    for handed, _ in enumerate(loader, start=1):
        assert loader.position == handed
        deadline = time.monotonic() + 5
        while len(recorder.draws) < min(handed + 3, 10) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(recorder.draws) == min(handed + 3, 10), "three batches in advance, no more"


def test_transforms_run_in_the_background():
    recorder = Recorder()
    collect(DataLoader(numbered(), 8, transform=recorder))
    assert set(recorder.threads) == {"minicnn-loader"}
    recorder.threads.clear()
    collect(DataLoader(numbered(), 8, transform=recorder, prefetch=0))
    assert set(recorder.threads) == {threading.current_thread().name}


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_exception_reaches_the_loop_after_the_batches_before_it(prefetch):
    def fail_at_12(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if images[0, 0, 0, 0] == np.float32(12 / 255):
            raise RuntimeError("image 12 is bad")
        return images

    loader = DataLoader(numbered(), 4, transform=fail_at_12, prefetch=prefetch)
    seen = []
    with pytest.raises(RuntimeError, match="image 12 is bad"):
        for _, labels in loader:
            seen.append(labels[0])
    assert seen == [0, 4, 8]
    assert (loader.epoch, loader.position) == (0, 3)
    assert threads() == []


def test_leaving_the_loop_ends_the_thread():
    loader = DataLoader(numbered(), 1, prefetch=2)
    for _ in loader:
        assert len(threads()) <= 1
        break
    gc.collect()
    assert threads() == []
    with pytest.raises(KeyError):
        for _ in loader:
            raise KeyError("in the body")
    gc.collect()
    assert threads() == []
    iterator: Any = iter(loader)
    assert threads() == []
    next(iterator)
    assert len(threads()) == 1
    iterator.close()
    assert threads() == []


def test_empty_dataset():
    empty = Dataset(np.zeros((0, 1, 2, 2), np.uint8), [], ["a"])
    loader = DataLoader(empty, 4, shuffle=True)
    assert len(loader) == 0
    assert collect(loader) == []
    assert loader.epoch == 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size: expected at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "batch_size: expected an integer, got float"),
        ({"batch_size": True}, TypeError, "batch_size: "),
        ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
        ({"prefetch": -1}, ValueError, "prefetch: "),
        ({"transform": "flip"}, TypeError, "transform: expected a callable, got str"),
        ({"dataset": [1, 2]}, TypeError, "dataset: expected a Dataset, got list"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        DataLoader(**({"dataset": numbered(), "batch_size": 4} | arguments))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"seed": 1, "epoch": 0}, "state: expected the keys"),
        ({"seed": 1, "epoch": 0, "position": 0, "more": 1}, "state: expected the keys"),
        ({"seed": 1, "epoch": -1, "position": 0}, "epoch: "),
        ({"seed": 1, "epoch": 0, "position": 7}, "position: expected at most 6 batches, got 7"),
    ],
)
def test_bad_states_change_nothing(state, message):
    loader = DataLoader(numbered(), 4, seed=5)
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict(state)
    assert loader.state_dict() == {"seed": 5, "epoch": 0, "position": 0}
