"""`minicnn train`: the folder it fills, breaks of every kind, and all it refuses."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minicnn.serialization import load_state_dict
from minicnn.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
LONG = ["train", "lenet", "--data", "digits", "--epochs", "4", "--save-every", "3"]


def start(*arguments: object, code: str | None = None) -> subprocess.Popen:
    """Start a command in a process of its own, or a program that calls it."""
    how = ["-m", "minicnn"] if code is None else ["-c", code]
    return subprocess.Popen(
        [sys.executable, "-u", *how, *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Wait until a line that the process prints has the text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(process.communicate()[1])


def bits(run: Path) -> bytes:
    """Return the weights of a run as they lie on the disk."""
    return (run / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that broken ones are compared with."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    _, errors = start(*LONG, "--out", run).communicate()
    assert (run / "weights.safetensors").exists(), errors
    return run


def test_a_run_folder_holds_all_that_was_promised(finished_run):
    assert sorted(path.name for path in finished_run.iterdir()) == [
        "checkpoint.safetensors", "config.json", "confusion.png", "curves.png", "filters.png",
        "metrics.csv", "metrics.json", "weights.safetensors",
    ]  # fmt: skip
    names = ["conv1", "conv2", "fc1", "fc2"]
    expected = sorted(f"{name}.{part}" for name in names for part in ("bias", "weight"))
    assert sorted(load_state_dict(finished_run / "weights.safetensors")) == expected
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert metrics["finished"] is True
    assert [row["epoch"] for row in metrics["epochs"]] == [1, 2]
    lines = (finished_run / "metrics.csv").read_text().splitlines()
    assert len(lines) == 3
    assert float(lines[2].split(",")[4]) == metrics["last"]["train_accuracy"]


def test_the_pictures_are_pictures(finished_run):
    image = pytest.importorskip("PIL.Image")
    for name in ("curves", "confusion", "filters"):
        with image.open(io.BytesIO((finished_run / f"{name}.png").read_bytes())) as picture:
            assert picture.format == "PNG"
            pixels = np.asarray(picture.convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 10


def test_output_in_a_pipe_is_a_line_an_epoch(cli, tmp_path):
    run = tmp_path / "run"
    code, out, err = cli("train", "lenet", "--data", "digits", "--epochs", 1, "--out", run)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if not line.startswith("compiling kernels (once)")]
    assert lines[0].startswith("lenet: 431,080 parameters; digits: 1,437 training and 360 test")
    assert lines[1] == f"{run} begins"
    assert lines[2].split()[:2] == ["epoch", "loss"]
    assert lines[3].split()[0] == "1/1"
    assert lines[4].startswith("test accuracy ")
    assert len(lines) == 5


def test_options_reach_the_settings(cli, tmp_path, same_threads):
    run = tmp_path / "run"
    cli(
        "train", "lenet", "--data", "digits", "--out", run, "--epochs", 1, "--batch-size", 400,
        "--optimizer", "adamw", "--lr", 0.002, "--weight-decay", 0.1, "--schedule", "constant",
        "--warmup", 0.5, "--label-smoothing", 0.1, "--clip", 2, "--seed", 3, "--save-every", 7,
        "--device", "cpu", "--threads", 1,
    )  # fmt: skip
    config = RunFolder.find(run).load_config()
    assert config.optimizer_options == {"lr": 0.002, "weight_decay": 0.1}
    assert (config.optimizer, config.schedule, config.warmup_epochs) == ("adamw", "constant", 0.5)
    assert (config.batch_size, config.epochs, config.seed, config.save_every) == (400, 1, 3, 7)
    assert (config.label_smoothing, config.clip_norm, config.threads) == (0.1, 2.0, 1)


def test_switches_and_assignments_reach_the_settings(cli, tmp_path):
    run = tmp_path / "run"
    result = cli(
        "train", "alexnet_small", "--data", "digits", "--out", run, "--epochs", 1,
        "--batch-size", 720, "--no-lrn", "--dropout", 0, "--set", "model_options.width=0.25",
        "--set", "optimizer_options.momentum=0.5", "--set", "seed=5",
        "--set", 'init={"*.bias": 0, "*.weight": {"name": "xavier_normal"}}',
    )  # fmt: skip
    assert result.code == 0, result.err
    config = RunFolder.find(run).load_config()
    assert config.model_options == {
        "in_channels": 1, "num_classes": 10, "lrn": False, "dropout": 0.0, "width": 0.25,
    }  # fmt: skip
    assert config.optimizer_options["momentum"] == 0.5 and config.seed == 5
    assert config.init["*.weight"] == {"name": "xavier_normal"}


def test_the_default_folder_is_named_for_model_and_data(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lenet-digits", "lenet-digits-2"):
        options = ("--data", "digits", "--epochs", 1, "--batch-size", 720)
        assert cli("train", "lenet", *options).code == 0
        assert (tmp_path / "runs" / name / "weights.safetensors").exists()


def wait_for_checkpoints(run: Path, process: subprocess.Popen, count: int) -> None:
    """Wait until the running process has written its checkpoint `count` times."""
    written, last = 0, None
    while written < count and process.poll() is None:
        try:
            now = (run / "checkpoint.safetensors").stat().st_ino
        except FileNotFoundError:
            now = None
        written += now != last
        last = now
        time.sleep(0.001)


def test_killed_at_three_random_moments_the_bits_are_those_of_the_unbroken_run(unbroken, tmp_path):
    run = tmp_path / "run"
    seed = time.time_ns()
    print("seed", seed)
    moments = random.Random(seed)
    arguments = [*LONG, "--out", run]
    for _ in range(3):  # the run writes 32 checkpoints, so it is never done before its third kill
        process = start(*arguments)
        wait_for(process, "epoch    loss")
        wait_for_checkpoints(run, process, moments.randint(0, 4))
        time.sleep(moments.uniform(0, 0.02))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        arguments = ["train", "--resume", run]
    out, err = start(*arguments).communicate()
    assert "test accuracy" in out, err
    assert bits(run) == bits(unbroken)


DIE_IN_THE_WRITE = """
import os, signal, sys
from minicnn.cli import main
real, calls = os.fsync, []
def fsync(descriptor):
    calls.append(descriptor)
    if len(calls) == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
main(sys.argv[2:])
"""


def test_killed_in_the_middle_of_a_write(unbroken, tmp_path):
    run = tmp_path / "run"
    # A file costs two calls, its own and its folder's: the settings, a checkpoint, another one.
    process = start(5, *LONG, "--out", run, code=DIE_IN_THE_WRITE)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (run / ".checkpoint.safetensors.tmp").exists()
    out, err = start("train", "--resume", run).communicate()
    assert "test accuracy" in out, err
    assert bits(run) == bits(unbroken)
    assert not [path.name for path in run.iterdir() if path.name.endswith(".tmp")]


def test_ctrl_c_saves_and_says_how_to_go_on(unbroken, tmp_path):
    run = tmp_path / "run"
    process = start(*LONG, "--out", run)
    wait_for(process, "1/4")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.startswith("stopped before epoch ")
    assert err.count("\n") == 1
    command = err.split("go on with: minicnn ")[1].split()
    assert command == ["train", "--resume", str(run)]
    out, err = start(*command).communicate()
    assert f"{run} goes on at epoch " in out, err
    assert bits(run) == bits(unbroken)


def test_resuming_a_finished_run_says_so_and_changes_nothing(cli, finished_run):
    before = {path: path.stat().st_mtime_ns for path in finished_run.iterdir()}
    code, out, _ = cli("train", "--resume", finished_run)
    assert code == 0
    assert out.startswith(f"{finished_run} is finished: 2 epochs, test accuracy ")
    assert {path: path.stat().st_mtime_ns for path in finished_run.iterdir()} == before


def test_results_that_a_kill_left_out_are_made_up_for(cli, copied_run, same_threads):
    """The kill came after the last checkpoint and before the last picture."""
    weights = bits(copied_run)
    metrics = json.loads((copied_run / "metrics.json").read_text())
    (copied_run / "metrics.json").write_text(json.dumps({**metrics, "finished": False}))
    (copied_run / "confusion.png").unlink()
    (copied_run / "weights.safetensors").unlink()
    assert cli("train", "--resume", copied_run, "--threads", 1).code == 0
    assert (copied_run / "confusion.png").exists()
    assert json.loads((copied_run / "metrics.json").read_text()) == metrics
    assert bits(copied_run) == weights


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--epochs", "30"], "--epochs"),
        (["--lr", "0.1"], "--lr"),
        (["--seed", "1"], "--seed"),
        (["--data", "mnist"], "--data"),
        (["--out", "elsewhere"], "--out"),
        (["lenet"], "MODEL"),
    ],
)
def test_a_run_cannot_be_changed_on_the_way(cli, finished_run, option, named):
    code, out, err = cli("train", "--resume", finished_run, *option)
    assert (code, out) == (2, "")
    assert f"; {named} cannot be given with it" in err


def unfinish(run: Path) -> None:
    """Make a finished run look as if it had been killed at its end."""
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "finished": False}))


def cut(run: Path) -> str:
    data = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").write_bytes(data[: len(data) // 2])
    return "is not a whole safetensors file"


def swap_for_weights(run: Path) -> str:
    shutil.copy(run / "weights.safetensors", run / "checkpoint.safetensors")
    return "is not a checkpoint of minicnn"


def change_settings(run: Path) -> str:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "epochs": 9, "batch_size": 8}))
    return "made with other settings (epochs, batch_size)"


def change_network(run: Path) -> str:
    config = json.loads((run / "config.json").read_text())
    config = {**config, "model": "lenet5", "model_options": {}}
    config["test_transforms"] = config["train_transforms"] = [{"name": "Resize", "size": 32}]
    (run / "config.json").write_text(json.dumps(config))
    return "made with other settings (model"


def misspell_settings(run: Path) -> str:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "epoks": 9}))
    return "config.json: unknown setting 'epoks'"


@pytest.mark.parametrize(
    "spoil", [cut, swap_for_weights, change_settings, change_network, misspell_settings]
)
def test_what_cannot_be_resumed_is_refused_and_left_as_it_is(cli, copied_run, spoil):
    unfinish(copied_run)
    message = spoil(copied_run)
    before = {path.name: path.read_bytes() for path in copied_run.iterdir()}
    code, _, err = cli("train", "--resume", copied_run)
    assert code == 2
    assert err.startswith("minicnn: error: ") and message in err
    assert str(copied_run) in err
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in copied_run.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "model: got 'nonsense', expected one of alexnet"),
        (["lenet", "--data", "nonsense"], "dataset: expected one of mnist"),
        (["lenet", "--no-lrn"], "model_options: lenet has no option lrn; it has in_channels"),
        (["lenet", "--set", "speed=1"], "unknown setting 'speed'"),
        (["lenet", "--set", "speed"], "expected NAME=VALUE such as seed=3"),
        (["lenet", "--set", "epochs=two"], "epochs: got 'two', expected an integer"),
        (["lenet", "--set", "epochs=2", "--set", "epochs.x=1"], "epochs is 2, which has no 'x'"),
        (["lenet", "--set", 'init={"conv9.*":0}'], "init: 'conv9.*' fits no weight or bias"),
        (["lenet", "--device", "tpu"], "device: got 'tpu'"),
        (["lenet", "--optimizer", "magic"], "optimizer: got 'magic'"),
        (["lenet", "--schedule", "magic"], "schedule: got 'magic'"),
        (["lenet", "--schedule", "plateau", "--warmup", "1"], "plateau takes no warm-up"),
        (["lenet", "--lr", "-1"], "lr"),
        (["lenet", "--lr", "nan"], "lr"),
        (["lenet", "--label-smoothing", "1.5"], "label_smoothing: got 1.5"),
        (["lenet", "--clip", "0"], "clip_norm: got 0.0"),
        (["lenet", "--threads", "1000"], "threads: got 1000"),
        (["lenet", "--data-folder", "nowhere"], "nowhere"),
        (["lenet", "--data", "mnist", "--data-folder", "."], "idx"),
        (["lenet", "--data", "folder"], "folder"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_leaves_nothing(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--data" not in arguments and "--data-folder" not in arguments:
        arguments = [*arguments, "--data", "digits"]
    code, out, err = cli("train", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("minicnn: error: ") and message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_at_once(cli, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    code, _, err = cli("train", "lenet", "--data", "digits", "--out", tmp_path)
    assert code == 2
    assert "is not an empty folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(cli, tmp_path):
    run = tmp_path / "run"
    with np.errstate(all="ignore"):
        code, _, err = cli(
            "train", "lenet", "--data", "digits", "--out", run, "--lr", "1e20",
            "--warmup", "0", "--schedule", "constant",
        )  # fmt: skip
    assert code == 2
    assert err.startswith(f"minicnn: error: {run}: ")
    assert "in epoch 1, step " in err
    assert "a smaller --lr may help" in err
    assert sorted(path.name for path in run.iterdir()) == ["config.json"]


FILL_THE_DISK = """
import resource, sys
from minicnn.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_names_the_file_and_leaves_the_old_ones(copied_run):
    unfinish(copied_run)
    before = {path.name: path.read_bytes() for path in copied_run.iterdir()}
    process = start("train", "--resume", copied_run, code=FILL_THE_DISK)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.startswith(f"minicnn: error: {copied_run / 'weights.safetensors'}: ")
    assert f"go on with: minicnn train --resume {copied_run}" in err
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in copied_run.iterdir()} == before


def test_a_read_only_place_is_one_line(cli, tmp_path):
    if os.geteuid() == 0:
        (tmp_path / "runs").write_text("a file where a folder is wanted")
    else:
        (tmp_path / "runs").mkdir(0o500)
    code, _, err = cli("train", "lenet", "--data", "digits", "--out", tmp_path / "runs" / "x")
    assert code == 2
    assert err.startswith("minicnn: error: ")
    assert err.count("\n") == 1
