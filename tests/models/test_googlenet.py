"""GoogLeNet: the paper's counts, what its heads do and when, its ablations."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.models import GoogLeNet, create_model
from minicnn.models.googlenet import GoogLeNetOutputs
from minicnn.summary import summarize
from tests.models.against_torchvision import assert_close

# What goes out of each layer, and its parameters.
PAPER_LAYERS = {
    "conv1": ((64, 112, 112), 9_472),
    "maxpool1": ((64, 56, 56), 0),
    "conv2": ((64, 56, 56), 4_160),
    "conv3": ((192, 56, 56), 110_784),
    "maxpool2": ((192, 28, 28), 0),
    "inception3a": ((256, 28, 28), 163_696),
    "inception3b": ((480, 28, 28), 388_736),
    "maxpool3": ((480, 14, 14), 0),
    "inception4a": ((512, 14, 14), 376_176),
    "inception4b": ((512, 14, 14), 449_160),
    "inception4c": ((512, 14, 14), 510_104),
    "inception4d": ((528, 14, 14), 605_376),
    "inception4e": ((832, 14, 14), 868_352),
    "maxpool4": ((832, 7, 7), 0),
    "inception5a": ((832, 7, 7), 1_043_456),
    "inception5b": ((1024, 7, 7), 1_444_080),
    "fc": ((1000,), 1_025_000),
    "aux1": ((1000,), 3_188_840),
    "aux2": ((1000,), 3_190_888),
}
TINY = {"width": 0.0625, "num_classes": 7}


def unfilled(name: str, **options: Any) -> Any:
    with nn.init.skip_init():
        return create_model(name, **options)


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules()]


@pytest.mark.parametrize(
    ("aux", "training", "parameters", "macs"),
    [
        (False, False, 6_998_552, 1_582_671_872),
        (True, False, 13_378_280, 1_582_671_872),
        (True, True, 13_378_280, 1_591_044_096),
    ],
)
def test_counts(aux, training, parameters, macs):
    model = unfilled("googlenet", aux=aux)
    summary = summarize(model, model.input_shape, training=training)
    assert (summary.total_parameters, summary.total_macs) == (parameters, macs)
    if training:
        counted = defaultdict(int)
        shapes = {}
        for row in summary.rows:
            layer, _, rest = row.name.partition(".")
            counted[layer] += row.parameters
            # Branches end in rows of their own: their channels add up.
            if not rest.startswith("branch"):
                shapes[layer] = row.output_shape
            elif row.type == "ReLU" and rest[:9] not in ("branch2.0", "branch3.0"):
                channels, *size = row.output_shape
                shapes[layer] = (channels + shapes.get(layer, (0,))[0], *size)
        assert {name: (shapes[name], counted[name]) for name in PAPER_LAYERS} == PAPER_LAYERS


def test_notes_tell_what_the_heads_cost():
    assert unfilled("googlenet").notes() == [
        "aux1 and aux2: heads that only training runs, with 6,379,728 of the parameters; "
        "the network without them has 6,998,552."
    ]
    assert unfilled("googlenet", aux=False).notes() == []


def test_the_first_values_of_the_replication():
    minicnn.manual_seed(0)
    model = GoogLeNet(width=0.25)
    for name, value in model.named_parameters():
        values = value.detach().numpy()
        if name.endswith("bias"):
            scores = name in ("fc.bias", "aux1.fc2.bias", "aux2.fc2.bias")
            assert (values == np.float32(0 if scores else 0.2)).all(), name
        elif values.size > 1000:
            bound = np.sqrt(3 / values[0].size)
            assert 0.98 * bound < np.abs(values).max() <= bound * 1.0001, name
            assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.06), name


def test_response_normalisation_is_the_replications():
    for layer in (unfilled("googlenet").norm1, unfilled("googlenet").norm2):
        assert (layer.size, layer.alpha, layer.beta, layer.k) == (5, 1e-4, 0.75, 1.0)
        assert layer.divide_alpha


def test_a_block_concatenates_its_branches_in_the_order_of_the_table():
    minicnn.manual_seed(0)
    block = GoogLeNet(**TINY).inception3a
    maps = minicnn.randn(1, 12, 6, 6)
    with minicnn.no_grad():
        whole = block(maps).numpy()
        one = np.maximum(block.branch1.conv(maps).numpy(), 0)
        three = block.branch2(maps).numpy()
        pooled = block.branch4(maps).numpy()
    assert block.branch3[1].conv.kernel_size == (5, 5)
    assert whole.shape == (1, block.out_channels, 6, 6)
    np.testing.assert_array_equal(whole[:, :4], one)
    np.testing.assert_array_equal(whole[:, 4:12], three)
    np.testing.assert_array_equal(whole[:, -2:], pooled)


def test_training_gives_the_scores_of_the_heads_evaluation_does_not():
    minicnn.manual_seed(0)
    model = GoogLeNet(input_size=96, **TINY)
    images = minicnn.randn(2, 3, 96, 96)
    output = model(images)
    assert isinstance(output, GoogLeNetOutputs)
    assert output._fields == ("logits", "aux_logits2", "aux_logits1")
    assert [scores.shape for scores in output] == [(2, 7)] * 3
    called = []
    for name in ("aux1", "aux2"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: called.append(name))
    model.train()(images)
    assert called == ["aux1", "aux2"]
    assert model.eval()(images).shape == (2, 7)
    assert called == ["aux1", "aux2"]
    without = GoogLeNet(input_size=96, aux=False, **TINY)
    assert without.training and without(images).shape == (2, 7)
    assert not [name for name, _ in without.named_parameters() if name.startswith("aux")]


def test_each_head_sits_on_its_block():
    minicnn.manual_seed(0)
    model = GoogLeNet(input_size=96, dropout=0, **TINY)
    kept = {}
    for name in ("inception4a", "inception4d"):
        getattr(model, name).register_forward_hook(
            lambda module, args, output, name=name: kept.update({name: output.detach()})
        )
    output = model(minicnn.randn(2, 3, 96, 96))
    for scores, head, block in (
        (output.aux_logits1, model.aux1, "inception4a"),
        (output.aux_logits2, model.aux2, "inception4d"),
    ):
        maps = kept[block].numpy()
        # Maps of 6 x 6 hold one window of 5 x 5, at their top left.
        assert maps.shape[2:] == (6, 6)
        mean = maps[:, :, :5, :5].mean(axis=(2, 3))
        weight, bias = (p.detach().numpy() for p in head.conv.parameters())
        hidden = np.maximum(mean @ weight[:, :, 0, 0].T + bias, 0)
        hidden = np.maximum(hidden @ head.fc1.weight.numpy().T + head.fc1.bias.numpy(), 0)
        expected = hidden @ head.fc2.weight.numpy().T + head.fc2.bias.numpy()
        assert_close(scores.detach().numpy(), expected, 1e-5, block)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_by_hand(smoothing):
    rng = np.random.default_rng(0)
    main, second, first = rng.standard_normal((3, 4, 7))
    target = np.array([0, 3, 6, 3])

    def entropy(scores):
        log = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        wanted = np.full((4, 7), smoothing / 7)
        wanted[np.arange(4), target] += 1 - smoothing
        return -(wanted * log).sum(axis=1).mean()

    model = unfilled("googlenet", **TINY)
    output = GoogLeNetOutputs(*(minicnn.tensor(scores) for scores in (main, second, first)))
    labels = minicnn.tensor(target)
    expected = entropy(main) + 0.3 * entropy(second) + 0.3 * entropy(first)
    assert model.loss(output, labels, smoothing).item() == pytest.approx(expected)
    assert model.loss(output.logits, labels, smoothing).item() == pytest.approx(entropy(main))


def test_heads_bring_gradients_of_their_own():
    minicnn.manual_seed(0)
    model = GoogLeNet(input_size=96, dropout=0, **TINY)
    images = minicnn.randn(2, 3, 96, 96)
    model.loss(model(images), minicnn.tensor([1, 2])).backward()
    assert all(p.grad is not None for p in model.parameters())
    with_heads = model.conv1.conv.weight.grad.numpy().copy()
    last = model.inception5b.branch1.conv.weight.grad.numpy().copy()
    model.zero_grad()
    model.eval()
    model.loss(model(images), minicnn.tensor([1, 2])).backward()
    assert model.aux1.fc1.weight.grad is None and model.aux2.conv.conv.weight.grad is None
    np.testing.assert_allclose(model.inception5b.branch1.conv.weight.grad.numpy(), last, rtol=1e-5)
    assert np.abs(model.conv1.conv.weight.grad.numpy() - with_heads).max() > 1e-6


def test_a_file_with_heads_does_not_fit_a_network_without():
    state = GoogLeNet(**TINY).state_dict()
    model = GoogLeNet(aux=False, **TINY)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"unexpected keys.*aux1\.conv\.conv\.weight"):
        model.load_state_dict(state)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    unexpected = model.load_state_dict(state, strict=False).unexpected_keys
    assert len(unexpected) == 12 and all(key.startswith("aux") for key in unexpected)
    with pytest.raises(ValueError, match=r"missing keys.*aux1\.conv\.conv\.weight"):
        GoogLeNet(**TINY).load_state_dict(model.state_dict())


@pytest.mark.parametrize("option", ["lrn", "dropout", "aux", "batch_norm"])
def test_one_switch_changes_one_idea(option):
    whole = unfilled("googlenet", **TINY)
    value = {"dropout": 0.0, "batch_norm": True}.get(option, False)
    other = unfilled("googlenet", **{option: value}, **TINY)
    before, after = kinds(whole), kinds(other)
    if option == "lrn":
        assert before.count("LocalResponseNorm") == 2 and "LocalResponseNorm" not in after
    if option == "dropout":
        drops = ("dropout", "aux1.dropout", "aux2.dropout")
        assert [whole.get_submodule(path).p for path in drops] == [0.4, 0.7, 0.7]
        assert [other.get_submodule(path).p for path in drops] == [0.0, 0.0, 0.0]
    if option == "aux":
        assert before.count("AuxHead") == 2 and "AuxHead" not in after
    if option == "batch_norm":
        assert "BatchNorm2d" not in before
        assert after.count("BatchNorm2d") == after.count("Conv2d") == 3 + 9 * 6 + 2
        assert whole.conv1.conv.bias is not None and other.conv1.conv.bias is None
    else:
        assert before.count("Conv2d") - after.count("Conv2d") == (2 if option == "aux" else 0)


def test_too_small_images_name_the_layer_and_what_fits():
    with pytest.raises(
        ValueError,
        match=r"GoogLeNet: images of 64 x 64 are too small for the auxiliary heads: aux1\.pool "
        r"\(AvgPool2d\) needs a map of at least 5 x 5 and gets 4 x 4; the smallest that fit are "
        r"79 x 79, without heads \(aux=False\) smaller ones do",
    ):
        GoogLeNet(input_size=64, **TINY)
    assert GoogLeNet(input_size=79, **TINY).map_size() == (2, 2)
    with pytest.raises(ValueError, match=r"2 x 2 are too small: maxpool1 .*smallest that fit are"):
        GoogLeNet(input_size=2, aux=False, **TINY)


def test_sizes_and_channels_that_come():
    model = GoogLeNet(input_size=96, **TINY)
    with pytest.raises(ValueError, match=r"\(2, 1, 96, 96\), expected \(N, 3, height, width\)"):
        model(minicnn.zeros(2, 1, 96, 96))
    with pytest.raises(
        ValueError, match=r"maps of 9 x 9 are pooled to 2 x 2, but fc1 is built for 1 x 1"
    ):
        model(minicnn.zeros(2, 3, 144, 144))
    assert model.eval()(minicnn.zeros(2, 3, 144, 144)).shape == (2, 7)


def test_the_one_for_digits_keeps_the_idea_and_its_switches():
    model = create_model("googlenet_small").train()
    kinds = [type(layer).__name__ for layer in model.modules()]
    assert kinds.count("Inception") == 5 and kinds.count("AuxHead") == 2
    assert kinds.count("LocalResponseNorm") == 2 and "BatchNorm2d" in kinds
    images = minicnn.randn(4, 1, 28, 28)
    assert [scores.shape for scores in model(images)] == [(4, 10)] * 3
    assert 5e6 < summarize(model, model.input_shape).total_macs < 15e6
    for options, absent in (
        ({"aux": False}, "AuxHead"), ({"lrn": False}, "LocalResponseNorm"),
        ({"batch_norm": False}, "BatchNorm2d"),
    ):  # fmt: skip
        without = create_model("googlenet_small", **options)
        assert absent not in [type(layer).__name__ for layer in without.modules()]
