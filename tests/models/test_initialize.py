"""First values by rule."""

from __future__ import annotations

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.models.initialize import initialize


def network() -> nn.Module:
    return nn.Sequential({
        "conv": nn.Conv2d(3, 40, 5), "norm": nn.BatchNorm2d(40), "fc": nn.Linear(200, 300),
    })  # fmt: skip


def test_the_first_rule_that_fits_counts_and_other_layers_keep_theirs():
    minicnn.manual_seed(0)
    model = network()
    initialize(
        model,
        {"fc.bias": 2.0, "*.bias": -1.0, "fc.*": 3, "*.weight": {"name": "normal", "std": 0.5}},
    )
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    assert (state["fc.bias"] == 2).all() and (state["conv.bias"] == -1).all()
    assert (state["fc.weight"] == 3).all()
    assert state["conv.weight"].std() == pytest.approx(0.5, rel=0.05)
    assert (state["norm.weight"] == 1).all() and (state["norm.bias"] == 0).all()


def test_what_no_rule_fits_keeps_its_values():
    model = network()
    before = model.fc.weight.numpy().copy()
    initialize(model, {"*.bias": 0.0})
    np.testing.assert_array_equal(model.fc.weight.numpy(), before)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"cnov.*": 0.0}, "init: 'cnov.\\*' fits no weight or bias of this Sequential"),
        ({"*.bias": {"name": "gauss"}}, "init: conv.bias has 'gauss', expected a number or one of"),
        ({"*.bias": "zero"}, "init: conv.bias has 'zero', expected a number or one of"),
        ({"*": {"name": "normal", "sigma": 1}}, "init: conv.weight: .*sigma"),
    ],
)
def test_mistakes(rules, message):
    with pytest.raises(ValueError, match=message):
        initialize(network(), rules)


def test_nothing_is_drawn_where_weights_will_be_replaced():
    minicnn.manual_seed(0)
    with nn.init.skip_init():
        initialize(network(), {"*.weight": {"name": "normal"}})
    after = minicnn.rand(3).numpy()
    minicnn.manual_seed(0)
    np.testing.assert_array_equal(after, minicnn.rand(3).numpy())
    assert not nn.init.is_skipping()
