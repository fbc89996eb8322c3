"""Initialisers: exact ranges, moments, structure, reproducibility."""

import math

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.nn import init

CONV = (40, 30, 3, 5)
FAN_IN, FAN_OUT = 30 * 15, 40 * 15
RELU = math.sqrt(2)

UNIFORM = [
    (lambda t, g: init.uniform_(t, -3.0, 3.0, generator=g), 3.0),
    (lambda t, g: init.xavier_uniform_(t, 2.0, generator=g), 2 * math.sqrt(6 / (FAN_IN + FAN_OUT))),
    (lambda t, g: init.caffe_xavier_(t, generator=g), math.sqrt(3 / FAN_IN)),
    (lambda t, g: init.kaiming_uniform_(t, generator=g), RELU * math.sqrt(3 / FAN_IN)),
    (
        lambda t, g: init.kaiming_uniform_(t, 0.5, "fan_out", generator=g),
        math.sqrt(2 / 1.25) * math.sqrt(3 / FAN_OUT),
    ),
]
NORMAL = [
    (lambda t, g: init.normal_(t, 0.0, 0.7, generator=g), 0.7),
    (lambda t, g: init.xavier_normal_(t, 2.0, generator=g), 2 * math.sqrt(2 / (FAN_IN + FAN_OUT))),
    (lambda t, g: init.kaiming_normal_(t, generator=g), RELU / math.sqrt(FAN_IN)),
    (
        lambda t, g: init.kaiming_normal_(t, mode="fan_out", nonlinearity="tanh", generator=g),
        5 / 3 / math.sqrt(FAN_OUT),
    ),
]


def kolmogorov_distance(values, cdf):
    """Largest gap between the draws' distribution and the one they should follow."""
    values = np.sort(values.ravel())
    theory = np.array([cdf(v) for v in values])
    steps = np.arange(values.size + 1) / values.size
    return max(np.abs(theory - steps[1:]).max(), np.abs(theory - steps[:-1]).max())


def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@pytest.mark.parametrize(("fill", "bound"), UNIFORM)
def test_uniform_fillers(fill, bound):
    parameter = nn.Parameter(np.empty(CONV))
    assert fill(parameter, minicnn.Generator(0)) is parameter
    values = parameter.numpy()
    assert np.abs(values).max() <= bound and np.abs(values).max() > 0.999 * bound
    # A Kolmogorov distance above 2 / sqrt(n) has probability 0.0007.
    distance = kolmogorov_distance(values, lambda x: (x + bound) / (2 * bound))
    assert distance < 2 / math.sqrt(values.size)


@pytest.mark.parametrize(("fill", "std"), NORMAL)
def test_normal_fillers(fill, std):
    parameter = nn.Parameter(np.empty(CONV))
    assert fill(parameter, minicnn.Generator(0)) is parameter
    distance = kolmogorov_distance(parameter.numpy(), lambda x: normal_cdf(x / std))
    assert distance < 2 / math.sqrt(parameter.numel())


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0.0, 1.0, -2.0, 2.0), (1.0, 0.5, 0.5, 9.0), (0.0, 1.0, 1.5, 3.0), (0.0, 1.0, 1.5, 2.4)],
)
def test_truncated_normal(mean, std, a, b):
    tensor = minicnn.empty(4000, dtype=minicnn.float64)
    init.trunc_normal_(tensor, mean, std, a, b, generator=minicnn.Generator(0))
    values = tensor.numpy()
    assert values.min() >= a and values.max() <= b
    low, high = (normal_cdf((edge - mean) / std) for edge in (a, b))
    distance = kolmogorov_distance(
        values, lambda x: (normal_cdf((x - mean) / std) - low) / (high - low)
    )
    assert distance < 2 / math.sqrt(values.size)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 3, 2, 2)])
def test_orthogonal(shape):
    tensor = init.orthogonal_(
        minicnn.empty(*shape, dtype=minicnn.float64), 3.0, generator=minicnn.Generator(0)
    )
    matrix = tensor.numpy().reshape(shape[0], -1)
    product = matrix @ matrix.T if shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, 9 * np.eye(len(product)), atol=1e-12)


def test_orthogonal_matrices_are_drawn_evenly():
    generator = minicnn.Generator(0)
    draws = np.array(
        [init.orthogonal_(minicnn.empty(2, 2), generator=generator).numpy() for _ in range(400)]
    )
    # Every entry of a uniformly drawn orthogonal matrix has mean 0; QR without signs has not.
    assert np.abs(draws.mean(0)).max() < 5 * math.sqrt(0.5 / 400)


def test_constants():
    assert init.constant_(minicnn.empty(2), 3.5).tolist() == [3.5, 3.5]
    assert init.zeros_(minicnn.ones(2)).tolist() == [0, 0]
    assert init.ones_(nn.Parameter([0.0, 0.0])).tolist() == [1, 1]
    np.testing.assert_array_equal(init.eye_(minicnn.ones(2, 3)).numpy(), np.eye(2, 3))


@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_passes_channels_through(groups):
    rng = np.random.default_rng(0)
    layer = nn.Conv2d(4, 6, 3, padding=1, groups=groups, bias=False)
    init.dirac_(layer.weight, groups)
    x = rng.normal(size=(1, 4, 5, 5)).astype(np.float32)
    output = layer(minicnn.tensor(x)).numpy()
    if groups == 1:
        expected = np.concatenate([x, np.zeros((1, 2, 5, 5))], axis=1)
    else:
        nothing = np.zeros((1, 1, 5, 5))
        expected = np.concatenate([x[:, :2], nothing, x[:, 2:], nothing], axis=1)
    np.testing.assert_array_equal(output, expected)


def test_gains_equal_torch():
    torch = pytest.importorskip("torch")
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_the_generator_decides():
    def draw(seed):
        return init.xavier_normal_(minicnn.empty(3, 3), generator=minicnn.Generator(seed)).numpy()

    np.testing.assert_array_equal(draw(5), draw(5))
    assert (draw(5) != draw(6)).all()
    minicnn.manual_seed(9)
    default = init.normal_(minicnn.empty(3))
    minicnn.manual_seed(9)
    np.testing.assert_array_equal(default.numpy(), init.normal_(minicnn.empty(3)).numpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.xavier_uniform_(minicnn.ones(3)), "need at least 2 dimensions"),
        (lambda: init.orthogonal_(minicnn.ones(3)), "need at least 2 dimensions"),
        (lambda: init.kaiming_normal_(minicnn.ones(3, 3), mode="x"), "mode: got"),  # type: ignore[arg-type]
        (lambda: init.calculate_gain("swish"), "nonlinearity: got 'swish'"),
        (lambda: init.eye_(minicnn.ones(3)), "expected 2 dimensions"),
        (lambda: init.dirac_(minicnn.ones(3, 3)), "expected 4 dimensions"),
        (lambda: init.dirac_(minicnn.ones(3, 3, 1, 1), 2), "groups: got 2"),
        (lambda: init.trunc_normal_(minicnn.ones(3), a=1, b=1), "expected a < b"),
        (lambda: init.trunc_normal_(minicnn.ones(3), mean=9), "mean: got 9"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_layers_whose_weights_will_be_replaced_draw_none():
    minicnn.manual_seed(0)
    expected = minicnn.rand(3).numpy()
    minicnn.manual_seed(0)
    with nn.init.skip_init():
        layers = [nn.Linear(40, 30), nn.Conv2d(3, 4, 5)]
    np.testing.assert_array_equal(minicnn.rand(3).numpy(), expected)
    for layer in layers:
        assert not layer.weight.numpy().any() and not layer.bias.numpy().any()
    assert nn.Linear(40, 30).weight.numpy().any()
