"""The layer table: counts by hand, receptive fields of known networks, nothing left behind."""

import numpy as np
import pytest

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.models import LeNet, LeNet5
from minicnn.summary import summarize


def fields(model, input_shape):
    return [row.receptive_field for row in summarize(model, input_shape).rows]


def test_lenet_by_hand():
    summary = summarize(LeNet(), (1, 28, 28))
    assert [(r.name, r.type, r.output_shape, r.parameters, r.macs) for r in summary.rows] == [
        ("conv1", "Conv2d", (20, 24, 24), 20 * 25 + 20, 24 * 24 * 20 * 25),
        ("pool1", "MaxPool2d", (20, 12, 12), 0, 0),
        ("relu1", "ReLU", (20, 12, 12), 0, 0),
        ("conv2", "Conv2d", (50, 8, 8), 50 * 20 * 25 + 50, 8 * 8 * 50 * 20 * 25),
        ("pool2", "MaxPool2d", (50, 4, 4), 0, 0),
        ("relu2", "ReLU", (50, 4, 4), 0, 0),
        ("flatten", "Flatten", (800,), 0, 0),
        ("fc1", "Linear", (500,), 800 * 500 + 500, 400_000),
        ("relu3", "ReLU", (500,), 0, 0),
        ("fc2", "Linear", (10,), 500 * 10 + 10, 5_000),
    ]
    assert summary.total_parameters == summary.trainable_parameters == 431_080
    assert summary.total_macs == 288_000 + 1_600_000 + 400_000 + 5_000
    squares = [5, 6, 6, 14, 16, 16, 16, 28, 28, 28]
    assert [row.receptive_field for row in summary.rows] == [(n, n) for n in squares]


def test_lenet5_equals_the_papers_connections():
    summary = summarize(LeNet5(), (1, 32, 32))
    rows = {row.name: row for row in summary.rows}
    assert summary.total_parameters == 60_000
    # The paper counts connections, biases included: 122,304 in C1, 151,600 in C3.
    assert rows["c1"].macs + 6 * 28 * 28 == 122_304
    assert rows["c3"].macs + 16 * 10 * 10 == 151_600
    assert rows["c5"].macs == 120 * 400 and rows["f6"].macs == 120 * 84
    # S2 sees 6 pixels, C3 14, S4 16, C5 the whole image.
    assert [rows[k].receptive_field[0] for k in ("c1", "s2", "c3", "s4", "c5", "output")] == [
        5, 6, 14, 16, 32, 32,
    ]  # fmt: skip


def test_alexnet_and_vgg_trunks():
    alexnet = nn.Sequential(
        nn.Conv2d(3, 1, 11, 4), nn.MaxPool2d(3, 2),
        nn.Conv2d(1, 1, 5, padding=2), nn.MaxPool2d(3, 2),
        nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(36, 2), nn.Linear(2, 2),
    )  # fmt: skip
    expected = [11, 19, 51, 67, 99, 131, 163, 195, 195, 355, 355]
    assert fields(alexnet, (3, 227, 227)) == [(n, n) for n in expected]
    layers = []
    for depth in (2, 2, 3, 3, 3):
        layers += [nn.Conv2d(1, 1, 3, padding=1) for _ in range(depth)] + [nn.MaxPool2d(2)]
    vgg = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49, 1))
    by_layer = [n for n, _ in fields(vgg, (1, 224, 224))]
    assert [by_layer[i] for i in (1, 2, 5, 9, 16, 17, 18, 20)] == [5, 6, 16, 44, 196, 212, 212, 404]


def test_dilation_strides_and_directions_count():
    net = nn.Sequential(nn.Conv2d(1, 1, (3, 1), (2, 1), dilation=(2, 1)), nn.AvgPool2d((2, 3), 1))
    assert fields(net, (1, 20, 20)) == [(5, 1), (7, 3)]
    assert "7 x 3" in str(summarize(net, (1, 20, 20)))


def test_transposed_convolution_divides_the_jump():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 2, 2), nn.ConvTranspose2d(2, 3, 4, 2, 1, bias=False), nn.Conv2d(3, 1, 3)
    )
    summary = summarize(net, (1, 8, 8))
    # Each fine pixel sees two coarse ones, 2 + 2 pixels; then two more steps of one pixel.
    assert [row.receptive_field for row in summary.rows] == [(2, 2), (4, 4), (6, 6)]
    assert summary.rows[1].macs == 4 * 4 * 2 * 3 * 4 * 4
    assert summary.rows[1].parameters == 2 * 3 * 4 * 4


def test_adaptive_pooling():
    assert fields(nn.Sequential(nn.AdaptiveAvgPool2d(1)), (1, 6, 7)) == [(6, 7)]
    assert fields(nn.Sequential(nn.AdaptiveMaxPool2d((3, 4))), (1, 6, 7)) == [(2, 3)]


def test_where_paths_meet_the_larger_field_counts():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1))
            self.narrow = nn.Conv2d(2, 2, 1)
            self.relu = nn.ReLU()
            self.last = nn.Conv2d(4, 1, 3)

        def forward(self, x):
            y = self.relu(F.relu(self.wide(x)) + self.narrow(x))
            return self.last(F.cat([x, y], 1))

    rows = {row.name: row.receptive_field[0] for row in summarize(Residual(), (2, 9, 9)).rows}
    assert rows == {"wide.0": 3, "wide.1": 5, "narrow": 1, "relu": 5, "last": 7}


def test_shared_modules_have_a_row_for_each_call_but_count_once():
    layer = nn.Conv2d(2, 2, 3, padding=1)
    summary = summarize(nn.Sequential(layer, nn.ReLU(), layer), (2, 6, 6))
    assert [row.parameters for row in summary.rows] == [38, 0, 0]
    assert [row.macs for row in summary.rows] == [1296, 0, 1296]
    assert summary.total_parameters == 38 and summary.total_macs == 2592
    assert [row.receptive_field[0] for row in summary.rows] == [3, 3, 5]


def test_groups_divide_the_work():
    summary = summarize(nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5))
    assert summary.rows[0].macs == 9 * 6 * 2 * 9
    assert summary.rows[0].name == "Conv2d"


def test_parameters_of_inner_modules_are_counted():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(np.ones((1, 4, 4), np.float32))
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return self.conv(x * self.scale)

    summary = summarize(Scaled(), (1, 4, 4))
    assert [(row.name, row.parameters) for row in summary.rows] == [("conv", 10), ("Scaled", 16)]
    assert summary.total_parameters == 26


def test_frozen_parameters():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    summary = summarize(net, (2,))
    assert (summary.total_parameters, summary.trainable_parameters) == (13, 4)
    assert str(summary).endswith("9 of the parameters are frozen")


def test_the_network_is_left_as_it_was():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(4, 2)), nn.Dropout()).double()
    net[2].eval()
    with minicnn.no_grad():
        summarize(net, (4,))
    assert [m.training for m in net.modules()] == [True, True, True, True, False]
    assert all(p.grad is None for p in net.parameters())
    rows = summarize(net, (4,)).rows
    assert len(rows) == 3
    with pytest.raises(ValueError, match="linear"):
        summarize(net, (5,))
    assert net.training and not any(m._forward_hooks for m in net.modules())


def test_what_only_training_runs_is_counted_on_request():
    class Headed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout())
            self.scores, self.head = nn.Linear(4, 2), nn.Linear(4, 3)
            self.modes = []

        def forward(self, x):
            self.modes.append([m.training for m in self.modules()])
            x = self.body(x)
            return (self.scores(x), self.head(x)) if self.training else self.scores(x)

    net = Headed()
    before = net.body[0].running_mean.numpy().copy()
    net.body[1].eval()
    names = ["body.0", "body.1", "scores"]
    assert [row.name for row in summarize(net, (4,)).rows] == names
    summary = summarize(net, (4,), training=True)
    assert [row.name for row in summary.rows] == [*names, "head"]
    assert summary.total_macs == 8 + 12
    assert net.modes == [[False] * 6, [True] + [False] * 5]
    assert [m.training for m in net.modules()] == [True, True, True, False, True, True]
    assert (net.body[0].running_mean.numpy() == before).all()
    assert net.body[0].num_batches_tracked.item() == 0


def test_weights_that_were_never_filled_do_not_disturb():
    net = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))
    nn.init.constant_(net[0].bias, float("inf"))
    nn.init.constant_(net[1].weight, float("-inf"))
    nn.init.constant_(net[1].bias, float("inf"))
    assert summarize(net, (4,)).total_macs == 8 + 6


def test_a_lone_layer_stays_in_evaluation_mode():
    norm = nn.BatchNorm2d(2)
    summarize(norm, (2, 3, 3), training=True)
    assert norm.training and norm.num_batches_tracked.item() == 0


@pytest.mark.parametrize("shape", [(0, 28, 28), (1, -28, 28), (1, 2.5, 28)])
def test_sizes_must_be_positive(shape):
    with pytest.raises(ValueError, match="summarize: input_shape"):
        summarize(nn.Identity(), shape)


def test_table_as_text():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    assert str(summarize(net, (1, 6, 5))).split("\n") == [
        "Sequential, input 1 x 6 x 5",
        "",
        "layer  type    output     parameters  MACs  receptive field",
        "-" * 59,
        "0      Conv2d  2 x 4 x 3          20   216                3",
        "1      ReLU    2 x 4 x 3           0     0                3",
        "-" * 59,
        "total                             20   216",
    ]
