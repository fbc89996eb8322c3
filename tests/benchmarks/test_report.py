"""Ratios, means, JSON and the comparison of two runs, on figures that are made up."""

from __future__ import annotations

import io
import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.compare import changes
from benchmarks.plots import ratios_png, roofline_png

MACHINE = {
    "cpu": "a processor", "cores": 2, "register_bits": 256, "system": "a system", "load": 0.0,
    "versions": {"python": "3"},
}  # fmt: skip


def timed(name, *seconds):
    return {"name": name, "first": 1.0, "best": min(seconds), "median": sorted(seconds)[1],
            "seconds": list(seconds)}  # fmt: skip


def case(name, *sides, family="family", flops=2_000_000):
    return {"name": name, "family": family, "flops": flops, "bytes": 1000, "images": 0, "note": "",
            "sides": list(sides)}  # fmt: skip


def run_of(*cases, benchmark="kernels", threads=1):
    settings = {"threads": threads, "clock": "cpu", "rounds": 3, "seconds": 0.05}
    return {"benchmark": benchmark, "machine": MACHINE, "settings": settings, "cases": list(cases)}


def printed(run):
    out = io.StringIO()
    report.print_run(run, Console(file=out, width=200))
    return out.getvalue()


OURS = timed("minicnn", 0.010, 0.011, 0.012)
RUN = run_of(
    case("one", OURS, timed("PyTorch", 0.020, 0.020, 0.021), timed("NumPy", 0.040, 0.040, 0.041)),
    case("two", OURS, timed("PyTorch", 0.005, 0.006, 0.006), {"name": "JAX", "missing": "none"}),
    case("three", OURS, {"name": "PyTorch", "wrong": "off by a lot"}, family="other"),
)


def test_a_ratio_is_their_time_by_ours():
    one, two, three = RUN["cases"]
    assert report.ratio(one, "PyTorch") == pytest.approx(2)
    assert report.ratio(one, report.BEST_OTHER) == pytest.approx(2)
    assert report.ratio(two, "PyTorch") == pytest.approx(0.5)
    assert report.ratio(two, "JAX") is None and report.ratio(three, "PyTorch") is None


def test_means_are_geometric_and_say_of_how_many():
    found = {(family, name): (mean, count) for family, name, mean, count in report.means(RUN)}
    assert found["family", "PyTorch"] == (pytest.approx(1), 2)
    assert found["all", "NumPy"] == (pytest.approx(4), 1)
    assert ("other", "PyTorch") not in found


def test_the_table_marks_what_is_below_1_and_tells_of_the_rest():
    text = printed(RUN)
    assert "0.50 <" in text and "2.00 <" not in text
    assert "three: PyTorch was refused: off by a lot" in text
    assert "JAX: none" in text
    assert "1 thread each side, processor time" in text and "registers of 256 bits" in text


def test_json_goes_round(tmp_path):
    path = tmp_path / "run.json"
    report.save(RUN, path)
    assert report.load(path) == RUN
    assert printed(report.load(path)) == printed(RUN)
    for text in ("", "[]", '{"cases": 3, "benchmark": "kernels"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="expected a file that --json wrote"):
            report.load(path)


def changed(ours, others=1.0, spread=1.0):
    theirs = timed("PyTorch", *(0.020 * others * f for f in (1, spread, spread)))
    own = timed("minicnn", *(0.010 * ours * f for f in (1, spread, spread)))
    return run_of(case("one", own, theirs))


@pytest.mark.parametrize(
    ("ours", "others", "spread", "verdict"),
    [
        (1.0, 1.0, 1.0, ""),
        (1.2, 1.0, 1.0, "slower"),
        (0.8, 1.0, 1.0, "faster"),
        (1.02, 1.0, 1.0, ""),  # within the least noise
        (1.2, 1.2, 1.0, ""),  # the machine was slower, not we
        (1.0, 0.8, 1.0, "slower"),  # the machine was faster, and we were not
        (1.2, 1.0, 1.3, ""),  # rounds differ by more than that
    ],
)
def test_what_counts_as_a_change(ours, others, spread, verdict):
    (change,) = changes(changed(1.0), changed(ours, others, spread))
    assert change.verdict == verdict


def test_rungs_are_followed_one_by_one():
    old = run_of(case("product", timed("plain", 3, 3, 3), timed("tiled", 1, 1, 1)))
    new = run_of(case("product", timed("plain", 3, 3, 3), timed("tiled", 2, 2, 2)))
    assert [(c.side, c.verdict) for c in changes(old, new)] == [("plain", ""), ("tiled", "slower")]


def test_unlike_runs_are_not_compared():
    with pytest.raises(ValueError, match="one run is of 'kernels', the other of 'training'"):
        list(changes(RUN, run_of(benchmark="training")))
    with pytest.raises(ValueError, match="threads: one run has 1, the other 2"):
        list(changes(RUN, run_of(threads=2)))


def test_compare_ends_with_1_where_something_got_slower(tmp_path):
    paths = [tmp_path / name for name in ("old", "new", "other")]
    for path, run in zip(paths, (changed(1.0), changed(1.5), run_of(threads=2)), strict=True):
        path.write_text(json.dumps(run))
    old, new, other = map(str, paths)
    result = CliRunner().invoke(main, ["compare", old, new])
    assert result.exit_code == 1 and "1 slower, 0 faster" in result.output
    assert CliRunner().invoke(main, ["compare", new, old]).exit_code == 0
    assert CliRunner().invoke(main, ["compare", old, other]).exit_code == 2


def test_pictures_are_png():
    assert ratios_png(RUN).startswith(b"\x89PNG")
    assert roofline_png(RUN | {"peak": 1e11, "bandwidth": 1e10}).startswith(b"\x89PNG")


def test_a_picture_without_matplotlib_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["kernels", "--plot", "picture.png"])
    assert result.exit_code == 1 and "--plot needs Matplotlib" in result.output
