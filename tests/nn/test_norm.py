"""Normalisation layers beside PyTorch's: state, modes, running record, settings and errors."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.summary import summarize

IMAGE = (2, 4, 5, 3)
CASES = [
    ("BatchNorm2d", (4,), {}, IMAGE),
    ("BatchNorm2d", (4, 1e-3, 0.3), {}, IMAGE),
    ("BatchNorm2d", (4,), {"affine": False}, IMAGE),
    ("BatchNorm2d", (4,), {"bias": False}, IMAGE),
    ("BatchNorm2d", (4,), {"momentum": None}, IMAGE),
    ("BatchNorm2d", (4,), {"track_running_stats": False}, IMAGE),
    ("BatchNorm2d", (4,), {"affine": False, "track_running_stats": False}, IMAGE),
    ("BatchNorm2d", (3,), {}, (1, 3, 1, 2)),
    ("BatchNorm1d", (4,), {}, (5, 4)),
    ("BatchNorm1d", (4,), {"momentum": 1.0}, (3, 4, 6)),
    ("LocalResponseNorm", (5,), {}, IMAGE),
    ("LocalResponseNorm", (2, 0.9, 0.5, 2.0), {}, IMAGE),
    ("LocalResponseNorm", (3,), {"alpha": 2.0}, (2, 4, 7)),
]


def numbers(state):
    return {key: value.numpy().copy() for key, value in state.items()}


@pytest.mark.parametrize(
    ("name", "args", "options", "shape"), CASES, ids=[f"{c[0]}{c[1]}{c[2]}" for c in CASES]
)
def test_layer_equals_torch_in_training_and_in_evaluation(name, args, options, shape):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = getattr(nn, name)(*args, **options).double()
    theirs = getattr(torch.nn, name)(*args, **options).double()
    assert repr(ours) == repr(theirs)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.tensor(rng.normal(size=parameter.shape)))
    ours.load_state_dict(theirs.state_dict())
    # Three batches of training, one in evaluation, and another of training.
    for training in (True, True, True, False, True):
        ours.train(training), theirs.train(training)
        values, upstream = 2 * rng.normal(size=shape) + 1, rng.normal(size=shape)
        x = minicnn.tensor(values, requires_grad=True)
        t = torch.tensor(values, requires_grad=True)
        output, expected = ours(x), theirs(t)
        np.testing.assert_allclose(output.numpy(), expected.detach().numpy(), 1e-11, 1e-12)
        ours.zero_grad(), theirs.zero_grad()
        output.backward(minicnn.tensor(upstream)), expected.backward(torch.tensor(upstream))
        np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), 1e-9, 1e-11)
        for key, parameter in theirs.named_parameters():
            grad = dict(ours.named_parameters())[key].grad.numpy()
            np.testing.assert_allclose(grad, parameter.grad.numpy(), 1e-10, 1e-11, err_msg=key)
        record, wanted = numbers(ours.state_dict()), numbers(theirs.state_dict())
        assert list(record) == list(wanted)
        for key in wanted:
            assert record[key].dtype == wanted[key].dtype
            np.testing.assert_allclose(record[key], wanted[key], 1e-12, err_msg=key)


def test_layer_on_a_device_keeps_its_record_there(gpu):
    rng = np.random.default_rng(0)
    images = (2 * rng.normal(size=IMAGE) + 1).astype(np.float32)
    host, device = nn.BatchNorm2d(4, momentum=None), nn.BatchNorm2d(4, momentum=None).to(gpu)
    for training in (True, True, False):
        host.train(training), device.train(training)
        output = device(minicnn.tensor(images).to(gpu))
        assert output.device == gpu
        wanted = host(minicnn.tensor(images)).detach().numpy()
        np.testing.assert_allclose(output.detach().cpu().numpy(), wanted, 1e-5, 1e-5)
    for key, value in device.state_dict().items():
        assert value.device == gpu
        np.testing.assert_allclose(value.cpu().numpy(), host.state_dict()[key].numpy(), 1e-5)


def test_first_values_and_dtypes():
    layer = nn.BatchNorm2d(3)
    assert list(layer.state_dict()) == [
        "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
    ]  # fmt: skip
    assert layer.weight.tolist() == layer.running_var.tolist() == [1, 1, 1]
    assert layer.bias.tolist() == layer.running_mean.tolist() == [0, 0, 0]
    assert layer.num_batches_tracked.item() == 0 and layer.num_batches_tracked.shape == ()
    assert layer.weight.dtype == layer.running_var.dtype == np.float32
    wide = nn.BatchNorm1d(3, dtype=minicnn.float64)
    assert wide.bias.dtype == wide.running_mean.dtype == np.float64
    assert wide.num_batches_tracked.dtype == np.int64


def test_known_record_after_one_step():
    layer = nn.BatchNorm1d(1)
    layer(minicnn.tensor([[1.0], [2.0], [3.0], [4.0]]))
    assert layer.running_mean.item() == pytest.approx(0.25)
    assert layer.running_var.item() == pytest.approx(1.0666667)
    assert layer.num_batches_tracked.item() == 1


def test_record_has_no_gradient_and_evaluation_leaves_it_alone():
    layer = nn.BatchNorm2d(2)
    x = minicnn.randn(3, 2, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    before = numbers(layer.state_dict())
    layer.eval()(x)
    for key, value in numbers(layer.state_dict()).items():
        np.testing.assert_array_equal(value, before[key])
    assert not layer.running_mean.requires_grad and layer.running_mean.grad is None


def test_reset_forgets():
    layer = nn.BatchNorm1d(2)
    with minicnn.no_grad():
        layer.weight.fill_(3)
    layer(minicnn.randn(5, 2))
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0] and layer.running_var.tolist() == [1, 1]
    assert layer.num_batches_tracked.item() == 0 and layer.weight.tolist() == [3, 3]
    layer.reset_parameters()
    assert layer.weight.tolist() == [1, 1]


def test_copies_keep_their_own_record():
    layer = nn.BatchNorm1d(2)
    copied = copy.deepcopy(layer)
    layer(minicnn.randn(5, 2))
    assert copied.num_batches_tracked.item() == 0 and copied.running_mean.tolist() == [0, 0]


def test_paper_form_is_asked_for_by_name():
    layer = nn.LocalResponseNorm(5, 0.1, 0.75, 2.0, divide_alpha=False)
    x = minicnn.tensor(np.arange(1.0, 7).reshape(1, 6, 1))
    assert layer(x).numpy()[0, 2, 0] == pytest.approx(0.6619502, abs=5e-8)
    text = "LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0, divide_alpha=False)"
    assert repr(layer) == text


def test_summary_counts_parameters_and_passes_the_receptive_field():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LocalResponseNorm(3), nn.Conv2d(4, 2, 3)
    )
    rows = summarize(net, (1, 8, 8)).rows
    assert [row.parameters for row in rows] == [40, 8, 0, 74]
    assert [row.macs for row in rows[1:3]] == [0, 0]
    assert [row.receptive_field for row in rows] == [(3, 3), (3, 3), (3, 3), (5, 5)]


WRONG = [
    (lambda: nn.BatchNorm2d(0), "BatchNorm2d: num_features is 0, expected an integer of at least"),
    (lambda: nn.BatchNorm1d(2.0), "BatchNorm1d: num_features is 2.0"),  # type: ignore[arg-type]
    (lambda: nn.BatchNorm2d(3, eps=-1e-5), "eps is -1e-05, expected a number not below 0"),
    (lambda: nn.BatchNorm2d(3, momentum=-0.1), "BatchNorm2d: momentum is -0.1"),
    (lambda: nn.LocalResponseNorm(0), "LocalResponseNorm: size is 0"),
    (lambda: nn.SmoothL1Loss(beta=-1), "SmoothL1Loss: beta is -1, expected a number not below 0"),
    (lambda: nn.SmoothL1Loss(reduction="max"), "SmoothL1Loss: reduction is 'max'"),
    (
        lambda: nn.BatchNorm2d(3)(minicnn.zeros(2, 3)),
        "BatchNorm2d: input has shape (2, 3), expected (N, C, height, width)",
    ),
    (
        lambda: nn.BatchNorm1d(3)(minicnn.zeros(2, 3, 4, 4)),
        "BatchNorm1d: input has shape (2, 3, 4, 4), expected (N, C) or (N, C, L)",
    ),
    (
        lambda: nn.BatchNorm2d(3)(minicnn.zeros(2, 4, 5, 5)),
        "batch_norm: running_mean has shape (3,), expected (4,)",
    ),
    (lambda: nn.BatchNorm1d(3)(minicnn.zeros(1, 3)), "more than 1 value per channel in training"),
]


@pytest.mark.parametrize(("build", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_settings_and_inputs_are_reported(build, message):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value) and "\n" not in str(caught.value)
