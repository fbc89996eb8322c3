"""`minicnn data`: the list, the counts, the picture."""

from __future__ import annotations

import pytest

from minicnn.data import DATASETS


def test_the_list_names_every_dataset_and_its_place(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("MINICNN_HOME", str(tmp_path))
    monkeypatch.setenv("MINICNN_FASHION_MNIST", "/somewhere")
    monkeypatch.delenv("MINICNN_MNIST", raising=False)
    code, out, _ = cli("data")
    assert code == 0
    for name in DATASETS:
        assert f"\n  {name} " in out
    assert "not here yet" in out
    assert "(from MINICNN_FASHION_MNIST)" in out


def test_counts_by_class(cli):
    code, out, _ = cli("data", "digits")
    assert code == 0
    assert out.startswith("digits: 1,437 training and 360 test images of 1x8x8\n")
    counts = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert sum(int(row[1]) for row in counts) == 1437
    assert sum(int(row[2]) for row in counts) == 360
    assert [row[0] for row in counts] == list("0123456789")


def test_a_picture_of_some_of_them(cli, tmp_path):
    pytest.importorskip("PIL")
    code, out, _ = cli("data", "digits", "--picture", tmp_path / "digits.png")
    assert code == 0
    assert str(tmp_path / "digits.png") in out
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist", "--data-folder", "nowhere"], "nowhere"),
        (["--picture", "x.png"], "Give its NAME"),
        (["digits", "--picture", "no/such/folder/x.png"], "no/such/folder/x.png"),
    ],
)
def test_mistakes_are_one_line(cli, arguments, message):
    code, _, err = cli("data", *arguments)
    assert code == 2
    assert err.startswith("minicnn: error: ") and message in err
    assert err.count("\n") == 1
