"""Several simulated devices: which is current, where arrays are, and what must not mix."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest

import minicnn.cudasim as cudasim
from minicnn.cudasim import ArgumentValueError, cuda
from tests.needs import needs_compiler

pytestmark = needs_compiler

SCALE = """
extern "C" __global__ void scale(const float* input, float* output, int total) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < total) output[i] = 2.0f * input[i];
}
"""


@pytest.fixture
def there():
    """An array on device 1, made while device 0 goes on being the current one."""
    with cuda.Device(1):
        return cudasim.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))


def test_a_block_makes_a_device_current_and_gives_back_the_one_before():
    assert cuda.Device().id == cuda.runtime.getDevice() == cuda.get_device_id() == 0
    with cuda.Device(1) as one:
        assert one.id == cuda.get_device_id() == 1
        with cuda.Device(0), one, one:
            assert cuda.Device() == one
        assert cuda.Device() == one
    with pytest.raises(KeyError), cuda.Device(1):
        raise KeyError
    assert cuda.get_device_id() == 0


def test_a_thread_has_a_current_device_of_its_own():
    seen = []

    def use_the_other():
        cuda.Device(1).use()
        seen.append(cudasim.zeros(1).device.id)
        cuda.runtime.setDevice(0)
        seen.append(cudasim.zeros(1).device.id)

    cuda.Device(1).use()
    try:
        thread = threading.Thread(target=use_the_other)
        thread.start()
        thread.join()
        assert seen == [1, 0] and cuda.get_device_id() == 1
    finally:
        cuda.Device(0).use()


def test_there_are_as_many_as_the_setting_says():
    assert cuda.runtime.getDeviceCount() == 2
    for number in (-1, 2):
        with pytest.raises(ValueError, match=rf"device: got {number}, expected a number below 2: "):
            cuda.Device(number)
    with cudasim.settings(devices=5):
        assert cuda.runtime.getDeviceCount() == 5 and cuda.Device(4).id == 4
    with pytest.raises(ValueError, match="devices: got 0"), cudasim.settings(devices=0):
        pass


def test_arrays_are_where_they_were_made(there):
    assert there.device == cuda.Device(1) and there.data.device_id == 1
    for view in (there[0], there.T, there.reshape(-1), there.view(), cudasim.flip(there, 0)):
        assert view.device.id == 1
    for made in (cudasim.zeros_like(there), cudasim.empty_like(there), there.copy()):
        assert made.device.id == 0
    assert copy.deepcopy(there).device.id == 1
    with cuda.Device(1):
        assert (there + 1).device.id == there.sum().device.id == there[[0]].device.id == 1


def test_copies_cross_and_values_are_read_from_anywhere(there):
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    for copied in (there.copy(), cudasim.asarray(there), cudasim.array(there), +there.copy()):
        assert copied.device.id == 0
        np.testing.assert_array_equal(copied.get(), expected)
    assert cudasim.asarray(there, np.float64).dtype == np.float64
    np.testing.assert_array_equal(cudasim.asarray(there.T).get(), expected.T)
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        cudasim.array(there, copy=False)
    with cuda.Device(1):
        assert cudasim.asarray(there) is there
    assert there.tolist() == expected.tolist() and there[1, 2].item() == 5 and bool(there[0, 1])
    np.testing.assert_array_equal(cudasim.asnumpy(there), expected)
    there.set(expected + 1)
    np.testing.assert_array_equal(there.get(), expected + 1)


COMPUTATIONS = {
    "both there": lambda here, there: there + there,
    "one there": lambda here, there: here + there,
    "the other there": lambda here, there: here * there[0],
    "in place": lambda here, there: here.__iadd__(there),
    "into it": lambda here, there: cudasim.add(here, here, out=there),
    "unary": lambda here, there: -there,
    "compare": lambda here, there: here == there,
    "exp": lambda here, there: cudasim.exp(there),
    "sum": lambda here, there: there.sum(0),
    "argmax": lambda here, there: cudasim.argmax(there),
    "clip": lambda here, there: here.clip(there[0, 0], 3),
    "cast": lambda here, there: there.astype(np.float64),
    "flatten": lambda here, there: there.flatten(),
    "reshape with a copy": lambda here, there: there.T.reshape(-1),
    "fill": lambda here, there: there.fill(1),
    "write a number": lambda here, there: there.__setitem__(0, 1.0),
    "write from there": lambda here, there: here.__setitem__(..., there),
    "copyto": lambda here, there: cudasim.copyto(here, there),
    "pick": lambda here, there: there[[1, 0]],
    "pick by": lambda here, there: here[:, (there[0] > 0).astype(int)],
    "add at": lambda here, there: cudasim.add.at(there, [0], 1.0),
    "concatenate": lambda here, there: cudasim.concatenate([here, there]),
    "where": lambda here, there: cudasim.where(here > 0, here, there),
    "matmul": lambda here, there: here @ there.T,
    "nonzero": lambda here, there: there.nonzero(),
    "sort": lambda here, there: there.sort(),
}


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_a_device_computes_with_its_own_arrays_alone(there, name):
    here = cudasim.ones((2, 3), np.float32)
    before = there.get()
    with pytest.raises(ValueError, match=r"resides \(1\) is different from the current device \(0"):
        COMPUTATIONS[name](here, there)
    np.testing.assert_array_equal(there.get(), before)
    np.testing.assert_array_equal(here.get(), np.ones((2, 3), np.float32))


def test_a_kernel_is_launched_where_its_arrays_are(there):
    scale = cudasim.RawModule(code=SCALE).get_function("scale")
    here = cudasim.zeros(6, np.float32)
    with pytest.raises(
        ArgumentValueError,
        match="^scale: argument input is on device 1, expected device 0, the current one; launch",
    ):
        scale((1,), (32,), (there, here, np.int32(6)))
    with cuda.Device(1):
        with pytest.raises(ArgumentValueError, match="argument output is on device 0, expected de"):
            scale((1,), (32,), (there, here, np.int32(6)))
        result = cudasim.empty(6, np.float32)
        scale((1,), (32,), (there, result, np.int32(6)))
    assert result.tolist() == [0, 2, 4, 6, 8, 10] and here.tolist() == [0] * 6
