"""What a person sees: a line an epoch, and a bar on a terminal."""

from __future__ import annotations

import io
import re

import pytest

from minicnn.kernels import _cache
from minicnn.training import BarObserver, EpochMetrics, LineObserver
from minicnn.training.progress import HEADER, clock, epoch_line, watch_compiling


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (75, "1:15"),
        (3600, "1:00:00"),
        (7325, "2:02:05"),
    ],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_figures_stand_under_their_heads():
    metrics = EpochMetrics(7, 70, 0.1, 0.0123, 0.9951, 0.0456, 0.98765, 83.0, 12345.6)
    line = epoch_line(metrics, 12)
    assert line.split() == ["7/12", "0.0123", "99.51%", "0.0456", "98.77%", "12,346", "1:23"]
    ends = [match.end() for match in re.finditer(r"\S+( \S+)*", HEADER)]
    assert ends == [match.end() for match in re.finditer(r"\S+", line)]


def test_lines(begin):
    stream = io.StringIO()
    trainer, run = begin()
    trainer.run(run, LineObserver(stream))
    lines = [line for line in stream.getvalue().splitlines() if "compiling" not in line]
    assert lines == [HEADER, *(epoch_line(row, 2) for row in trainer.state.history)]


def test_a_first_run_says_that_it_compiles(monkeypatch):
    stream, seconds = io.StringIO(), iter([0.0, 1.0, 10.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    with watch_compiling(LineObserver(stream)):
        for number in range(3):
            for event in ("loaded", "compiling", "compiled"):
                _cache.tell(f"kernel_{number}", event)
    lines = ["compiling kernels (once): 0 done", "compiling kernels (once): 2 done"]
    assert stream.getvalue().splitlines() == lines


def test_the_bar_says_that_kernels_are_compiled(begin, monkeypatch, capsys):
    pytest.importorskip("rich")
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    observer = BarObserver()
    observer.begin(begin()[0])
    observer.compiling(7)
    observer.end()
    assert "compiling kernels (once): 7 done" in capsys.readouterr().out


def test_the_bar_shows_loss_accuracy_speed_and_time_left(begin, monkeypatch, capsys):
    pytest.importorskip("rich")
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "120")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("minicnn.training.progress.REFRESH_SECONDS", 0.0)
    trainer, run = begin()
    trainer.run(run, BarObserver())
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    for row in trainer.state.history:
        assert epoch_line(row, 2) in text
    assert HEADER in text
    bar = r"epoch 2/2 .* 100% loss \d\.\d{4}  accuracy \d+\.\d\d%  [\d,]+ images/s  0:00 left"
    assert re.search(bar, text)
    assert re.search(r"epoch 2/2 .* testing", text)
