"""Module: registration, walks, state dicts, modes, conversion, text."""

import copy
import pickle

import numpy as np
import pytest

import minicnn
from minicnn import nn
from minicnn.grad_mode import mode


class Block(nn.Module):
    """A module with everything: parameters, buffers, sub-modules, None entries."""

    def __init__(self):
        super().__init__()
        self.second = nn.Linear(2, 3)
        self.scale = nn.Parameter([1.0, 2.0])
        self.register_buffer("mean", minicnn.zeros(2))
        self.register_buffer("scratch", minicnn.ones(2), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("no_bias", None)
        self.first = nn.Linear(3, 2, bias=False)
        self.steps = 7

    def forward(self, x):
        return self.first(self.second(x)) * self.scale


def names(pairs):
    return [name for name, _ in pairs]


def test_members_keep_the_order_of_assignment():
    block = Block()
    assert names(block.named_parameters()) == [
        "scale",
        "second.weight",
        "second.bias",
        "first.weight",
    ]
    assert names(block.named_buffers()) == ["mean", "scratch"]
    assert names(block.named_children()) == ["second", "first"]
    assert names(block.named_modules()) == ["", "second", "first"]
    assert list(block.state_dict()) == [
        "scale",
        "mean",
        "second.weight",
        "second.bias",
        "first.weight",
    ]
    assert names(block.named_parameters(recurse=False)) == ["scale"]
    assert block.no_bias is None and block.nothing is None and block.steps == 7


def test_state_dict_keys_equal_torch():
    torch = pytest.importorskip("torch")

    class TorchBlock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.second = torch.nn.Linear(2, 3)
            self.scale = torch.nn.Parameter(torch.ones(2))
            self.register_buffer("mean", torch.zeros(2))
            self.register_buffer("scratch", torch.ones(2), persistent=False)
            self.first = torch.nn.Linear(3, 2, bias=False)

    outer, theirs = nn.Module(), torch.nn.Module()
    outer.inner, theirs.inner = Block(), TorchBlock()
    assert list(outer.state_dict()) == list(theirs.state_dict())
    assert list(outer.state_dict(prefix="net.")) == list(theirs.state_dict(prefix="net."))


def test_a_typo_raises_and_names_the_class():
    block = Block()
    with pytest.raises(AttributeError, match=r"'Block' object has no attribute 'frist'"):
        _ = block.frist
    assert {"first", "scale", "mean", "steps"} <= set(dir(block))


@pytest.mark.parametrize("value", [nn.Parameter([1.0]), nn.ReLU()])
def test_assigning_before_init_says_what_to_do(value):
    class Forgetful(nn.Module):
        def __init__(self):
            self.thing = value

    with pytest.raises(
        AttributeError, match=r"call super\(\).__init__\(\).*before you assign thing"
    ):
        Forgetful()


def test_calling_a_module_without_init_says_what_to_do():
    class Forgetful(nn.Module):
        def __init__(self):
            self.size = 3

    with pytest.raises(AttributeError, match=r"call super\(\).__init__\(\)"):
        Forgetful()(1)


def test_shared_members_are_listed_once_but_saved_under_each_name():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    net.append(net[0])
    assert names(net.named_parameters()) == ["0.weight", "0.bias", "1.bias"]
    assert names(net.named_modules()) == ["", "0", "1"]
    assert names(net.named_children()) == ["0", "1"]
    assert len(net) == 3
    assert len(net.state_dict()) == 6


def test_reassignment_moves_between_registries_and_keeps_the_place():
    block = Block()
    block.scale = None
    assert block.scale is None and "scale" not in names(block.named_parameters())
    block.scale = nn.Parameter([5.0, 6.0])
    assert names(block.named_parameters())[0] == "scale"
    block.mean = nn.Parameter([0.0])
    assert "mean" not in names(block.named_buffers()) and "mean" in names(block.named_parameters())
    block.steps = nn.ReLU()
    assert "steps" not in vars(block) and "steps" in names(block.named_children())
    del block.steps
    assert not hasattr(block, "steps")
    del block.scratch
    block.register_buffer("scratch", minicnn.ones(1))
    assert "scratch" in block.state_dict()


def test_members_of_the_wrong_kind_are_refused():
    block = Block()
    with pytest.raises(TypeError, match="Block.scale: got Tensor, expected a Parameter or None"):
        block.scale = minicnn.ones(2)
    with pytest.raises(TypeError, match="Block.first: got int, expected a Module or None"):
        block.first = 3
    with pytest.raises(TypeError, match="Block.mean: got list, expected a Tensor or None"):
        block.mean = [1.0]
    with pytest.raises(TypeError, match="expected a Tensor or None"):
        block.register_buffer("b", np.ones(2))
    with pytest.raises(TypeError, match="expected a Parameter or None"):
        block.register_parameter("b", minicnn.ones(2))
    with pytest.raises(TypeError, match="expected a Module or None"):
        block.add_module("b", len)
    with pytest.raises(ValueError, match="without dots"):
        block.add_module("a.b", nn.ReLU())
    with pytest.raises(ValueError, match="'forward' is taken"):
        block.register_buffer("forward", minicnn.ones(1))
    assert block.scale.tolist() == [1.0, 2.0]


def test_get_submodule():
    net = nn.Sequential(Block())
    assert net.get_submodule("0.first") is net[0].first
    assert net.get_submodule("") is net
    with pytest.raises(AttributeError, match=r"Sequential has no module '0.third'"):
        net.get_submodule("0.third")


def test_state_dict_shares_memory_and_loading_restores():
    rng = np.random.default_rng(0)
    block, other = Block(), Block()
    state = block.state_dict()
    assert not any(value.requires_grad for value in state.values())
    state["scale"].data[0] = 9.0
    assert block.scale.tolist() == [9.0, 2.0]
    arrays = {key: rng.normal(size=value.shape) for key, value in state.items()}
    assert other.load_state_dict(arrays) == ([], [])
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), arrays[key].astype(np.float32))
        assert value.dtype == np.float32
    assert not np.shares_memory(other.scale.data, arrays["scale"])


def test_loading_lists_every_problem_and_loads_nothing():
    block = Block()
    before = {key: value.clone() for key, value in block.state_dict().items()}
    state = {key: value.data + 1 for key, value in before.items()}
    del state["mean"]
    state["extra"] = np.ones(2)
    state["first.weight"] = np.ones((3, 2))
    state["second.bias"] = np.array(["a", "b", "c"])
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    message = str(caught.value)
    assert "\n" not in message and "does not fit this Block" in message
    assert "missing keys: mean" in message and "unexpected keys: extra" in message
    assert "first.weight is (2, 3), got (3, 2)" in message and "not numbers: second.bias" in message
    for key, value in block.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key].numpy())


def test_loading_not_strictly_reports_keys_but_refuses_shapes():
    block = Block()
    result = block.load_state_dict(
        {"scale": np.array([3.0, 4.0]), "extra": np.ones(1)}, strict=False
    )
    assert result.missing_keys == ["mean", "second.weight", "second.bias", "first.weight"]
    assert result.unexpected_keys == ["extra"]
    assert block.scale.tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="wrong shapes"):
        block.load_state_dict({"scale": np.ones(3)}, strict=False)
    with pytest.raises(TypeError, match="expected a mapping"):
        block.load_state_dict([1, 2])


def test_files_from_before_batches_were_counted_load_and_leave_the_count():
    """PyTorch counts since 0.4.1 and takes older files; so do we, and nothing else may lack."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2)))
    net[1][0].num_batches_tracked.fill_(5)
    state = {key: value.data + 1 for key, value in net.state_dict().items()}
    del state["1.0.num_batches_tracked"]
    assert net.load_state_dict(state) == ([], [])
    assert net[1][0].num_batches_tracked.item() == 5
    assert net[1][0].running_mean.tolist() == [1.0, 1.0]
    state["1.0.num_batches_tracked"] = np.array(9)
    net.load_state_dict(state)
    assert net[1][0].num_batches_tracked.item() == 9
    del state["1.0.running_var"]
    with pytest.raises(ValueError, match=r"missing keys: 1\.0\.running_var$"):
        net.load_state_dict(state)
    with pytest.raises(ValueError, match="unexpected keys: num_batches_tracked"):
        nn.Linear(1, 1, bias=False).load_state_dict(
            {"weight": np.ones((1, 1)), "num_batches_tracked": np.array(1)}
        )


def test_a_foreign_checkpoint_gives_a_short_message():
    net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(40)))
    with pytest.raises(ValueError, match=r"and 70 more; unexpected keys: x") as caught:
        net.load_state_dict({"x": np.ones(1)})
    assert len(str(caught.value)) < 300


def test_loading_counts_as_a_change_in_place():
    layer = nn.Linear(2, 2, bias=False)
    loss = (layer(minicnn.ones(1, 2, requires_grad=True)) ** 2).sum()
    layer.load_state_dict({"weight": np.zeros((2, 2))})
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_train_and_eval_reach_everything():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    net[1].train()
    assert [module.training for module in net.modules()] == [False, False, True, True]
    with pytest.raises(TypeError, match="mode"):
        net.train("eval")


def test_requires_grad_and_zero_grad():
    layer = nn.Linear(2, 1)
    layer(minicnn.ones(1, 2)).sum().backward()
    kept = layer.weight.grad
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0.0, 0.0]] and kept.tolist() == [[1.0, 1.0]]
    layer.zero_grad()
    assert layer.weight.grad is None and layer.bias.grad is None
    assert layer.requires_grad_(False) is layer
    assert not layer(minicnn.ones(1, 2)).requires_grad


def test_conversion_keeps_identity_and_integers():
    layer = nn.Linear(2, 1)
    layer.register_buffer("count", minicnn.tensor([1, 2]))
    layer.register_buffer("mean", minicnn.ones(2))
    layer(minicnn.ones(1, 2)).sum().backward()
    weight, values = layer.weight, layer.weight.tolist()
    assert layer.double() is layer
    assert layer.weight is weight and weight.dtype == np.float64 and weight.tolist() == values
    assert weight.grad.dtype == np.float64 and layer.mean.dtype == np.float64
    assert layer.count.dtype == np.int64
    assert layer(minicnn.ones(1, 2, dtype=np.float64)).dtype == np.float64
    layer.to("cpu", minicnn.float32)
    assert weight.dtype == np.float32
    layer.to("cpu").float()
    with pytest.raises(ValueError, match="device"):
        layer.to("tpu")
    with pytest.raises(ValueError, match="expected float32 or float64"):
        layer.to(np.int64)


def test_apply_visits_children_first():
    seen = []
    net = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    net.apply(lambda module: seen.append(type(module).__name__))
    assert seen == ["ReLU", "Tanh", "Sequential", "Sequential"]


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_whole_and_independent(twin):
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    other = twin(net)
    np.testing.assert_array_equal(other[0].weight.numpy(), net[0].weight.numpy())
    assert isinstance(other[0].weight, nn.Parameter) and other[0].weight.requires_grad
    other[0].weight.data[...] = 0
    assert net[0].weight.numpy().any()
    x = minicnn.ones(1, 2)
    assert other(x).shape == net(x).shape


def test_a_module_without_forward_says_so():
    class Nothing(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Nothing defines no forward"):
        Nothing()(1)


def test_the_stack_of_running_modules_is_left_clean():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("inside")

    with pytest.raises(KeyError):
        nn.Sequential(nn.Identity(), Fails())(1)
    assert mode.modules == []


def test_anomaly_mode_names_the_module():
    class Logarithm(nn.Module):
        def forward(self, x):
            return x.log()

    net = nn.Sequential(nn.Identity(), nn.Sequential(Logarithm()))
    with minicnn.detect_anomaly(), np.errstate(all="ignore"):
        with pytest.raises(
            minicnn.AnomalyError, match=r"log in module 1.0 \(Logarithm\) made a NaN"
        ):
            net(minicnn.tensor([-1.0]))


def test_repr_equals_torch():
    torch = pytest.importorskip("torch")

    def build(lib):
        inner = lib.Sequential(lib.Linear(2, 3, bias=False), lib.ReLU())
        return lib.Sequential(lib.Conv2d(3, 4, 3, padding=1), inner, lib.Dropout(0.25))

    assert repr(build(nn)) == repr(build(torch.nn))


def test_parameter():
    data = np.ones(3, np.float32)
    parameter = nn.Parameter(data)
    assert np.shares_memory(parameter.data, data) and parameter.requires_grad and parameter.is_leaf
    assert not nn.Parameter(minicnn.ones(2), requires_grad=False).requires_grad
    assert repr(parameter).startswith("Parameter containing:\n")
    with pytest.raises(TypeError, match="requires_grad"):
        nn.Parameter(np.ones(2, np.int64))
