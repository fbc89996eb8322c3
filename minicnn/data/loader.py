"""Batches in a seeded order, prepared in a background thread while the last one is computed with.

What a batch holds is a pure function of (seed, epoch, batch index): no generator runs along, so a
run can stop anywhere and go on from three integers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.data.dataset import Dataset
from minicnn.data.pictures import Pictures
from minicnn.data.pipeline import Compose, join

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]
BatchTransform = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]


class DataLoader:
    """Iterate over a dataset in batches of float32 images in [0, 1] and int64 labels.

    One `for` loop is one epoch. It starts at batch `position` of epoch `epoch`; when it has run to
    its end, `epoch` is one more and `position` 0. While the body of the loop works on batch b,
    `position` is b + 1: the number of batches handed out, whatever has been prefetched. A loop that
    is left early leaves them so, and the next one goes on with the next batch.

    Args:
        dataset: the images; each of `Pictures` is decoded in a small pool of threads and goes
            through the first stage of `transform` there, see `minicnn.data.pipeline`.
        batch_size: images in a batch; the last batch may be smaller.
        shuffle: a new random order every epoch.
        seed: with the epoch it makes the order, with the batch index too the randomness of
            `transform`.
        transform: called with images (N, C, H, W) and a generator, in the background thread.
        drop_last: leave out a last batch that is not full.
        prefetch: batches that may be ready in advance; 0 prepares each in the calling thread.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of its range.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        transform: BatchTransform | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise TypeError(f"dataset: expected a Dataset, got {type(dataset).__name__}")
        if transform is not None and not callable(transform):
            raise TypeError(f"transform: expected a callable, got {type(transform).__name__}")
        self.dataset = dataset
        self.batch_size = _integer("batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.seed = _integer("seed", seed, 0)
        self.transform = transform
        self.drop_last = drop_last
        self.prefetch = _integer("prefetch", prefetch, 0)
        self.epoch = 0
        self.position = 0

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        batches = self._batches(self.epoch, self.position)
        if self.prefetch:
            batches = _in_background(batches, self.prefetch)
        try:
            for batch in batches:
                self.position += 1
                yield batch
        finally:
            batches.close()
        self.epoch += 1
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """Return the three integers that `load_state_dict` goes on from."""
        return {"seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the loader that gave `state` stood; takes effect with the next `for` loop.

        Raises:
            ValueError: other keys, negative numbers, a position behind the last batch.
        """
        expected = ["epoch", "position", "seed"]
        if sorted(state) != expected:
            raise ValueError(f"state: expected the keys {expected}, got {sorted(state)}")
        seed, epoch = _integer("seed", state["seed"], 0), _integer("epoch", state["epoch"], 0)
        position = _integer("position", state["position"], 0)
        if position > len(self):
            raise ValueError(f"position: expected at most {len(self)} batches, got {position}")
        self.seed, self.epoch, self.position = seed, epoch, position

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        # Index 0 is the order's, batch b has b + 1: NumPy fills short seeds up with zeros, so that
        # (seed, epoch) and (seed, epoch, 0) are one and the same stream.
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch, 0]).permutation(order)
        for index in range(start, len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            rng = np.random.default_rng([self.seed, epoch, index + 1])
            if isinstance(self.dataset, Pictures):
                images = _from_files(self.dataset, chosen, self.transform, rng)
                yield images, self.dataset.labels[chosen]
                continue
            pixels, labels = self.dataset[chosen]
            images = np.divide(pixels, 255, dtype=np.float32)
            if self.transform is not None:
                images = self.transform(images, rng)
            yield images, labels


def _from_files(
    dataset: Pictures,
    chosen: NDArray[np.int64],
    transform: BatchTransform | None,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Decode and transform a batch of pictures; what fixes their size runs in the decoders."""
    pipeline = transform if isinstance(transform, Compose) else Compose([])
    alone, together = pipeline.stages(len(chosen), rng)

    def change(place: int, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return alone(place, np.divide(pixels, 255, dtype=np.float32))

    images = join(dataset.load(chosen, change))
    rest = transform if transform is not None and pipeline is not transform else together
    return rest(images, rng)


def _in_background(batches: Iterator[Batch], ahead: int) -> Generator[Batch, None, None]:
    """Run an iterator in a thread, at most `ahead` batches in advance.

    What it raises is raised here, after the batches before it. The thread has ended when this
    generator is exhausted or closed.
    """
    ready: queue.SimpleQueue[Batch | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(ahead)
    closed = threading.Event()

    def produce() -> None:
        try:
            while room.acquire() and not closed.is_set():
                batch = next(batches, None)
                ready.put(batch)
                if batch is None:
                    return
        except BaseException as error:
            ready.put(error)

    thread = threading.Thread(target=produce, name="minicnn-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item
    finally:
        closed.set()
        room.release()
        thread.join()


def _integer(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return int(value)
