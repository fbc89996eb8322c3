"""`minicnn summary`: the figures of LeNet, known by hand."""

from __future__ import annotations

import pytest

from minicnn.models import MODELS


def rows(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}


def test_lenet(cli):
    code, out, _ = cli("summary", "lenet", "--input", "1x28x28")
    assert code == 0
    table = rows(out)
    assert table["conv1"][1:] == ["Conv2d", "20x24x24", "520", "288,000", "5"]
    assert table["conv2"][1:] == ["Conv2d", "50x8x8", "25,050", "1,600,000", "14"]
    assert table["fc1"][1:5] == ["Linear", "500", "400,500", "400,000"]
    assert table["total"] == ["total", "431,080", "2,293,000"]


def test_input_and_classes_shape_the_network(cli):
    table = rows(cli("summary", "lenet", "--input", "3x32x40", "--classes", "7").out)
    assert table["conv1"][2] == "20x28x36"
    assert table["conv1"][3] == f"{20 * 3 * 25 + 20:,}"
    assert table["fc2"][2:4] == ["7", f"{500 * 7 + 7:,}"]


def test_without_a_model_the_networks_are_listed(cli):
    code, out, _ = cli("summary")
    assert code == 0
    for name in MODELS:
        assert f"\n  {name} " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet5", "--classes", "7"], "classes: got 7, but lenet5 always has 10"),
        (["lenet5", "--input", "1x28x28"], "expected"),
        (["lenet", "--input", "1x8x8"], "the smallest that fit are 16 x 16"),
    ],
)
def test_what_does_not_fit_is_one_line(cli, arguments, message):
    code, out, err = cli("summary", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("minicnn: error: ") and message in err
    assert err.count("\n") == 1


def test_notes_of_a_network_stand_under_its_table(cli):
    code, out, _ = cli("summary", "alexnet")
    assert code == 0
    assert "34,848 weights" in out and "60,965,224" in out
    assert "37,748,736" in out and "177,209,344" in out


def test_heads_that_only_training_runs_have_rows_on_request(cli):
    arguments = ("summary", "googlenet", "--input", "3x96x96", "--classes", "10")
    code, out, _ = cli(*arguments)
    assert code == 0 and "aux1.fc1" not in rows(out)
    trained = cli(*arguments, "--training")
    assert trained.code == 0
    # Maps of 6 x 6 are pooled to one value.
    assert rows(trained.out)["aux1.fc1"][1:5] == ["Linear", "1024", "132,096", "131,072"]
    assert "aux1 and aux2: heads that only training runs" in trained.out
