"""torchvision's GoogLeNet: its counts, its deviations, and that it equals its twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.models import TorchvisionGoogLeNet, create_model
from minicnn.summary import summarize
from tests.models.against_torchvision import assert_close, assert_equals_torchvision
from tests.needs import needs_torch

TINY = {"width": 0.0625, "num_classes": 7, "input_size": 64}


def unfilled(**options: Any) -> Any:
    with nn.init.skip_init():
        return create_model("googlenet_torchvision", **options)


@pytest.mark.parametrize(
    ("aux", "training", "parameters", "macs"),
    [(False, False, 6_624_904, 1_498_376_192), (True, True, 13_004_888, 1_506_748_416)],
)
def test_counts(aux, training, parameters, macs):
    model = unfilled(aux=aux)
    summary = summarize(model, model.input_shape, training=training)
    assert (summary.total_parameters, summary.total_macs) == (parameters, macs)


def test_first_values():
    minicnn.manual_seed(0)
    for name, value in TorchvisionGoogLeNet(width=0.25).named_parameters():
        if name.endswith(("conv.weight", "fc.weight", "fc1.weight", "fc2.weight")):
            if value.numel() > 1000:
                assert value.detach().numpy().std() == pytest.approx(0.01, rel=0.08), name
        elif ".bn." in name:
            assert (value.detach().numpy() == name.endswith("weight")).all(), name


def test_training_takes_any_size():
    model = TorchvisionGoogLeNet(**TINY)
    for side in (64, 47):
        output = model(minicnn.randn(2, 3, side, side))
        assert [scores.shape for scores in output] == [(2, 7)] * 3


def test_pixels_are_transformed_on_request():
    minicnn.manual_seed(0)
    plain = TorchvisionGoogLeNet(**TINY).eval()
    other = TorchvisionGoogLeNet(transform_input=True, **TINY).eval()
    other.load_state_dict(plain.state_dict())  # the constants are not in files
    pixels = np.random.default_rng(0).random((2, 3, 64, 64))
    mean = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    taken = []
    other.conv1.conv.register_forward_hook(lambda module, args, output: taken.append(args[0]))
    scores = other(minicnn.tensor(((pixels - mean) / std).astype(np.float32)))
    np.testing.assert_allclose(taken[0].detach().numpy(), (pixels - 0.5) / 0.5, atol=1e-6)
    wanted = plain(minicnn.tensor(((pixels - 0.5) / 0.5).astype(np.float32)))
    assert_close(scores.detach().numpy(), wanted.detach().numpy(), 1e-5, "scores")
    with pytest.raises(ValueError, match="in_channels is 1, but transform_input takes red"):
        TorchvisionGoogLeNet(1, transform_input=True)
    with pytest.raises(ValueError, match=r"\(2, 1, 64, 64\), expected \(N, 3, height, width\)"):
        other(minicnn.zeros(2, 1, 64, 64))


@needs_torch
@pytest.mark.parametrize("transform_input", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_equals_torchvision(transform_input):
    import torch
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(
        aux_logits=True, init_weights=False, transform_input=transform_input
    )
    ours = unfilled(transform_input=transform_input)
    assert_equals_torchvision(ours, theirs, (4, 3, 64, 64), np.float64)
