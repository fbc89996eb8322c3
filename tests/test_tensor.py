"""The Tensor itself: construction, dtypes, conversion, in-place methods, comparison, copying."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import minicnn
from minicnn import Tensor


def test_numbers_become_float32_and_int64():
    assert minicnn.tensor([1.5, 2]).dtype == np.float32
    assert minicnn.tensor([1, 2]).dtype == np.int64
    assert minicnn.tensor(3.0).shape == ()
    assert minicnn.tensor(np.ones(2)).dtype == np.float64
    assert minicnn.tensor([True]).dtype == bool


@pytest.mark.parametrize("data", ["text", [1j], np.ones(2, np.float16), [[1], [2, 3]], object()])
def test_what_is_not_a_number_is_refused(data):
    with pytest.raises(TypeError, match="data"):
        Tensor(data)


def test_integers_cannot_require_a_gradient():
    with pytest.raises(TypeError, match="requires_grad: got a int64 tensor"):
        Tensor([1, 2], requires_grad=True)


def test_tensor_copies_and_from_numpy_shares():
    array = np.zeros(3)
    minicnn.from_numpy(array).fill_(1)
    assert array.tolist() == [1, 1, 1]
    minicnn.tensor(array).fill_(2)
    assert array.tolist() == [1, 1, 1]
    with pytest.raises(TypeError, match="array: got list"):
        minicnn.from_numpy([1.0])


def test_creation_functions():
    assert minicnn.zeros(2, 3).shape == minicnn.ones((2, 3)).shape == (2, 3)
    assert minicnn.full((2,), 7.0).tolist() == [7, 7]
    assert minicnn.arange(1, 4).tolist() == [1, 2, 3]
    assert minicnn.arange(0, 1, 0.5).dtype == np.float32
    assert minicnn.zeros_like(minicnn.ones(2, dtype=np.float64)).dtype == np.float64
    assert minicnn.empty(4).shape == (4,)


def test_random_tensors_follow_the_seed():
    minicnn.manual_seed(3)
    first = minicnn.randn(4), minicnn.rand(4)
    minicnn.manual_seed(3)
    assert all(
        (a.data == b.data).all()
        for a, b in zip(first, (minicnn.randn(4), minicnn.rand(4)), strict=True)
    )
    generator = minicnn.Generator(5)
    state = generator.get_state()
    drawn = minicnn.rand(3, generator=generator)
    generator.set_state(state)
    assert (minicnn.rand(3, generator=generator).data == drawn.data).all()
    with pytest.raises(ValueError, match="seed"):
        minicnn.manual_seed(-1)
    with pytest.raises(ValueError, match="state"):
        generator.set_state({"bit_generator": "MT19937"})


def test_item_len_bool_index():
    x = minicnn.tensor([[1, 2], [3, 4]])
    assert x[1, 0].item() == 3 and len(x) == 2 and int(x[0, 1]) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert [10, 20, 30][minicnn.tensor(2)] == 30
    with pytest.raises(ValueError, match="one element"):
        x.item()
    with pytest.raises(ValueError):
        bool(x)
    with pytest.raises(TypeError):
        len(minicnn.tensor(1.0))


def test_comparisons_and_masks():
    x = minicnn.tensor([1.0, 2.0, 3.0])
    assert (x > 2).tolist() == [False, False, True]
    assert ((x >= 2) & ~(x == 3)).tolist() == [False, True, False]
    assert x[x != 2].tolist() == [1, 3]
    assert not (x < 0).any() and (x > 0).all()


def test_array_operators_leave_the_work_to_the_tensor():
    x = minicnn.tensor([1.0, 2.0], requires_grad=True)
    for result in (np.ones(2, np.float32) + x, np.float32(2) * x, 1 - x, 2 / x, 2**x):
        assert isinstance(result, Tensor) and result.requires_grad


def test_in_place_methods():
    x = minicnn.zeros(3)
    x.add_(2).mul_(3).sub_(1, alpha=2).div_(4)
    assert x.tolist() == [1, 1, 1]
    x[1:] = 5
    x[0] = minicnn.tensor(7.0)
    assert x.tolist() == [7, 5, 5]
    assert x.copy_(np.arange(3.0)).dtype == np.float32
    assert x.zero_().tolist() == [0, 0, 0]
    assert 0 < x.uniform_(1, 2).data.min() < 2 and x.normal_().shape == (3,)


def test_to_changes_dtype_and_knows_devices():
    x = minicnn.ones(2)
    assert x.double().dtype == np.float64 and x.to("cpu") is x and x.float() is x
    assert x.long().dtype == np.int64
    with pytest.raises(ValueError, match="device: got 'cuda:x', expected one of 'cpu', 'cuda'"):
        x.to("cuda:x")
    with pytest.raises(TypeError, match="dtype"):
        x.to(np.complex64)


def test_deepcopy_copies_leaves_only():
    x = minicnn.tensor([1.0], requires_grad=True)
    (x * 2).sum().backward()
    twin = copy.deepcopy(x)
    with minicnn.no_grad():
        twin.add_(1)
    assert x.item() == 1 and twin.requires_grad and twin.grad.item() == 2
    with pytest.raises(RuntimeError, match="leaf"):
        copy.deepcopy(x * 1.0)


def test_repr_shows_values_dtype_and_origin():
    assert repr(minicnn.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    x = minicnn.tensor([1.0], requires_grad=True)
    assert "requires_grad=True" in repr(x) and "grad_fn=mul" in repr(x * 2)
    assert "float64" in repr(x.double().detach())


def test_numpy_shares_and_asarray_works():
    x = minicnn.ones(2)
    assert np.shares_memory(x.numpy(), x.data)
    assert np.asarray(x).tolist() == [1, 1] and np.asarray(x, np.float64).dtype == np.float64


def test_unknown_attribute_of_the_package():
    with pytest.raises(AttributeError, match="no attribute 'conv9d'"):
        minicnn.conv9d  # noqa: B018
    assert "functional" in dir(minicnn)
