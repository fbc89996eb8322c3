"""PyTorch files: whole ones of both formats are read exactly, all others refused."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from minicnn.serialization import (
    load_weights,
    read_weights,
    save_tensors,
    save_torch_file,
)
from tests.needs import needs_torch
from tests.torch_files import (
    call,
    mapping,
    storage,
    stream,
    tensor,
    text,
    whole,
    write,
    write_zip,
)

FORMATS = {"zip": "PyTorch (ZIP)", "stream": "PyTorch (before 1.6)"}
TWELVE = np.arange(12, dtype="<f4")


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    return request.param


def views() -> dict[str, bytes]:
    """Tensors that all lie in one storage of twelve numbers, in one way or another."""
    stored = storage("0", 12)
    return {
        "plain": tensor(stored, [3, 4], [4, 1]),
        "transposed": tensor(stored, [4, 3], [1, 4]),
        "strided": tensor(stored, [3], [4], 1),
        "repeated": tensor(stored, [2, 3], [0, 1], 9),
        "overlapping": tensor(stored, [3, 4], [1, 1]),
        "number": tensor(stored, [], [], 11),
        "empty": tensor(stored, [0, 3], [3, 1]),
        "of one row": tensor(stored, [1, 3], [2**40, 1], 3),
    }


EXPECTED = {
    "plain": TWELVE.reshape(3, 4),
    "transposed": TWELVE.reshape(3, 4).T,
    "strided": TWELVE[1::4],
    "repeated": [[9, 10, 11], [9, 10, 11]],
    "overlapping": [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]],
    "number": 11,
    "empty": np.zeros((0, 3)),
    "of one row": [[3, 4, 5]],
}


def test_views_of_one_storage_become_arrays_of_their_own(tmp_path, format):
    path = write(tmp_path / "w", whole(mapping(views())), {"0": TWELVE.tobytes()}, format)
    weights = read_weights(path)
    assert (weights.format, weights.inside) == (FORMATS[format], "")
    assert list(weights.tensors) == list(EXPECTED)
    for key, array in weights.tensors.items():
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable
        np.testing.assert_array_equal(array, EXPECTED[key])
        array[...] = -1  # the others do not hear of it


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_checkpoint_is_opened_at_its_state_dict(tmp_path, format, wrapper):
    held = mapping({"w": tensor(storage("1", 3), [3], [1])})
    other = mapping({"momentum": tensor(storage("0", 12), [12], [1])})
    value = mapping({"epoch": b"K\x05", "optimizer": other, wrapper: held, "note": text("x")})
    storages = {"0": TWELVE.tobytes(), "1": TWELVE[3:6].tobytes()}
    weights = read_weights(write(tmp_path / "w", whole(value), storages, format))
    assert weights.inside == wrapper
    np.testing.assert_array_equal(weights.tensors["w"], [3, 4, 5])
    assert list(weights.tensors) == ["w"]


def test_a_file_of_python_2_and_pytorch_0_1(tmp_path):
    """Byte strings, a list of pairs for the dict, parameters with a state, the first rebuilder."""
    persistent = b"".join(
        [b"(U\x07storage", b"ctorch\nFloatStorage\n", b"U\x010", b"U\x03cpu", b"K\x0c", b"Nt", b"Q"]
    )
    data = call("torch._utils", "_rebuild_tensor", persistent, b"K\x00", b"K\x0c\x85", b"K\x01\x85")
    parameter = call("torch.nn.parameter", "Parameter", data) + b"(\x88\x89" + b"}tb"
    value = call("collections", "OrderedDict", b"]](U\x01we" + parameter + b"aa")
    path = tmp_path / "w"
    path.write_bytes(stream(whole(value), {"0": TWELVE.tobytes()}))
    np.testing.assert_array_equal(load_weights(path)["w"], TWELVE)


@pytest.mark.parametrize("byteorder", [b"little", b"big", None])
def test_the_order_of_bytes_is_the_files(tmp_path, byteorder):
    stored = TWELVE.astype(">f4" if byteorder == b"big" else "<f4").tobytes()
    path = write_zip(tmp_path / "w", whole(mapping(views())), {"0": stored}, byteorder)
    np.testing.assert_array_equal(load_weights(path)["plain"], EXPECTED["plain"])


def test_bfloat16_becomes_float32_and_bool_is_bool(tmp_path, format):
    halves = np.array([0x3F80, 0xC049, 0x7F80, 0x0001], "<u2")  # 1, -3.140625, inf, the least
    value = mapping({"w": tensor(storage("0", 4, "BFloat16Storage"), [4], [1])})
    pickled = whole(value)
    path = tmp_path / "w"
    if format == "zip":
        write_zip(path, pickled, {"0": halves.tobytes()})
    else:
        path.write_bytes(stream(pickled, {"0": halves.tobytes()}, 2))
    array = load_weights(path)["w"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.float32([1, -3.140625, np.inf, 2.0**-133]))
    flags = whole(mapping({"w": tensor(storage("0", 3, "BoolStorage"), [3], [1])}))
    array = load_weights(write_zip(path, flags, {"0": b"\0\1\7"}))["w"]
    assert array.dtype == bool and array.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"]", "holds a list, expected a state dict"),
        (b"}", "holds an empty dict"),
        (b"N", "holds a NoneType"),
        (tensor(storage("0", 12), [1], [1]), "holds one tensor"),
        (mapping({"lr": b"K\x01", "w": text("a")}), r"'lr' \(int\), 'w' \(str\); expected"),
        (mapping({str(i): b"N" for i in range(25)}), "and 15 more; expected"),
        (mapping({"state_dict": mapping({"w": b"]"})}), r"'w' \(list\)"),
        (b"}K\x05" + tensor(storage("0", 12), [1], [1]) + b"s", r"5 \(StoredTensor\)"),
    ],
)
def test_what_holds_no_state_dict_says_what_it_holds(tmp_path, value, message):
    path = write(tmp_path / "w", whole(value), {"0": TWELVE.tobytes()}, "zip")
    with pytest.raises(ValueError, match=message):
        load_weights(path)


# Damage -----------------------------------------------------------------------------------------


def sound(path: Path, format: str) -> bytes:
    names = {f"layer{i}.weight": tensor(storage(str(i), 12), [3, 4], [4, 1]) for i in range(3)}
    write(path, whole(mapping(names)), {str(i): TWELVE.tobytes() for i in range(3)}, format)
    return path.read_bytes()


def test_a_file_cut_off_anywhere_is_refused(tmp_path, format):
    path = tmp_path / "weights.pth"
    data = sound(path, format)
    assert len(load_weights(path)) == 3
    for length in [*range(0, len(data), 5), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="holds no weights that can be read") as caught:
            load_weights(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_whatever_the_bytes_the_answer_is_arrays_or_a_value_error(tmp_path, format):
    path = tmp_path / "weights.pth"
    data = sound(path, format)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        spoilt = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            spoilt[position] = rng.integers(0, 256)
        path.write_bytes(spoilt)
        try:
            load_weights(path)
        except ValueError:
            refused += 1
    assert refused > 100


def test_changed_weights_in_an_archive_are_noticed(tmp_path):
    path = tmp_path / "w"
    data = sound(path, "zip")
    path.write_bytes(data.replace(TWELVE.tobytes(), (TWELVE + 1).tobytes()))
    with pytest.raises(ValueError, match="cut off or damaged: Bad CRC-32"):
        load_weights(path)


def test_bytes_too_many_after_a_stream_are_refused(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(sound(path, "stream") + b"x")
    with pytest.raises(ValueError, match="cut off or damaged"):
        load_weights(path)


def test_a_storage_of_another_length_is_refused(tmp_path, format):
    value = whole(mapping({"w": tensor(storage("0", 12), [3], [1])}))
    for data in (TWELVE[:11].tobytes(), TWELVE.tobytes() + b"abcd"):
        with pytest.raises(ValueError, match="storage 0"):
            load_weights(write(tmp_path / "w", value, {"0": data}, format))
    with pytest.raises(ValueError, match="storage"):
        load_weights(write(tmp_path / "w", value, {}, format))


def test_streams_of_another_make_are_refused(tmp_path):
    path = tmp_path / "w"
    for data, message in (
        (pickle.dumps({"w": 1}, 2), "a Python pickle, but not PyTorch's"),
        (sound(path, "stream").replace(b"M\xe9\x03", b"M\xea\x03", 1), "unknown version"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            load_weights(path)


# Files that claim more than they are --------------------------------------------------------------


def test_a_small_file_cannot_claim_a_huge_tensor(tmp_path, format):
    side = 2**17  # 64 GiB
    claims = {
        "in its storage": tensor(storage("0", side * side), [side, side], [side, 1]),
        "by repetition": tensor(storage("0", 12), [side, side], [0, 0]),
    }
    for value in claims.values():
        path = write(tmp_path / "w", whole(mapping({"w": value})), {"0": TWELVE.tobytes()}, format)
        with pytest.raises(ValueError, match="storage 0|repeat elements"):
            load_weights(path)
    many = mapping({str(i): tensor(storage("0", 12), [9] * 4, [1, 1, 1, 0]) for i in range(9)})
    with pytest.raises(ValueError, match="beyond its storage"):
        load_weights(write(tmp_path / "w", whole(many), {"0": TWELVE.tobytes()}, format))


def test_a_length_in_the_stream_that_is_a_lie_is_refused(tmp_path):
    path = tmp_path / "w"
    value = whole(mapping({"w": tensor(storage("0", 2**40), [1], [1])}))
    start = stream(value, {"0": b""})[:-8]
    path.write_bytes(start + struct.pack("<q", 2**40) + TWELVE.tobytes())
    with pytest.raises(ValueError, match="cut off or damaged"):
        load_weights(path)


def test_compressed_members_are_refused_unread(tmp_path):
    path = tmp_path / "w"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", whole(mapping({})))
        archive.writestr("x/data/0", bytes(50_000_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="compressed or encrypted"):
        load_weights(path)


def test_members_that_claim_more_than_the_file_are_refused(tmp_path):
    path = tmp_path / "w"
    value = whole(mapping({"w": tensor(storage("0", 2**28), [2**28], [1])}))
    data = bytearray(write_zip(path, value, {"0": TWELVE.tobytes()}).read_bytes())
    entry = data.rindex(b"x/data/0") - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 20 : entry + 28] = struct.pack("<II", 2**30, 2**30)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="claim more bytes than the file has"):
        load_weights(path)


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "w"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", whole(mapping({})))
        archive.writestr("x/data.pkX", whole(b"]"))
    path.write_bytes(path.read_bytes().replace(b"data.pkX", b"data.pkl"))
    with pytest.raises(ValueError, match="two members of one name"):
        load_weights(path)


def foreign(path: Path) -> list[tuple[bytes, str]]:
    """Return files of other kinds, and what an error must say they are."""
    npz, script = io.BytesIO(), io.BytesIO()
    np.savez(npz, w=TWELVE)
    with zipfile.ZipFile(script, "w") as archive:
        for member in ("x/data.pkl", "x/code/a.py", "x/constants.pkl"):
            archive.writestr(member, whole(b"}"))
    tar = bytearray(600)
    tar[:5], tar[257:262] = b"./sys", b"ustar"
    odd = write_zip(path, whole(mapping({})), {}, b"middle").read_bytes()
    return [
        (b"", "it is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG image"),
        (b"<!DOCTYPE html><html>", "an HTML or XML page"),
        (b"weights: none\n" * 9, "it is text"),
        (b"\x01\x02\x03" * 99, r"unknown kind \(it begins with 01 02 03"),
        (b"\x93NUMPY" + bytes(99), "a NumPy array"),
        (npz.getvalue(), "a ZIP archive, but not PyTorch's: it holds 'w.npy'"),
        (b"PK\x05\x06" + bytes(18), "it holds nothing, no data.pkl"),
        (script.getvalue(), "a TorchScript archive"),
        (bytes(tar), "a tar archive; if PyTorch 0.1"),
        (odd, "byte order is b'middle'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ]


def test_foreign_files_are_refused_by_what_they_are(tmp_path):
    path = tmp_path / "weights.safetensors"
    for data, message in foreign(path):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as caught:
            load_weights(path)
        assert str(path) in str(caught.value)


# The front door ---------------------------------------------------------------------------------


def test_the_content_decides_not_the_name(tmp_path):
    save_tensors(tmp_path / "a.pth", {"w": TWELVE}, {"note": "x"})
    save_torch_file(tmp_path / "b.safetensors", {"w": TWELVE})
    one, two = read_weights(tmp_path / "a.pth"), read_weights(tmp_path / "b.safetensors")
    assert (one.format, one.metadata, two.format) == ("safetensors", {"note": "x"}, FORMATS["zip"])
    np.testing.assert_array_equal(one.tensors["w"], TWELVE)
    np.testing.assert_array_equal(two.tensors["w"], TWELVE)


def test_a_safetensors_file_cut_off_is_named_as_that(tmp_path):
    path = tmp_path / "a.pth"
    save_tensors(path, {"w": TWELVE})
    data = path.read_bytes()
    for length in (20, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is not a whole safetensors file"):
            load_weights(path)


@pytest.mark.parametrize("name", ["none.pth", ""])
def test_a_missing_file_or_a_folder_is_an_os_error(tmp_path, name):
    with pytest.raises(OSError, match=str(tmp_path)):
        load_weights(tmp_path / name)


# Writing ----------------------------------------------------------------------------------------


def some_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {kind: rng.normal(size=(3, 4)).astype(kind) for kind in ("f8", "f4", "f2")}
    for kind in ("i8", "i4", "i2", "i1", "u1", "?", "c8", "c16"):
        arrays[kind] = rng.integers(0, 100, (2, 3)).astype(kind)
    return arrays | {
        "transposed": TWELVE.reshape(3, 4).T,
        "big endian": TWELVE.astype(">f4"),
        "number": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
        "grüße": np.array([np.nan, np.inf, -0.0], np.float32),
    }


def test_our_files_come_back(tmp_path):
    save_torch_file(tmp_path / "w.pth", some_arrays())
    loaded = load_weights(tmp_path / "w.pth")
    assert list(loaded) == list(some_arrays())
    for key, array in some_arrays().items():
        assert loaded[key].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded[key], array)
    save_torch_file(tmp_path / "again.pth", loaded)
    assert (tmp_path / "again.pth").read_bytes() == (tmp_path / "w.pth").read_bytes()


def test_what_the_format_cannot_hold_is_refused_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"old")
    for bad, error, message in (
        ({"w": np.zeros(1, np.uint16)}, ValueError, r"tensors\['w'\].*no storage of uint16"),
        ({"w": [1]}, TypeError, r"tensors\['w'\] must be a NumPy array"),
        ({1: TWELVE}, TypeError, "got the name 1, expected a string"),
    ):
        with pytest.raises(error, match=message):
            save_torch_file(path, bad)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


# PyTorch ----------------------------------------------------------------------------------------


@needs_torch
def test_torch_reads_our_files(tmp_path):
    import torch

    save_torch_file(tmp_path / "w.pth", some_arrays())
    for mmap in (False, True):
        theirs = torch.load(tmp_path / "w.pth", weights_only=True, mmap=mmap)
        assert list(theirs) == list(some_arrays())
        for key, array in some_arrays().items():
            assert theirs[key].numpy().dtype == array.dtype.newbyteorder("=")
            assert theirs[key].is_contiguous()
            np.testing.assert_array_equal(theirs[key].numpy(), array)
        del theirs


@needs_torch
@pytest.mark.parametrize("protocol", [2, 4])
def test_we_read_what_torch_saves_to_the_bit(tmp_path, format, protocol):
    import torch

    dtypes = (
        "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
    )
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).mul(9).abs()
    state = {name: values.to(getattr(torch, name)) for name in dtypes.split()}
    state |= {
        name: torch.arange(3).to(getattr(torch, name)) for name in ("uint16", "uint32", "uint64")
    }
    state |= {
        "number": torch.tensor(5), "half": torch.tensor(1.5, dtype=torch.bfloat16),
        "transposed": values.T, "part of it": values[1:, 1:], "strided": torch.arange(20)[3::3],
        "empty": torch.zeros(0, 3), "repeated": torch.ones(1).expand(5, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }  # fmt: skip
    checkpoint = {"epoch": 3, "state_dict": state, "optimizer": {"state": {0: torch.ones(3)}}}
    path = tmp_path / "w.pth"
    torch.save(
        checkpoint, path, pickle_protocol=protocol, _use_new_zipfile_serialization=format == "zip"
    )
    weights = read_weights(path)
    assert (weights.format, weights.inside) == (FORMATS[format], "state_dict")
    assert list(weights.tensors) == list(state)
    for name, value in state.items():
        value = value.detach().float() if value.dtype == torch.bfloat16 else value.detach()
        expected = value.numpy()
        assert weights.tensors[name].dtype == expected.dtype
        assert weights.tensors[name].shape == expected.shape
        assert weights.tensors[name].tobytes() == expected.tobytes()


@needs_torch
def test_what_is_no_plain_tensor_of_torchs_is_refused(tmp_path, format):
    import torch

    network = torch.nn.Sequential(torch.nn.Linear(1, 1))
    for value, message in (
        (network, "a whole pickled network"),
        ({"model": network}, "a whole pickled network"),
        ({"w": torch.ones(2, dtype=torch.complex64).conj()}, "conjugated"),
        ({"w": torch.zeros(2).to(torch.float8_e4m3fn)}, "torch.float8_e4m3fn"),
        ({"w": torch.eye(2).to_sparse()}, "_rebuild_sparse_tensor"),
        ({"w": torch.ones(1).expand(100_000)}, "repeat elements"),
    ):
        path = tmp_path / "w.pth"
        torch.save(value, path, _use_new_zipfile_serialization=format == "zip")
        with pytest.raises(ValueError, match=message):
            load_weights(path)


@needs_torch
def test_a_state_dict_of_torchvision_loads(tmp_path, format):
    import torch

    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(theirs, tmp_path / "w.pth", _use_new_zipfile_serialization=format == "zip")
    ours = load_weights(tmp_path / "w.pth")
    assert list(ours) == list(theirs)
    assert all((ours[name] == value.numpy()).all() for name, value in theirs.items())
