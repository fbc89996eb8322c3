"""`minicnn convert`: both kinds of files, both ways, and what is refused."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest

from minicnn.models import create_model
from minicnn.serialization import load_tensors, load_weights, save_tensors, save_torch_file
from tests.needs import needs_torch
from tests.torch_files import call, mapping, storage, tensor, text, whole, write

LENET = "8 tensors, 431,080 parameters"


@pytest.fixture
def lenet() -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in create_model("lenet").state_dict().items()}


@pytest.fixture
def pth(tmp_path, lenet):
    save_torch_file(tmp_path / "lenet.pth", lenet)
    return tmp_path / "lenet.pth"


def assert_same(ours: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array)


def test_there_and_back(cli, tmp_path, lenet, pth):
    target = tmp_path / "lenet.safetensors"
    code, out, err = cli("convert", pth, target, "--model", "lenet")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{pth} is PyTorch (ZIP): {LENET}",
        "they fit lenet",
        f"written to {target} (safetensors, {target.stat().st_size:,} bytes)",
    ]
    assert_same(load_tensors(target)[0], lenet)
    back = tmp_path / "back.pt"
    code, out, _ = cli("convert", target, back)
    assert code == 0
    assert f"{target} is safetensors: {LENET}\n" in out
    assert "(PyTorch, " in out
    assert_same(load_weights(back), lenet)


def test_a_checkpoint_of_the_old_format_with_batch_norm(cli, tmp_path):
    items = {
        "denseblock1.denselayer1.norm.1.weight": tensor(storage("0", 4), [4], [1]),
        "denseblock1.denselayer1.norm.1.running_mean": tensor(storage("1", 4), [4], [1]),
        "features.conv0.weight": tensor(storage("2", 4), [2, 2], [1, 2]),
    }
    data = np.arange(4, dtype="<f4").tobytes()
    value = whole(mapping({"epoch": b"K\x01", "state_dict": mapping(items)}))
    source = write(tmp_path / "densenet.pth", value, dict.fromkeys("012", data), "stream")
    code, out, _ = cli("convert", source, tmp_path / "out.safetensors")
    assert code == 0
    assert (
        f"{source} is PyTorch (before 1.6), under 'state_dict': "
        "3 tensors, 8 parameters and 4 numbers of batch norm's record\n"
        "2 names of an old DenseNet are today's now\n"
    ) in out
    loaded = load_weights(tmp_path / "out.safetensors")
    assert set(loaded) == {
        "denseblock1.denselayer1.norm1.weight",
        "denseblock1.denselayer1.norm1.running_mean",
        "features.conv0.weight",
    }
    np.testing.assert_array_equal(loaded["features.conv0.weight"], [[0, 2], [1, 3]])


def test_metadata_of_a_header_is_kept(cli, tmp_path):
    save_tensors(tmp_path / "a.safetensors", {"w": np.ones(2)}, {"note": "x"})
    assert cli("convert", tmp_path / "a.safetensors", tmp_path / "b.safetensors").code == 0
    assert load_tensors(tmp_path / "b.safetensors")[1] == {"note": "x"}


def test_nothing_is_replaced_without_force(cli, tmp_path, lenet, pth):
    target = tmp_path / "there.safetensors"
    target.write_bytes(b"precious")
    code, out, err = cli("convert", pth, target)
    assert (code, out) == (2, "")
    assert err == f"minicnn: error: {target} is there already; --force replaces it\n"
    assert target.read_bytes() == b"precious"
    assert cli("convert", pth, target, "--force").code == 0
    assert_same(load_weights(target), lenet)
    assert cli("convert", target, pth, "--force").code == 0  # what it came from
    assert cli("convert", pth, pth, "--force").code == 0  # in place
    assert_same(load_weights(pth), lenet)


def test_weights_of_another_network_are_not_written(cli, tmp_path, lenet):
    lenet["surplus"] = lenet.pop("conv1.weight")
    lenet["fc2.bias"] = np.zeros(7, np.float32)
    save_torch_file(tmp_path / "other.pth", lenet)
    code, _, err = cli("convert", tmp_path / "other.pth", tmp_path / "x.pth", "--model", "lenet")
    assert code == 2
    assert "missing keys: conv1.weight; unexpected keys: surplus" in err
    assert "wrong shapes: fc2.bias is (10,), got (7,)" in err
    assert not (tmp_path / "x.pth").exists()


def test_the_number_of_classes_can_be_another(cli, tmp_path):
    state = create_model("lenet", num_classes=7).state_dict()
    save_torch_file(tmp_path / "a.pth", {name: value.numpy() for name, value in state.items()})
    arguments = ["convert", tmp_path / "a.pth", tmp_path / "b.pth", "--model", "lenet"]
    assert "fc2.weight is (10, 500), got (7, 500)" in cli(*arguments).err
    assert cli(*arguments, "--classes", "7").code == 0


def test_where_torchvisions_form_is_another_the_error_says_so(cli, tmp_path):
    save_tensors(tmp_path / "a.safetensors", {"features.0.weight": np.ones(1)})
    arguments = ["convert", tmp_path / "a.safetensors", tmp_path / "b.pth", "--model", "alexnet"]
    assert "(torchvision's weights fit alexnet_torchvision)" in cli(*arguments).err


def test_malice_is_refused_and_nothing_is_written(cli, tmp_path):
    evil = call("os", "mkdir", text(str(tmp_path / "executed")))
    source = write(tmp_path / "evil.pth", whole(mapping({"w": evil})), {}, "zip")
    code, out, err = cli("convert", source, tmp_path / "out.safetensors", "--force")
    assert (code, out) == (2, "")
    assert err.startswith("minicnn: error: ") and err.count("\n") == 1
    assert str(source) in err and "os.mkdir" in err
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pth", "b.bin"], "OUT: got b.bin, expected a name that ends in .safetensors, .pth"),
        (["a.pth", "b"], "OUT: got b, expected"),
        (["none.pth", "b.pth"], "none.pth: No such file or directory"),
        (["none.pth", "b.pth", "--classes", "3"], "--classes is of use with --model only"),
        (["none.pth"], "Missing argument 'OUT'"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line(cli, arguments, message):
    code, out, err = cli("convert", *arguments)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


def test_an_unknown_network_or_a_full_disk_leaves_nothing(cli, tmp_path, pth, monkeypatch):
    target = tmp_path / "b.safetensors"
    assert "model: got 'nonsense'" in cli("convert", pth, target, "--model", "nonsense").err

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for name in ("b.safetensors", "b.pth"):
        code, _, err = cli("convert", pth, tmp_path / name)
        assert code == 2 and f"{tmp_path / name}: {os.strerror(errno.ENOSPC)}" in err
    assert list(tmp_path.iterdir()) == [pth]


@needs_torch
def test_torch_reads_what_was_converted(cli, tmp_path, lenet):
    import torch

    save_tensors(tmp_path / "a.safetensors", lenet)
    assert cli("convert", tmp_path / "a.safetensors", tmp_path / "a.pth").code == 0
    theirs = torch.load(tmp_path / "a.pth", weights_only=True)
    assert_same({name: value.numpy() for name, value in theirs.items()}, lenet)
