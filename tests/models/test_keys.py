"""Old names of weights become today's, and no other names change."""

from __future__ import annotations

import pytest

from minicnn.models.keys import modern_keys


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "features.denseblock1.denselayer1.norm.1.weight",
            "features.denseblock1.denselayer1.norm1.weight",
        ),
        (
            "features.denseblock4.denselayer32.conv.2.weight",
            "features.denseblock4.denselayer32.conv2.weight",
        ),
        ("denselayer6.norm.2.running_var", "denselayer6.norm2.running_var"),
        ("denselayer1.norm.2.num_batches_tracked", "denselayer1.norm2.num_batches_tracked"),
    ],
)
def test_old_densenets(old, new):
    assert modern_keys({old: 1}) == {new: 1}
    assert modern_keys({new: 1}) == {new: 1}


@pytest.mark.parametrize(
    "key",
    [
        "features.norm0.weight",
        "features.transition1.norm.weight",
        "features.transition1.conv.weight",
        "layer1.0.conv.1.weight",
        "features.denselayer1.norm.3.weight",
    ],
)
def test_names_of_other_networks_stay(key):
    assert modern_keys({key: 1, "b": 2}) == {key: 1, "b": 2}


def test_order_stays_and_nothing_is_lost():
    state = {"z": 0, "denselayer1.conv.1.weight": 1, "a": 2}
    assert list(modern_keys(state).items()) == [
        ("z", 0),
        ("denselayer1.conv1.weight", 1),
        ("a", 2),
    ]
    with pytest.raises(ValueError, match="twice"):
        modern_keys({"denselayer1.conv.1.weight": 1, "denselayer1.conv1.weight": 2})
