"""Concatenation against its reference and NumPy, by both rungs."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from minicnn.kernels.concatenate import concatenate, concatenate_reference

CASES = [
    ([(2, 3, 4, 5), (2, 1, 4, 5), (2, 6, 4, 5)], 1),
    ([(3, 4), (1, 4)], 0),
    ([(3, 1), (3, 7)], 1),
    ([(2, 3)], 1),
    ([(5,), (2,), (0,)], 0),
    ([(2, 3), (2, 0), (2, 2)], 1),
    ([(0, 3), (0, 2)], 1),
]


@pytest.mark.parametrize("algorithm", ["plain", "memcpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes, dim", CASES)
def test_equals_its_reference_and_numpy(shapes, dim, dtype, algorithm):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    before = [a.copy() for a in arrays]
    wide = [np.repeat(a, 2, axis=-1)[..., ::2] for a in arrays]
    output = concatenate(*wide, dim=dim, algorithm=algorithm)
    assert output.dtype == dtype and not any(np.shares_memory(output, a) for a in wide)
    assert_array_equal(output, concatenate_reference(*arrays, dim=dim))
    assert_array_equal(output, np.concatenate(arrays, dim))
    concatenate(*arrays, dim=dim, algorithm=algorithm)
    for array, untouched in zip(arrays, before, strict=True):
        assert_array_equal(array, untouched)


def test_unknown_rung_is_refused():
    with pytest.raises(ValueError, match="algorithm: got 'fast', expected 'plain' or 'memcpy'"):
        concatenate(np.zeros(1), dim=0, algorithm="fast")
