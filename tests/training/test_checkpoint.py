"""A state comes back exactly, or is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from minicnn.serialization import load_tensors, save_tensors
from minicnn.training.checkpoint import HEADER, load_checkpoint, save_checkpoint


def test_a_tree_comes_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    floats = [0.1, 1 / 3, math.pi * 1e300, 5e-324, -0.0, float(rng.random()), 1e16 + 2]
    state = {
        "model": {"conv.weight": rng.normal(size=(2, 3)).astype(np.float32)},
        "optimizer": {
            "state": {0: {"step": 7, "exp_avg": rng.normal(size=4)}, 12: {}},
            "param_groups": [{"params": [0, 12], "betas": (0.9, 0.999), "lr": 1e-3}],
        },
        "generator": {"state": 2**127 + 12345, "name": "PCG64", "has_uint32": 0},
        "floats": floats,
        "empty": [{}, [], None, True, False, "", "$array"],
        "text": {"grün": "ja\nnein"},
    }
    save_checkpoint(tmp_path / "c", state)
    loaded = load_checkpoint(tmp_path / "c")
    assert [value.hex() for value in loaded["floats"]] == [value.hex() for value in floats]
    np.testing.assert_array_equal(loaded["model"]["conv.weight"], state["model"]["conv.weight"])
    assert loaded["model"]["conv.weight"].dtype == np.float32
    moments = loaded["optimizer"]["state"]
    assert list(moments) == [0, 12]
    assert moments[0]["step"] == 7
    np.testing.assert_array_equal(moments[0]["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])
    assert loaded["optimizer"]["param_groups"][0]["betas"] == [0.9, 0.999]
    for name in ("generator", "empty", "text"):
        assert loaded[name] == state[name]


def test_arrays_are_named_by_their_place(tmp_path):
    save_checkpoint(tmp_path / "c", {"a": {0: np.zeros(1)}, "b": [1, np.ones(2)]})
    assert sorted(load_tensors(tmp_path / "c")[0]) == ["a/0", "b/1"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": {1, 2}}, "a is of type set"),
        ({"a": [0, np.float32(1)]}, "a/1 is of type float32"),
        ({"a": {None: 1}}, "the key None"),
        ({"a": {"#1": 1}}, "the key '#1'"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, state, message):
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path / "c", state)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "is not a checkpoint of minicnn"),
        ("{", "is a damaged checkpoint"),
        ("3", "is a damaged checkpoint"),
        ('{"version": 1}', "is a damaged checkpoint"),
        ('{"version": 1, "state": {"a": {"$array": "gone"}}}', "is a damaged checkpoint"),
        ('{"version": 1, "state": {"#x": 1}}', "is a damaged checkpoint"),
        ('{"version": 99, "state": {}}', "got a checkpoint of version 99, expected 1"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, header, message):
    save_tensors(tmp_path / "c", {"w": np.zeros(2)}, {HEADER: header} if header else None)
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint(tmp_path / "c")
    assert str(tmp_path / "c") in str(caught.value)


def test_a_checkpoint_cut_in_half_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c", {"w": np.zeros(1000)})
    data = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_checkpoint(tmp_path / "c")
