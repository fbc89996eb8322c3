"""One network of ours and its twin in torchvision: the same weights, scores and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

import minicnn
from minicnn import functional as F
from minicnn import nn
from minicnn.kernels import conv2d

SCORES, GRADIENTS = 1e-4, 1e-3  # relative to the largest value of each tensor
# Winograd's roundings are ten times those of other convolutions, and let more of the ReLUs whose
# inputs are nearly 0 through, or fewer: 0.4 % of the gradient's size in VGG-19's first layer.
WINOGRAD_GRADIENTS = 3e-2
# What is below this share of the network's largest gradient counts as nothing: the bias in front of
# a batch norm has no influence, and a gradient that is rounding alone.
NOTHING = 1e-9


def assert_equals_torchvision(
    ours: nn.Module, theirs: Any, shape: tuple[int, ...], dtype: type[np.floating] = np.float32
) -> None:
    """Load the twin's weights, strictly, and compare scores and gradients in both modes.

    Dropout is off on both sides, whose random numbers differ. Batch norm in training mode also
    moves its running statistics, which are compared. Convolutions are first not Winograd's; then,
    in float32, they are where that is the fastest.

    Args:
        ours: built by `minicnn.models`.
        theirs: the torch module, with its first values.
        shape: of the random images.
        dtype: of all values. In float32 a ReLU may let through what the twin's does not, where its
            input is 0 but for rounding; after batch norm on few values, in a deep network, that
            moves gradients far. In float64 hardly any input is so near to 0.
    """
    for network in (ours, theirs):
        _without_dropout(network)
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    if dtype == np.float64:
        ours.double()
        theirs.double()
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape, dtype)
    labels = rng.integers(0, 1000, shape[0])
    for training in (False, True):
        for network in (ours, theirs):
            network.train(training)
            network.zero_grad()
        with conv2d.without("winograd"):
            _compare(ours, theirs, images, labels, strict=True)
    if dtype == np.float32:
        for network in (ours, theirs):
            network.zero_grad()
        _compare(ours, theirs, images, labels, strict=False)
    state = ours.state_dict()
    for name, buffer in theirs.named_buffers():
        assert_close(state[name].numpy(), buffer.numpy(), SCORES, name)


def _compare(
    ours: nn.Module, theirs: Any, images: np.ndarray, labels: np.ndarray, strict: bool
) -> None:
    """Compare the scores of images, and each value of the gradients or, else, their sizes."""
    import torch

    our_scores = ours(minicnn.tensor(images))
    their_scores = theirs(torch.from_numpy(images))
    pairs = list(zip(_all(our_scores), _all(their_scores), strict=True))
    for a, b in pairs:
        assert_close(a.numpy(), b.detach().numpy(), SCORES, f"scores, {ours.training=}")
    target = torch.from_numpy(labels)
    for a, b in pairs:  # the gradients of several outputs add up
        F.cross_entropy(a, minicnn.tensor(labels)).backward(retain_graph=True)
        torch.nn.functional.cross_entropy(b, target).backward(retain_graph=True)
    own = dict(ours.named_parameters())
    found = [p.grad.numpy() for p in theirs.parameters() if p.grad is not None]
    least = NOTHING * max(np.abs(grad).max() for grad in found)
    for name, parameter in theirs.named_parameters():
        if parameter.grad is None:  # auxiliary heads in evaluation mode
            assert own[name].grad is None, name
            continue
        grad = own[name].grad
        assert grad is not None, name
        expected = parameter.grad.numpy()
        if strict:
            assert_close(grad.numpy(), expected, GRADIENTS, name, least)
        else:
            off = np.linalg.norm(grad.numpy() - expected) / max(np.linalg.norm(expected), least)
            assert off <= WINOGRAD_GRADIENTS, f"{name}: off by {off:.1e} of its size"


def assert_close(
    actual: np.ndarray, expected: np.ndarray, bound: float, what: str, least: float = 1e-30
) -> None:
    """Compare two arrays relative to the largest value among those expected, or to `least`."""
    assert actual.shape == expected.shape, what
    assert np.isfinite(actual).all(), what
    worst = np.abs(actual - expected).max() / max(np.abs(expected).max(), least)
    assert worst <= bound, f"{what}: off by {worst:.1e} of the largest value"


def _without_dropout(module: Any) -> None:
    for part in module.modules():
        if type(part).__name__ == "Dropout":
            part.p = 0.0


def _all(scores: Any) -> list[Any]:
    """Return the score tensors of an output, which may be several, of which some may be None."""
    return [s for s in scores if s is not None] if isinstance(scores, tuple) else [scores]
