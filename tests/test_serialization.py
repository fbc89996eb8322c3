"""Files are whole or refused: round trips, damage, foreign files, full disks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minicnn.serialization import (
    load_state_dict,
    load_tensors,
    save_state_dict,
    save_tensors,
    write_atomically,
)
from minicnn.tensor import Tensor

ROOT = Path(__file__).parents[1]


def read_by_hand(path: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file by the format's definition: length, JSON header, bytes."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    dtypes = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "BOOL": "?", "F16": "<f2", "U8": "u1"}
    arrays = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        flat = np.frombuffer(data[begin:end], dtypes[entry["dtype"]])
        arrays[name] = flat.reshape(entry["shape"])
    return arrays


def some_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "plain": rng.normal(size=(3, 4)).astype(np.float32),
        "transposed": rng.normal(size=(3, 4)).T,
        "strided": np.arange(20)[::3],
        "big endian": np.arange(5, dtype=">f8"),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "flags": rng.random(9) < 0.5,
        "half": np.array([1.5, -0.0, np.inf, np.nan], np.float16),
    }


def test_arrays_and_metadata_come_back(tmp_path):
    arrays = some_arrays()
    save_tensors(tmp_path / "a.safetensors", arrays, {"note": "grüße", "empty": ""})
    loaded, metadata = load_tensors(tmp_path / "a.safetensors")
    assert metadata == {"note": "grüße", "empty": ""}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape
        np.testing.assert_array_equal(loaded[name], array)
        loaded[name][...] = 0  # writable


@pytest.mark.parametrize("dtype", "? u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 c8".split())
def test_every_dtype_lies_where_its_size_allows(tmp_path, dtype):
    arrays = {"byte": np.ones(3, np.uint8), "x": np.arange(5).astype(dtype)}
    save_tensors(tmp_path / "a.safetensors", arrays)
    loaded, _ = load_tensors(tmp_path / "a.safetensors")
    assert loaded["x"].dtype == arrays["x"].dtype
    np.testing.assert_array_equal(loaded["x"], arrays["x"])
    data = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    begin = 8 + length + json.loads(data[8 : 8 + length])["x"]["data_offsets"][0]
    assert begin % arrays["x"].itemsize == 0


def test_file_follows_the_format(tmp_path):
    save_tensors(tmp_path / "a.safetensors", some_arrays())
    for name, array in read_by_hand(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(array, some_arrays()[name])


def test_state_dicts_hold_tensors_or_arrays(tmp_path):
    state = {
        "conv1.weight": Tensor(np.ones((2, 1, 3, 3), np.float32), requires_grad=True),
        "norm.running_mean": np.arange(2.0),
    }
    save_state_dict(tmp_path / "w.safetensors", state)
    loaded = load_state_dict(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(loaded["conv1.weight"], np.ones((2, 1, 3, 3)))
    np.testing.assert_array_equal(loaded["norm.running_mean"], [0, 1])


def test_torch_reads_our_files_and_we_read_torchs(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    weight = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    save_state_dict(tmp_path / "ours.safetensors", {"fc.weight": weight})
    theirs = safetensors_torch.load_file(tmp_path / "ours.safetensors")
    np.testing.assert_array_equal(theirs["fc.weight"].numpy(), weight)
    safetensors_torch.save_file({"w": torch.from_numpy(weight)}, tmp_path / "torch.safetensors")
    np.testing.assert_array_equal(load_state_dict(tmp_path / "torch.safetensors")["w"], weight)


def damaged(whole: bytes) -> dict[str, bytes]:
    header = int.from_bytes(whole[:8], "little")
    other_dtype = json.dumps(
        {"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    ).encode()
    return {
        "cut in half": whole[: len(whole) // 2],
        "cut in the header": whole[:40],
        "cut in the length": whole[:5],
        "without its last byte": whole[:-1],
        "with a byte too many": whole + b"x",
        "empty": b"",
        "a zip archive": b"PK\x03\x04" + bytes(500),
        "random": np.random.default_rng(2).bytes(1000),
        "a wrong header": whole[:8] + b"x" * header + whole[8 + header :],
        "a header that is too long": (2**40).to_bytes(8, "little") + whole[8:],
        "of a dtype NumPy lacks": len(other_dtype).to_bytes(8, "little") + other_dtype + b"abcd",
    }


@pytest.mark.parametrize("damage", damaged(bytes(100)))
def test_damaged_files_are_refused_in_one_line(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    save_tensors(path, some_arrays(), {"note": "x" * 100})
    path.write_bytes(damaged(path.read_bytes())[damage])
    with pytest.raises(ValueError, match="is not a whole safetensors file") as caught:
        load_tensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.safetensors", ""])
def test_a_missing_file_or_a_folder_is_an_os_error(tmp_path, name):
    with pytest.raises(OSError) as caught:
        load_tensors(tmp_path / name)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "metadata", "error", "message"),
    [
        ({"a": [1, 2]}, None, TypeError, r"tensors\['a'\].*NumPy array, got list"),
        ({1: np.zeros(1)}, None, TypeError, "got the name 1, expected a string"),
        ({"__metadata__": np.zeros(1)}, None, ValueError, "can be called __metadata__"),
        ({}, {"a": 1}, TypeError, r"metadata\['a'\].*string, got int"),
        ({"a": np.array(["x"])}, None, ValueError, "cannot store arrays of <U1"),
        ({"a": np.array([None])}, None, ValueError, "cannot store arrays of object"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(tmp_path, tensors, metadata, error, message):
    with pytest.raises(error, match=message):
        save_tensors(tmp_path / "a.safetensors", tensors, metadata)
    assert list(tmp_path.iterdir()) == []


def test_writing_replaces_the_whole_file_and_follows_links(tmp_path):
    (tmp_path / "real").write_bytes(b"old and longer")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": np.zeros(3)})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        save_tensors(path, {"a": np.ones(3)})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_disk_that_fills_up_midway(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": np.zeros(3)})
    before = path.read_bytes()
    code = (
        "import resource, sys, numpy as np\n"
        "from minicnn.serialization import save_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    save_tensors(sys.argv[1], {'a': np.ones(100_000)})\n"
        "except OSError as error:\n    print(error.filename)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_leftover_of_a_killed_writer_does_not_stay(tmp_path):
    (tmp_path / ".a.tmp").write_bytes(b"half")
    write_atomically(tmp_path / "a", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"whole"
