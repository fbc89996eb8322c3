"""The oracles of the benchmarks: they take what is right, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import layers, operators
from benchmarks.kernels import plan, select
from benchmarks.timing import OURS, WrongResult
from minicnn.kernels import conv2d

LAYERS = [
    layers.Layer("3x3", 2, 4, 6, 6, 3, padding=1),
    layers.Layer("strided, grouped", 2, 4, 9, 6, 3, stride=2, padding=1, groups=2),
    layers.Layer("wide strides leave pixels out", 1, 3, 8, 2, 2, stride=3),
]


def results(layer):
    """Return what the definitions in the kernels' files give, and the checks of it."""
    x, weight, grad = layers.arrays(layer)
    steps = (layer.stride,) * 2, (layer.padding,) * 2, (1, 1), layer.groups
    size, kernel = layer.size, layer.kernel
    return [
        (layers.check_forward, (x, weight),
         conv2d.conv2d_forward_reference(x, weight, None, *steps)),
        (layers.check_data, (grad, weight),
         conv2d.conv2d_backward_data_reference(grad, weight, size, size, *steps)),
        (layers.check_weight, (x, grad),
         conv2d.conv2d_backward_weight_reference(x, grad, (kernel, kernel), *steps)),
    ]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_convolution_is_taken_and_one_wrong_element_refused(layer):
    for check, inputs, right in results(layer):
        check(layer, *inputs, right)
        for place in (0, right.size // 2, right.size - 1):
            wrong = right.copy()
            wrong.flat[place] += 0.01 * np.abs(right).max()
            with pytest.raises(WrongResult, match="off by"):
                check(layer, *inputs, wrong)
        with pytest.raises(WrongResult):
            check(layer, *inputs, np.full_like(right, np.nan))
        with pytest.raises(WrongResult, match="shape"):
            check(layer, *inputs, right[..., :-1])


def test_a_product_is_taken_and_one_wrong_element_refused():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 7)), rng.standard_normal((7, 4))
    layers.check_product(a, b, a @ b)
    wrong = a @ b
    wrong[3, 2] += 0.01
    with pytest.raises(WrongResult):
        layers.check_product(a, b, wrong)


@pytest.mark.parametrize("name", operators.plan(0.001))
def test_every_side_of_an_operator_is_right_and_a_wrong_result_refused(name):
    case = operators.plan(0.001)[name]()
    found = {side.name: side.start() for side in case.sides if not side.missing}
    assert OURS in found
    for side in found:
        case.check(side, found)
    wrong = spoilt(found[OURS])
    with pytest.raises(WrongResult):
        case.check(OURS, {OURS: wrong})


def spoilt(result):
    """Return a result of ours with one value moved by a part of the largest."""
    first, *rest = result if isinstance(result, tuple) else (result,)
    array = first.detach().numpy().copy()
    array.flat[array.size // 3] += 0.01 * max(np.abs(array).max(), 1)
    moved = type(first)(array) if not rest else (type(first)(array), *rest)
    return (moved,) if isinstance(result, tuple) and not rest else moved


def test_names_are_chosen_by_what_they_contain():
    planned = dict.fromkeys(plan(0.01))
    assert set(select(planned, ())) == set(planned)
    assert set(select(planned, ("lenet 1",))) == {"conv LeNet 1 forward", "conv LeNet 1 weight"}
    assert all("VGG" in n and "data" in n for n in select(planned, ("conv vgg*data",)))
    with pytest.raises(ValueError, match="only: got 'VGG 9'"):
        select(planned, ("VGG 9",))
