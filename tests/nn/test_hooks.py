"""Hooks of modules, forward and backward."""

import numpy as np
import pytest

import minicnn
from minicnn import nn


class Product(nn.Module):
    def forward(self, a, b):
        return a * b


def test_forward_pre_hook_sees_and_replaces_the_arguments():
    layer = nn.Identity()
    seen = []
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
    layer.register_forward_pre_hook(lambda module, args: args[0] * 2)
    assert layer(minicnn.ones(1)).tolist() == [2.0]
    assert seen[0][0] is layer and seen[0][1][0].tolist() == [1.0]
    handle.remove()
    layer(minicnn.ones(1))
    assert len(seen) == 1


def test_forward_hooks_run_in_order_and_may_replace_the_output():
    layer = nn.Identity()
    layer.register_forward_hook(lambda module, args, output: output + 1)
    handle = layer.register_forward_hook(lambda module, args, output: output * 10)
    layer.register_forward_hook(lambda module, args, output: None)
    assert layer(minicnn.ones(1)).tolist() == [20.0]
    handle.remove()
    handle.remove()
    assert layer(minicnn.ones(1)).tolist() == [2.0]


def _gradients_seen(lib, tensor):
    """Run one net with backward hooks in either library and return what the hooks saw."""
    seen = []

    def hook(module, grad_input, grad_output):
        for group in (grad_input, grad_output):
            seen.append([None if g is None else g.tolist() for g in group])

    layer = lib.Linear(2, 2, bias=False)
    handle = layer.register_full_backward_hook(hook)
    x = tensor([[1.0, -2.0]])
    for requires_grad in (True, False):
        x.requires_grad_(requires_grad)
        layer.load_state_dict({"weight": tensor([[1.0, 2.0], [3.0, 4.0]])})
        # The input is used beside the layer too: the hook must see the layer's share alone.
        (layer(x) ** 2 + x * 100).sum().backward()
        seen.append(layer.weight.grad.tolist())
    handle.remove()
    (layer(x)).sum().backward()
    return seen


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_backward_hooks_see_what_torch_shows():
    torch = pytest.importorskip("torch")
    assert _gradients_seen(nn, minicnn.tensor) == _gradients_seen(torch.nn, torch.tensor)


def test_backward_hook_replaces_the_gradient_of_the_input():
    layer = Product()
    layer.register_full_backward_hook(lambda module, gi, go: (gi[0] * 10, None))
    layer.register_full_backward_hook(lambda module, gi, go: None)
    a, b = minicnn.tensor([2.0], requires_grad=True), minicnn.tensor([3.0], requires_grad=True)
    layer(a, b).backward()
    assert a.grad.tolist() == [30.0] and b.grad is None


def test_backward_hook_with_several_inputs_and_outputs():
    class Swap(nn.Module):
        def forward(self, a, factor, b):
            return b * factor, a * factor

    seen = {}
    layer = Swap()
    layer.register_full_backward_hook(lambda module, gi, go: seen.update(inputs=gi, outputs=go))
    a, b = minicnn.tensor([2.0], requires_grad=True), minicnn.tensor([3.0], requires_grad=True)
    first, second = layer(a, 5.0, b)
    (first * 2 + second * 7).sum().backward()
    assert [g if g is None else g.item() for g in seen["inputs"]] == [35.0, None, 10.0]
    assert [g.item() for g in seen["outputs"]] == [2.0, 7.0]
    assert a.grad.item() == 35.0 and b.grad.item() == 10.0


def test_backward_hook_does_not_disturb_second_derivatives():
    layer = nn.Tanh()
    layer.register_full_backward_hook(lambda module, gi, go: None)
    x = minicnn.tensor([0.3], dtype=np.float64, requires_grad=True)
    (first,) = minicnn.grad(layer(x), x, create_graph=True)
    (second,) = minicnn.grad(first, x)
    t = np.tanh(0.3)
    np.testing.assert_allclose(second.item(), -2 * t * (1 - t**2), rtol=1e-12)


def test_backward_hook_costs_nothing_without_gradients():
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda module, gi, go: None)
    with minicnn.no_grad():
        assert not layer(minicnn.ones(1, requires_grad=True)).requires_grad
    assert not layer(minicnn.ones(1)).requires_grad


def test_backward_hook_errors_are_clear():
    x = minicnn.ones(1, requires_grad=True)
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda module, gi, go: (None, None))
    with pytest.raises(
        RuntimeError, match="Identity: a backward hook returned 2 gradients, expected 1"
    ):
        layer(x).backward()

    class Dict(nn.Module):
        def forward(self, x):
            return {"x": x}

    layer = Dict()
    layer.register_full_backward_hook(lambda module, gi, go: None)
    with pytest.raises(TypeError, match="Dict: a backward hook needs .* got dict"):
        layer(x)


def test_a_change_in_place_is_seen_through_the_border_of_a_hooked_module():
    layer = Product()
    layer.register_full_backward_hook(lambda module, gi, go: None)
    a, b = minicnn.tensor([2.0], requires_grad=True), minicnn.tensor([3.0], requires_grad=True)
    loss = layer(a, b)
    with minicnn.no_grad():
        b.add_(1)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()
