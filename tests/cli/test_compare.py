"""`minicnn compare`: known figures of known networks, and a picture of them."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from minicnn.cli import main
from minicnn.models import MODELS
from minicnn.models.published import PUBLISHED
from minicnn.training.compare import Compared, compare, describe
from minicnn.training.compare_picture import compare_png, short

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

# Depth as the papers count it, and the receptive field of the last map, by the recurrence.
KNOWN = {
    "lenet": (431_080, 2_293_000, 4, 16),
    "alexnet": (60_965_224, 724_406_816, 8, 195),
    "alexnet_torchvision": (61_100_840, 714_188_480, 8, 195),
    "alexnet_small": (None, None, 8, 51),
    "vgg_small": (None, None, None, None),
}
LARGE = {
    "vgg16": (138_357_544, 15_470_264_320, 16, 212),
    "googlenet": (6_998_552, 1_582_671_872, 22, None),
    "resnet18": (11_689_512, None, 18, None),
    "resnet50": (25_557_032, 3_857_973_248, 50, 427),
    "densenet121": (7_978_856, 2_834_161_664, 121, None),
}


def row(name: str, **known: Any) -> Compared:
    """Return a row whose figures do not matter but for those given."""
    values: dict[str, Any] = {
        "name": name, "model": name, "data": "", "top1": None, "top5": None, "views": "",
        "source": "", "input_shape": (3, 224, 224), "parameters": 10**7, "macs": 10**9,
        "depth": 10, "receptive_field": (99, 99),
    }  # fmt: skip
    return Compared(**{**values, **known})


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"), int)


def count(picture: np.ndarray, colour: tuple[int, int, int], near: int = 6) -> int:
    return int((np.abs(picture - np.array(colour)).max(axis=2) <= near).sum())


@pytest.mark.parametrize("name", [n for n in KNOWN if n in MODELS])
def test_figures_of_known_networks(name):
    check(name, KNOWN[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in LARGE if n in MODELS])
def test_figures_of_large_networks(name):
    check(name, LARGE[name])


def check(name, expected):
    (got,) = compare([name])
    assert got.receptive_field[0] == got.receptive_field[1]
    figures = (got.parameters, got.macs, got.depth, got.receptive_field[0])
    for figure, wanted in zip(figures, expected, strict=True):
        assert wanted is None or figure == wanted


def test_depth_follows_the_longest_path():
    from minicnn import nn

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.short = nn.Conv2d(1, 2, 1)
            self.long = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 1))
            self.unused = nn.Conv2d(1, 2, 1)
            self.fc = nn.Linear(2, 3)

        def forward(self, x):
            self.unused(x)
            return self.fc((self.short(x) + self.long(x)).mean((2, 3)))

    summary, depth = describe(Branches(), (1, 5, 5))
    assert depth == 3
    assert len([row for row in summary.rows if row.macs]) == 5


def test_the_table_and_the_json_agree(cli, tmp_path):
    out, figures = tmp_path / "picture.png", tmp_path / "figures.json"
    code, text, err = cli("compare", "alexnet_torchvision", "lenet", "lenet", "--out", out,
                          "--json", figures)  # fmt: skip
    assert (code, err) == (0, "")
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "56.52 %" in lines["alexnet_torchvision"] and "61,100,840" in text
    assert "%" not in lines["lenet"]
    assert "torchvision, IMAGENET1K_V1" in text
    first, second = json.loads(figures.read_text())
    assert first["accuracy"]["top1"] == 56.522 and first["depth"] == 8
    assert (second["name"], second["accuracy"], second["macs"]) == ("lenet", None, 2_293_000)
    assert pixels(out.read_bytes()).std() > 5


def test_a_run_has_the_accuracy_it_was_measured_to_have(cli, finished_run, tmp_path):
    figures = tmp_path / "figures.json"
    code, text, _ = cli("compare", finished_run, "--out", tmp_path / "a.png", "--json", figures)
    assert code == 0
    (got,) = json.loads(figures.read_text())
    last = json.loads((finished_run / "metrics.json").read_text())["last"]
    assert got["accuracy"]["top1"] == pytest.approx(100 * last["test_accuracy"])
    assert got["accuracy"]["data"] == "digits" and "after epoch 2" in text
    assert got["model"] == "lenet"


def test_a_run_without_an_epoch_has_no_accuracy(copied_run):
    (copied_run / "metrics.json").unlink()
    (got,) = compare([str(copied_run)])
    assert got.top1 is None and got.data == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet", "lenett"], "got 'lenett', expected the name of a network"),
        (["alexnet_smal"], "did you mean alexnet_small"),
        (["."], "is not the folder of a run"),
        ([], "Missing argument"),
    ],
)
def test_what_is_no_network_is_one_line(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("compare", *arguments)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_damaged_metrics_are_named(cli, copied_run, tmp_path):
    (copied_run / "metrics.json").write_text('{"last": {"epoch": 1}}')
    code, _, err = cli("compare", copied_run, "--out", tmp_path / "a.png")
    assert code == 2 and "metrics.json has no test accuracy" in err


def test_bubbles_have_areas_like_parameters():
    blue = (0x73, 0xB1, 0xD6)  # 0072B2 at 55 % on white
    small = row("a", data="ImageNet", top1=60.0, views="one crop", parameters=2 * 10**7)
    large = row("b", data="ImageNet", top1=75.0, views="one crop", macs=10**10,
                parameters=8 * 10**7)  # fmt: skip
    picture = pixels(compare_png([small, large]))
    height, width = picture.shape[:2]
    upper, lower = (
        picture[: height // 2, : width * 3 // 4],
        picture[height // 2 :, : width * 3 // 4],
    )
    assert count(upper, blue) / count(lower, blue) == pytest.approx(4, rel=0.1)


def test_names_without_accuracy_are_bars():
    rows = [row("a", parameters=10**6), row("b", parameters=4 * 10**6)]
    picture = pixels(compare_png(rows))
    blue = np.abs(picture - np.array((0x00, 0x72, 0xB2))).max(axis=2) <= 6
    lengths = blue.sum(axis=1)
    filled = lengths[lengths > 50]
    assert filled.max() / filled.min() == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("count_of_networks", [1, 2, 18])
def test_labels_do_not_cover_each_other(count_of_networks, monkeypatch):
    import minicnn.training.compare_picture as module

    rng = np.random.default_rng(0)
    rows = [
        row(f"network{i}", data="ImageNet", views="one crop", top1=70 + 8 * rng.random(),
            macs=int(10 ** (9 + rng.random())), parameters=int(10 ** (6.5 + 1.5 * rng.random())))
        for i in range(count_of_networks)
    ]  # fmt: skip
    boxes = []

    def keep(axes, group):
        original(axes, group)
        renderer = axes.get_figure(root=True).canvas.get_renderer()
        boxes.extend(text.get_window_extent(renderer) for text in axes.texts)

    original = module._label
    monkeypatch.setattr(module, "_label", keep)
    compare_png(rows)
    assert len(boxes) == (count_of_networks if count_of_networks > 1 else 0)
    for i, first in enumerate(boxes):
        assert not any(first.overlaps(second) for second in boxes[i + 1 :])


def test_published_results_are_plausible():
    for name, result in PUBLISHED.items():
        for rate in (result.top1, result.top5):
            assert rate is None or 50 < rate < 100, name
        assert result.top1 is None or result.top5 is None or result.top1 < result.top5
        assert result.source and (result.data != "ImageNet" or result.views)


@pytest.mark.slow
def test_torchvisions_results_are_its_own():
    torchvision = pytest.importorskip("torchvision")

    for name, result in PUBLISHED.items():
        if name.endswith("_torchvision"):
            plain = name.removesuffix("_torchvision")
            meta = torchvision.models.get_model_weights(plain).IMAGENET1K_V1.meta
            rates = meta["_metrics"]["ImageNet-1K"]
            assert (result.top1, result.top5) == (rates["acc@1"], rates["acc@5"])


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (25_557_032, "25.6 M"), (4_089_184_256, "4.09 G"), (520, "520")]
)
def test_short_numbers(number, text):
    assert short(number) == text


def test_the_command_is_listed(capsys):
    assert main(["--help"]) == 0
    assert "compare" in capsys.readouterr().out
