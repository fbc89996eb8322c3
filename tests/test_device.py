"""Devices: names and what is missing, tensors and modules that move, operands that must not mix."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minicnn
import minicnn.functional as F
from minicnn import Function, Tensor, backend, nn, optim
from minicnn.serialization import load_state_dict, save_state_dict
from tests.needs import needs_cupy

ROOT = Path(__file__).parents[1]


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Names ------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_backend(monkeypatch):
    """Forget what has been found out about devices, before and after."""
    monkeypatch.delenv(backend.SIMULATE, raising=False)
    backend._problem.cache_clear()
    yield monkeypatch
    backend._problem.cache_clear()


def test_every_array_tells_its_device(device, xp):
    with backend.on_device(device):
        array = xp.zeros(3, np.float32)
    assert backend.device_of(array) == device and backend.is_array(array)
    assert backend.get_array_module(2.0, None, array) is xp
    assert backend.to_device(array, device) is array
    assert type(backend.to_host(array)) is np.ndarray
    assert minicnn.zeros(2, device=device).device == device


@pytest.mark.parametrize(
    "name", ["gpu", "cuda:", "cuda:01", "cuda:-1", "cpu:0", "cuda:sim:x", "CPU", "", None, 0]
)
def test_unknown_devices_are_refused(name):
    with pytest.raises(ValueError, match="device: got .*, expected one of 'cpu', 'cuda', 'cuda:s"):
        minicnn.zeros(2, device=name)
    with pytest.raises(ValueError, match="device: got"):
        backend.is_available(name)


def test_lists_have_no_device():
    assert not backend.is_array([1.0]) and not backend.is_array(np.float32(1))
    with pytest.raises(TypeError, match="array: got list, expected an array of some device"):
        backend.device_of([1.0])


def raising(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("importing", "message"),
    [
        (raising(ModuleNotFoundError("no cupy")), r"needs CuPy: install minicnn\[cuda12\] or min"),
        (raising(ImportError("libnvrtc.so")), "which cannot be imported: libnvrtc.so"),
        (
            lambda: SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False)),
            "needs an NVIDIA GPU and its driver, and CuPy finds none",
        ),
    ],
)
def test_what_is_missing_for_cuda_is_said(fresh_backend, importing, message):
    fresh_backend.setattr(backend, "_import_cupy", importing)
    with pytest.raises(ValueError, match=f"device: 'cuda' {message}|{message}"):
        minicnn.ones(2).cuda()
    assert not minicnn.cuda.is_available() and not backend.is_available("cuda")


def test_a_missing_compiler_is_said(fresh_backend):
    class CompilerNotFoundError(RuntimeError):
        pass

    def empty(shape):
        raise CompilerNotFoundError("there is no g++")

    simulator = SimpleNamespace(empty=empty, CompilerNotFoundError=CompilerNotFoundError)
    fresh_backend.setattr(backend, "_import_simulator", lambda: simulator)
    with pytest.raises(ValueError, match="device: 'cuda:sim' .* there is no g"):
        minicnn.zeros(2, device="cuda:sim")


def test_the_variable_makes_cuda_the_simulator_and_the_tensor_says_so(gpu, fresh_backend):
    if gpu != "cuda:sim":
        pytest.skip("about the simulator")
    fresh_backend.setenv(backend.SIMULATE, "1")
    assert minicnn.ones(2).cuda().device == "cuda:sim"
    assert nn.Linear(2, 2).cuda().weight.device == "cuda:sim"
    assert minicnn.cuda.is_available()
    minicnn.cuda.synchronize()
    fresh_backend.setattr(backend, "_import_cupy", raising(ModuleNotFoundError("no cupy")))
    fresh_backend.setenv(backend.SIMULATE, "0")
    assert not minicnn.cuda.is_available()


# Tensors ----------------------------------------------------------------------------------------


def test_creation(device):
    array = values(2, 3)
    assert minicnn.tensor(array, device=device).tolist() == array.tolist()
    assert minicnn.tensor([[1, 2]], device=device).dtype == np.int64
    assert minicnn.tensor(3.5, np.float64, device=device).item() == 3.5
    assert minicnn.ones((2, 3), device=device).tolist() == np.ones((2, 3)).tolist()
    assert minicnn.full((2,), 7.0, device=device).tolist() == [7, 7]
    assert minicnn.arange(1, 4, device=device).tolist() == [1, 2, 3]
    assert minicnn.empty(4, dtype=np.float64, device=device).shape == (4,)
    x = minicnn.zeros(2, dtype=np.float64, device=device, requires_grad=True)
    assert x.requires_grad and x.dtype == np.float64
    for like in (minicnn.zeros_like(x), minicnn.ones_like(x), minicnn.tensor(x), Tensor(x.data)):
        assert like.device == device and like.dtype == np.float64
    assert Tensor(x).data is not x.data


def test_draws_are_the_same_on_every_device(gpu):
    def draw(device):
        minicnn.manual_seed(7)
        filled = minicnn.empty(5, device=device)
        tensors = [
            minicnn.rand(3, device=device),
            minicnn.randn(2, 2, dtype=np.float64, device=device),
            filled.uniform_(-1, 1).clone(),
            filled.normal_(1, 2).clone(),
            nn.init.trunc_normal_(minicnn.empty(7, device=device)),
            nn.init.orthogonal_(minicnn.empty(3, 4, device=device)),
        ]
        assert {t.device for t in tensors} == {device}
        return [t.tolist() for t in tensors]

    assert draw(gpu) == draw("cpu")


def test_values_come_to_the_host_when_asked_only(gpu):
    x = minicnn.tensor([[1.5, 2.5]], device=gpu)
    assert x.tolist() == [[1.5, 2.5]] and x[0, 1].item() == 2.5
    assert float(x[0, 0]) == 1.5 and int(minicnn.tensor(3, device=gpu)) == 3
    assert bool(x[0, 0] > 1) and [10, 20][minicnn.tensor(1, device=gpu)] == 20
    assert repr(x) == f"tensor([[1.5, 2.5]], device={gpu!r})"
    for convert in (Tensor.numpy, np.asarray, lambda t: np.add(np.ones(2), t.numpy())):
        with pytest.raises(TypeError, match="can't convert a tensor on 'cuda.*use Tensor.cpu()"):
            convert(x)
    assert x.cpu().numpy().tolist() == [[1.5, 2.5]]
    with pytest.raises(TypeError, match="array: got .*ndarray, expected a NumPy array"):
        minicnn.from_numpy(x.data)


def test_to_moves_converts_or_does_nothing(gpu):
    x = minicnn.tensor(values(2, 3))
    y = x.to(gpu)
    assert (y.device, y.dtype, y.tolist()) == (gpu, np.float32, x.tolist())
    assert y.to(gpu) is y and y.to(np.float32) is y and y.to(y) is y and x.cpu() is x
    for z in (
        x.to(gpu, np.float64), x.to(np.float64, gpu), x.to(device=gpu, dtype=np.float64),
        x.to("float64").to(gpu), x.to(minicnn.zeros(1, dtype=np.float64, device=gpu)),
    ):  # fmt: skip
        assert (z.device, z.dtype) == (gpu, np.float64)
    assert y.cpu().device == "cpu" and not np.shares_memory(y.cpu().numpy(), x.numpy())


def test_gradients_travel_back_across_devices(gpu):
    x = minicnn.tensor([1.0, 2.0], requires_grad=True)
    y = (x.to(gpu, np.float64) * 3).cpu() * x
    y.sum().backward()
    assert x.grad.device == "cpu" and x.grad.dtype == np.float32
    assert x.grad.tolist() == [6, 12]
    (g,) = minicnn.grad((x.to(gpu) ** 3).sum(), x, create_graph=True)
    assert g.device == "cpu"
    (h,) = minicnn.grad(g.sum(), x)
    assert h.tolist() == [6, 12]


def test_changes_in_place_are_numpys(device):
    array, x = np.arange(6, dtype=np.float32).reshape(2, 3), minicnn.arange(6.0).reshape(2, 3)
    x = x.to(device)
    x.add_(2).mul_([1.0, 2.0, 3.0]).sub_(x.clone(), alpha=0.5).div_(
        minicnn.full((1,), 4, device=device)
    )
    array += 2
    array *= [1, 2, 3]
    array -= 0.5 * array
    array /= 4
    assert x.tolist() == array.tolist()
    x[0] = [7, 8, 9]
    x[1, ::2] = 5
    x[[1, 0], [1, 1]] = minicnn.tensor([-1.0, -2.0], device=device)
    x[x == 9] = 0.25
    assert x.tolist() == [[7, -2, 0.25], [5, -1, 5]]
    y = x
    y += 1
    assert y is x and x.fill_(2).zero_().tolist() == [[0, 0, 0]] * 2


def test_copy_crosses_devices_and_casts(gpu):
    x, y = minicnn.zeros(2, 3), minicnn.zeros(2, 3, device=gpu)
    assert y.copy_(np.arange(3)).dtype == np.float32 and y.device == gpu
    assert x.copy_(y).tolist() == [[0, 1, 2]] * 2 and x.device == "cpu"
    assert y.copy_(x * 2).copy_(y.double()).tolist() == [[0, 2, 4]] * 2
    assert y.copy_(np.ones(3, np.float16)).copy_([3, 2, 1]).tolist() == [[3, 2, 1]] * 2


def mix(name):
    """Return calls that give a function operands of two devices, and what the error must name."""
    there = {"x": minicnn.ones(2, 2, device=name), "images": minicnn.ones(1, 1, 4, 4, device=name)}
    x, images, here = there["x"], there["images"], minicnn.ones(2, 2)
    kernel = minicnn.ones(1, 1, 2, 2)
    return {
        "add: b": lambda: x + here,
        "mul: b": lambda: here * x,
        "sub: b": lambda: x - np.ones(2, np.float32),
        "maximum: b": lambda: F.maximum(x, here),
        "where: a": lambda: F.where(x > 0, here, x),
        "where: b": lambda: F.where(x > 0, x, np.ones((2, 2))),
        "gt: other": lambda: x > here,
        "add_: other": lambda: x.add_(here),
        "fill_: other": lambda: x.fill_(here[0, 0]),
        "index assignment: other": lambda: x.__setitem__(0, np.ones(2)),
        r"cat: tensors\[1\]": lambda: F.cat([x, here]),
        "gather: index": lambda: x.gather(0, minicnn.tensor([[0, 1]])),
        "matmul: b": lambda: x @ here,
        "linear: weight": lambda: F.linear(x, here),
        "linear: bias": lambda: F.linear(x, x, minicnn.ones(2)),
        "conv2d: weight": lambda: F.conv2d(images, kernel),
        "conv_transpose2d: weight": lambda: F.conv_transpose2d(images, kernel),
        "mse_loss: target": lambda: F.mse_loss(x, here),
        "nll_loss: target": lambda: F.nll_loss(x, minicnn.tensor([0, 1])),
        "nll_loss: weight": lambda: F.nll_loss(x, [0, 1], minicnn.ones(2)),
        "backward: gradient": lambda: (x.detach().requires_grad_() * 2).backward(here),
        "scaled: input 1": lambda: Scaled.apply(x, here),
    }  # fmt: skip


class Scaled(Function):
    """A user's own function, which checks nothing itself."""

    def forward(self, a, b):
        return a * b


def test_operands_of_two_devices_are_refused_by_name(gpu):
    for named, call in mix(gpu).items():
        expected = f"^{named} is on '(cpu|{gpu})', expected '(cpu|{gpu})' like .*; move one of them"
        with pytest.raises(RuntimeError, match=expected) as caught:
            call()
        assert "'cpu'" in str(caught.value) and f"'{gpu}'" in str(caught.value), named


def test_numbers_and_lists_go_where_the_tensor_is(device):
    x = minicnn.tensor([1.0, 4.0], device=device)
    for result in (
        x + 1, 2 - x, [1.0, 2.0] * x, np.float32(2) / x, 2**x, x == [1, 2], x > 2,
        F.maximum(x, 2), F.minimum(2, x), F.where([True, False], x, 0.0), x.clamp(0, 3),
        F.where(x > 2, [1.0, 1.0], x), x @ minicnn.tensor([1.0, 1.0], device=device),
    ):  # fmt: skip
        assert result.device == device
    assert F.cross_entropy(x, 1).device == device
    assert F.nll_loss(x.reshape(1, 2), [1], x).device == device


def test_a_number_has_a_dimension_to_reduce(device):
    x = minicnn.tensor(3.0, device=device)
    for result in (F.argmax(x, 0), F.argmin(x, -1), *F.max(x, 0)[1:], *F.min(x, 0)[1:]):
        assert result.device == device and result.shape == () and result.item() == 0
    assert F.max(x, 0)[0].item() == F.sum(x, 0).item() == F.amax(x, 0).item() == 3
    assert F.softmax(x, 0).item() == 1 and F.log_softmax(x, -1).item() == 0


def test_copies_and_pickles_keep_the_device(device):
    x = minicnn.tensor([1.0, 2.0], device=device, requires_grad=True)
    (x * x).sum().backward()
    for twin in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert twin.device == device and twin.requires_grad and twin.grad.device == device
        with minicnn.no_grad():
            twin.add_(1)
        assert (x.tolist(), twin.tolist(), twin.grad.tolist()) == ([1, 2], [2, 3], [2, 4])
    model = pickle.loads(pickle.dumps(nn.Sequential(nn.Linear(2, 1)).to(device)))
    assert isinstance(model[0].weight, nn.Parameter) and model[0].weight.device == device
    with pytest.raises(RuntimeError, match="only leaf tensors can be pickled"):
        pickle.dumps(x * 2)


# Indexing ---------------------------------------------------------------------------------------

INDICES = {
    "row": 1,
    "element": (1, -2),
    "slices": (slice(None), slice(None, None, -2)),
    "new dimension": (Ellipsis, None, 0),
    "list": [2, 0, 0],
    "two lists": ([0, 2], [3, 1]),
    "list and slice": ([0, 2], slice(1, 3)),
    "mask": np.arange(12).reshape(3, 4) % 5 == 0,
    "mask of rows": np.array([True, False, True]),
    "tensor": minicnn.tensor([[0, 1], [2, 2]]),
}


@pytest.mark.parametrize("name", INDICES)
def test_indexing_reads_writes_and_differentiates_as_numpy_does(device, name):
    array, index = values(3, 4), INDICES[name]
    plain = index.numpy() if isinstance(index, Tensor) else index
    x = minicnn.tensor(array, device=device, requires_grad=True)
    picked = x[index]
    assert picked.device == device and picked.tolist() == array[plain].tolist()
    upstream = values(*picked.shape, seed=1)
    picked.backward(minicnn.tensor(upstream, device=device))
    expected = np.zeros_like(array)
    np.add.at(expected, plain, upstream)
    np.testing.assert_allclose(x.grad.cpu().numpy(), expected, rtol=1e-6)
    if isinstance(index, Tensor):
        assert x[index.to(device)].tolist() == array[plain].tolist()
    y = x.detach().clone()
    y[index], array[plain] = 3, 3
    assert y.tolist() == array.tolist()


@pytest.mark.parametrize("index", [3, (0, -5), [0, 3], ([0], [4]), np.array([True, False])])
def test_an_index_outside_is_an_error_everywhere(device, index):
    x = minicnn.ones(3, 4, device=device)
    with pytest.raises(IndexError):
        x[index]
    with pytest.raises(IndexError):
        x[index] = 1.0
    assert x.tolist() == np.ones((3, 4)).tolist()


def test_slices_share_memory_and_elements_do_not(device):
    x = minicnn.arange(4.0, device=device)
    part, one = x[1:3], x[0]
    x.add_(1)
    assert (part.tolist(), one.item()) == ([2, 3], 0)
    assert part._version is x._version
    labels = minicnn.tensor([[2], [0]], device=device)
    assert F.one_hot(labels, 3).tolist() == [[[0, 0, 1]], [[1, 0, 0]]]


# The engine -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value encountered in log")
def test_guards_hooks_and_anomalies_are_those_of_the_cpu(device):
    x = minicnn.tensor([1.0, 2.0], device=device, requires_grad=True)
    y = x.exp()
    with minicnn.no_grad():
        y.detach().add_(1)
    with pytest.raises(RuntimeError, match="exp: output 0.* was changed in place"):
        y.sum().backward()

    seen = []
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).to(device)
    model[0].register_full_backward_hook(lambda m, gi, go: seen.append((gi[0], go[0])))
    x.register_hook(lambda g: g * 2)
    model(x.reshape(1, 2)).sum().backward()
    assert [g.device for g in seen[0]] == [device] * 2 and x.grad.device == device

    with minicnn.detect_anomaly(), pytest.raises(minicnn.AnomalyError, match="log made a NaN"):
        (x - 3).log()


class Stray(Function):
    """Leaves its gradient on the host."""

    def forward(self, a):
        return a * 1

    def backward(self, grad_output):
        return grad_output.cpu()


def test_a_gradient_on_another_device_is_refused(gpu):
    x = minicnn.ones(2, device=gpu, requires_grad=True)
    with pytest.raises(RuntimeError, match="stray: backward returned a gradient on 'cpu' for inp"):
        Stray.apply(x).sum().backward()


def test_a_hook_may_see_tensors_of_two_devices(gpu):
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b.to(a.device)

    module = Two()
    module.register_full_backward_hook(lambda m, gi, go: None)
    a, b = minicnn.ones(2, requires_grad=True), minicnn.ones(2, device=gpu, requires_grad=True)
    module(a, b).sum().backward()
    assert (a.grad.device, b.grad.device) == ("cpu", gpu)


# Modules and optimisers -------------------------------------------------------------------------


class Small(nn.Module):
    """A layer, a buffer of floats and one of integers."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("mean", minicnn.zeros(2))
        self.register_buffer("count", minicnn.tensor(5))

    def forward(self, x):
        return self.linear(x) - self.mean


def test_modules_move_in_place_with_their_gradients(gpu):
    model = Small()
    parameters, buffers = list(model.parameters()), list(model.buffers())
    model(minicnn.ones(1, 3)).sum().backward()
    gradient = model.linear.weight.grad.tolist()
    assert model.to(gpu, np.float64) is model
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(a is b for a, b in zip(buffers, model.buffers(), strict=True))
    state = model.state_dict()
    assert {t.device for t in state.values()} == {gpu}
    assert [str(t.dtype) for t in state.values()] == ["float64", "int64"] + ["float64"] * 2
    assert model.linear.weight.grad.device == gpu
    assert model.linear.weight.grad.tolist() == gradient
    assert model(minicnn.ones(1, 3, dtype=np.float64, device=gpu)).device == gpu
    assert {t.device for t in model.cpu().state_dict().values()} == {"cpu"}
    with pytest.raises(ValueError, match="dtype: got int64"):
        model.to(np.int64)


def test_states_load_across_devices_and_files_know_none(gpu, tmp_path):
    there, here, again = Small().to(gpu), Small(), Small().to(gpu)
    save_state_dict(tmp_path / "weights", there.state_dict())
    here.load_state_dict(load_state_dict(tmp_path / "weights"))
    again.load_state_dict(here.state_dict())
    here.load_state_dict(there.state_dict())
    for name, value in there.state_dict().items():
        assert here.state_dict()[name].device == "cpu"
        assert again.state_dict()[name].device == gpu
        assert here.state_dict()[name].tolist() == again.state_dict()[name].tolist()
        assert value.tolist() == here.state_dict()[name].tolist()


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
}


def descend(optimizer, parameter, steps):
    """Take steps with gradients that do not depend on rounding; return the values after each."""
    results = []
    for step in steps:
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        parameter.grad = minicnn.tensor(values(3, 5, seed=step), device=parameter.device)
        optim.clip_grad_norm_([parameter], 2.0)
        optim.clip_grad_value_(parameter, 0.5)
        optimizer.step()
        results.append(parameter.detach().cpu().numpy().copy())
    return results


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_step_as_on_the_cpu_and_follow_their_parameters(gpu, name):
    results = {}
    for device in ("cpu", gpu):
        p = nn.Parameter(minicnn.tensor(values(3, 5, seed=99), device=device))
        results[device] = descend(OPTIMIZERS[name]([p]), p, range(6))
    np.testing.assert_allclose(results[gpu], results["cpu"], rtol=2e-6, atol=1e-6)

    # Moved after two steps, and saved and loaded after four.
    holder = nn.Module()
    holder.p = p = nn.Parameter(minicnn.tensor(values(3, 5, seed=99)))
    optimizer = OPTIMIZERS[name]([p])
    moved = descend(optimizer, p, range(2))
    holder.to(gpu)
    moved += descend(optimizer, p, range(2, 4))
    state = optimizer.state_dict()
    arrays = [v for s in state["state"].values() for v in s.values() if not isinstance(v, int)]
    assert all(type(array) is np.ndarray for array in arrays)
    holder.cpu()
    optimizer = OPTIMIZERS[name]([p])
    optimizer.load_state_dict(state)
    moved += descend(optimizer, p, range(4, 6))
    np.testing.assert_allclose(moved, results["cpu"], rtol=2e-6, atol=1e-6)


def test_norms_are_those_of_the_cpu(gpu):
    for p in (1.0, 2.0, 3.0, float("inf")):
        norms = []
        for device in ("cpu", gpu):
            x = nn.Parameter(minicnn.zeros(4, 5, device=device))
            x.grad = minicnn.tensor(values(4, 5), device=device)
            norms.append(optim.clip_grad_norm_(x, 0.5, p))
            assert norms[-1].device == device
        assert norms[1].item() == pytest.approx(norms[0].item(), rel=1e-6)


# What both look-alikes must offer ---------------------------------------------------------------


def array_module_names() -> set[str]:
    """Return every NAME of an `xp.NAME` in the engine and the host functions of kernels."""
    folders = [ROOT / "minicnn" / name for name in ("functional", "nn", "optim", "training")]
    files = [*(ROOT / "kernels").glob("*.py"), *(ROOT / "minicnn").glob("*.py")]
    files += [path for folder in folders for path in folder.glob("*.py")]
    called = re.compile(r"(?:\bxp|array_module\([^()]*(?:\([^()]*\))?\))\.(\w+(?:\.\w+)*)")
    return {name for path in files for name in called.findall(path.read_text(encoding="utf-8"))}


def has(module, dotted):
    for name in dotted.split("."):
        if not hasattr(module, name):
            return False
        module = getattr(module, name)
    return True


def test_the_simulator_offers_every_name_that_the_engine_uses():
    from minicnn import cudasim

    names = array_module_names()
    assert {"empty", "exp", "zeros_like", "ones_like", "isfinite"} <= names
    assert sorted(name for name in names if not has(cudasim, name)) == []


@needs_cupy
def test_cupy_offers_every_name_that_the_engine_uses():
    import cupy

    assert sorted(name for name in array_module_names() if not has(cupy, name)) == []
