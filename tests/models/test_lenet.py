"""LeNet and LeNet-5: counts, shapes, the paper's details, gradients by finite differences."""

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.models.lenet import (
    C3_CONNECTIONS,
    LeNet,
    LeNet5,
    PartialConv2d,
    RBFOutput,
    Squash,
    Subsampling,
    digit_codes,
)

# Table I of the paper as printed: a row for each map of S2, an X for each map of C3 that sees it.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


def count(module):
    return sum(p.numel() for p in module.parameters())


def check_gradients(module, x, eps=1e-5):
    """Compare backward with central differences along random directions, in float64."""
    rng = np.random.default_rng(0)
    upstream = rng.normal(size=module(minicnn.tensor(x)).shape)

    def loss():
        return float((module(minicnn.tensor(x)).numpy() * upstream).sum())

    image = minicnn.tensor(x, requires_grad=True)
    module(image).backward(minicnn.tensor(upstream))
    targets = [("input", x, image.grad.numpy())]
    targets += [(name, p.data, p.grad.numpy()) for name, p in module.named_parameters()]
    for name, values, grad in targets:
        for _ in range(3):
            direction = rng.normal(size=values.shape)
            values += eps * direction
            above = loss()
            values -= 2 * eps * direction
            below = loss()
            values += eps * direction
            error = abs((above - below) / (2 * eps) - (grad * direction).sum())
            # The derivative along a random direction is about the gradient's length.
            assert error <= 1e-6 * np.linalg.norm(grad), name


def test_lenet_counts():
    net = LeNet()
    assert count(net) == 431_080
    assert {name: p.shape for name, p in net.named_parameters() if "weight" in name} == {
        "conv1.weight": (20, 1, 5, 5),
        "conv2.weight": (50, 20, 5, 5),
        "fc1.weight": (500, 800),
        "fc2.weight": (10, 500),
    }
    assert net.input_shape == (1, 28, 28) and net.num_classes == 10


def test_lenet_equals_the_same_net_in_torch():
    torch = pytest.importorskip("torch")
    layers = torch.nn
    theirs = layers.Sequential(
        layers.Conv2d(1, 20, 5), layers.ReLU(), layers.MaxPool2d(2),
        layers.Conv2d(20, 50, 5), layers.ReLU(), layers.MaxPool2d(2),
        layers.Flatten(), layers.Linear(800, 500), layers.ReLU(), layers.Linear(500, 10),
    ).double()  # fmt: skip
    ours = LeNet().double()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = np.random.default_rng(0).uniform(size=(3, 1, 28, 28))
    scores, expected = ours(minicnn.tensor(images)), theirs(torch.tensor(images))
    np.testing.assert_allclose(scores.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_lenet_of_other_sizes():
    net = LeNet(in_channels=3, num_classes=7, input_size=(32, 20))
    assert net.input_shape == (3, 32, 20) and net.num_classes == 7
    assert net(minicnn.zeros(2, 3, 32, 20)).shape == (2, 7)
    assert LeNet(input_size=16)(minicnn.zeros(1, 1, 16, 16)).shape == (1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "LeNet: in_channels is 0"),
        ({"num_classes": -3}, "LeNet: num_classes is -3"),
        (
            {"input_size": 15},
            "images of 15 x 15 are too small: pool2 .* that fit are 16 x 16",
        ),
        ({"input_size": (28, 28, 28)}, "LeNet: input_size is"),
    ],
)
def test_lenet_refuses_settings(options, message):
    with pytest.raises(ValueError, match=message):
        LeNet(**options)


@pytest.mark.parametrize("make", [LeNet, LeNet5])
@pytest.mark.parametrize("shape", [(1, 28, 30), (2, 3, 32, 32), (28, 28), (1, 1, 8, 8)])
def test_images_of_another_shape_are_refused(make, shape):
    side = make().input_shape[1]
    with pytest.raises(
        ValueError, match=rf"images have shape .*, expected \(N, 1, {side}, {side}\)"
    ):
        make()(minicnn.zeros(*shape))


def test_lenet5_counts():
    net = LeNet5()
    expected = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert {name: count(net.get_submodule(name)) for name in expected} == expected
    assert count(net) == 60_000
    assert net.input_shape == (1, 32, 32) and net.num_classes == 10
    assert net(minicnn.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_c3_is_connected_as_in_table_i():
    rows = TABLE_I.split()
    printed = [tuple(r for r in range(6) if rows[r][c] == "X") for c in range(16)]
    assert [tuple(sources) for sources in C3_CONNECTIONS] == printed
    assert sum(map(len, printed)) == 60


def test_partial_convolution_equals_one_convolution_for_each_map():
    rng = np.random.default_rng(0)
    connections = ((0, 2), (1,), (0, 1, 2))
    layer = PartialConv2d(connections, 3).double()
    assert list(layer.state_dict()) == ["weight", "bias"] and layer.weight.shape == (6, 3, 3)
    x = minicnn.tensor(rng.normal(size=(2, 3, 5, 6)))
    output = layer(x).numpy()
    first = 0
    for i, sources in enumerate(connections):
        kernels = minicnn.tensor(layer.weight.numpy()[None, first : first + len(sources)])
        part = minicnn.tensor(x.numpy()[:, list(sources)].copy())
        expected = F.conv2d(part, kernels).numpy()[:, 0] + layer.bias.numpy()[i]
        np.testing.assert_allclose(output[:, i], expected, rtol=1e-12, atol=1e-12)
        first += len(sources)


def test_subsampling_by_hand():
    layer = Subsampling(2)
    layer.load_state_dict({"weight": np.array([2.0, 0.5]), "bias": np.array([1.0, -1.0])})
    x = np.arange(16.0, dtype=np.float32).reshape(1, 2, 2, 4)
    assert layer(minicnn.tensor(x)).tolist() == [[[[21.0, 37.0]], [[20.0, 24.0]]]]


def test_squash_keeps_one():
    np.testing.assert_allclose(
        Squash()(minicnn.tensor([-1.0, 0.0, 1.0])).numpy(), [-1, 0, 1], atol=1e-4
    )


def test_rbf_output_by_hand():
    layer = RBFOutput(np.array([[1.0, -1.0], [0.0, 2.0], [1.0, 1.0]], np.float32))
    assert layer(minicnn.tensor([[1.0, 1.0], [0.0, 0.0]])).tolist() == [[-4, -2, 0], [-2, -4, -2]]
    assert list(layer.state_dict()) == ["codes"] and count(layer) == 0


def test_digit_codes_are_bitmaps_far_apart():
    codes = digit_codes()
    assert codes.shape == (10, 84) and codes.dtype == np.float32
    assert set(np.unique(codes)) == {-1.0, 1.0}
    seven = codes[7].reshape(12, 7)
    assert (seven[0] == 1).all() and (seven[1] == [-1, -1, -1, -1, -1, -1, 1]).all()
    different = (codes[:, None] != codes).sum(axis=2)[np.triu_indices(10, 1)]
    assert different.min() >= 6


def test_lenet5_starts_from_the_papers_distribution():
    minicnn.manual_seed(0)
    net = LeNet5()
    fan_ins = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}
    for name, fan_in in fan_ins.items():
        for p in net.get_submodule(name).parameters():
            values, bound = p.numpy(), 2.4 / fan_in
            assert np.abs(values).max() <= bound * (1 + 1e-6)
            assert p.numel() < 80 or np.abs(values).max() > 0.95 * bound
    first = 0
    for i, sources in enumerate(C3_CONNECTIONS):
        bound = 2.4 / (25 * len(sources)) * (1 + 1e-6)
        kernels = net.c3.weight.numpy()[first : first + len(sources)]
        assert 0.85 * bound < np.abs(kernels).max() <= bound
        assert np.abs(net.c3.bias.numpy()[i]) <= bound
        first += len(sources)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: Subsampling(3), (2, 3, 4, 6)),
        (lambda: PartialConv2d(((0, 1), (1, 2), (2,)), 2), (2, 3, 4, 5)),
        (lambda: RBFOutput(digit_codes()), (3, 84)),
        (Squash, (3, 4)),
        (LeNet5, (2, 1, 32, 32)),
    ],
)
def test_gradients(make, shape):
    minicnn.manual_seed(0)
    check_gradients(make().double(), np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize("make", [LeNet, LeNet5])
def test_a_few_steps_learn_the_digits_of_the_codes(make):
    minicnn.manual_seed(0)
    net = make()
    side = net.input_shape[1]
    ink = np.kron(digit_codes().reshape(10, 12, 7), np.ones((2, 2))) > 0
    pixels = np.full((10, 1, side, side), -0.1, np.float32)
    pixels[:, 0, 2:26, 7:21] = np.where(ink, 1.175, -0.1)
    images, labels = minicnn.tensor(pixels), minicnn.tensor(np.arange(10))
    optimizer = minicnn.optim.Adam(net.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = criterion(net(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert (net(images).argmax(1) == labels).all()
