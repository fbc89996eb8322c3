"""Batch-normalisation kernels against their references, PyTorch, and channels that are hard."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from minicnn.backend import array_module
from minicnn.kernels import _jit, _launch, batchnorm

EPS = 1e-5
SHAPES = [
    (3, 4, 5, 7),
    (5, 3),
    (2, 1, 9),
    (1, 3, 4, 4),
    (1, 2, 1, 131),  # longer than a row of lanes
    (3, 2, 8, 8),  # exactly a row of lanes
    (2, 3, 2, 3, 2),
]
EMPTY = [(0, 3, 2, 2), (2, 3, 0), (2, 0, 3)]
DTYPES = [np.float32, np.float64]


def close(dtype):
    return {"rtol": 2e-6, "atol": 5e-6} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-13}


def strided(array):
    """Return an equal array whose elements are not neighbours in memory."""
    return np.repeat(array, 2, axis=-1)[..., ::2]


def example(shape, dtype, seed=0):
    """Return input, grad_output, weight and bias; grad_output has much that is to be taken out."""
    rng = np.random.default_rng(seed)
    input = (2 * rng.standard_normal(shape) + 3).astype(dtype)
    grad_output = (rng.standard_normal(shape) + 0.5 * input + 1).astype(dtype)
    weight, bias = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    return input, grad_output, weight, bias


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_their_references(shape, dtype):
    input, grad_output, weight, bias = given = example(shape, dtype)
    kept = [array.copy() for array in given]
    statistics = batchnorm.batch_norm_statistics(input)
    for got, wanted in zip(
        statistics, batchnorm.batch_norm_statistics_reference(input), strict=True
    ):
        assert (got.dtype, got.shape) == (dtype, (shape[1],))
        assert_allclose(got, wanted, **close(dtype))

    arguments = input, *statistics, weight, bias, EPS
    output = batchnorm.batch_norm_forward(*arguments)
    assert (output.dtype, output.shape) == (dtype, shape)
    assert_allclose(output, batchnorm.batch_norm_forward_reference(*arguments), **close(dtype))

    arguments = grad_output, input, *statistics, EPS
    sums = batchnorm.batch_norm_sums(*arguments)
    scale = abs(grad_output).sum()
    for got, wanted in zip(sums, batchnorm.batch_norm_sums_reference(*arguments), strict=True):
        assert (got.dtype, got.shape) == (dtype, (shape[1],))
        assert_allclose(got / scale, wanted / scale, **close(dtype))

    arguments = grad_output, input, *statistics, weight, *sums, EPS
    grad_input = batchnorm.batch_norm_backward(*arguments)
    assert (grad_input.dtype, grad_input.shape) == (dtype, shape)
    wanted = batchnorm.batch_norm_backward_reference(*arguments)
    assert_allclose(grad_input, wanted, **close(dtype))
    for array, before in zip(given, kept, strict=True):
        assert_array_equal(array, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 2, 13, 16), (5, 131)])
def test_all_in_one_go_equals_the_references(shape, dtype):
    input, grad_output, weight, bias = example(shape, dtype)
    output, *statistics = batchnorm.batch_norm_train(strided(input), weight, bias, EPS)
    wanted = batchnorm.batch_norm_statistics_reference(input)
    for got, exact in zip(statistics, wanted, strict=True):
        assert (got.dtype, got.shape) == (dtype, (shape[1],))
        assert_allclose(got, exact, **close(dtype))
    arguments = input, *statistics, weight, bias, EPS
    assert (output.dtype, output.shape) == (dtype, shape)
    assert_allclose(output, batchnorm.batch_norm_forward_reference(*arguments), **close(dtype))

    arguments = grad_output, input, *statistics
    grad_input, *sums = batchnorm.batch_norm_gradients(*arguments, weight, EPS)
    scale = abs(grad_output).sum()
    wanted = batchnorm.batch_norm_sums_reference(*arguments, EPS)
    for got, exact in zip(sums, wanted, strict=True):
        assert (got.dtype, got.shape) == (dtype, (shape[1],))
        assert_allclose(got / scale, exact / scale, **close(dtype))
    if input.size < 1000:  # the reference takes the square of it
        wanted = batchnorm.batch_norm_backward_reference(*arguments, weight, *sums, EPS)
        assert_allclose(grad_input, wanted, **close(dtype))
    plain = np.empty_like(input).reshape(*shape[:2], -1)
    planes = [array.reshape(plain.shape) for array in (grad_output, input)]
    batchnorm.batch_norm_backward_cpu(*planes, *statistics, weight, *sums, EPS, plain)
    assert_allclose(grad_input, plain.reshape(shape), **close(dtype))


def test_planes_unlike_the_others_do_not_blur_the_statistics():
    """The first plane, from which deviations are taken, is far off, spread out, or not finite."""
    rng = np.random.default_rng(0)
    input = rng.standard_normal((40, 5, 6, 7)).astype(np.float32)
    input[0, 0] += 1e5
    input[1:, 1] += 1e5
    input[:, 2] += 1e4
    input[0, 3, 2, 3] = np.inf
    input[9, 4, 2, 3] = np.nan
    output, mean, variance = batchnorm.batch_norm_train(input, *np.ones((2, 5), np.float32), EPS)
    exact = input.astype(np.float64)
    assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-6, atol=1e-6)
    assert_allclose(variance[:3], exact[:, :3].var((0, 2, 3)), rtol=2e-6)
    assert np.isnan(variance[3:]).all() and np.isnan(output[:, 3:]).all()
    assert np.isfinite(output[:, :3]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_strided_arrays_give_the_same_bits(shape):
    input, grad_output, weight, bias = example(shape, np.float32)
    mean, variance = batchnorm.batch_norm_statistics(input)
    for got, wanted in zip(
        batchnorm.batch_norm_statistics(strided(input)), (mean, variance), strict=True
    ):
        assert_array_equal(got, wanted)
    channel = mean, variance, weight, bias
    assert_array_equal(
        batchnorm.batch_norm_forward(strided(input), *map(strided, channel), EPS),
        batchnorm.batch_norm_forward(input, *channel, EPS),
    )
    sums = batchnorm.batch_norm_sums(grad_output, input, mean, variance, EPS)
    again = batchnorm.batch_norm_sums(
        strided(grad_output), strided(input), strided(mean), strided(variance), EPS
    )
    assert_array_equal(again, sums)
    channel = mean, variance, weight, *sums
    assert_array_equal(
        batchnorm.batch_norm_backward(
            strided(grad_output), strided(input), *map(strided, channel), EPS
        ),
        batchnorm.batch_norm_backward(grad_output, input, *channel, EPS),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_pytorch_agrees(shape):
    torch = pytest.importorskip("torch")
    input, grad_output, weight, bias = example(shape, np.float64, seed=1)
    tensors = [torch.tensor(array, requires_grad=True) for array in (input, weight, bias)]
    wanted = torch.nn.functional.batch_norm(tensors[0], None, None, *tensors[1:], True, eps=EPS)
    mean, variance = batchnorm.batch_norm_statistics(input)
    output = batchnorm.batch_norm_forward(input, mean, variance, weight, bias, EPS)
    assert_allclose(output, wanted.detach(), rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(wanted, tensors, torch.tensor(grad_output))
    sums = batchnorm.batch_norm_sums(grad_output, input, mean, variance, EPS)
    grad_input = batchnorm.batch_norm_backward(
        grad_output, input, mean, variance, weight, *sums, EPS
    )
    for got, grad in zip((grad_input, *sums), grads, strict=True):
        assert_allclose(got, grad, rtol=1e-11, atol=1e-11)


def test_large_mean_does_not_drown_the_variance():
    rng = np.random.default_rng(0)
    input = (rng.standard_normal((4, 2, 15, 17)) + 1e4).astype(np.float32)
    mean, variance = batchnorm.batch_norm_statistics(input)
    exact = input.astype(np.float64)
    assert_allclose(mean, exact.mean((0, 2, 3)), rtol=1e-7)
    assert_allclose(variance, exact.var((0, 2, 3)), rtol=1e-6)


def test_constant_channel_has_variance_zero():
    input = np.full((3, 2, 5), 0.1, np.float32)
    mean, variance = batchnorm.batch_norm_statistics(input)
    assert_array_equal(mean, np.full(2, np.float32(0.1)))
    assert_allclose(variance, 0, atol=1e-17)


def test_gradient_has_neither_a_mean_nor_a_part_along_the_input():
    input, grad_output, weight, _ = example((4, 3, 6, 5), np.float32)
    grad_output = 1e4 * (input + 10) + grad_output  # nearly all of it is to be taken out
    mean, variance = batchnorm.batch_norm_statistics(input)
    sums = batchnorm.batch_norm_sums(grad_output, input, mean, variance, 0.0)
    arguments = grad_output, input, mean, variance, weight, *sums, 0.0
    grad_input = batchnorm.batch_norm_backward(*arguments).astype(np.float64)
    size = np.abs(grad_output).max()
    assert_allclose(grad_input.mean((0, 2, 3)) / size, 0, atol=2e-7)
    assert_allclose((grad_input * input).mean((0, 2, 3)) / size, 0, atol=2e-6)


def test_variance_zero_without_eps_gives_infinities_and_no_error():
    input = np.array([[[1.0, 2.0, 0.0]]])
    channel = [np.array([value]) for value in (1.0, 0.0, 1.0, 0.0)]
    output = batchnorm.batch_norm_forward(input, *channel, 0.0)
    assert_array_equal(output, [[[np.nan, np.inf, -np.inf]]])


@pytest.mark.parametrize("shape", EMPTY)
def test_no_values(shape):
    input = grad_output = np.zeros(shape, np.float32)
    channel = np.ones(shape[1], np.float32)
    for array in batchnorm.batch_norm_statistics(input):
        assert_array_equal(array, np.zeros(shape[1]))
    for array in batchnorm.batch_norm_sums(grad_output, input, channel, channel, EPS):
        assert_array_equal(array, np.zeros(shape[1]))
    assert batchnorm.batch_norm_forward(input, *[channel] * 4, EPS).shape == shape
    assert batchnorm.batch_norm_backward(grad_output, input, *[channel] * 5, EPS).shape == shape


def test_bits_do_not_depend_on_the_number_of_threads():
    input, grad_output, weight, _ = example((4, 7, 9, 11), np.float32)

    def everything():
        statistics = batchnorm.batch_norm_statistics(input)
        sums = batchnorm.batch_norm_sums(grad_output, input, *statistics, EPS)
        grad = batchnorm.batch_norm_backward(grad_output, input, *statistics, weight, *sums, EPS)
        return *statistics, *sums, grad

    threads = _jit.get_num_threads()
    many = everything()
    try:
        _jit.set_num_threads(1)
        for one, other in zip(everything(), many, strict=True):
            assert_array_equal(one, other)
    finally:
        _jit.set_num_threads(threads)


def test_a_block_sums_a_channel_unless_a_thread_is_asked_to(gpu):
    device = array_module(gpu)
    input = device.ones((4, 5, 3), np.float32)
    with _launch.record() as launches:
        mean, variance = batchnorm.batch_norm_statistics(input)
        batchnorm.batch_norm_sums(input, input, mean, variance, EPS)
        batchnorm.batch_norm_statistics(input, algorithm="plain")
    assert [(launch.kernel, launch.blocks) for launch in launches] == [
        ("batch_norm_statistics_block_cuda<float>", 5),
        ("batch_norm_sums_block_cuda<float>", 5),
        ("batch_norm_statistics_cuda<float>", 1),
    ]
    with pytest.raises(ValueError, match="algorithm: got 'fast', expected 'plain' or 'block'"):
        batchnorm.batch_norm_statistics(input, algorithm="fast")


def test_strided_and_empty_arrays_on_a_device(gpu):
    device = array_module(gpu)
    input, grad_output, weight, bias = example((3, 4, 5, 7), np.float32)
    x, g = device.asarray(input), device.asarray(grad_output)
    mean, variance = batchnorm.batch_norm_statistics(x)
    half = batchnorm.batch_norm_statistics(x[:, ::2])
    assert_array_equal(device.asnumpy(half[0]), device.asnumpy(mean)[::2])
    sums = batchnorm.batch_norm_sums(g[:, 1:3], x[:, 1:3], mean[1:3], variance[1:3], EPS)
    wanted = batchnorm.batch_norm_sums_reference(
        grad_output[:, 1:3], input[:, 1:3], device.asnumpy(mean[1:3]),
        device.asnumpy(variance[1:3]), EPS,
    )  # fmt: skip
    for got, right in zip(sums, wanted, strict=True):
        assert_allclose(device.asnumpy(got), right, rtol=1e-5, atol=1e-4)
    for shape in EMPTY:
        for array in batchnorm.batch_norm_statistics(device.zeros(shape, np.float32)):
            assert_array_equal(device.asnumpy(array), np.zeros(shape[1]))


def test_foreign_arrays_are_refused():
    foreign: Any = [[1.0]]
    with pytest.raises(TypeError, match="batch_norm_statistics: expected a NumPy array"):
        batchnorm.batch_norm_statistics(foreign)
