// Activations: element by element, on arrays of any shape, read flat.
//
//     relu        output = max(input, 0)                          NaN stays NaN
//     leaky_relu  output = input if input > 0 else negative_slope * input
//     sigmoid     output = 1 / (1 + e^-input)                     e raised to negative numbers only
//     tanh        output = (1 - e^-2|input|) / (1 + e^-2|input|)  with the sign of input
//
//     relu        grad_input = grad_output if output > 0 else 0
//     leaky_relu  grad_input = grad_output if input > 0 else negative_slope * grad_output
//     sigmoid     grad_input = grad_output * output * (1 - output)
//     tanh        grad_input = grad_output * (1 - output^2)
//
// One thread computes one element `i`, then the one a whole grid further on ("grid-stride loop"):
// neighbouring threads touch neighbouring elements, so a warp's 32 accesses make full 128-byte lines.
// Bound by memory: one read and one write forward, two reads and one write backward.

template <typename T>
__global__ void relu_forward_cuda(const T* __restrict__ input, int total, T* __restrict__ output) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        output[i] = input[i] <= T(0) ? T(0) : input[i];
    }
}

template <typename T>
__global__ void relu_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ output, int total,
    T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        grad_input[i] = output[i] <= T(0) ? T(0) : grad_output[i];
    }
}

template <typename T>
__global__ void leaky_relu_forward_cuda(
    const T* __restrict__ input, T negative_slope, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        output[i] = input[i] > T(0) ? input[i] : negative_slope * input[i];
    }
}

template <typename T>
__global__ void leaky_relu_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ input, T negative_slope, int total,
    T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        grad_input[i] = input[i] > T(0) ? grad_output[i] : negative_slope * grad_output[i];
    }
}

template <typename T>
__global__ void sigmoid_forward_cuda(
    const T* __restrict__ input, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const T x = input[i];
        const T e = exp(-fabs(x));
        output[i] = (x >= T(0) ? T(1) : e) / (T(1) + e);
    }
}

template <typename T>
__global__ void sigmoid_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ output, int total,
    T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        grad_input[i] = grad_output[i] * output[i] * (T(1) - output[i]);
    }
}

template <typename T>
__global__ void tanh_forward_cuda(const T* __restrict__ input, int total, T* __restrict__ output) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const T x = input[i];
        const T m = expm1(T(-2) * fabs(x));
        output[i] = copysign(m / (T(2) + m), x);
    }
}

template <typename T>
__global__ void tanh_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ output, int total,
    T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        grad_input[i] = grad_output[i] * (T(1) - output[i] * output[i]);
    }
}
