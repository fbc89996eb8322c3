"""Functions of device arrays: values are NumPy's, dtypes are those in CuPy's own tables."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim import cuda, ufuncs
from tests.needs import needs_compiler, needs_cupy

pytestmark = needs_compiler

A = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
B = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
I = np.random.default_rng(2).integers(0, 4, (3, 4))  # noqa: E741
MASK = A > 0
UFUNCS = {name: f for name, f in vars(ufuncs).items() if isinstance(f, ufuncs.ufunc)}
DTYPES = "?bBhHiIlLefd"

# Each runs on NumPy and on the device; the function is the same.
CASES = {
    "reshape": lambda xp, a, b, i, m: xp.reshape(a, (2, -1)),
    "ravel": lambda xp, a, b, i, m: xp.ravel(a.T),
    "transpose": lambda xp, a, b, i, m: xp.transpose(a, (1, 0)),
    "swapaxes": lambda xp, a, b, i, m: xp.swapaxes(a, 0, 1),
    "moveaxis": lambda xp, a, b, i, m: xp.moveaxis(a[None], 0, -1),
    "expand_dims": lambda xp, a, b, i, m: xp.expand_dims(a, (0, 2)),
    "squeeze": lambda xp, a, b, i, m: xp.squeeze(a[None, :, None], 0),
    "broadcast_to": lambda xp, a, b, i, m: xp.broadcast_to(a, (2, 3, 4)),
    "broadcast_arrays": lambda xp, a, b, i, m: xp.broadcast_arrays(a[:1], b[:, :1]),
    "atleast_1d": lambda xp, a, b, i, m: xp.atleast_1d(a[0, 0]),
    "flip": lambda xp, a, b, i, m: xp.flip(a, (1,)),
    "roll": lambda xp, a, b, i, m: xp.roll(a, 1, axis=1),
    "pad": lambda xp, a, b, i, m: xp.pad(a, ((1, 0), (2, 3)), constant_values=5.0),
    "pad edges": lambda xp, a, b, i, m: xp.pad(a, 2, mode="edge"),
    "tile": lambda xp, a, b, i, m: xp.tile(a, (2, 1)),
    "repeat": lambda xp, a, b, i, m: xp.repeat(a, 3, axis=1),
    "diagonal": lambda xp, a, b, i, m: xp.diagonal(a, 1),
    "tril": lambda xp, a, b, i, m: xp.tril(a, 1),
    "triu": lambda xp, a, b, i, m: xp.triu(a),
    "concatenate": lambda xp, a, b, i, m: xp.concatenate((a, b), axis=1),
    "concatenate flat": lambda xp, a, b, i, m: xp.concatenate((a, i), axis=None),
    "stack": lambda xp, a, b, i, m: xp.stack([a, b], axis=-1),
    "vstack": lambda xp, a, b, i, m: xp.vstack([a[0], b[0]]),
    "hstack": lambda xp, a, b, i, m: xp.hstack([a, b]),
    "split": lambda xp, a, b, i, m: tuple(xp.split(a, [1, 3], axis=1)),
    "where": lambda xp, a, b, i, m: xp.where(m, a, b),
    "where number": lambda xp, a, b, i, m: xp.where(m, a, 0.0),
    "where index": lambda xp, a, b, i, m: xp.where(m),
    "nonzero": lambda xp, a, b, i, m: xp.nonzero(m),
    "flatnonzero": lambda xp, a, b, i, m: xp.flatnonzero(m),
    "argwhere": lambda xp, a, b, i, m: xp.argwhere(m),
    "take": lambda xp, a, b, i, m: xp.take(a, [2, 0], axis=0),
    "take device": lambda xp, a, b, i, m: xp.take(a, i),
    "take_along_axis": lambda xp, a, b, i, m: xp.take_along_axis(a, i, 1),
    "take_along_axis first": lambda xp, a, b, i, m: xp.take_along_axis(a, i % 3, 0),
    "clip": lambda xp, a, b, i, m: xp.clip(a, -0.5, 0.5),
    "clip one side": lambda xp, a, b, i, m: a.clip(None, 0.5),
    "around": lambda xp, a, b, i, m: xp.around(a, 1),
    "sort": lambda xp, a, b, i, m: xp.sort(a, axis=0),
    "argsort": lambda xp, a, b, i, m: xp.argsort(a),
    "argsort ties": lambda xp, a, b, i, m: i.argsort(axis=1, **_stable(xp)),
    "unique": lambda xp, a, b, i, m: xp.unique(i, return_counts=True),
    "searchsorted": lambda xp, a, b, i, m: xp.searchsorted(xp.sort(a[0]), b[0]),
    "bincount": lambda xp, a, b, i, m: xp.bincount(i[0], b[0], minlength=6),
    "count_nonzero": lambda xp, a, b, i, m: xp.count_nonzero(m, axis=0),
    "sum": lambda xp, a, b, i, m: xp.sum(a, axis=(0, 1), keepdims=True),
    "sum of masks": lambda xp, a, b, i, m: m.sum(axis=0),
    "sum float64": lambda xp, a, b, i, m: a.sum(dtype=np.float64),
    "prod": lambda xp, a, b, i, m: xp.prod(a, axis=1),
    "mean": lambda xp, a, b, i, m: xp.mean(a, axis=0),
    "mean of integers": lambda xp, a, b, i, m: i.mean(),
    "var": lambda xp, a, b, i, m: xp.var(a, axis=1, ddof=1),
    "std": lambda xp, a, b, i, m: a.std(axis=0, keepdims=True),
    "max": lambda xp, a, b, i, m: xp.max(a, axis=1),
    "amin": lambda xp, a, b, i, m: xp.amin(a),
    "argmax": lambda xp, a, b, i, m: xp.argmax(a, axis=0),
    "argmin": lambda xp, a, b, i, m: a.argmin(axis=1, keepdims=True),
    "all": lambda xp, a, b, i, m: xp.all(m, axis=0),
    "any": lambda xp, a, b, i, m: xp.any(m),
    "cumsum": lambda xp, a, b, i, m: xp.cumsum(a, axis=1),
    "cumprod": lambda xp, a, b, i, m: xp.cumprod(a),
    "trace": lambda xp, a, b, i, m: xp.trace(a),
    "isclose": lambda xp, a, b, i, m: xp.isclose(a, a + 1e-7),
    "allclose": lambda xp, a, b, i, m: xp.allclose(a, b),
    "array_equal": lambda xp, a, b, i, m: xp.array_equal(a, a),
    "array_equal nan": lambda xp, a, b, i, m: xp.array_equal(a / 0 * 0, a / 0 * 0, equal_nan=True),
    "array_equal shapes": lambda xp, a, b, i, m: xp.array_equal(a, a[0]),
    "matmul": lambda xp, a, b, i, m: xp.matmul(a, b.T),
    "matmul operator": lambda xp, a, b, i, m: a[None] @ b.T,
    "dot": lambda xp, a, b, i, m: xp.dot(a, b[0]),
    "outer": lambda xp, a, b, i, m: xp.outer(a[0], b[0]),
    "tensordot": lambda xp, a, b, i, m: xp.tensordot(a, b, axes=([0], [0])),
    "einsum": lambda xp, a, b, i, m: xp.einsum("ij,kj->ik", a, b),
    "norm": lambda xp, a, b, i, m: xp.linalg.norm(a, axis=1),
    "norm inf": lambda xp, a, b, i, m: xp.linalg.norm(a.ravel(), np.inf),
    "operators": lambda xp, a, b, i, m: -a * 2 - b / 3 + (a > b) * 1.0 + abs(b) ** 2,
    "masks": lambda xp, a, b, i, m: (m & ~(b > 0)) | (a < -1) ^ m,
    "integers": lambda xp, a, b, i, m: (i // 2 % 2) << 1 >> 1,
    "arange": lambda xp, a, b, i, m: xp.arange(2, 9, 3),
    "arange float": lambda xp, a, b, i, m: xp.arange(3, dtype=np.float32),
    "linspace": lambda xp, a, b, i, m: xp.linspace(0, 1, 5),
    "eye": lambda xp, a, b, i, m: xp.eye(3, 4, 1, np.float32),
    "identity": lambda xp, a, b, i, m: xp.identity(3),
    "zeros": lambda xp, a, b, i, m: xp.zeros((2, 3)),
    "ones": lambda xp, a, b, i, m: xp.ones(4, np.float32),
    "full": lambda xp, a, b, i, m: xp.full((2, 2), 7),
    "full dtype": lambda xp, a, b, i, m: xp.full(3, 0.5, np.float32),
    "full_like": lambda xp, a, b, i, m: xp.full_like(i, 2.9),
    "ones_like": lambda xp, a, b, i, m: xp.ones_like(a, shape=(2, 2)),
    "zeros_like": lambda xp, a, b, i, m: xp.zeros_like(a, np.int32),
    "array": lambda xp, a, b, i, m: xp.array([[1, 2], [3, 4]], np.float32, ndmin=3),
    "array of arrays": lambda xp, a, b, i, m: xp.array([a, b]),
    "copy": lambda xp, a, b, i, m: xp.copy(a),
    "ascontiguousarray": lambda xp, a, b, i, m: xp.ascontiguousarray(a[0, 0]),
    "outer ufunc": lambda xp, a, b, i, m: xp.subtract.outer(a[0], b[0]),
    "add.reduce": lambda xp, a, b, i, m: xp.add.reduce(a),
    "multiply.accumulate": lambda xp, a, b, i, m: xp.multiply.accumulate(a),
}


def _stable(xp):
    return {"kind": "stable"} if xp is np else {}


def compare(actual, expected):
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            compare(one, other)
        return
    expected = np.asarray(expected)
    assert isinstance(actual, cudasim.ndarray)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(actual.get(), expected)


@pytest.mark.parametrize("name", CASES)
def test_values_are_numpys(name):
    host = (A, B, I, MASK)
    with np.errstate(all="ignore"):
        expected = CASES[name](np, *host)
    compare(CASES[name](cudasim, *map(cudasim.asarray, host)), expected)


@pytest.mark.parametrize("name", UFUNCS)
def test_ufuncs_are_numpys(name):
    function, twin = UFUNCS[name], getattr(np, name)
    host = [(I + 1, I) if {"i", "l"} & set("".join(twin.types)) and "f" not in "".join(twin.types)
            else (abs(A), abs(B))][0][: twin.nin]  # fmt: skip
    device = [cudasim.asarray(x) for x in host]
    with np.errstate(all="ignore"):
        expected = twin(*host)
    compare(function(*device), expected)
    out = cudasim.empty(expected.shape, expected.dtype)
    assert function(*device, out=out) is out
    compare(out, expected)
    with pytest.raises(TypeError, match="Unsupported type"):
        function(*host)
    with pytest.raises(TypeError, match="Wrong number of arguments"):
        function()


@needs_cupy
@pytest.mark.parametrize("name", UFUNCS)
def test_dtypes_are_those_of_cupys_loops(name):
    import cupy

    theirs = getattr(cupy, name)
    assert (theirs.nin, theirs.nout) == (UFUNCS[name].nin, UFUNCS[name].nout)
    for inputs in itertools.product(DTYPES, repeat=theirs.nin):
        loops = [loop.split("->") for loop in theirs.types]
        fits = [
            result
            for wanted, result in loops
            if all(np.can_cast(a, b, "safe") for a, b in zip(inputs, wanted, strict=True))
        ]
        refused = not fits or (
            set(inputs) == {"?"} and name in ("negative", "positive", "sign", "subtract")
        )
        arrays = [cudasim.ones(1, dtype) for dtype in inputs]
        if refused:
            with pytest.raises(TypeError):
                UFUNCS[name](*arrays)
        else:
            assert UFUNCS[name](*arrays).dtype.char == np.dtype(fits[0]).char, inputs


@needs_cupy
def test_promotion_is_cupys():
    import cupy

    for first, second in itertools.product(DTYPES, repeat=2):
        assert cudasim.result_type(first, second) == cupy.result_type(first, second)
        assert cudasim.promote_types(first, second) == cupy.promote_types(first, second)
        assert cudasim.can_cast(first, second) == cupy.can_cast(first, second)
        sum_ = cudasim.ones(1, first) + cudasim.ones(1, second)
        assert sum_.dtype == cupy.promote_types(first, second)


def test_out_is_checked():
    a = cudasim.asarray(A)
    with pytest.raises(TypeError, match="same_kind"):
        cudasim.add(a, a, out=cudasim.empty((3, 4), np.int32))
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        a.sum(axis=0, out=cudasim.empty(3, np.float32))
    with pytest.raises(ValueError, match="both a positional and keyword"):
        cudasim.add(a, a, a, out=a)


def test_arrays_move_and_stay():
    a = cudasim.asarray(A)
    assert cudasim.asarray(a) is a
    assert cudasim.asarray(a, np.float64).dtype == np.float64
    assert cudasim.array(a) is not a
    assert cudasim.asarray([1.5]).dtype == np.float64
    assert cudasim.asarray(3).shape == ()
    assert cudasim.asarray(A.T).flags.f_contiguous
    with pytest.raises(ValueError, match="avoid copy"):
        cudasim.asarray(a, np.float64, copy=False)
    np.testing.assert_array_equal(cudasim.asnumpy(a), A)
    assert cudasim.asnumpy([1, 2]).tolist() == [1, 2]
    assert cudasim.get_array_module(A, a) is cudasim
    assert cudasim.get_array_module(A) is np
    with pytest.raises(ValueError, match="Negative dimensions"):
        cudasim.empty((2, -1))


def test_copyto_converts_and_chooses():
    a = cudasim.asarray(A)
    cudasim.copyto(a, cudasim.asarray(B), where=cudasim.asarray(MASK))
    np.testing.assert_array_equal(a.get(), np.where(MASK, B, A))
    with pytest.raises(TypeError, match="same_kind"):
        cudasim.copyto(cudasim.zeros(2, np.int32), 0.5)
    with pytest.raises(TypeError, match="Unsupported type"):
        cudasim.copyto(a, B)


def test_wrong_indices_are_refused():
    a = cudasim.asarray(A)
    with pytest.raises(IndexError, match="must be an integer array"):
        cudasim.take_along_axis(a, a, 0)
    with pytest.raises(ValueError, match="same number of dimensions"):
        cudasim.take_along_axis(a, cudasim.asarray(I[0]), 0)
    with pytest.raises(ValueError, match="neither"):
        cudasim.where(a > 0, a)


def test_streams_and_events():
    assert cuda.is_available()
    assert cuda.Device() == cuda.Device(0) == cudasim.zeros(1).device
    with cuda.Device(0) as device, cuda.Stream() as stream:
        device.synchronize()
        stream.synchronize()
    start, end = cuda.Event(), cuda.Event()
    start.record()
    with pytest.raises(ValueError, match="never recorded"):
        cuda.get_elapsed_time(start, end)
    cuda.get_current_stream().record(end)
    end.synchronize()
    assert 0 <= cuda.get_elapsed_time(start, end) < 1e4
    assert cuda.Stream.null.done and device.attributes["WarpSize"] == 32
