"""Several devices of one kind: their names, tensors that travel, operands that must not mix.

The simulator refuses whatever is computed while another device is current than the one of the
arrays. `pytest --device cuda:sim:1` runs all tests that take a device on the second one.
"""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minicnn
import minicnn.functional as F
from minicnn import backend, cudasim, nn, optim
from minicnn.kernels import activation, optimizer
from minicnn.opcheck import OPS
from minicnn.serialization import load_state_dict, save_state_dict
from tests.needs import needs_compiler
from tests.test_device_ops import compute

pytestmark = needs_compiler

HERE, THERE = "cuda:sim", "cuda:sim:1"
DEVICES = ("cpu", HERE, THERE)
PAIRS = [(a, b) for a in DEVICES for b in DEVICES if a != b]


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Names ------------------------------------------------------------------------------------------


def test_number_0_goes_without_its_number(monkeypatch):
    assert backend.check_device("cuda:sim:0") == minicnn.ones(2, device="cuda:sim:0").device == HERE
    assert minicnn.ones(2, device=THERE).device == backend.check_device(THERE) == THERE
    assert repr(minicnn.ones(1, device=THERE)) == "tensor([1.], device='cuda:sim:1')"
    monkeypatch.setenv(backend.SIMULATE, "1")
    assert minicnn.ones(2, device="cuda:1").device == THERE
    assert minicnn.ones(2, device="cuda:0").device == HERE
    assert minicnn.cuda.device_count() == 2
    for device in ("cuda", "cuda:1", "cpu"):
        minicnn.cuda.synchronize(device)


def test_a_number_too_high_says_how_many_there_are():
    message = r"device: got 'cuda:sim:2', but there are 2 'cuda:sim' devices, counted from 0 \(MINI"
    with pytest.raises(ValueError, match=message):
        minicnn.zeros(2, device="cuda:sim:2")
    assert not backend.is_available("cuda:sim:2") and backend.is_available(THERE)
    assert backend.count_devices(THERE) == 2 and backend.count_devices("cpu") == 1
    with cudasim.settings(devices=1), pytest.raises(ValueError, match="but there is 1 'cuda:sim' "):
        nn.Linear(2, 2).to(THERE)
    with cudasim.settings(devices=3):
        assert minicnn.zeros(2, device="cuda:sim:2").device == "cuda:sim:2"


# Tensors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_tensors_travel_and_so_do_their_gradients(source, target):
    x = minicnn.tensor(values(3, 4), device=source, requires_grad=True)
    y = x.to(target)
    assert (y.device, x.device) == (target, source) and y.tolist() == x.tolist()
    assert y.to(target) is y
    upstream = values(3, 4, seed=1)
    (y * minicnn.tensor(upstream, device=target)).sum().backward()
    assert x.grad.device == source and x.grad.tolist() == upstream.tolist()


def test_a_strided_view_arrives_with_its_values():
    x = minicnn.tensor(values(3, 4), device=HERE)
    assert x.T.to(THERE).tolist() == values(3, 4).T.tolist()
    assert x[1:, ::2].to(THERE).exp().device == THERE


def test_second_derivatives_cross_devices():
    x = minicnn.tensor([2.0, 3.0], device=HERE, requires_grad=True)
    y = (x.to(THERE) ** 3).sum()
    (first,) = minicnn.grad(y, [x], create_graph=True)
    assert first.tolist() == [12, 27] and first.device == HERE
    first.to(THERE).sum().backward()
    assert x.grad.tolist() == [12, 18] and x.grad.device == HERE


def test_the_current_device_is_as_it_was():
    x = minicnn.ones(2, 3, device=THERE, requires_grad=True)
    (x @ x.T).relu().sum().backward()
    with pytest.raises(ValueError):
        x + minicnn.ones(2, 7, device=THERE)
    assert cudasim.cuda.Device().id == 0
    with cudasim.cuda.Device(1):
        y = minicnn.ones(2, device=HERE)
        assert y.add_(1).sum().item() == 4 and (y == 2).all() and (y + y).device == HERE


MIXED = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "matmul": lambda a, b: a @ b,
    "where": lambda a, b: F.where(a > 0, a, b),
    "cat": lambda a, b: F.cat([a, b]),
    "linear": lambda a, b: F.linear(a, b),
    "add_": lambda a, b: a.add_(b),
    "index assignment": lambda a, b: a.__setitem__(0, b[0]),
    "eq": lambda a, b: a == b,
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize(("first", "second"), [(HERE, THERE), (THERE, HERE), (THERE, "cpu")])
def test_operands_of_two_devices_are_refused_by_both_names(name, first, second):
    a, b = (minicnn.ones(2, 2, device=device) for device in (first, second))
    with pytest.raises(RuntimeError, match=rf"^{name}: ") as error:
        MIXED[name](a, b)
    assert f"'{first}'" in str(error.value) and f"'{second}'" in str(error.value)
    assert a.tolist() == b.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("name", OPS)
def test_every_operation_on_the_second_device_gives_the_bits_of_the_first(name):
    outputs, results = compute(name, THERE, np.float32)
    _, expected = compute(name, HERE, np.float32)
    assert {y.device for y in outputs} == {"cpu" if name == "to_device" else THERE}
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_what_is_not_recorded_for_gradients_runs_there_too():
    boxes = minicnn.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [5, 5, 6, 6]], device=THERE)
    scores = minicnn.tensor([0.5, 0.9, 0.1], device=THERE)
    classes = minicnn.tensor([0, 1, 0], device=THERE)
    results = {
        "nms": (F.nms(boxes, scores, 0.5), [1, 2]),
        "batched_nms": (F.batched_nms(boxes, scores, classes, 0.5), [1, 0, 2]),
        "one_hot": (F.one_hot(classes, 2), [[1, 0], [0, 1], [1, 0]]),
        "argmax": (scores.argmax(), 1),
        "compare": (scores > 0.3, [True, True, False]),
        "not": (~(scores > 0.3), [False, False, True]),
        "any": ((scores > 2).any(), False),
        "zeros_like": (minicnn.zeros_like(scores), [0, 0, 0]),
        "draws": (minicnn.empty(3, device=THERE).uniform_(1, 1), [1, 1, 1]),
    }
    for name, (result, expected) in results.items():
        assert result.device == THERE and result.tolist() == expected, name


class Stray(minicnn.Function):
    """Leaves its gradient on the wrong device."""

    def forward(self, a):
        return a * 1

    def backward(self, grad_output):
        return grad_output.to(HERE)


def test_a_gradient_on_another_device_is_refused():
    x = minicnn.ones(2, device=THERE, requires_grad=True)
    with pytest.raises(RuntimeError, match="stray: backward returned a gradient on 'cuda:sim' for"):
        Stray.apply(x).sum().backward()
    with pytest.raises(RuntimeError, match="gradient is on 'cuda:sim', expected 'cuda:sim:1'"):
        (x * 2).backward(minicnn.ones(2, device=HERE))


def test_kernels_run_where_their_arrays_are():
    """Arrays without tensors: nobody has made their device the current one."""
    with cudasim.cuda.Device(1):
        x, gradient = (cudasim.asarray(values(5, seed=seed)) for seed in (0, 1))
    optimizer.sgd_step(
        x, gradient, None, lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0,
        nesterov=False, first=False,
    )  # fmt: skip
    np.testing.assert_allclose(x.get(), values(5) - 0.5 * values(5, seed=1), rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"relu_forward\w*: output is on device 0, expected device 1"
    ):
        activation.relu_forward(x)


def test_copies_and_pickles_stay_on_their_device():
    x = minicnn.tensor([1.0, 2.0], device=THERE)
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.clone(), minicnn.tensor(x)):
        assert twin.device == THERE and twin.tolist() == [1, 2]
    assert minicnn.Tensor(x.data).device == THERE
    here = minicnn.zeros(2, device=HERE)
    assert here.copy_(x).device == HERE and here.tolist() == [1, 2]


# Modules and optimisers -------------------------------------------------------------------------


def test_modules_move_with_their_gradients_and_files_know_no_device(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(HERE)
    weight = model[0].weight
    model(minicnn.ones(1, 3, device=HERE)).sum().backward()
    gradient = weight.grad.tolist()
    assert model.to(THERE) is model and model[0].weight is weight
    assert (weight.device, weight.grad.device) == (THERE, THERE)
    assert weight.grad.tolist() == gradient
    assert model(minicnn.ones(1, 3, device=THERE)).device == THERE
    save_state_dict(tmp_path / "weights", model.state_dict())
    other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to(HERE)
    other.load_state_dict(model.state_dict())
    assert {p.device for p in other.parameters()} == {HERE}
    other.load_state_dict(load_state_dict(tmp_path / "weights"))
    assert other[0].weight.tolist() == weight.tolist()


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, 0.1, 0.9), lambda p: optim.Adam(p, 0.1)])
def test_an_optimiser_steps_on_both_devices_and_follows_a_parameter(make):
    def descend(devices):
        parameters = [nn.Parameter(minicnn.tensor(values(3, seed=i))) for i in range(2)]
        optimizer = make(parameters)
        for step, places in enumerate(devices):
            for i, (parameter, place) in enumerate(zip(parameters, places, strict=True)):
                parameter.data = backend.to_device(parameter.data, place)
                parameter.grad = minicnn.tensor(values(3, seed=step + 5 * i), device=place)
            optim.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            assert tuple(p.device for p in parameters) == places
        return [p.tolist() for p in parameters]

    together = descend([(HERE, HERE)] * 3)
    assert descend([(HERE, THERE), (HERE, THERE), (THERE, HERE)]) == together
