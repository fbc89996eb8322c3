"""Losses as modules beside PyTorch's."""

import numpy as np
import pytest

import minicnn
from minicnn import nn


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["NLLLoss", "CrossEntropyLoss"])
def test_class_losses_equal_torch(name, reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(6, 4)), np.array([0, 3, 1, 2, 3, 0])
    weight = rng.uniform(0.5, 2.0, 4)
    options = {"ignore_index": 2, "reduction": reduction}
    if name == "CrossEntropyLoss":
        options["label_smoothing"] = 0.1
    ours = getattr(nn, name)(minicnn.tensor(weight), **options)
    theirs = getattr(torch.nn, name)(torch.tensor(weight), **options)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight"]
    assert list(getattr(nn, name)().state_dict()) == []
    loss = ours(minicnn.tensor(scores), minicnn.tensor(labels))
    expected = theirs(torch.tensor(scores), torch.tensor(labels))
    np.testing.assert_allclose(loss.numpy(), expected.numpy(), rtol=1e-12)


def test_mse_loss():
    a, b = minicnn.tensor([1.0, 2.0]), minicnn.tensor([3.0, 5.0])
    assert nn.MSELoss()(a, b).item() == 6.5
    assert nn.MSELoss(reduction="sum")(a, b).item() == 13.0
    assert nn.MSELoss(reduction="none")(a, b).tolist() == [4.0, 9.0]


def test_smooth_l1_loss():
    a, b = minicnn.tensor([0.0, 1.0]), minicnn.tensor([0.5, 4.0])
    assert nn.SmoothL1Loss()(a, b).item() == 1.3125
    assert nn.SmoothL1Loss(reduction="sum", beta=0.0)(a, b).item() == 3.5
    assert nn.SmoothL1Loss(reduction="none", beta=4.0)(a, b).tolist() == [0.03125, 1.125]
