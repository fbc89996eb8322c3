// Smooth L1 loss: squares near zero, absolute values beyond, element by element, read flat.
//
//     loss = d^2 / (2 beta)      if |d| < beta        d = input - target
//            |d| - beta / 2      otherwise
//
//     grad_input = grad_output * (d / beta if |d| < beta else sign(d))
//
// One thread computes one element `i`, then the one a whole grid further on. Bound by memory: two
// reads and one write forward, three reads and one write backward.

template <typename T>
__global__ void smooth_l1_forward_cuda(
    const T* __restrict__ input, const T* __restrict__ target, T beta, int total,
    T* __restrict__ loss
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const T distance = fabs(input[i] - target[i]);
        loss[i] = distance < beta ? T(0.5) * distance * distance / beta : distance - T(0.5) * beta;
    }
}

template <typename T>
__global__ void smooth_l1_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ input, const T* __restrict__ target,
    T beta, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const T difference = input[i] - target[i];
        // What is neither positive nor negative is its own sign: 0, or NaN.
        const T sign = difference > T(0) ? T(1) : difference < T(0) ? T(-1) : difference;
        grad_input[i] = grad_output[i] * (fabs(difference) < beta ? difference / beta : sign);
    }
}
