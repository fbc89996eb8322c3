"""`minicnn visualize`: its files, its words, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn.data import load_digits
from minicnn.models import create_model
from minicnn.serialization import save_state_dict

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    """A test digit, large, bright on dark."""
    _, test = load_digits()
    digit = test.images[int(np.flatnonzero(test.labels == 7)[0]), 0]
    path = tmp_path_factory.mktemp("pictures") / "seven.png"
    Image.fromarray(np.kron(digit, np.ones((8, 8), np.uint8))).save(path)
    return path


def size(path: Path) -> tuple[int, int]:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return image.size


def test_filters_alone(cli, finished_run, tmp_path):
    code, out, _ = cli("visualize", finished_run, "--out", tmp_path / "new" / "folder")
    assert code == 0 and "filters.png" in out
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["filters.png"]


def test_a_picture_gives_maps_and_heat(cli, finished_run, seven, tmp_path):
    code, out, _ = cli("visualize", finished_run, seven, "--out", tmp_path)
    assert code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["filters.png", "seven-heat.png", "seven-maps.png"]
    assert out.count("written to") == 3 and "grad-cam on conv2" in out
    wide, high = size(tmp_path / "seven-heat.png")
    assert wide > 2 * high > 500
    both = size(tmp_path / "seven-maps.png")
    assert cli("visualize", finished_run, seven, "--out", tmp_path, "--layer", "conv2").code == 0
    assert size(tmp_path / "seven-maps.png")[1] < both[1]


def test_the_class_can_be_chosen(cli, finished_run, seven, tmp_path):
    code, out, _ = cli("visualize", finished_run, seven, "--class", "3", "--out", tmp_path)
    assert code == 0 and out.startswith("3 ")


def test_by_default_pictures_go_into_the_run(cli, copied_run, seven):
    assert cli("visualize", copied_run, seven).code == 0
    assert (copied_run / "seven-heat.png").exists()


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_weights_in_a_file(cli, seven, tmp_path, ending):
    from minicnn.serialization import save_torch_file

    minicnn.manual_seed(0)
    state = create_model("lenet").state_dict()
    file = tmp_path / f"weights{ending}"
    if ending == ".pth":
        save_torch_file(file, {name: tensor.numpy() for name, tensor in state.items()})
    else:
        save_state_dict(file, state)
    out = tmp_path / "out"
    assert cli("visualize", "lenet", seven, "--weights", file, "--out", out).code == 0
    assert len(list(out.iterdir())) == 3


def test_colour_pictures_of_any_size_for_networks_on_colour(cli, tmp_path, monkeypatch):
    from functools import partial

    import minicnn.models

    small = partial(minicnn.models.MODELS["alexnet_small"], in_channels=3, input_size=32)
    monkeypatch.setitem(minicnn.models.MODELS, "colour", small)
    save_state_dict(tmp_path / "w.safetensors", small().state_dict())
    Image.new("RGB", (90, 60), (200, 40, 20)).save(tmp_path / "red.jpg")
    monkeypatch.chdir(tmp_path)
    assert cli("visualize", "colour", "red.jpg", "--weights", "w.safetensors").code == 0
    assert {p.name for p in (tmp_path / "visualize-colour").iterdir()} == {
        "filters.png", "red-heat.png", "red-maps.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "SEVEN", "--layer", "conv9"], "got 'conv9', expected one that gives maps: conv1"),
        (["RUN", "SEVEN", "--class", "10"], "class: got '10', expected one of 0, 1, 2"),
        (["RUN", "SEVEN", "--method", "cam"], "does not end in global average pooling"),
        (["RUN", "WORDS"], "words.png"),
        (["RUN", "nothing.png"], "nothing.png"),
        (["RUN", "--class", "3"], "with an IMAGE only"),
        (["RUN", "SEVEN", "--classes", "3"], "with --weights only"),
        (["nowhere"], "is not a folder with a run in it"),
        (["lenett", "--weights", "WORDS"], "expected one of"),
        (["lenet", "--weights", "WORDS"], "does not fit lenet"),
        (["alexnet_small", "--weights", "RUN/weights.safetensors"], "missing keys"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(cli, finished_run, seven, tmp_path, arguments, message):
    words = tmp_path / "words.png"
    words.write_text("no picture")
    places = {"RUN": finished_run, "SEVEN": seven, "WORDS": words}
    arguments = [str(a).replace("RUN", str(finished_run)) if "RUN/" in a else places.get(a, a)
                 for a in arguments]  # fmt: skip
    out_folder = tmp_path / "out"
    code, out, err = cli("visualize", *arguments, "--out", out_folder)
    assert (code, out) == (2, "")
    assert err.startswith("minicnn: error: ") and message in err
    assert err.count("\n") == 1
    assert not out_folder.exists()


def test_a_run_without_weights_is_told(cli, copied_run, seven):
    (copied_run / "weights.safetensors").unlink()
    code, _, err = cli("visualize", copied_run, seven)
    assert code == 2 and "has no weights yet" in err
