"""load_dataset: one door to every set."""

from __future__ import annotations

import pytest

from minicnn.data import DATASETS, DataError, load_dataset


def test_digits_by_name():
    train, test = load_dataset("digits")
    assert (len(train), len(test)) == (1437, 360)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="dataset: .*fashion-mnist, digits, folder, got 'cifar'"):
        load_dataset("cifar")
    assert list(DATASETS) == ["mnist", "fashion-mnist", "digits", "folder"]


def test_folder_needs_a_folder(tmp_path):
    with pytest.raises(ValueError, match="folder: "):
        load_dataset("folder")
    with pytest.raises(DataError, match="folder: no folder"):
        load_dataset("folder", tmp_path / "nowhere")


def test_options_are_for_those_who_have_them(tmp_path):
    with pytest.raises(ValueError, match="folder: digits is part of this package"):
        load_dataset("digits", folder=tmp_path)
    with pytest.raises(TypeError, match="options: mnist has none, got size"):
        load_dataset("mnist", size=28)
    with pytest.raises(TypeError, match="colour"):
        load_dataset("folder", tmp_path, colour=1)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_folder_reaches_the_set(tmp_path, clean_environment, name):
    with pytest.raises(DataError, match=f"{tmp_path}: expected t10k-labels"):
        load_dataset(name, tmp_path)
    with pytest.raises(DataError, match="switched off"):
        load_dataset(name, download=False)
