"""`--device` of the commands that compute."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minicnn.data import load_digits

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def short_digits(monkeypatch):
    """Let the digits be few."""
    train, test = load_digits()
    few = train.subset(slice(0, 96)), test.subset(slice(0, 40))
    monkeypatch.setattr("minicnn.data.load_dataset", lambda *arguments, **options: few)
    return few


def test_train_eval_predict_and_resume_on_a_device(cli, gpu, short_digits, tmp_path):
    run = tmp_path / "run"
    code, out, err = cli(
        "train", "lenet", "--data", "digits", "--epochs", 2, "--device", gpu, "--out", run
    )
    assert code == 0, err
    assert f"an epoch, on {gpu}" in out
    assert json.loads((run / "config.json").read_text())["device"] == gpu
    assert json.loads((run / "metrics.json").read_text())["device"] == gpu

    losses = []
    for device in (gpu, "cpu"):
        code, out, err = cli("eval", run, "--device", device)
        assert (code, err) == (0, "") and f" on {device}; " in out
        losses.append(out.partition("test loss ")[2][:6])
    assert float(losses[0]) == pytest.approx(float(losses[1]), abs=2e-4)

    picture = tmp_path / "digit.png"
    Image.fromarray(np.kron(short_digits[1].images[0, 0], np.ones((4, 4), np.uint8))).save(picture)
    probabilities = []
    for device in (gpu, "cpu"):
        assert f"computed on {device}\n" in cli("predict", run, picture, "--device", device).out
        result = json.loads(cli("predict", run, picture, "--json", "--device", device).out)[0]
        probabilities.append(list(result["probabilities"].values()))
    np.testing.assert_allclose(*probabilities, rtol=1e-3, atol=1e-6)


def test_resume_moves_a_run_and_keeps_it_there(cli, gpu, short_digits, tmp_path):
    run = tmp_path / "run"
    assert cli("train", "lenet", "--data", "digits", "--epochs", 1, "--out", run).code == 0
    config = json.loads((run / "config.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "finished": False}))
    code, out, err = cli("train", "--resume", run, "--device", gpu)
    assert code == 0, err
    assert f"an epoch, on {gpu}" in out
    moved = json.loads((run / "config.json").read_text())
    assert moved == {**config, "device": gpu}


def test_gradcheck_and_summary_run_on_a_device(cli, gpu):
    code, out, _ = cli("gradcheck", "relu", "add", "--device", gpu)
    assert code == 0 and out.splitlines()[-1] == f"2 of 2 ops passed on {gpu}"
    code, there, _ = cli("summary", "lenet", "--device", gpu)
    assert code == 0 and f"run on {gpu}" in there
    assert there.replace(gpu, "cpu") == cli("summary", "lenet").out


@pytest.mark.parametrize(
    "command", [["train", "lenet", "--data", "digits"], ["gradcheck"], ["summary", "lenet"]]
)
def test_a_device_that_cannot_be_is_one_line(cli, command):
    code, out, err = cli(*command, "--device", "tpu")
    assert (code, out) == (2, "")
    assert err.startswith("minicnn: error: device: got 'tpu', expected one of 'cpu', 'cuda', 'cuda")
