"""Layers: parameters, settings and errors; that each calls its function is seen beside PyTorch."""

import math

import numpy as np
import pytest

import minicnn
from minicnn import nn

# Layers and inputs, in both libraries' common language; sizes differ in every direction.
IMAGE = (2, 4, 9, 7)
CASES = [
    ("Linear", (7, 3), {}, IMAGE),
    ("Linear", (5, 3), {"bias": False}, (2, 5)),
    ("Conv2d", (4, 6, (3, 2)), {}, IMAGE),
    ("Conv2d", (4, 6, 3, 2, 1), {"dilation": 2, "groups": 2, "bias": False}, IMAGE),
    ("Conv2d", (4, 6, 3), {"padding": "same"}, IMAGE),
    ("Conv2d", (4, 6, 3), {"padding": "valid"}, IMAGE),
    ("ConvTranspose2d", (4, 6, (3, 2)), {}, IMAGE),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2), {"dilation": 2}, IMAGE),
    ("MaxPool2d", (3,), {}, IMAGE),
    ("MaxPool2d", ((3, 2), 2, 1), {"ceil_mode": True}, IMAGE),
    ("MaxPool2d", (2, 1, 0, 2), {}, IMAGE),
    ("AvgPool2d", (3,), {}, IMAGE),
    ("AvgPool2d", (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}, IMAGE),
    ("AdaptiveAvgPool2d", ((4, 3),), {}, IMAGE),
    ("AdaptiveAvgPool2d", ((None, 2),), {}, IMAGE),
    ("AdaptiveMaxPool2d", (2,), {}, IMAGE),
    ("ReLU", (), {}, IMAGE),
    ("ReLU", (True,), {}, IMAGE),
    ("LeakyReLU", (0.2,), {}, IMAGE),
    ("LeakyReLU", (), {"inplace": True}, IMAGE),
    ("Sigmoid", (), {}, IMAGE),
    ("Tanh", (), {}, IMAGE),
    ("Softmax", (1,), {}, IMAGE),
    ("LogSoftmax", (-1,), {}, IMAGE),
    ("Identity", (3, "anything"), {}, IMAGE),
    ("Flatten", (), {}, IMAGE),
    ("Flatten", (0, 2), {}, IMAGE),
    ("Dropout", (0.0,), {}, IMAGE),
]


@pytest.mark.parametrize(
    ("name", "args", "options", "shape"), CASES, ids=[f"{c[0]}{c[1]}{c[2]}" for c in CASES]
)
def test_layer_equals_torch(name, args, options, shape):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    ours = getattr(nn, name)(*args, **options).double()
    theirs = getattr(torch.nn, name)(*args, **options).double()
    assert repr(ours) == repr(theirs)
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    ours.load_state_dict(theirs.state_dict())
    values = rng.normal(size=shape)
    x = minicnn.tensor(values, requires_grad=True)
    x_torch = torch.tensor(values, requires_grad=True)
    output, expected = ours(x), theirs(x_torch.clone())
    np.testing.assert_allclose(output.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    upstream = rng.normal(size=expected.shape)
    output.backward(minicnn.tensor(upstream))
    expected.backward(torch.tensor(upstream))
    np.testing.assert_allclose(x.grad.numpy(), x_torch.grad.numpy(), rtol=1e-10, atol=1e-12)
    for key, parameter in theirs.named_parameters():
        grad = dict(ours.named_parameters())[key].grad.numpy()
        np.testing.assert_allclose(
            grad, parameter.grad.numpy(), rtol=1e-10, atol=1e-11, err_msg=key
        )


@pytest.mark.parametrize(
    ("build", "fan_in"),
    [
        (lambda: nn.Linear(50, 300), 50),
        (lambda: nn.Conv2d(8, 60, (3, 5), groups=2), 4 * 15),
        # PyTorch reads a transposed convolution's fan from the weight's second dimension.
        (lambda: nn.ConvTranspose2d(60, 8, (3, 5), groups=2), 4 * 15),
    ],
)
def test_default_initialisation_is_torchs_uniform(build, fan_in):
    minicnn.manual_seed(3)
    layer = build()
    bound = 1 / math.sqrt(fan_in)
    values = layer.weight.numpy().ravel()
    # float32 rounding may carry a draw half a unit beyond the bound.
    assert np.abs(values).max() <= bound * (1 + 1e-7) and np.abs(values).max() > 0.99 * bound
    # Mean and variance of U(-b, b), each within 5 standard errors.
    assert abs(values.mean()) < 5 * bound / math.sqrt(3 * values.size)
    assert abs(values.var() / (bound**2 / 3) - 1) < 5 * math.sqrt(0.8 / values.size)
    assert np.abs(layer.bias.numpy()).max() <= bound * (1 + 1e-7)
    assert np.unique(values).size > 0.99 * values.size


def test_seed_decides_the_initial_weights():
    minicnn.manual_seed(1)
    first = nn.Linear(4, 4)
    minicnn.manual_seed(1)
    second = nn.Linear(4, 4)
    third = nn.Linear(4, 4)
    np.testing.assert_array_equal(first.weight.numpy(), second.weight.numpy())
    assert (first.weight.numpy() != third.weight.numpy()).all()


def test_dtype_of_the_parameters():
    assert nn.Linear(2, 2).weight.dtype == np.float32
    layer = nn.Conv2d(1, 1, 1, dtype=minicnn.float64)
    assert layer.weight.dtype == layer.bias.dtype == np.float64


def test_relu_inplace_leaves_the_input_alone():
    x = minicnn.tensor([-1.0, 1.0])
    assert nn.ReLU(inplace=True)(x).tolist() == [0.0, 1.0] and x.tolist() == [-1.0, 1.0]


def test_dropout_follows_the_mode():
    minicnn.manual_seed(0)
    layer, x = nn.Dropout(0.5), minicnn.ones(1000)
    values = layer(x).numpy()
    assert set(np.unique(values)) == {0.0, 2.0} and 400 < (values == 0).sum() < 600
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x.numpy())


WRONG = [
    (lambda: nn.Linear(0, 3), "Linear: in_features is 0, expected an integer of at least 1"),
    (lambda: nn.Linear(3, -1), "Linear: out_features is -1"),
    (lambda: nn.Linear(3, 2.5), "Linear: out_features is 2.5"),  # type: ignore[arg-type]
    (lambda: nn.Conv2d(0, 3, 3), "Conv2d: in_channels is 0"),
    (lambda: nn.Conv2d(3, 3, 0), "Conv2d: kernel_size is 0"),
    (lambda: nn.Conv2d(3, 3, (3, 3, 3)), "Conv2d: kernel_size is"),  # type: ignore[arg-type]
    (lambda: nn.Conv2d(3, 3, 3, stride=0), "Conv2d: stride is 0"),
    (lambda: nn.Conv2d(3, 3, 3, padding=-1), "Conv2d: padding is -1"),
    (lambda: nn.Conv2d(3, 3, 3, dilation=0), "Conv2d: dilation is 0"),
    (
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        "Conv2d: groups is 2, which does not divide in_channels, 3",
    ),
    (lambda: nn.Conv2d(4, 3, 3, groups=2), "groups is 2, which does not divide out_channels, 3"),
    (lambda: nn.Conv2d(4, 4, 3, groups=0), "groups is 0"),
    (
        lambda: nn.Conv2d(3, 3, 3, padding_mode="reflect"),
        "padding_mode is 'reflect', expected 'zeros'",
    ),
    (lambda: nn.Conv2d(3, 3, 3, padding="full"), "padding is 'full'"),
    (lambda: nn.Conv2d(3, 3, 3, 2, "same"), "padding 'same' needs stride 1, got 2"),
    (
        lambda: nn.ConvTranspose2d(3, 3, 3, 2, 0, 2),
        "output_padding is 2, expected less than stride 2",
    ),
    (lambda: nn.ConvTranspose2d(3, 3, 3, padding_mode="circular"), "padding_mode is 'circular'"),
    (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size is 0"),
    (lambda: nn.MaxPool2d(2, padding=2), "padding is 2, expected at most half of kernel_size 2"),
    (lambda: nn.MaxPool2d(2, dilation=0), "MaxPool2d: dilation is 0"),
    (lambda: nn.AvgPool2d(2, stride=-1), "AvgPool2d: stride is -1"),
    (lambda: nn.AdaptiveAvgPool2d(0), "AdaptiveAvgPool2d: output_size is 0"),
    (lambda: nn.AdaptiveMaxPool2d((1, 2, 3)), "MaxPool2d: output_size is"),  # type: ignore[arg-type]
    (lambda: nn.Dropout(1.5), "Dropout: p is 1.5, expected a number between 0 and 1"),
    (lambda: nn.MSELoss(reduction="max"), "MSELoss: reduction is 'max'"),
    (lambda: nn.CrossEntropyLoss(reduction=None), "Loss: reduction is None"),  # type: ignore[arg-type]
    (lambda: nn.CrossEntropyLoss(label_smoothing=2), "label_smoothing is 2"),
]


@pytest.mark.parametrize(("build", "message"), WRONG, ids=[m for _, m in WRONG])
def test_wrong_settings_are_reported_by_the_constructor(build, message):
    with pytest.raises(ValueError) as caught:
        build()
    assert message in str(caught.value) and "\n" not in str(caught.value)
