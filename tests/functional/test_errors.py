"""Wrong shapes, sizes and dtypes: one line that names the argument, what came, what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minicnn.functional
from minicnn import Tensor

# Any: the calls below are wrong on purpose.
F: Any = minicnn.functional


def t(*shape: int, dtype: type = np.float32) -> Tensor:
    return Tensor(np.zeros(shape, dtype))


LABELS = Tensor(np.array([0, 1]))

# One case a line, however long.
# ruff: noqa: E501
CASES: Any = [
    # call, exception, what the message says
    (lambda: F.conv2d(t(1, 3, 8), t(4, 3, 3, 3)), ValueError, r"conv2d: input has shape \(1, 3, 8\), expected \(N, C, height, width\)"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3)), ValueError, "weight has shape"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 2, 3, 3)), ValueError, "groups=1: expected C"),
    (lambda: F.conv2d(t(1, 4, 8, 8), t(3, 2, 3, 3), groups=2), ValueError, "C_out divisible"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), t(3)), ValueError, r"bias has shape \(3,\), expected \(4,\)"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3, dtype=np.float64)), TypeError, "weight has dtype float64, expected float32"),
    (lambda: F.conv2d(t(1, 3, 8, 8, dtype=np.int64), t(4, 3, 3, 3)), TypeError, "input has dtype int64"),
    (lambda: F.conv2d(np.zeros((1, 3, 8, 8)), t(4, 3, 3, 3)), TypeError, "input is a ndarray, expected a Tensor"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), stride=0), ValueError, "stride is 0, expected an integer of at least 1"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), padding=-1), ValueError, "padding is -1"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), stride=(1, 2, 3)), ValueError, "pair"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), dilation=1.5), ValueError, "dilation is 1.5"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), padding="same", stride=2), ValueError, "'same' needs stride 1"),
    (lambda: F.conv2d(t(1, 3, 2, 8), t(4, 3, 3, 3)), ValueError, "larger than the input"),
    (lambda: F.conv2d(t(1, 3, 8, 8), t(0, 3, 3, 3)), ValueError, "no empty dimension"),
    (lambda: F.conv_transpose2d(t(1, 3, 8, 8), t(4, 3, 3, 3)), ValueError, r"weight.shape\[0\]"),
    (lambda: F.conv_transpose2d(t(1, 3, 8, 8), t(3, 4, 3, 3), output_padding=1), ValueError, "output_padding is"),
    (lambda: F.conv_transpose2d(t(1, 3, 1, 1), t(3, 4, 1, 1), padding=1), ValueError, r"size \(-1, -1\)"),
    (lambda: F.max_pool2d(t(1, 3, 8, 8), 0), ValueError, "kernel_size is 0"),
    (lambda: F.max_pool2d(t(1, 3, 8, 8), 2, padding=2), ValueError, "at most half"),
    (lambda: F.max_pool2d(t(1, 3, 2, 2), 3), ValueError, "larger than the input"),
    (lambda: F.avg_pool2d(t(3, 8, 8), 2), ValueError, "expected"),
    (lambda: F.avg_pool2d(t(1, 3, 8, 8, dtype=np.int64), 2), TypeError, "int64"),
    (lambda: F.adaptive_avg_pool2d(t(1, 3, 8, 8), 0), ValueError, "output_size"),
    (lambda: F.adaptive_max_pool2d(t(1, 3, 0, 8), 2), ValueError, "at least one pixel"),
    (lambda: F.linear(t(2, 3), t(4, 5)), ValueError, r"input has shape \(2, 3\), expected \(\*, 5\)"),
    (lambda: F.linear(t(2, 3), t(4, 3), t(3)), ValueError, "bias has shape"),
    (lambda: F.linear(t(2, 3), t(3)), ValueError, "weight has shape"),
    (lambda: F.matmul(t(2, 3), t(4, 5)), ValueError, "inner sizes"),
    (lambda: F.matmul(t(), t(4)), ValueError, "matmul"),
    (lambda: t(2, 3) + t(2), ValueError, r"add: shapes \(2, 3\) and \(2,\)"),
    (lambda: F.relu(t(2, dtype=np.int64)), TypeError, "relu: input has dtype int64"),
    (lambda: F.softmax(t(2, 3), 2), ValueError, "dim is 2"),
    (lambda: F.softmax(t(2, 3), 0.5), ValueError, "dim is 0.5"),
    (lambda: F.dropout(t(2), 1.5), ValueError, "p is 1.5, expected a number between 0 and 1"),
    (lambda: F.cross_entropy(t(2, 3), t(3)), ValueError, "target probabilities have shape"),
    (lambda: F.cross_entropy(t(2, 3), Tensor(np.array([0, 3]))), ValueError, "target contains 3, expected classes from 0 to 2"),
    (lambda: F.cross_entropy(t(2, 3), Tensor(np.array([0, -1]))), ValueError, "target contains -1"),
    (lambda: F.cross_entropy(t(3, 3), LABELS), ValueError, r"target has shape \(2,\), expected \(3,\)"),
    (lambda: F.cross_entropy(t(2, 3), LABELS, t(2)), ValueError, r"weight has shape \(2,\)"),
    (lambda: F.cross_entropy(t(2, 3), LABELS, reduction="median"), ValueError, "reduction is 'median'"),
    (lambda: F.cross_entropy(t(2, 3), LABELS, label_smoothing=2), ValueError, "label_smoothing is 2"),
    (lambda: F.cross_entropy(t(), LABELS), ValueError, "no dimensions"),
    (lambda: F.nll_loss(t(2, 3), Tensor(np.array([True, False]))), TypeError, "target has dtype bool"),
    (lambda: F.mse_loss(t(2), t(3)), ValueError, "target has shape"),
    (lambda: F.smooth_l1_loss(t(2), t(3)), ValueError, r"smooth_l1_loss: target has shape \(3,\), expected \(2,\)"),
    (lambda: F.smooth_l1_loss(t(2), t(2), beta=-1), ValueError, "beta is -1, expected a number not below 0"),
    (lambda: F.smooth_l1_loss(t(2), t(2, dtype=np.float64)), TypeError, "target has dtype float64"),
    (lambda: F.smooth_l1_loss(t(2), t(2), reduction="max"), ValueError, "reduction is 'max'"),
    (lambda: F.batch_norm(t(4), None, None, training=True), ValueError, r"batch_norm: input has shape \(4,\), expected \(N, C, ...\)"),
    (lambda: F.batch_norm(t(1, 3, 1, 1), None, None, training=True), ValueError, "expected more than 1 value per channel in training"),
    (lambda: F.batch_norm(t(2, 3), None, t(3)), ValueError, "running_mean is None, expected a Tensor outside training"),
    (lambda: F.batch_norm(t(2, 3), t(3), None), ValueError, "running_var is None"),
    (lambda: F.batch_norm(t(2, 3), t(2), t(3)), ValueError, r"running_mean has shape \(2,\), expected \(3,\)"),
    (lambda: F.batch_norm(t(2, 3), t(3), t(3), t(3, 1)), ValueError, r"weight has shape \(3, 1\), expected \(3,\)"),
    (lambda: F.batch_norm(t(2, 3), t(3), t(3), bias=t(1)), ValueError, r"bias has shape \(1,\)"),
    (lambda: F.batch_norm(t(2, 3), t(3), t(3, dtype=np.float64)), TypeError, "running_var has dtype float64, expected float32"),
    (lambda: F.batch_norm(t(2, 3, dtype=np.int64), t(3), t(3)), TypeError, "input has dtype int64"),
    (lambda: F.batch_norm(t(2, 3), t(3), t(3), eps=-1), ValueError, "eps is -1, expected a number not below 0"),
    (lambda: F.batch_norm(t(2, 3), None, None, training=True, eps=0), ValueError, "eps is 0, expected a positive number in training"),
    (lambda: F.local_response_norm(t(2, 3), 5), ValueError, r"local_response_norm: input has shape \(2, 3\), expected \(N, C, d1, ...\)"),
    (lambda: F.local_response_norm(t(2, 3, 4), 0), ValueError, "size is 0, expected an integer of at least 1"),
    (lambda: F.local_response_norm(t(2, 3, 4, dtype=np.uint8), 5), TypeError, "input has dtype uint8"),
    (lambda: F.reshape(t(2, 3), (4, 2)), ValueError, r"shape \(2, 3\) cannot take the shape \(4, 2\)"),
    (lambda: F.reshape(t(2, 3), (-1, -1)), ValueError, "cannot take"),
    (lambda: F.permute(t(2, 3), (0, 0)), ValueError, "permute: dims"),
    (lambda: F.expand(t(2, 3), (4, 2)), ValueError, "cannot be expanded"),
    (lambda: F.cat([]), ValueError, "no tensors"),
    (lambda: F.cat([t(2, 3), t(3, 3)], 1), ValueError, r"tensors\[1\] has shape"),
    (lambda: F.split(t(4), [1, 2]), ValueError, "do not add up to 4"),
    (lambda: F.pad(t(2, 3), (1,)), ValueError, "pairs"),
    (lambda: F.pad(t(2, 3), (-1, 0)), ValueError, "pad is -1"),
    (lambda: F.gather(t(2, 3), 1, Tensor(np.array([[3]]))), ValueError, "between 0 and 2"),
    (lambda: F.gather(t(2, 3), 1, LABELS), ValueError, "2 dimensions"),
    (lambda: F.one_hot(LABELS, 1), ValueError, "between 0 and 0"),
    (lambda: F.clamp(t(2)), ValueError, "neither min nor max"),
    (lambda: F.where(t(2), t(2), t(2)), TypeError, "condition has dtype float32"),
    (lambda: F.sum(t(2, 3), (0, 0)), ValueError, "at most once"),
    (lambda: F.amax(t(0, 3), 0), ValueError, "at least one value"),
    (lambda: F.flatten(t(2, 3), 1, 0), ValueError, "comes after"),
    (lambda: F.cast(t(2), np.float16), TypeError, "float16"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "exception", "message"), CASES, ids=[c[2] for c in CASES])
def test_message(call, exception, message):
    with pytest.raises(exception, match=message) as error:
        call()
    assert "\n" not in str(error.value)
