"""Run folders: made whole or not at all, found again, never mixed with other things."""

from __future__ import annotations

import errno
import json
import os

import pytest

from minicnn.training import EpochMetrics, RunFolder, TrainingConfig
from tests.tiny import make_config


def test_names_are_numbered(tmp_path):
    config = make_config(model="lenet", data="mnist")
    names = [RunFolder.begin(config, parent=tmp_path / "runs").path.name for _ in range(3)]
    assert names == ["lenet-mnist", "lenet-mnist-2", "lenet-mnist-3"]


def test_a_new_run_holds_its_settings(tmp_path):
    run = RunFolder.begin(make_config(seed=7), tmp_path / "deep" / "run")
    assert [path.name for path in run.path.iterdir()] == ["config.json"]
    assert RunFolder.find(run.path).load_config() == make_config(seed=7)
    assert run.load_metrics() == {}
    assert not run.is_finished


def test_an_empty_folder_will_do_and_a_full_one_or_a_file_will_not(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.begin(make_config(), tmp_path / "empty")
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "empty", tmp_path / "file", tmp_path):
        with pytest.raises(ValueError, match="is not an empty folder"):
            RunFolder.begin(make_config(), path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("given", [None, "run"])
def test_a_folder_whose_settings_cannot_be_written_is_taken_away(tmp_path, monkeypatch, given):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        RunFolder.begin(make_config(), given and tmp_path / given, parent=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        RunFolder.find(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="it has no config.json"):
        RunFolder.find(tmp_path)


def test_metrics_as_csv_and_json(tmp_path):
    run = RunFolder.begin(make_config(), tmp_path / "run")
    history = [
        EpochMetrics(1, 5, 0.1, 2.0, 0.3, 1.9, 0.8, 1.0, 100.0),
        EpochMetrics(2, 10, 0.1, 1.5, 0.5, 1.6, 0.7, 1.0, 100.0),
    ]
    run.write_metrics(make_config(), history, finished=True)
    summary = json.loads(run.metrics_json.read_text())
    assert (summary["model"], summary["data"], summary["finished"]) == ("tiny", "digits", True)
    assert summary["best"]["epoch"] == 1
    assert summary["last"]["epoch"] == 2
    assert [row["step"] for row in summary["epochs"]] == [5, 10]
    assert run.metrics_csv.read_text().splitlines()[1].startswith("1,5,0.1,2.0,0.3,")
    assert run.is_finished


def test_broken_metrics_are_named(tmp_path):
    run = RunFolder.begin(make_config(), tmp_path / "run")
    run.metrics_json.write_text("{")
    with pytest.raises(ValueError, match="metrics.json is not a JSON file"):
        run.load_metrics()


def test_settings_are_plain_json(tmp_path):
    run = RunFolder.begin(make_config(), tmp_path / "run")
    assert TrainingConfig.from_dict(json.loads(run.config.read_text())) == make_config()
