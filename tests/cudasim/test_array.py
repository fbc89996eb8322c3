"""Device arrays: what they refuse, what they share, what counts as written."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim import storage
from tests.needs import needs_compiler

pytestmark = needs_compiler
IMPLICIT = "Implicit conversion to a NumPy array is not allowed"


@pytest.fixture
def x():
    return cudasim.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))


@pytest.fixture
def writes(monkeypatch):
    """The byte ranges marked as written while the test runs."""
    marked = []
    monkeypatch.setattr(
        storage.memory, "mark_initialised", lambda start, count: marked.append((start, count))
    )
    return marked


# What CuPy refuses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.array,
        lambda x: np.array([x, x]),
        lambda x: np.zeros(4) + np.asarray(x),
        lambda x: cudasim.asarray([x, 1.0]),
        lambda x: cudasim.asarray([x, np.ones((3, 4))]),
    ],
)
def test_no_array_leaves_the_device_unasked(x, convert):
    with pytest.raises(TypeError, match=IMPLICIT):
        convert(x)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x, h: x + h,
        lambda x, h: h + x,
        lambda x, h: np.add(x, h),
        lambda x, h: np.multiply(h, x),
        lambda x, h: x < h,
        lambda x, h: x == h,
        lambda x, h: x @ h.T,
        lambda x, h: cudasim.maximum(x, h),
        lambda x, h: cudasim.where(x > 0, x, h),
        lambda x, h: cudasim.concatenate([x, h]),
        lambda x, h: x.clip(h, None),
        lambda x, h: np.concatenate([x, h]),
        lambda x, h: x.dot(h.T),
        lambda x, h: cudasim.add(x, x, out=h),
    ],
)
def test_host_and_device_do_not_mix(x, mix):
    with pytest.raises(TypeError, match=r"Unsupported type <class 'numpy.ndarray'>"):
        mix(x, np.ones((3, 4), np.float32))


def test_changes_in_place_do_not_mix(x):
    with pytest.raises(TypeError, match="Unsupported type"):
        x += np.ones((3, 4), np.float32)
    h = np.ones((3, 4), np.float32)
    with pytest.raises(TypeError, match="Unsupported type"):
        h += x


def test_a_numpy_array_without_dimensions_is_still_a_numpy_array(x):
    with pytest.raises(TypeError, match="Unsupported type"):
        x + np.array(1.0, np.float32)
    assert (x == np.array(3.0)).sum() == 1
    x[...] = np.array(2.0)
    assert (x.get() == 2).all()


@pytest.mark.parametrize("value", [np.ones(4, np.float32), [1.0, 2.0, 3.0, 4.0], np.ones((1, 4))])
def test_host_values_cannot_be_assigned_to_slices(x, value):
    with pytest.raises(ValueError, match="non-scalar numpy.ndarray cannot be used for fill"):
        x[0] = value
    with pytest.raises(ValueError, match="cannot be used for fill"):
        x.fill(value)


def test_lists_and_strings_are_no_operands(x):
    for value in ([1, 2, 3, 4], "one", {}):
        with pytest.raises(TypeError, match="Unsupported type"):
            x + value


def test_device_arrays_are_no_python_integers(x):
    index = x[0].argmax()
    with pytest.raises(TypeError):
        range(index)
    with pytest.raises(TypeError):
        [1, 2, 3, 4][index]
    with pytest.raises(TypeError):
        hash(x)
    assert [1, 2, 3, 4][int(index)] == 4


def test_set_is_as_strict_as_a_copy_between_two_memories(x):
    with pytest.raises(TypeError, match="float64 array cannot be set to float32 array"):
        x.set(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"Old shape: \(3, 4\), new shape: \(4,\)"):
        x.set(np.ones(4, np.float32))
    with pytest.raises(TypeError, match=r"Only numpy.ndarray can be set"):
        x.set([1.0])
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, ::2].set(np.ones((3, 2), np.float32))
    with pytest.raises(TypeError, match="float64 array cannot be obtained from float32 array"):
        x.get(out=np.empty((3, 4)))


@pytest.mark.parametrize("dtype", [object, "U3", "datetime64[s]", ">f4"])
def test_dtypes_that_kernels_cannot_hold(dtype):
    with pytest.raises(ValueError, match="Unsupported dtype"):
        cudasim.zeros(3, dtype)


def test_float_arrays_are_no_indices(x):
    with pytest.raises(IndexError, match="must be of integer or boolean type"):
        x[cudasim.ones(2)]
    with pytest.raises(IndexError):
        x[1.5]
    with pytest.raises(IndexError, match="out of bounds"):
        x[cudasim.asarray(np.array([0, 3]))]


def test_results_of_broadcasting_cannot_be_written_to(x):
    wide = cudasim.broadcast_to(x[0], (5, 4))
    assert wide.strides[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        wide[0] = 1


def test_truth_of_several_values_is_ambiguous(x):
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.warns(DeprecationWarning, match="empty array"):
        assert not cudasim.zeros(0)
    assert cudasim.ones(1)


def test_iteration_and_length_need_a_dimension(x):
    total = x.sum()
    with pytest.raises(TypeError, match="iteration over a 0-d array"):
        iter(total)
    with pytest.raises(TypeError, match="unsized"):
        len(total)
    assert [row.shape for row in x] == [(4,)] * len(x)


# What it gives -----------------------------------------------------------------------------------


def test_results_stay_on_the_device(x):
    for value in (x.sum(), x.max(), x[1, 2], x.mean(), x.argmax(), x.any(), np.sum(x), x @ x.T):
        assert isinstance(value, cudasim.ndarray)
    assert x.sum().shape == x[1, 2].shape == ()
    assert x.argmax().dtype == np.int64
    assert float(x.sum()) == x.sum().item() == 66
    assert f"{x.mean():.1f}" == "5.5"


def test_numpy_functions_find_their_twins(x):
    assert isinstance(np.exp(x), cudasim.ndarray)
    np.testing.assert_array_equal((np.float32(2) * x).get(), 2 * x.get())
    assert float(np.linalg.norm(x)) == pytest.approx(np.linalg.norm(x.get()), rel=1e-6)
    with pytest.raises(TypeError):
        np.frompyfunc(abs, 1, 1)(x)
    with pytest.raises(TypeError, match="no implementation found"):
        np.linalg.qr(x)


def test_objects_that_want_the_operator_get_it(x):
    class Wrapper:
        __array_ufunc__ = None

        def __radd__(self, other):
            return "radd"

        def __eq__(self, other):
            return "eq"

        __hash__ = None

    assert x + Wrapper() == "radd"
    assert (x == Wrapper()) == "eq"
    assert not (x == None).any()  # noqa: E711
    assert (x != None).all()  # noqa: E711


def test_scalars_keep_their_weight(x):
    assert (x + 1).dtype == (2.0 * x).dtype == (x**2).dtype == np.float32
    assert (x + np.float64(1)).dtype == np.float64
    assert (cudasim.arange(3) / 2).dtype == np.float64
    assert (x > 1).dtype == np.bool_
    counts = cudasim.arange(3)
    with pytest.raises(TypeError, match="same_kind"):
        counts += 0.5


@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "all", "argmax", "argmin"])
def test_a_number_has_no_axis(name):
    number = cudasim.asarray(np.float32(3))
    assert getattr(number, name)().shape == ()
    with pytest.raises(np.exceptions.AxisError):
        getattr(number, name)(axis=0)


def test_arithmetic_warns_no_more_than_a_gpu():
    zero = cudasim.zeros(2)
    assert np.isinf((1 / zero).get()).all()
    assert np.isnan(cudasim.log(zero - 1).get()).all()
    assert np.isnan(cudasim.zeros(0).mean().get())
    assert np.isnan(cudasim.ones(1).var(ddof=1).get())


def test_views_share_memory_and_keep_the_owner_alive(x):
    row = x[1]
    for view in (row, x.T, x.reshape(2, 6), x[::-1, 1:], x.transpose(1, 0), x[..., None], x[1, 2]):
        assert view.base is x
        assert cudasim.may_share_memory(view, x)
    assert row[1:].base is x
    assert row.data.ptr == x.data.ptr + 16
    assert not row.flags.owndata and x.flags.owndata
    row[...] = 7
    x[0, 0:2] += 5
    np.testing.assert_array_equal(x.get()[:2], [[5, 6, 2, 3], [7, 7, 7, 7]])
    del x
    gc.collect()
    np.testing.assert_array_equal(row.get(), [7, 7, 7, 7])


def test_what_cannot_be_a_view_is_a_copy(x):
    flat = x.T.reshape(-1)
    assert flat.base is None and flat.flags.owndata
    flat[...] = 0
    assert x.sum() == 66
    with pytest.raises(ValueError, match="copy"):
        x.T.reshape(-1, copy=False)
    assert x[x > 100].shape == (0,)
    assert x[cudasim.arange(2)].base is None


def test_memory_is_given_back(monkeypatch):
    freed = []
    give_back = storage.memory.free
    monkeypatch.setattr(storage.memory, "free", lambda a: (freed.append(a), give_back(a)))
    x = cudasim.zeros(10)
    view, address = x[2:], x.data.ptr
    del x
    gc.collect()
    assert not freed
    del view
    gc.collect()
    assert freed == [address]


def test_flags_and_layout(x):
    assert x.flags.c_contiguous and x.T.flags.f_contiguous and not x.T.flags.c_contiguous
    assert x.T.flags.fnc and x.T.flags["F_CONTIGUOUS"]
    assert (x.T + 1).flags.c_contiguous  # unlike NumPy's
    assert x.T.astype(np.float64).flags.f_contiguous
    assert x.T.copy().flags.c_contiguous
    assert cudasim.zeros_like(x.T).flags.f_contiguous
    assert cudasim.empty((2, 3), order="F").flags.f_contiguous
    permuted = cudasim.ones((2, 3, 4)).transpose(1, 2, 0)
    assert permuted.astype(np.float32).strides == (16, 4, 48)
    assert cudasim.ascontiguousarray(x.T).flags.c_contiguous
    assert cudasim.ascontiguousarray(x) is x
    with pytest.raises(KeyError):
        x.flags["WRITEABLE"]


def test_addresses_are_aligned_and_lie_in_one_block_each():
    arrays = [cudasim.zeros(n, np.uint8) for n in (1, 3, 0, 17)]
    assert all(a.data.ptr % 16 == 0 for a in arrays)
    spans = sorted((a.data.ptr, a.nbytes) for a in arrays)
    assert all(a + n <= b for (a, n), (b, _) in zip(spans, spans[1:], strict=False))


def test_copies_and_pickles(x):
    for twin in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.copy()):
        assert isinstance(twin, cudasim.ndarray) and twin.dtype == x.dtype
        np.testing.assert_array_equal(twin.get(), x.get())
        twin[...] = 0
    assert x.sum() == 66
    assert pickle.loads(pickle.dumps(x.T)).flags.f_contiguous


def test_the_host_gets_copies(x):
    taken = x.get()
    taken[...] = 0
    assert x.sum() == 66
    assert x.get(order="F").flags.f_contiguous
    out = np.empty((3, 4), np.float32)
    assert x.get(out=out) is out and out.sum() == 66
    assert x.tolist()[1] == [4, 5, 6, 7]
    assert x.tobytes() == x.get().tobytes()
    host = np.ones(3)
    device = cudasim.asarray(host)
    host[...] = 0
    assert device.sum() == 3


# Indexing, against NumPy -------------------------------------------------------------------------

INDICES = [
    0, -1, (1, 2), slice(None, None, 2), (slice(None), slice(3, 0, -1)), (..., 1), None,
    (None, 1, slice(1, 3)), np.array([2, 0, 2]), [1, 1], [], (np.array([0, 2]), np.array([1, 3])),
    (slice(None), np.array([[0, 1], [2, 3]])), (np.array([1, 0]), slice(1, 3)),
    np.array([True, False, True]), (slice(None), np.array([True, False, True, False])),
    (np.arange(12) % 3 == 0).reshape(3, 4), (0, np.array([0, 2])), np.array(1),
    (np.array([1, 0]), None, np.array([2, 2])),
]  # fmt: skip


def on_device(index):
    if isinstance(index, tuple):
        return tuple(map(on_device, index))
    return cudasim.asarray(index) if isinstance(index, np.ndarray) else index


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_reading_and_writing_at_an_index(x, index):
    host = x.get()
    for chosen in (index, on_device(index)):
        np.testing.assert_array_equal(x[chosen].get(), host[index])
    x[on_device(index)] = -1
    host[index] = -1
    np.testing.assert_array_equal(x.get(), host)
    values = -2 - np.arange(np.asarray(host[index]).size, dtype=np.float32)
    if not (isinstance(index, list) or (isinstance(index, np.ndarray) and index.dtype == int)):
        x[on_device(index)] = cudasim.asarray(values.reshape(np.shape(host[index])))
        host[index] = values.reshape(np.shape(host[index]))
        np.testing.assert_array_equal(x.get(), host)


def test_add_at_adds_repeated_places_up(x):
    rows, columns = np.array([0, 0, 2, 0]), np.array([1, 1, 3, 2])
    host = x.get()
    cudasim.add.at(x, (on_device(rows), on_device(columns)), 10)
    np.add.at(host, (rows, columns), 10)
    cudasim.add.at(x, on_device(rows), x[:1] * 0 + 1)
    np.add.at(host, rows, 1)
    np.testing.assert_array_equal(x.get(), host)
    with pytest.raises(TypeError, match="add.at only supports int32, float16, float32"):
        cudasim.add.at(cudasim.zeros(3, np.int64), on_device(rows), 1)
    with pytest.raises(NotImplementedError, match=r"multiply.at"):
        cudasim.multiply.at(x, 0, 1)


# What counts as written --------------------------------------------------------------------------


def test_empty_is_unwritten_and_everything_else_is_written(x):
    assert not cudasim.empty(4)._memory.initialised
    assert not cudasim.empty_like(x)._memory.initialised
    assert not cudasim.ndarray((2, 2))._memory.initialised
    for made in (cudasim.zeros(4), cudasim.full_like(x, 2), x + 1, x.sum(), x.copy(), x[x > 3]):
        assert made._memory.initialised


@pytest.mark.parametrize(
    "write",
    [
        lambda e: e.fill(0),
        lambda e: e.set(np.zeros((4, 6), np.float32)),
        lambda e: e.__setitem__(..., 1),
        lambda e: e.__setitem__(slice(None), cudasim.ones(6)),
        lambda e: e.__iadd__(1),
        lambda e: cudasim.add(cudasim.ones((4, 6)), 1, out=e, casting="unsafe"),
        lambda e: cudasim.ones((5, 4, 6), np.float32).sum(0, out=e),
        lambda e: cudasim.copyto(e, 3),
        lambda e: e.T.fill(1),
    ],
)
def test_writing_all_of_it_marks_all_of_it(writes, write):
    e = cudasim.empty((4, 6), np.float32)
    write(e)
    assert writes == [(e.data.ptr, e.nbytes)]
    write(e)
    assert len(writes) == 1


@pytest.mark.parametrize(
    "index",
    [
        0, (1, 2), (slice(1, 3), slice(2, 5)), (slice(None), slice(None, None, 2)), (..., -1),
        slice(None, None, -2), np.array([3, 1]), (np.array([0, 3]), np.array([5, 0])),
        (np.arange(24) % 5 == 0).reshape(4, 6), (slice(1, 1),),
    ],
    ids=str,
)  # fmt: skip
def test_writing_a_part_marks_just_that_part(writes, index):
    e = cudasim.empty((4, 6), np.float32)
    e[on_device(index)] = 1
    written = np.zeros(e.nbytes, bool)
    for start, count in writes:
        assert e.data.ptr <= start and start + count <= e.data.ptr + e.nbytes
        written[start - e.data.ptr :][:count] = True
    expected = np.zeros((4, 6), bool)
    expected[index] = True
    np.testing.assert_array_equal(written.reshape(4, 6, 4).all(2), expected)
    np.testing.assert_array_equal(written.reshape(4, 6, 4).any(2), expected)


def test_adding_at_and_copying_where_mark_what_they_touch(writes):
    e = cudasim.empty((4, 6), np.float32)
    cudasim.add.at(e, cudasim.asarray(np.array([1, 1])), 1)
    assert writes == [(e.data.ptr + 24, 24)]
    mask = np.zeros((4, 6), bool)
    mask[2, 1:3] = True
    cudasim.copyto(e, 1, where=cudasim.asarray(mask))
    assert writes[1:] == [(e.data.ptr + 52, 8)]


def test_a_view_of_an_unwritten_array_marks_the_array(writes):
    e = cudasim.empty((2, 4, 4), np.float32)
    e[:, 1:3, 1:3] = cudasim.ones((2, 2, 2))
    inner = [e.data.ptr + 4 * offset for offset in (5, 9, 21, 25)]
    assert writes == [(start, 8) for start in inner]
