"""Geometry against loops, SciPy, Pillow and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.data import geometry

SHAPES = [(3, 2, 6, 9), (1, 1, 1, 1), (4, 3, 8, 5), (2, 1, 1, 7), (0, 1, 4, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pad_against_numpy(shape, dtype):
    images = np.random.default_rng(0).random(shape).astype(dtype)
    padded = geometry.pad(images, 1, 2, 3, 0, fill=0.5)
    expected = np.pad(images, ((0, 0), (0, 0), (1, 2), (3, 0)), constant_values=0.5)
    assert padded.dtype == dtype
    assert np.array_equal(padded, expected)


def test_windows_against_slices():
    rng = np.random.default_rng(1)
    images = rng.random((20, 3, 7, 9))
    top, left = rng.integers(0, 4, 20), rng.integers(0, 5, 20)
    cut = geometry.windows(images, top, left, 4, 5)
    assert cut.shape == (20, 3, 4, 5)
    assert cut.flags.c_contiguous
    for n in range(20):
        expected = images[n, :, top[n] : top[n] + 4, left[n] : left[n] + 5]
        assert np.array_equal(cut[n], expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rotate_against_scipy(shape, dtype):
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(2)
    images = rng.random(shape).astype(dtype)
    before = images.copy()
    degrees = rng.uniform(-180, 180, shape[0])
    turned = geometry.rotate(images, degrees)
    assert turned.dtype == dtype and turned.flags.c_contiguous
    assert np.array_equal(images, before)
    centre = np.array([(shape[2] - 1) / 2, (shape[3] - 1) / 2])
    for n in range(shape[0]):
        a = np.deg2rad(degrees[n])
        matrix = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        for c in range(shape[1]):
            expected = ndimage.affine_transform(
                images[n, c].astype(np.float64),
                matrix,
                offset=centre - matrix @ centre,
                order=1,
                mode="grid-constant",
            )
            error = np.abs(turned[n, c] - expected).max()
            assert error < (1e-5 if dtype == np.float32 else 1e-12)


def test_rotate_turns_counter_clockwise_by_degrees():
    images = np.random.default_rng(3).random((4, 2, 5, 5))
    turned = geometry.rotate(images, [0, 90, 180, -90])
    for n, quarters in enumerate([0, 1, 2, 3]):
        expected = np.rot90(images[n], quarters, axes=(1, 2))
        assert np.abs(turned[n] - expected).max() < 1e-12


def test_rotate_in_groups_is_rotate_at_once():
    rng = np.random.default_rng(4)
    images = rng.random((70, 1, 28, 28), np.float32)
    degrees = rng.uniform(-30, 30, 70)
    whole = geometry.rotate(images, degrees)
    single = [geometry.rotate(images[n : n + 1], degrees[n : n + 1])[0] for n in range(70)]
    assert np.array_equal(whole, np.stack(single))


SIZES = [((6, 9), (12, 5)), ((8, 8), (28, 28)), ((33, 20), (7, 20)), ((4, 4), (1, 1))]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_against_pillow(old, new):
    image = pytest.importorskip("PIL.Image")
    images = np.random.default_rng(5).random((2, 2, *old), np.float32)
    scaled = geometry.resize(images, *new)
    assert scaled.shape == (2, 2, *new) and scaled.dtype == np.float32
    for n, c in np.ndindex(2, 2):
        theirs = image.fromarray(images[n, c]).resize(new[::-1], image.Resampling.BILINEAR)
        assert np.abs(scaled[n, c] - np.asarray(theirs)).max() < 1e-5


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_resize_against_pytorch(old, new):
    torch = pytest.importorskip("torch")
    images = np.random.default_rng(6).random((2, 3, *old))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(images), new, mode="bilinear", antialias=True
    )
    assert np.abs(geometry.resize(images, *new) - theirs.numpy()).max() < 1e-6
