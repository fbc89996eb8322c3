"""Every network for digits: forward and backward on a CUDA device equal the CPU's."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn
from minicnn.models import MODELS, create_model
from minicnn.models.classifier import scores_of
from tests.models.against_torchvision import assert_close

SMALL = [name for name in MODELS if name.endswith("_small")]
# Scores relative to their largest, gradients relative to the network's largest: those of a bias in
# front of a batch norm are zero but for rounding, and in float32 a deep net's are mostly that.
SCORES = {"float32": 1e-4, "float64": 1e-10}
GRADIENTS = {"float32": 0.05, "float64": 1e-9}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SMALL)
def test_forward_and_backward_equal_the_cpus(name, dtype, gpu):
    minicnn.manual_seed(0)
    model, twin = create_model(name), create_model(name)
    twin.load_state_dict(model.state_dict())
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, *model.input_shape)).astype(dtype)
    labels = rng.integers(0, 10, 3)
    results = []
    for network, device in ((model, "cpu"), (twin, gpu)):
        network.to(device)
        if dtype == "float64":
            network.double()
        minicnn.manual_seed(1)  # both drop the same values
        output = network(minicnn.tensor(images).to(device))
        network.loss(output, minicnn.tensor(labels).to(device)).backward()
        assert scores_of(output).device == device
        gradients = {path: p.grad.cpu().numpy() for path, p in network.named_parameters()}
        state = {path: x.cpu().numpy() for path, x in network.state_dict().items()}
        results.append((scores_of(output).detach().cpu().numpy(), gradients, state))
    (scores, gradients, state), (gpu_scores, gpu_gradients, gpu_state) = results
    assert_close(gpu_scores, scores, SCORES[dtype], "scores")
    largest = max(np.abs(gradient).max() for gradient in gradients.values())
    for path, gradient in gradients.items():
        difference = np.abs(gpu_gradients[path] - gradient).max()
        assert difference <= GRADIENTS[dtype] * largest, path
    for path, value in state.items():  # batch norm's running statistics
        assert_close(gpu_state[path], value, SCORES[dtype], path)
