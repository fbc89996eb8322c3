"""Transforms: what each does, one draw an image, inputs untouched, descriptions that build."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from minicnn.data import (
    TRANSFORMS,
    CenterCrop,
    Compose,
    Normalize,
    Pad,
    PCALighting,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation,
    RandomShift,
    Resize,
    build_transform,
)

EXAMPLES = [
    CenterCrop((5, 4)),
    Normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]),
    Normalize(0.5, 0.25),
    Pad((1, 2), fill=0.5),
    PCALighting([0.2, 0.02, 0.005], list(np.linalg.qr(np.vander([1.0, 2.0, 4.0]))[0])),
    RandomCrop(6, padding=2),
    RandomHorizontalFlip(),
    RandomRotation(20),
    RandomShift(2),
    Resize((12, 5)),
    Compose([RandomShift(1), Normalize(0.1, 0.3)]),
]


def batch(
    size: int = 50, shape: tuple[int, ...] = (3, 8, 7), dtype: type = np.float32
) -> np.ndarray:
    return np.random.default_rng(0).random((size, *shape)).astype(dtype)


@pytest.mark.parametrize("transform", EXAMPLES, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_manners(transform, dtype):
    """A new contiguous array, same dtype, the input as it was, a function of the generator."""
    images = batch(dtype=dtype)
    before = images.copy()
    first = transform(images, np.random.default_rng(1))
    assert np.array_equal(images, before)
    assert not np.shares_memory(first, images)
    assert first.dtype == dtype and first.flags.c_contiguous
    assert np.array_equal(first, transform(images, np.random.default_rng(1)))
    strided = batch(100, dtype=dtype)[::2]
    from_copy = transform(strided.copy(), np.random.default_rng(1))
    assert np.array_equal(transform(strided, np.random.default_rng(1)), from_copy)
    assert transform(images[:0], np.random.default_rng(1)).shape == (0, *first.shape[1:])


@pytest.mark.parametrize("transform", EXAMPLES, ids=repr)
def test_description_is_json_and_builds_the_same(transform):
    description = transform.describe()
    read = json.loads(json.dumps(description))
    assert read == description
    if not isinstance(transform, Compose):
        assert build_transform([read]) == Compose([transform])
        assert eval(repr(transform), dict(TRANSFORMS)) == transform


@pytest.mark.parametrize(
    "transform", [e for e in EXAMPLES if type(e).__name__[:6] == "Random"], ids=repr
)
def test_random_transforms_treat_each_image_by_itself(transform):
    images = np.repeat(batch(1), 40, axis=0)
    results = {image.tobytes() for image in transform(images, np.random.default_rng(2))}
    assert len(results) > 1
    other = transform(images, np.random.default_rng(3))
    assert not np.array_equal(other, transform(images, np.random.default_rng(2)))


@pytest.mark.parametrize("transform", EXAMPLES, ids=repr)
@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((2, 3, 8, 8), np.uint8), TypeError),
        ([[0.0]], TypeError),
        (np.zeros((3, 8, 8), np.float32), ValueError),
    ],
)
def test_bad_images(transform, images, error):
    with pytest.raises(error, match="images: expected"):
        transform(images, np.random.default_rng(0))


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    result = np.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                result[:, y, x] = image[:, y - down, x - right]
    return result


def test_shift_moves_whole_images_by_every_amount_in_range():
    images = batch(400)
    moved = RandomShift((1, 2))(images, np.random.default_rng(4))
    seen = []
    for before, after in zip(images, moved, strict=True):
        found = [
            (down, right)
            for down in range(-3, 4)
            for right in range(-3, 4)
            if np.array_equal(after, shifted(before, down, right))
        ]
        assert len(found) == 1
        seen += found
    assert set(seen) == {(down, right) for down in (-1, 0, 1) for right in (-2, -1, 0, 1, 2)}


def test_random_crop_takes_every_window_of_the_padded_image():
    images = batch(300, (1, 4, 5))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (0, 0)), constant_values=0.5)
    cut = RandomCrop((3, 4), padding=(1, 0), fill=0.5)(images, np.random.default_rng(5))
    places = set()
    for whole, window in zip(padded, cut, strict=True):
        places |= {
            (top, left)
            for top in range(4)
            for left in range(2)
            if np.array_equal(window, whole[:, top : top + 3, left : left + 4])
        }
    assert places == {(top, left) for top in range(4) for left in range(2)}
    assert cut.shape == (300, 1, 3, 4)


def test_flip_mirrors_a_share_of_the_images():
    images = batch(1000, (1, 2, 5))
    flipped = RandomHorizontalFlip(0.3)(images, np.random.default_rng(6))
    mirrored = [np.array_equal(f, i[:, :, ::-1]) for f, i in zip(flipped, images, strict=True)]
    untouched = [np.array_equal(f, i) for f, i in zip(flipped, images, strict=True)]
    assert all(m != u for m, u in zip(mirrored, untouched, strict=True))
    # Three standard deviations of a binomial with p = 0.3.
    assert abs(sum(mirrored) - 300) < 3 * (1000 * 0.3 * 0.7) ** 0.5
    always = RandomHorizontalFlip(1)(images, np.random.default_rng(6))
    assert np.array_equal(always, images[:, :, :, ::-1])
    assert np.array_equal(RandomHorizontalFlip(0)(images, np.random.default_rng(6)), images)


def test_rotation_stays_within_its_angle():
    """A dot at radius 10 tells the angle that its image was turned by."""
    images = np.zeros((500, 1, 25, 25))
    images[:, 0, 11:14, 21:24] = 1
    turned = RandomRotation(15)(images, np.random.default_rng(7))[:, 0]
    y, x = np.mgrid[-12:13, -12:13]
    angles = np.rad2deg(np.arctan2(-(turned * y).sum((1, 2)), (turned * x).sum((1, 2))))
    assert -15.1 < angles.min() < -14 and 14 < angles.max() < 15.1
    assert abs(angles.mean()) < 3 * 15 / 3**0.5 / 500**0.5
    none = RandomRotation(0)(images, np.random.default_rng(7))
    assert np.array_equal(none, images)


def test_normalize():
    images = batch(4)
    normalized = Normalize([0.1, 0.2, 0.3], [0.5, 0.25, 2])(images, np.random.default_rng(0))
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 2)]):
        expected = (images[:, channel].astype(np.float64) - mean) / std
        assert np.abs(normalized[:, channel] - expected).max() < 1e-6
    alike = Normalize(0.5, 0.5)(images, np.random.default_rng(0))
    assert np.abs(alike - (2 * images.astype(np.float64) - 1)).max() < 1e-6


def test_normalize_fit():
    images = np.random.default_rng(8).integers(0, 200, (30, 3, 9, 9), np.uint8)
    images[:, 1] //= 3
    fitted = Normalize.fit(images)
    scaled = images / 255
    assert fitted.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert fitted.std == pytest.approx(scaled.std((0, 2, 3)).tolist(), rel=1e-12)


def test_center_crop():
    images = np.arange(30.0).reshape(1, 1, 5, 6)
    cut = CenterCrop((2, 4))(images, np.random.default_rng(0))
    assert cut.tolist() == [[[[7, 8, 9, 10], [13, 14, 15, 16]]]]


def test_pca_lighting_fit_against_numpy():
    images = np.random.default_rng(9).integers(0, 256, (10, 3, 6, 6), np.uint8)
    images[:, 1] = images[:, 0] // 2 + images[:, 1] // 4
    fitted = PCALighting.fit(images)
    covariance = np.cov(images.transpose(1, 0, 2, 3).reshape(3, -1) / 255, bias=True)
    vectors = np.array(fitted.eigenvectors)
    rebuilt = vectors @ np.diag(fitted.eigenvalues) @ vectors.T
    assert np.abs(rebuilt - covariance).max() < 1e-12
    assert np.abs(vectors.T @ vectors - np.eye(3)).max() < 1e-12
    assert fitted.eigenvalues == sorted(fitted.eigenvalues, reverse=True)


def test_pca_lighting_shifts_whole_images_along_the_colours():
    values = [0.5, 0.1, 0.02]
    vectors = np.linalg.qr(np.random.default_rng(10).normal(size=(3, 3)))[0]
    images = np.zeros((20000, 3, 1, 2))
    shifts = PCALighting(values, list(vectors), std=0.1)(images, np.random.default_rng(11))
    assert np.array_equal(shifts[..., 0], shifts[..., 1])
    # alpha_i lambda_i along p_i has the standard deviation 0.1 lambda_i and no correlations.
    along = shifts[:, :, 0, 0] @ vectors
    assert np.abs(np.std(along, axis=0) / (0.1 * np.array(values)) - 1).max() < 0.03
    assert np.abs(np.corrcoef(along.T) - np.eye(3)).max() < 0.03
    assert np.abs(along.mean(axis=0)).max() < 4 * 0.05 / 20000**0.5


def test_compose_applies_in_order_with_one_generator():
    images = batch()
    parts = [RandomShift(2), RandomHorizontalFlip(), Normalize(0.1, 0.3)]
    rng = np.random.default_rng(12)
    expected = parts[2](parts[1](parts[0](images, rng), rng), rng)
    assert np.array_equal(Compose(parts)(images, np.random.default_rng(12)), expected)
    assert np.array_equal(Compose([])(images, rng), images)


def test_build_transform():
    specs: list[Any] = [
        {"name": "RandomShift", "max_shift": 2},
        "RandomHorizontalFlip",
        {"name": "Normalize", "mean": [0.1307], "std": [0.3081]},
    ]
    built = build_transform(specs)
    assert built == Compose(
        [RandomShift(2), RandomHorizontalFlip(0.5), Normalize([0.1307], [0.3081])]
    )
    assert build_transform(built.describe()["transforms"]) == built
    assert specs[0] == {"name": "RandomShift", "max_shift": 2}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("Blur", "transform: expected one of CenterCrop, .*TenCrop, got 'Blur'"),
        ({"max_shift": 2}, "transform: expected one of .* got None"),
        (3, "transform: expected one of .* got 3"),
        ({"name": "RandomShift"}, r"missing .*'max_shift'; expected RandomShift\("),
        ({"name": "RandomShift", "shift": 2}, r"'shift'; expected RandomShift\("),
        ({"name": "RandomShift", "max_shift": 1.5}, "max_shift: expected an integer"),
        ({"name": "RandomShift", "max_shift": -1}, "max_shift: expected at least 0, got -1"),
        ({"name": "RandomCrop", "size": 0}, "size: expected at least 1"),
        ({"name": "RandomCrop", "size": [1, 2, 3]}, "size: expected an integer or two"),
        ({"name": "RandomHorizontalFlip", "p": 1.1}, r"p: expected a probability"),
        ({"name": "RandomRotation", "degrees": -1}, "degrees: expected 0 or more"),
        ({"name": "RandomRotation", "degrees": float("nan")}, "degrees: expected a finite"),
        ({"name": "RandomRotation", "degrees": "10"}, "degrees: expected a number, got str"),
        ({"name": "Normalize", "mean": [0.1, 0.2], "std": [0.1]}, "std: expected as many"),
        ({"name": "Normalize", "mean": 0, "std": 0}, "std: expected positive"),
        ({"name": "Normalize", "mean": [], "std": []}, "mean: expected at least one"),
        (
            {"name": "PCALighting", "eigenvalues": [1, 2], "eigenvectors": [[1, 0]]},
            "eigenvectors: expected shape",
        ),
        (
            {"name": "PCALighting", "eigenvalues": [1], "eigenvectors": [[1]], "std": -1},
            "std: expected 0 or more",
        ),
    ],
)
def test_wrong_specs_are_value_errors_of_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_transform([spec])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (CenterCrop(9), "images: expected at least 9x9 to crop from, got 8x7"),
        (RandomCrop(12, padding=2), "images: expected at least 12x12 to crop from, got 12x11"),
        (Normalize([0, 0], [1, 1]), "images: expected 2 channels, as mean has, got 3"),
        (PCALighting([1.0], [[1.0]]), "images: expected 1 channels, as eigenvalues has, got 3"),
    ],
)
def test_images_that_do_not_fit(transform, message):
    with pytest.raises(ValueError, match=message):
        transform(batch(), np.random.default_rng(0))


def test_compose_wants_transforms():
    with pytest.raises(TypeError, match="transforms: expected Transforms, got 'flip'"):
        Compose(["flip"])
