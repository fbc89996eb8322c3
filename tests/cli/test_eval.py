"""`minicnn eval`: the figures of training, the table, the picture, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minicnn.data import load_digits
from minicnn.serialization import load_state_dict, save_state_dict


def test_it_finds_what_training_found_and_counts_every_class(cli, copied_run):
    (copied_run / "confusion.png").unlink()
    code, out, err = cli("eval", copied_run)
    assert (code, err) == (0, "")
    last = json.loads((copied_run / "metrics.json").read_text())["last"]
    assert f"test loss {last['test_loss']:.4f}" in out
    assert f"test accuracy {last['test_accuracy']:.2%}" in out
    assert (copied_run / "confusion.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
    labels = load_digits()[1].labels
    assert [int(row[1]) for row in rows] == list(np.bincount(labels))
    found = sum(int(row[2]) for row in rows)
    assert found == round(last["test_accuracy"] * len(labels))
    for row in rows:
        assert float(row[3].rstrip("%")) == pytest.approx(100 * int(row[2]) / int(row[1]), abs=0.01)


def test_the_picture_may_go_elsewhere(cli, copied_run, tmp_path):
    before = (copied_run / "confusion.png").stat().st_mtime_ns
    assert cli("eval", copied_run, "--out", tmp_path / "here.png").code == 0
    assert (tmp_path / "here.png").exists()
    assert (copied_run / "confusion.png").stat().st_mtime_ns == before


def cut(run):
    data = (run / "weights.safetensors").read_bytes()
    (run / "weights.safetensors").write_bytes(data[: len(data) // 2])
    return "is not a whole safetensors file"


def remove(run):
    (run / "weights.safetensors").unlink()
    return "has no weights yet"


def swap(run):
    weights = load_state_dict(run / "weights.safetensors")
    weights["fc2.bias"] = weights["fc2.bias"][:3]
    save_state_dict(run / "weights.safetensors", weights)
    return "fc2.bias"


def other_data(run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "classes": list("abcdefghij")}))
    return "digits has other classes"


@pytest.mark.parametrize("spoil", [cut, remove, swap, other_data])
def test_a_spoilt_run_is_refused_in_one_line(cli, copied_run, spoil):
    message = spoil(copied_run)
    code, out, err = cli("eval", copied_run)
    assert (code, out) == (2, "")
    assert err.startswith("minicnn: error: ") and message in err
    assert err.count("\n") == 1
