"""Any picture of a digit becomes what MNIST would have made of it."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.training.pictures import FRAMES, Frame, place, read_grey

Image = pytest.importorskip("PIL.Image")
ImageDraw = pytest.importorskip("PIL.ImageDraw")
MNIST = FRAMES["mnist"]


def draw_seven(size=(200, 300), ground="white", ink="black", mode="RGB", width=14):
    """Draw a 7, not in the middle: its box is 60 x 100 pixels."""
    image = Image.new(mode, size, ground)
    pen = ImageDraw.Draw(image)
    pen.line([(40, 60), (100, 60), (60, 160)], fill=ink, width=width, joint="curve")
    return image


def save(image, path, **options):
    image.save(path, **options)
    return path


def place_file(path, frame=MNIST):
    return place(read_grey(path), frame)[0].astype(float)


def box(image, level=30):
    """Return top, bottom, left, right of what is brighter than level."""
    rows, columns = (np.flatnonzero((image > level).any(axis=axis)) for axis in (1, 0))
    return rows[0], rows[-1], columns[0], columns[-1]


def test_a_digit_is_scaled_to_20_pixels_and_centred_by_its_mass(tmp_path):
    image = place_file(save(draw_seven(), tmp_path / "seven.png"))
    assert image.shape == (28, 28)
    top, bottom, left, right = box(image)
    assert max(bottom - top, right - left) + 1 in (19, 20)
    y, x = np.indices(image.shape)
    assert abs((image * y).sum() / image.sum() - 13.5) <= 0.51
    assert abs((image * x).sum() / image.sum() - 13.5) <= 0.51
    assert image.max() == 255
    assert image[0].max() == image[:, 0].max() == 0


def test_the_shape_of_a_digit_is_kept(tmp_path):
    image = Image.new("L", (300, 200), 255)
    ImageDraw.Draw(image).rectangle([100, 20, 139, 179], fill=0)  # 40 x 160
    top, bottom, left, right = box(place_file(save(image, tmp_path / "one.png")))
    assert (bottom - top + 1, right - left + 1) == (20, 5)


@pytest.mark.parametrize(
    "options",
    [
        {"ground": "black", "ink": "white"},
        {"ground": "#eeeecc", "ink": "#203080"},
        {"ground": "#303030", "ink": "#b0b0a0"},
        {"mode": "L", "ground": 255, "ink": 0},
        {"mode": "1", "ground": 1, "ink": 0},
        {"mode": "CMYK", "ground": (0, 0, 0, 0), "ink": (0, 0, 0, 255)},
        {"mode": "RGBA", "ground": (0, 0, 0, 0), "ink": (0, 0, 0, 255)},
        {"mode": "RGBA", "ground": (0, 0, 0, 0), "ink": (255, 255, 255, 255)},
        {"mode": "LA", "ground": (0, 0), "ink": (0, 255)},
    ],
    ids=str,
)
def test_ink_may_be_dark_or_bright_on_any_ground(tmp_path, options):
    expected = place_file(save(draw_seven(), tmp_path / "plain.png"))
    name = "other.tiff" if options.get("mode") == "CMYK" else "other.png"
    found = place_file(save(draw_seven(**options), tmp_path / name))
    assert np.abs(found - expected).max() < 40


def test_sixteen_bit_pictures(tmp_path):
    grey = np.asarray(draw_seven().convert("L"), np.uint16) * 257
    path = save(Image.fromarray(grey), tmp_path / "deep.png")
    expected = place_file(save(draw_seven(), tmp_path / "plain.png"))
    assert np.abs(place_file(path) - expected).max() < 5


def test_a_photograph_is_turned_as_the_camera_was_held(tmp_path):
    upright = draw_seven()
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture has to be turned clockwise by 90 degrees
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    path = save(turned, tmp_path / "turned.jpg", exif=exif, quality=95)
    expected = place_file(save(upright, tmp_path / "plain.png"))
    assert np.abs(place_file(path) - expected).mean() < 6


def test_papers_grain_and_shadow_do_not_widen_the_box(tmp_path):
    rng = np.random.default_rng(0)
    paper = np.asarray(draw_seven(ground="#d0d0d0").convert("L"), float)
    shaded = paper - np.linspace(0, 15, paper.shape[1]) + rng.normal(0, 4, paper.shape)
    path = save(Image.fromarray(shaded.clip(0, 255).astype(np.uint8)), tmp_path / "photo.png")
    expected = place_file(save(draw_seven(), tmp_path / "plain.png"))
    assert np.abs(place_file(path) - expected).mean() < 8


def test_a_hairline_is_as_bright_as_a_thick_line(tmp_path):
    path = save(draw_seven((900, 900), width=1), tmp_path / "thin.png")
    image = place_file(path)
    assert image.max() == 255
    assert np.ptp(box(image)[:2]) + 1 in (19, 20)


def test_pictures_of_the_right_size_keep_their_place():
    rng = np.random.default_rng(0)
    grey = np.zeros((28, 28))
    grey[3:9, 2:20] = rng.integers(0, 256, (6, 18)) / 255
    np.testing.assert_array_equal(place(grey, MNIST)[0], np.rint(grey * 255))
    np.testing.assert_array_equal(place(1 - grey, MNIST)[0], np.rint(grey * 255))


@pytest.mark.parametrize("shade", [0.0, 0.4, 1.0])
def test_an_empty_picture_is_black(shade):
    np.testing.assert_array_equal(place(np.full((50, 60), shade), MNIST), np.zeros((1, 28, 28)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 2)])
def test_tiny_and_thin_pictures(shape):
    grey = np.random.default_rng(0).random(shape)
    assert place(grey, MNIST).shape == (1, 28, 28)


def test_other_frames():
    grey = np.zeros((100, 100))
    grey[20:60, 30:50] = 1
    image = place(grey, Frame(8, 8, by_mass=False))[0]
    assert image.shape == (8, 8)
    assert box(image, 200) == (0, 7, 2, 5)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped"])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_what_is_no_picture_is_refused_by_name(tmp_path, kind, damage):
    path = save(draw_seven(), tmp_path / f"seven.{kind}")
    data = path.read_bytes()
    broken = {
        "empty": b"",
        "text": b"just some words\n" * 30,
        "cut": data[: len(data) // 2],
        "flipped": data[:20] + bytes(byte ^ 0xFF for byte in data[20:60]) + data[60:],
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="is not a picture that can be read") as caught:
        read_grey(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_picture_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_grey(tmp_path / "nothing.png")
