"""Finding networks by name."""

import pytest

from minicnn import nn
from minicnn.models import MODELS, LeNet, LeNet5, create_model


def test_models_by_name():
    assert isinstance(create_model("lenet", num_classes=3), LeNet)
    assert isinstance(create_model("lenet5"), LeNet5)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_says_what_it_takes_and_gives(name):
    with nn.init.skip_init():
        model = create_model(name)
    channels, height, width = model.input_shape
    assert min(channels, height, width, model.num_classes) >= 1


def test_unknown_names_and_options():
    with pytest.raises(ValueError, match=r"model: got 'lenet6', expected one of .*, lenet, lenet5"):
        create_model("lenet6")
    with pytest.raises(TypeError, match="lenet has no option depth; it has in_channels, "):
        create_model("lenet", depth=3)
