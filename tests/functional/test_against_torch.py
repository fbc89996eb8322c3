"""Every function against PyTorch's of the same name: values and all gradients.

A case is a name, the call (made once with our functions and Tensors, once with PyTorch's), and the
shapes of its floating inputs. Each runs in float32 and float64, on contiguous and on strided
inputs, and, where the first dimension is a batch, on an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import minicnn.functional as F
from minicnn import Tensor, grad

torch = pytest.importorskip("torch")
TF = torch.nn.functional

Case = tuple[str, Callable[..., Any], Callable[..., Any], list[tuple[int, ...]]]


def same(name: str, shapes: list[tuple[int, ...]], *args: Any, **kwargs: Any) -> Case:
    """Both libraries call the function `name` with the same arguments."""
    theirs = getattr(TF, name, None) or getattr(torch, name)
    label = f"{name} {shapes} {args or ''} {kwargs or ''}"
    return (
        label,
        lambda *x: getattr(F, name)(*x, *args, **kwargs),
        lambda *x: theirs(*x, *args, **kwargs),
        shapes,
    )


def conv_cases() -> list[Case]:
    cases = []
    grid = product([(1, 1), (3, 2), (5, 5)], [1, (2, 3)], [0, (1, 2)], [1, (2, 1)], [1, 2])
    for kernel, stride, padding, dilation, groups in grid:
        for shape in [(2, 4, 9, 11), (1, 4, 10, 12)]:
            shapes = [shape, (6, 4 // groups, *kernel), (6,)]
            options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            cases.append(same("conv2d", shapes, **options))
    cases.append(same("conv2d", [(2, 4, 5, 5), (4, 1, 3, 3)], groups=4, padding=1))
    cases.append(same("conv2d", [(2, 3, 5, 6), (2, 3, 3, 5)], padding="same"))
    cases.append(same("conv2d", [(2, 3, 5, 6), (4, 3, 5, 6)], padding="valid"))
    # More than one slice of columns.
    cases.append(same("conv2d", [(40, 8, 20, 20), (5, 8, 3, 3), (5,)], padding=1))
    return cases


def conv_transpose_cases() -> list[Case]:
    cases = []
    grid = product([(1, 1), (3, 2), (4, 4)], [1, (2, 3)], [0, (1, 0)], [1, (2, 1)], [1, 2])
    for kernel, stride, padding, dilation, groups in grid:
        extra = (1, 1) if stride == (2, 3) else (0, 0)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shapes = [(2, 4, 5, 4), (4, 6 // groups, *kernel), (6,)]
        cases.append(same("conv_transpose2d", shapes, output_padding=extra, **options))
    return cases


def pool_cases() -> list[Case]:
    cases = []
    for kernel, stride, ceil_mode in product([2, 3, (3, 2)], [None, 1, (3, 2)], [False, True]):
        for padding in [0, 1]:
            for shape in [(2, 3, 7, 10), (1, 2, 8, 5)]:
                options: dict[str, Any] = {"padding": padding, "ceil_mode": ceil_mode}
                cases.append(same("max_pool2d", [shape], kernel, stride, **options))
                for include in [True, False]:
                    avg = {**options, "count_include_pad": include}
                    cases.append(same("avg_pool2d", [shape], kernel, stride, **avg))
    cases.append(same("max_pool2d", [(2, 3, 9, 9)], 3, 2, dilation=2, padding=1))
    cases.append(same("max_pool2d", [(2, 3, 9, 8)], 2, 2, dilation=(1, 3), ceil_mode=True))
    for size in [1, (3, 2), (7, 10), (9, 4), (None, 3)]:
        cases.append(same("adaptive_avg_pool2d", [(2, 3, 7, 10)], size))
        cases.append(same("adaptive_max_pool2d", [(2, 3, 7, 10)], size))
    return cases


def norm_cases() -> list[Case]:
    cases = []
    for shape in [(2, 3, 5, 7), (1, 2, 3, 4), (5, 3), (3, 4, 6), (2, 1, 1, 9), (4, 2, 2, 3, 2)]:
        cases += [
            batch_norm_case("training", shape, True, True),
            batch_norm_case("training without weight", shape, True, False),
            batch_norm_case("evaluation", shape, False, True),
            batch_norm_case("evaluation without weight", shape, False, False),
        ]
    for shape, size in product([(2, 7, 4, 5), (1, 3, 6, 2), (2, 1, 3, 3)], [1, 2, 3, 4, 5, 8]):
        # Alpha near 1: a channel too few in a window must show.
        cases.append(same("local_response_norm", [shape], size, 0.9 * size, 0.75, 1.0))
    cases += [
        same("local_response_norm", [(2, 5, 7)], 3, alpha=2.0, beta=0.5, k=2.0),
        same("local_response_norm", [(2, 4, 2, 3, 2)], 3, alpha=2.0, beta=1.0),
        same("local_response_norm", [(2, 6, 3, 4)], 5),
    ]
    return cases


def batch_norm_case(label: str, shape: tuple[int, ...], training: bool, weighted: bool) -> Case:
    """Return a case with a running record, a fresh one for each call: training changes it."""
    channels = shape[1]
    mean, variance = np.linspace(-1, 1, channels), np.linspace(0.5, 2, channels)

    def ours(x, *rest):
        record = Tensor(mean.astype(x.dtype)), Tensor(variance.astype(x.dtype))
        return F.batch_norm(x, *record, *rest, training=training)

    def theirs(x, *rest):
        record = torch.tensor(mean, dtype=x.dtype), torch.tensor(variance, dtype=x.dtype)
        return TF.batch_norm(x, *record, *rest, training=training)

    return f"batch_norm {label} {shape}", ours, theirs, [shape] + [(channels,)] * (2 * weighted)


def other_cases() -> list[Case]:
    image = (2, 3, 4, 5)
    unary = "relu sigmoid tanh exp abs neg".split()
    cases = [same(name, [image]) for name in unary]
    cases += [
        same("leaky_relu", [image], 0.2),
        same("softmax", [image], 1),
        same("softmax", [(4, 6)], -1),
        same("log_softmax", [image], 1),
        same("log_softmax", [(5,)], 0),
        same("linear", [(5, 4), (3, 4), (3,)]),
        same("linear", [(2, 5, 4), (3, 4)]),
        same("linear", [(4,), (3, 4), (3,)]),
        same("matmul", [(3, 4), (4, 5)]),
        same("matmul", [(2, 3, 4), (4, 5)]),
        same("matmul", [(2, 1, 3, 4), (5, 4, 2)]),
        same("matmul", [(4,), (4,)]),
        same("matmul", [(2, 3, 4), (4,)]),
        same("matmul", [(4,), (2, 4, 3)]),
        same("add", [image, (4, 1)]),
        same("sub", [(3, 1, 1), image]),
        same("mul", [image, (1, 5)]),
        same("div", [image, (3, 1, 1)]),
        same("maximum", [image, (4, 5)]),
        same("minimum", [image, (4, 5)]),
        same("clamp", [image], -0.5, 0.7),
        same("clamp", [image], min=0.1),
        same("sum", [image], (0, 2)),
        same("sum", [image]),
        same("mean", [image], 1, keepdim=True),
        same("var", [image], (0, 3)),
        same("std", [(4, 6)], 1, keepdim=True),
        same("amax", [image], (1, 3)),
        same("amin", [image], 2),
        same("logsumexp", [image], 1),
        same("flatten", [image], 1),
        same("permute", [image], (3, 0, 2, 1)),
        same("transpose", [image], 1, -1),
        same("squeeze", [(2, 1, 3)], 1),
        same("unsqueeze", [image], -1),
        same("flip", [image], (0, 3)),
        same("pad", [image], (1, 2, 0, 3)),
        same("chunk", [image], 2, dim=3),
        same("split", [image], 2, dim=3),
        same("mse_loss", [image, image]),
        same("mse_loss", [image, image], reduction="sum"),
        same("smooth_l1_loss", [image, image]),
        same("smooth_l1_loss", [image, image], reduction="sum", beta=0.3),
        same("smooth_l1_loss", [image, image], reduction="none", beta=2.0),
        same("smooth_l1_loss", [(7,), (7,)], beta=0.0),
        ("max dim", lambda x: x.max(1)[0], lambda x: x.max(1)[0], [image]),
        ("min dim", lambda x: x.min(-1, True)[0], lambda x: x.min(-1, True)[0], [image]),
        ("pow number", lambda x: x**3, lambda x: x**3, [image]),
        ("pow -1", lambda x: (x + 9) ** -1.5, lambda x: (x + 9) ** -1.5, [image]),
        ("log", lambda x: F.log(x * x + 1), lambda x: torch.log(x * x + 1), [image]),
        ("sqrt", lambda x: F.sqrt(x * x + 1), lambda x: torch.sqrt(x * x + 1), [image]),
        ("rsub", lambda x: 2 - x, lambda x: 2 - x, [image]),
        ("rpow", lambda x: 2**x, lambda x: 2**x, [image]),
        ("rdiv", lambda x: 1 / (x * x + 1), lambda x: 1 / (x * x + 1), [image]),
        ("cat", lambda *x: F.cat(x, 1), lambda *x: torch.cat(x, 1), [image, (2, 1, 4, 5)]),
        ("stack", lambda *x: F.stack(x, 1), lambda *x: torch.stack(x, 1), [image, image]),
        ("expand", lambda x: x.expand(4, 3, 5), lambda x: x.expand(4, 3, 5), [(3, 1)]),
        ("reshape", lambda x: x.reshape(2, -1), lambda x: x.reshape(2, -1), [image]),
        ("slice", lambda x: x[:, 1:, ::2, 1], lambda x: x[:, 1:, ::2, 1], [image]),
        ("newaxis", lambda x: x[..., None, 2], lambda x: x[..., None, 2], [image]),
        ("mask", lambda x: x[x > 0], lambda x: x[x > 0], [image]),
        ("rows", lambda x: x[[0, 2, 2]], lambda x: x[[0, 2, 2]], [(3, 4)]),
        ("pairs", lambda x: x[[0, 1], [2, 2]], lambda x: x[[0, 1], [2, 2]], [(3, 4)]),
    ]  # fmt: skip
    return cases


CASES = conv_cases() + conv_transpose_cases() + pool_cases() + norm_cases() + other_cases()
# Left out: averages and extremes of nothing, and second operands without a batch dimension.
UNBATCHED = (
    "amax amin var min max mse_loss smooth_l1_loss mean std split chunk stack cat add sub mul div "
    "maximum minimum"
)
BATCHED = [c for c in CASES if len(c[3][0]) == 4 and c[0].split()[0] not in UNBATCHED.split()]


def check(
    case: Case, dtype: Any, strided: bool = False, empty: bool = False, seed: int = 0
) -> None:
    _, ours, theirs, shapes = case
    rng = np.random.default_rng(seed)
    if empty:
        shapes = [(0, *shapes[0][1:]), *shapes[1:]]
    arrays = [rng.standard_normal(s).astype(dtype) for s in shapes]
    if strided:
        # The same values as every second element of a wider buffer.
        arrays = [np.repeat(a, 2, axis=-1)[..., ::2] for a in arrays]
        assert not any(a.flags.c_contiguous for a in arrays if a.size > 1)
    x = [Tensor(a, requires_grad=True) for a in arrays]
    t = [torch.from_numpy(np.ascontiguousarray(a)).requires_grad_() for a in arrays]
    y, u = ours(*x), theirs(*t)
    ys, us = (list(r) if isinstance(r, tuple) else [r] for r in (y, u))
    assert len(ys) == len(us)
    tolerance = 1e-10 if dtype == np.float64 else 1e-4
    for one, other in zip(ys, us, strict=True):
        assert one.shape == tuple(other.shape) and one.dtype == dtype
        np.testing.assert_allclose(one.data, other.detach().numpy(), tolerance, tolerance)
    upstream = [rng.standard_normal(one.shape).astype(dtype) for one in ys]
    # Twice: what the first pass might have spoilt (its inputs, the saved values) shows in the
    # second.
    for _ in range(2):
        for one, g in zip(ours(*x) if isinstance(y, tuple) else [ours(*x)], upstream, strict=True):
            one.backward(g, retain_graph=True)
    total = sum((a * torch.from_numpy(g)).sum() for a, g in zip(us, upstream, strict=True))
    total.backward()
    for one, other in zip(x, t, strict=True):
        assert one.grad is not None
        assert one.grad.shape == one.shape and one.grad.dtype == dtype
        scale = max(1.0, float(other.grad.abs().max()) if other.grad.numel() else 1.0)
        np.testing.assert_allclose(
            one.grad.data, 2 * other.grad.numpy(), rtol=tolerance, atol=2 * tolerance * scale
        )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_float64(case):
    check(case, np.float64)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_float32_on_strided_inputs(case):
    check(case, np.float32, strided=True, seed=1)


@pytest.mark.parametrize("case", BATCHED, ids=lambda c: c[0])
def test_empty_batch(case):
    check(case, np.float32, empty=True)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2), (2, 5, 3, 2), (4,)])
def test_cross_entropy(reduction, smoothing, weighted, shape):
    rng = np.random.default_rng(0)
    classes = shape[1] if len(shape) > 1 else shape[0]
    target_shape = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    logits = rng.standard_normal(shape)
    target = rng.integers(0, classes, target_shape)
    if target.size > 1:
        target.flat[0] = 2
    weight = rng.uniform(0.5, 2, classes)
    ignore = 2 if target.size > 1 else -100
    x, t = Tensor(logits, requires_grad=True), torch.from_numpy(logits).requires_grad_()
    options = {"ignore_index": ignore, "reduction": reduction, "label_smoothing": smoothing}
    y = F.cross_entropy(x, Tensor(target), Tensor(weight) if weighted else None, **options)
    u = TF.cross_entropy(
        t, torch.tensor(target), torch.from_numpy(weight) if weighted else None, **options
    )
    np.testing.assert_allclose(y.data, u.detach().numpy(), 1e-12)
    upstream = rng.standard_normal(y.shape)
    y.backward(upstream)
    u.backward(torch.tensor(upstream))
    np.testing.assert_allclose(x.grad.data, t.grad.numpy(), 1e-10, 1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_with_probabilities(reduction, weighted):
    rng = np.random.default_rng(0)
    logits, target = (
        rng.standard_normal((3, 4, 2)),
        rng.dirichlet(np.ones(4), (3, 2)).transpose(0, 2, 1),
    )
    weight = rng.uniform(0.5, 2, 4)
    options = {"reduction": reduction, "label_smoothing": 0.2}
    ours = F.cross_entropy(
        Tensor(logits), Tensor(target), Tensor(weight) if weighted else None, **options
    )
    theirs = TF.cross_entropy(
        torch.from_numpy(logits),
        torch.from_numpy(np.ascontiguousarray(target)),
        torch.from_numpy(weight) if weighted else None,
        **options,
    )
    np.testing.assert_allclose(ours.data, theirs.numpy(), 1e-12)


def test_cross_entropy_of_an_empty_batch_is_nan_like_torch():
    empty = F.cross_entropy(Tensor(np.zeros((0, 3))), Tensor(np.zeros(0, np.int64)))
    theirs = TF.cross_entropy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert np.isnan(empty.item()) and torch.isnan(theirs)
    total = F.cross_entropy(
        Tensor(np.zeros((0, 3))), Tensor(np.zeros(0, np.int64)), reduction="sum"
    )
    assert total.item() == 0


def test_nll_loss_and_gather():
    rng = np.random.default_rng(0)
    scores, target = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    ours = F.nll_loss(Tensor(scores), Tensor(target), reduction="sum")
    assert ours.item() == pytest.approx(
        TF.nll_loss(torch.from_numpy(scores), torch.from_numpy(target), reduction="sum").item()
    )
    index = rng.integers(0, 4, (5, 3))
    x, t = Tensor(scores, requires_grad=True), torch.from_numpy(scores).requires_grad_()
    (F.gather(x, 1, Tensor(index)) ** 2).sum().backward()
    (torch.gather(t, 1, torch.from_numpy(index)) ** 2).sum().backward()
    np.testing.assert_allclose(x.grad.data, t.grad.numpy(), 1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name",
    ["relu", "sigmoid", "tanh", "softmax", "log_softmax", "max_pool2d", "avg_pool2d", "conv2d"],
)
def test_nan_and_infinity_spread_as_in_torch(name, value):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 4, 4)).astype(np.float32)
    x[0, 1, 2, 1] = value
    weight = rng.standard_normal((2, 2, 3, 3)).astype(np.float32)
    extra: dict[str, tuple[Any, Any]] = {
        "softmax": ((1,), (1,)),
        "log_softmax": ((1,), (1,)),
        "max_pool2d": ((2,), (2,)),
        "avg_pool2d": ((2,), (2,)),
        "conv2d": ((Tensor(weight),), (torch.from_numpy(weight),)),
    }
    a, b = extra.get(name, ((), ()))
    theirs = getattr(TF, name, None) or getattr(torch, name)
    with np.errstate(invalid="ignore"):
        ours = getattr(F, name)(Tensor(x), *a).data
    np.testing.assert_allclose(ours, theirs(torch.from_numpy(x), *b).numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("momentum", [0.1, 0.75, 1.0])
def test_batch_norm_updates_the_running_record_as_torch_does(momentum, dtype):
    rng = np.random.default_rng(0)
    start = rng.standard_normal(3).astype(dtype), rng.uniform(0.5, 2, 3).astype(dtype)
    ours = [Tensor(value.copy()) for value in start]
    theirs = [torch.from_numpy(value.copy()) for value in start]
    for shape in [(2, 3, 4, 5), (2, 3), (1, 3, 2)]:  # down to two values a channel
        x = (3 * rng.standard_normal(shape) + 5).astype(dtype)
        F.batch_norm(Tensor(x), *ours, training=True, momentum=momentum)
        TF.batch_norm(torch.from_numpy(x), *theirs, training=True, momentum=momentum)
        for one, other in zip(ours, theirs, strict=True):
            assert one.dtype == dtype
            rtol = 1e-13 if dtype == np.float64 else 1e-5
            np.testing.assert_allclose(one.data, other.numpy(), rtol)


def test_batch_norm_of_an_empty_batch_leaves_the_running_record_alone():
    record = Tensor(np.ones(3)), Tensor(np.full(3, 2.0))
    out = F.batch_norm(Tensor(np.zeros((0, 3, 2, 2))), *record, training=True)
    assert out.shape == (0, 3, 2, 2)
    assert record[0].tolist() == [1, 1, 1] and record[1].tolist() == [2, 2, 2]


def test_batch_norm_keeps_only_the_mean_or_only_the_variance():
    x = Tensor(np.arange(4.0).reshape(4, 1))
    mean, var = Tensor(np.zeros(1)), Tensor(np.ones(1))
    F.batch_norm(x, mean, None, training=True)
    F.batch_norm(x, None, var, training=True)
    np.testing.assert_allclose([mean.item(), var.item()], [0.15, 0.9 + 0.1 * 5 / 3])


def test_second_derivatives_of_batch_norm_equal_those_of_torch():
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape) for shape in [(3, 2, 4), (2,), (2,), (3, 2, 4)]]
    x = [Tensor(v, requires_grad=True) for v in values]
    t = [torch.tensor(v, requires_grad=True) for v in values]
    first = grad(F.batch_norm(x[0], None, None, x[1], x[2], True), x[:3], x[3], create_graph=True)
    out = TF.batch_norm(t[0], None, None, t[1], t[2], True)
    wanted = torch.autograd.grad(out, t[:3], t[3], create_graph=True)
    upstream = [rng.standard_normal(one.shape) for one in first]
    inner = sum((a * u).sum() for a, u in zip(first, upstream, strict=True))
    other = sum((a * torch.tensor(u)).sum() for a, u in zip(wanted, upstream, strict=True))
    found = grad(inner, [x[0], x[1], x[3]])
    theirs = torch.autograd.grad(other, [t[0], t[1], t[3]])
    for one, their in zip(found, theirs, strict=True):
        np.testing.assert_allclose(one.data, their.numpy(), 1e-9, 1e-10)


def test_local_response_norm_of_the_paper_does_not_divide_alpha():
    x = Tensor(np.arange(1.0, 7).reshape(1, 6, 1))
    wanted = [0.3993841, 0.5981395, 0.6619502, 0.6622401, 0.8511196, 1.0916224]
    paper = F.local_response_norm(x, 5, 0.1, 0.75, 2.0, divide_alpha=False)
    np.testing.assert_allclose(paper.data.ravel(), wanted, atol=5e-8)
    same_by_pytorch = F.local_response_norm(x, 5, 0.5, 0.75, 2.0)
    np.testing.assert_allclose(same_by_pytorch.data, paper.data, rtol=1e-14)


def test_smooth_l1_times_beta_is_huber():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 5, 4))
    ours = 0.4 * F.smooth_l1_loss(Tensor(x), Tensor(y), beta=0.4)
    theirs = TF.huber_loss(torch.from_numpy(x), torch.from_numpy(y), delta=0.4)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-13)
