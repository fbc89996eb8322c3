"""The sizes of maps, against what the layers really give."""

from __future__ import annotations

import pytest

import minicnn
from minicnn import nn
from minicnn.models.sizes import smallest_size, track_size

LAYERS = [
    nn.Conv2d(1, 1, 3),
    nn.Conv2d(1, 1, (3, 5), stride=(2, 3), padding=(1, 2), dilation=(2, 1)),
    nn.Conv2d(1, 1, 5, padding="same"),
    nn.Conv2d(1, 1, 3, padding="valid"),
    nn.MaxPool2d(3, 2),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    nn.AvgPool2d(2, 3, ceil_mode=True),
    nn.AdaptiveAvgPool2d(3),
    nn.AdaptiveMaxPool2d((None, 2)),
    nn.ReLU(),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_every_layer_as_it_computes(layer):
    for height in range(1, 13):
        for width in (height, 9):
            try:
                expected = layer(minicnn.zeros(1, 1, height, width)).shape[2:]
            except ValueError:
                with pytest.raises(ValueError, match="needs a map of at least"):
                    track_size(layer, (height, width))
            else:
                assert track_size(layer, (height, width)) == expected


class Block(nn.Module):
    map_path = ("first", "second")

    def __init__(self):
        super().__init__()
        self.shortcut = nn.Conv2d(1, 1, 7)
        self.second = nn.MaxPool2d(2)
        self.first = nn.Conv2d(1, 1, 3)


def test_a_map_takes_the_named_path_and_the_layer_that_breaks_is_named():
    network = nn.Sequential({"stem": nn.Conv2d(1, 1, 3, stride=2), "block": Block()})
    assert track_size(network, (20, 30)) == (3, 6)
    with pytest.raises(
        ValueError, match=r"block.second \(MaxPool2d\) needs .* 2 x 2 and gets 2 x 1"
    ):
        track_size(network, (9, 8))
    assert smallest_size(network) == (9, 9)


def test_a_network_that_no_image_fits():
    with pytest.raises(ValueError, match="no image of up to 4096 x 4096 fits"):
        smallest_size(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 1, 3)))
