"""`minicnn predict`: pictures in, probabilities out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from minicnn.data import load_digits

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twenty test digits, large, dark on bright, framed by paper; and their labels."""
    folder = tmp_path_factory.mktemp("pictures")
    _, test = load_digits()
    paths = []
    for index in range(20):
        large = np.kron(255 - test.images[index, 0], np.ones((16, 16), np.uint8))
        path = folder / f"{index}.png"
        Image.fromarray(np.pad(large, 30, constant_values=255)).save(path)
        paths.append(path)
    return paths, test.labels[:20]


def test_json_has_every_probability(cli, finished_run, pictures):
    paths, labels = pictures
    code, out, _ = cli("predict", finished_run, "--json", *paths)
    assert code == 0
    results = json.loads(out)
    assert [result["image"] for result in results] == [str(path) for path in paths]
    for result in results:
        probabilities = result["probabilities"]
        assert list(probabilities) == list("0123456789")
        assert sum(probabilities.values()) == pytest.approx(1)
        assert result["class"] == max(probabilities, key=probabilities.get)
    right = [int(result["class"]) == label for result, label in zip(results, labels, strict=True)]
    assert sum(right) >= 12  # two epochs know four fifths of the digits as they come


def test_the_table_shows_the_likeliest_classes(cli, finished_run, pictures):
    paths, _ = pictures
    result = json.loads(cli("predict", finished_run, "--json", paths[0]).out)[0]
    ranked = sorted(result["probabilities"].items(), key=lambda item: -item[1])
    code, out, _ = cli("predict", finished_run, "--top", 2, paths[0])
    assert code == 0
    line = next(line for line in out.splitlines() if "%" in line)
    assert line.split()[-4:] == [
        ranked[0][0], f"{ranked[0][1]:.2%}", ranked[1][0], f"{ranked[1][1]:.2%}",
    ]  # fmt: skip


def test_names_are_shown_as_they_are(cli, finished_run, pictures, tmp_path):
    odd = tmp_path / "[bold]a:smile:[1].png"
    odd.write_bytes(pictures[0][0].read_bytes())
    assert str(odd) in cli("predict", finished_run, odd).out


def test_an_image_folders_run_takes_colour_pictures_of_any_size(cli, tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name, colour in (("red", (200, 30, 30)), ("green", (30, 200, 30))):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 20, (28, 28, 3)), 0, 255)
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(tmp_path / "data" / part / name / f"{index}.png")
    run = tmp_path / "run"
    assert cli(
        "train", "lenet", "--data", "folder", "--data-folder", tmp_path / "data", "--out", run,
        "--epochs", 4, "--batch-size", 4,
    ).code == 0  # fmt: skip
    Image.new("RGB", (300, 100), (180, 40, 20)).save(tmp_path / "wide.jpg")
    Image.new("RGBA", (10, 90), (20, 180, 40, 255)).save(tmp_path / "tall.png")
    out = cli("predict", run, "--json", tmp_path / "wide.jpg", tmp_path / "tall.png").out
    assert [result["class"] for result in json.loads(out)] == ["red", "green"]
    assert cli("eval", run).code == 0


def test_unreadable_pictures_are_one_line(cli, finished_run, pictures, tmp_path):
    paths, _ = pictures
    (tmp_path / "words.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(paths[0].read_bytes()[:200])
    for name in ("words.png", "cut.png", "nothing.png"):
        code, out, err = cli("predict", finished_run, paths[0], tmp_path / name)
        assert (code, out) == (2, "")
        assert err.startswith("minicnn: error: ") and name in err
        assert err.count("\n") == 1
