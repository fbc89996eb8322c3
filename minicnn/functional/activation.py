"""Elementwise nonlinearities, softmax over a dimension, dropout."""

from __future__ import annotations

from minicnn.autograd import Function
from minicnn.functional._check import dimension, floating, probability
from minicnn.functional.arithmetic import exp
from minicnn.functional.reduce import sum
from minicnn.kernels import activation as kernels
from minicnn.kernels import dropout as dropout_kernels
from minicnn.kernels import softmax as softmax_kernels
from minicnn.random import Generator, default_generator
from minicnn.tensor import Tensor


class ReLU(Function):
    def forward(self, input):
        output = kernels.relu_forward(input)
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.saved
        return ReLUBackward.apply(grad_output, output.detach())


class ReLUBackward(Function):
    """Pass the gradient where the output is positive; linear in it, flat in the output."""

    def forward(self, grad_output, output):
        self.save(output)
        return kernels.relu_backward(grad_output, output)

    def backward(self, grad_input):
        (output,) = self.saved
        return ReLUBackward.apply(grad_input, output.detach()), None


class LeakyReLU(Function):
    def forward(self, input, *, negative_slope):
        self.save(input)
        self.negative_slope = negative_slope
        return kernels.leaky_relu_forward(input, negative_slope)

    def backward(self, grad_output):
        (input,) = self.saved
        return LeakyReLUBackward.apply(
            grad_output, input.detach(), negative_slope=self.negative_slope
        )


class LeakyReLUBackward(Function):
    def forward(self, grad_output, input, *, negative_slope):
        self.save(input)
        self.negative_slope = negative_slope
        return kernels.leaky_relu_backward(grad_output, input, negative_slope)

    def backward(self, grad_input):
        (input,) = self.saved
        slope = self.negative_slope
        return LeakyReLUBackward.apply(grad_input, input.detach(), negative_slope=slope), None


class Sigmoid(Function):
    def forward(self, input):
        output = kernels.sigmoid_forward(input)
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.saved
        return SigmoidBackward.apply(grad_output, output)


class SigmoidBackward(Function):
    """grad_output * output * (1 - output)."""

    def forward(self, grad_output, output):
        self.save(grad_output, output)
        return kernels.sigmoid_backward(grad_output, output)

    def backward(self, grad_input):
        grad_output, output = self.saved
        return SigmoidBackward.apply(grad_input, output), grad_input * grad_output * (
            1 - 2 * output
        )


class Tanh(Function):
    def forward(self, input):
        output = kernels.tanh_forward(input)
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.saved
        return TanhBackward.apply(grad_output, output)


class TanhBackward(Function):
    """grad_output * (1 - output ** 2)."""

    def forward(self, grad_output, output):
        self.save(grad_output, output)
        return kernels.tanh_backward(grad_output, output)

    def backward(self, grad_input):
        grad_output, output = self.saved
        return TanhBackward.apply(grad_input, output), -2 * grad_input * grad_output * output


class Softmax(Function):
    def forward(self, input, *, dim):
        output = softmax_kernels.softmax_forward(input, dim)
        self.dim = dim
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.saved
        return SoftmaxBackward.apply(grad_output, output, dim=self.dim)


class SoftmaxBackward(Function):
    """output * (grad_output - sum(grad_output * output)), the sum over dim."""

    def forward(self, grad_output, output, *, dim):
        self.dim = dim
        self.save(grad_output, output)
        return softmax_kernels.softmax_backward(grad_output, output, dim)

    def backward(self, grad_input):
        grad_output, output = self.saved
        inner = sum(grad_output * output, self.dim, keepdim=True)
        weight = sum(grad_input * output, self.dim, keepdim=True)
        return (
            SoftmaxBackward.apply(grad_input, output, dim=self.dim),
            grad_input * (grad_output - inner) - weight * grad_output,
        )


class LogSoftmax(Function):
    def forward(self, input, *, dim):
        output = softmax_kernels.log_softmax_forward(input, dim)
        self.dim = dim
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.saved
        return LogSoftmaxBackward.apply(grad_output, output, dim=self.dim)


class LogSoftmaxBackward(Function):
    """grad_output - exp(output) * sum(grad_output), the sum over dim."""

    def forward(self, grad_output, output, *, dim):
        self.dim = dim
        self.save(grad_output, output)
        return softmax_kernels.log_softmax_backward(grad_output, output, dim)

    def backward(self, grad_input):
        grad_output, output = self.saved
        probability = exp(output)
        total = sum(grad_output, self.dim, keepdim=True)
        weight = sum(grad_input * probability, self.dim, keepdim=True)
        return grad_input - weight, -grad_input * probability * total


class Dropout(Function):
    """Linear with a mask that is a function of the seed: its own adjoint, and nothing to save."""

    def forward(self, input, *, seed, p):
        self.seed, self.p = seed, p
        return dropout_kernels.dropout_forward(input, seed, p)

    def backward(self, grad_output):
        return Dropout.apply(grad_output, seed=self.seed, p=self.p)


def relu(input: Tensor) -> Tensor:
    """Return max(input, 0); the derivative at 0 is 0."""
    return ReLU.apply(floating("relu", input))


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """Return the input where it is positive and `negative_slope` times it elsewhere."""
    return LeakyReLU.apply(floating("leaky_relu", input), negative_slope=float(negative_slope))


def sigmoid(input: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-input))."""
    return Sigmoid.apply(floating("sigmoid", input))


def tanh(input: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    return Tanh.apply(floating("tanh", input))


def softmax(input: Tensor, dim: int) -> Tensor:
    """Return exp(input) / sum(exp(input)), the sum over `dim`."""
    input = floating("softmax", input)
    return Softmax.apply(input, dim=dimension("softmax", dim, input.ndim))


def log_softmax(input: Tensor, dim: int) -> Tensor:
    """Return input - log(sum(exp(input))), the sum over `dim`."""
    input = floating("log_softmax", input)
    return LogSoftmax.apply(input, dim=dimension("log_softmax", dim, input.ndim))


def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, generator: Generator | None = None
) -> Tensor:
    """Zero values with probability `p`, divide the others by 1 - p; outside training do nothing.

    Args:
        input: any shape.
        p: the probability of dropping a value, from 0 to 1.
        generator: where the 64-bit seed of the mask is drawn from; the default generator if None.

    Source: Hinton et al., "Improving neural networks by preventing co-adaptation of feature
    detectors", 2012; scaled at training time ("inverted") so that nothing changes at test time.
    """
    input = floating("dropout", input)
    p = probability("dropout", p)
    if not training or p == 0:
        return input
    return Dropout.apply(input, seed=(generator or default_generator).draw_seed(), p=p)
