"""Transforms of real pictures, against torchvision and against sums done by hand."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from minicnn.data import (
    CenterCrop,
    ColorJitter,
    Compose,
    FiveCrop,
    Normalize,
    PCALighting,
    RandomResizedCrop,
    RandomShortSide,
    ResizeShortSide,
    SubtractMean,
    TenCrop,
    build_transform,
    fill_in,
    with_crops,
)

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="needs torchvision"
)


def batch(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@needs_torchvision
@pytest.mark.parametrize("shape", [(23, 31), (31, 23), (9, 9), (7, 40)])
@pytest.mark.parametrize("size", [8, 16])
def test_short_side_is_torchvisions(shape, size):
    import torch
    from torchvision.transforms.v2 import functional as TF

    images = batch(2, 3, *shape)
    expected = TF.resize(torch.from_numpy(images), [size], antialias=True).numpy()
    ours = ResizeShortSide(size)(images, rng())
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=2e-6)


@needs_torchvision
def test_crops_are_torchvisions():
    import torch
    from torchvision.transforms.v2 import functional as TF

    images = batch(2, 3, 9, 13)
    for ours, theirs in ((FiveCrop((5, 7)), TF.five_crop), (TenCrop((5, 7)), TF.ten_crop)):
        views = np.stack([part.numpy() for part in theirs(torch.from_numpy(images), [5, 7])], 1)
        assert np.array_equal(ours(images, rng()), views.reshape(-1, 3, 5, 7))


@needs_torchvision
@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours_are_torchvisions(kind):
    import torch
    from torchvision.transforms.v2 import functional as TF

    image = batch(1, 3, 6, 5)
    ours = ColorJitter(**{kind: 0.6})(image, rng(3))
    place = ("brightness", "contrast", "saturation").index(kind)
    spread = np.zeros(3)
    spread[place] = 0.6
    factor = rng(3).uniform(1 - spread, 1 + spread)[place]
    adjust = getattr(TF, f"adjust_{kind}")
    np.testing.assert_allclose(ours, adjust(torch.from_numpy(image), factor).numpy(), atol=2e-6)
    assert not np.allclose(ours, image, atol=1e-2)


def test_windows_have_the_drawn_area_and_shape():
    crop = RandomResizedCrop(8)
    source = rng()
    drawn = [crop.window(400, 400, source) for _ in range(3000)]
    for top, left, height, width in drawn:
        assert 0 <= top <= 400 - height and 0 <= left <= 400 - width
    areas = np.array([h * w / 160_000 for _, _, h, w in drawn])
    shapes = np.array([w / h for _, _, h, w in drawn])
    assert 0.078 < areas.min() < 0.1 and 0.9 < areas.max() <= 1
    assert 0.74 < shapes.min() < 0.76 and 1.32 < shapes.max() < 1.35
    assert abs(np.log(shapes).mean()) < 0.02
    crop = RandomResizedCrop(8, scale=(1, 1))  # never fits into these
    assert crop.window(100, 10, source) == (43, 0, 13, 10)
    assert crop.window(10, 100, source) == (0, 43, 10, 13)


def test_a_whole_window_is_a_resize():
    images = batch(2, 3, 6, 6)
    whole = RandomResizedCrop(4, scale=(1, 1), ratio=(1, 1))
    expected = build_transform([{"name": "Resize", "size": 4}])(images, rng())
    assert np.array_equal(whole(images, rng()), expected)


def test_drawn_short_sides_reach_both_ends():
    transform, source = RandomShortSide(4, 6), rng()
    sizes = {transform(batch(1, 1, 8, 12), source).shape[2:] for _ in range(60)}
    assert sizes == {(4, 6), (5, 7), (6, 9)}
    with pytest.raises(ValueError, match="images: expected one, as each gets another size, got 2"):
        transform(batch(2, 1, 8, 8), rng())


def test_the_mean_goes():
    pixels = rng().integers(0, 256, (5, 3, 4, 4), np.uint8)
    transform = SubtractMean.fit(pixels)
    result = transform((pixels / 255).astype(np.float32), rng())
    np.testing.assert_allclose(result.mean(axis=(0, 2, 3)), 0, atol=1e-6)


def test_what_depends_on_the_pixels_is_filled_in():
    pixels = rng().integers(0, 256, (5, 3, 4, 4), np.uint8)
    calls = []

    def sample() -> np.ndarray:
        calls.append(1)
        return pixels

    flip = {"name": "RandomHorizontalFlip"}
    specs = [flip, {"name": "PCALighting", "std": 0.2}, "SubtractMean", "Normalize"]
    filled = fill_in(specs, sample)
    expected = [PCALighting.fit(pixels, 0.2), SubtractMean.fit(pixels), Normalize.fit(pixels)]
    assert filled == [flip, *(part.describe() for part in expected)]
    assert len(calls) == 1
    assert fill_in(filled, sample) == filled and len(calls) == 1
    with pytest.raises(ValueError, match="PCALighting: .*unexpected keyword argument 'sigma'"):
        fill_in([{"name": "PCALighting", "sigma": 1}], sample)


def test_crops_replace_the_last_centre():
    centre, normalize = CenterCrop(4).describe(), Normalize(0.5, 0.5).describe()
    ten = build_transform(with_crops([centre, centre, normalize], "ten"))
    assert ten == Compose([CenterCrop(4), TenCrop(4), Normalize(0.5, 0.5)])
    with pytest.raises(ValueError, match="with a CenterCrop for five crops to replace, got Norm"):
        with_crops([normalize], "five")
    with pytest.raises(ValueError, match="crops: expected one of five, ten, got 'six'"):
        with_crops([centre], "six")


TRANSFORMS = [
    ColorJitter(0.4, 0.3, 0.2),
    FiveCrop(4),
    RandomResizedCrop((4, 5)),
    ResizeShortSide(5),
    SubtractMean([0.1, 0.2, 0.3]),
    TenCrop((4, 3)),
    Compose([RandomShortSide(5, 8), CenterCrop(5)]),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_manners(transform, dtype):
    """A new array of the same kind, the input as it was, equal after a description."""
    images = batch(6, 3, 8, 7).astype(dtype)
    before = images.copy()
    first = transform(images, rng())
    assert np.array_equal(images, before) and not np.shares_memory(first, images)
    assert first.dtype == dtype and first.flags.c_contiguous
    parts = transform.transforms if isinstance(transform, Compose) else [transform]
    again = build_transform(part.describe() for part in parts)
    assert np.array_equal(again(images, rng()), first)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomShortSide(5, 4), r"high: expected at least low \(5\), got 4"),
        (lambda: RandomResizedCrop(4, scale=(0.5, 2)), "scale: expected at most 1"),
        (lambda: RandomResizedCrop(4, ratio=(2, 1)), "ratio: expected two positive numbers in"),
        (lambda: ColorJitter(-1), "brightness: expected 0 or more, got -1"),
        (lambda: ResizeShortSide(0), "size: expected at least 1, got 0"),
        (lambda: TenCrop(9)(batch(1, 3, 8, 9), rng()), "expected at least 9x9 to crop from"),
        (lambda: ColorJitter()(batch(1, 1, 8, 9), rng()), "expected 3 channels"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
