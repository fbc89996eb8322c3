// Softmax and log-softmax along one axis, and the way back.
//
//     softmax      output[i] = e^(input[i] - m) / sum_j e^(input[j] - m)
//     log-softmax  output[i] = input[i] - m - log(sum_j e^(input[j] - m))
//         m = max_j input[j]: it cancels out, and keeps every exponent at or below zero
//
//     softmax      grad_input[i] = output[i] * (grad_output[i] - sum_j grad_output[j] * output[j])
//     log-softmax  grad_input[i] = grad_output[i] - e^output[i] * sum_j grad_output[j]
//
// Arrays are read as (outer, classes, inner): `i` and `j` run over `classes`; `total` is the number
// of rows, outer * inner. The maximum passes over NaN, but the sum does not: a row with NaN or plus
// infinity, and a row of nothing but minus infinities, is NaN throughout.
//
// Rungs:
//     plain  One thread computes a row. Neighbouring threads read neighbouring memory as long as
//            inner > 1, as between the pixels of a map.
//     warp   For inner = 1: a warp computes a row, and its 32 lanes read neighbouring classes. Sums
//            and maxima go through shuffles. Nothing is written before the sum is known: raising e
//            to the same power again costs less than writing a number and reading it back.

#include "_warp.h"

template <typename T>
__global__ void softmax_forward_cuda(
    const T* __restrict__ input, int classes, int inner, int total, T* __restrict__ output
) {
    for (int row = blockIdx.x * blockDim.x + threadIdx.x; row < total;
         row += blockDim.x * gridDim.x) {
        const int start = row / inner * classes * inner + row % inner;
        const T* from = input + start;
        T* to = output + start;
        T largest = minus_infinity<T>();
        for (int i = 0; i < classes; ++i) {
            largest = max(largest, from[i * inner]);
        }
        T sum = 0;
        for (int i = 0; i < classes; ++i) {
            const T power = exp(from[i * inner] - largest);
            to[i * inner] = power;
            sum += power;
        }
        for (int i = 0; i < classes; ++i) {
            to[i * inner] /= sum;
        }
    }
}

template <typename T>
__global__ void softmax_forward_warp_cuda(
    const T* __restrict__ input, int classes, int total, T* __restrict__ output
) {
    const int lane = threadIdx.x % WARP;
    for (int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < total;
         row += blockDim.x * gridDim.x / WARP) {
        const T* from = input + row * classes;
        T* to = output + row * classes;
        T largest = minus_infinity<T>();
        for (int i = lane; i < classes; i += WARP) {
            largest = max(largest, from[i]);
        }
        largest = warp_max(largest);
        T sum = 0;
        for (int i = lane; i < classes; i += WARP) {
            sum += exp(from[i] - largest);
        }
        sum = warp_sum(sum);
        for (int i = lane; i < classes; i += WARP) {
            to[i] = exp(from[i] - largest) / sum;
        }
    }
}

template <typename T>
__global__ void softmax_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ output, int classes, int inner,
    int total, T* __restrict__ grad_input
) {
    for (int row = blockIdx.x * blockDim.x + threadIdx.x; row < total;
         row += blockDim.x * gridDim.x) {
        const int start = row / inner * classes * inner + row % inner;
        const T* grad = grad_output + start;
        const T* share = output + start;
        T* to = grad_input + start;
        T sum = 0;
        for (int i = 0; i < classes; ++i) {
            sum += grad[i * inner] * share[i * inner];
        }
        for (int i = 0; i < classes; ++i) {
            to[i * inner] = share[i * inner] * (grad[i * inner] - sum);
        }
    }
}

template <typename T>
__global__ void softmax_backward_warp_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ output, int classes, int total,
    T* __restrict__ grad_input
) {
    const int lane = threadIdx.x % WARP;
    for (int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < total;
         row += blockDim.x * gridDim.x / WARP) {
        const T* grad = grad_output + row * classes;
        const T* share = output + row * classes;
        T* to = grad_input + row * classes;
        T sum = 0;
        for (int i = lane; i < classes; i += WARP) {
            sum += grad[i] * share[i];
        }
        sum = warp_sum(sum);
        for (int i = lane; i < classes; i += WARP) {
            to[i] = share[i] * (grad[i] - sum);
        }
    }
}

template <typename T>
__global__ void log_softmax_forward_cuda(
    const T* __restrict__ input, int classes, int inner, int total, T* __restrict__ output
) {
    for (int row = blockIdx.x * blockDim.x + threadIdx.x; row < total;
         row += blockDim.x * gridDim.x) {
        const int start = row / inner * classes * inner + row % inner;
        const T* from = input + start;
        T* to = output + start;
        T largest = minus_infinity<T>();
        for (int i = 0; i < classes; ++i) {
            largest = max(largest, from[i * inner]);
        }
        T sum = 0;
        for (int i = 0; i < classes; ++i) {
            sum += exp(from[i * inner] - largest);
        }
        sum = log(sum);
        for (int i = 0; i < classes; ++i) {
            to[i * inner] = from[i * inner] - largest - sum;
        }
    }
}

template <typename T>
__global__ void log_softmax_forward_warp_cuda(
    const T* __restrict__ input, int classes, int total, T* __restrict__ output
) {
    const int lane = threadIdx.x % WARP;
    for (int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < total;
         row += blockDim.x * gridDim.x / WARP) {
        const T* from = input + row * classes;
        T* to = output + row * classes;
        T largest = minus_infinity<T>();
        for (int i = lane; i < classes; i += WARP) {
            largest = max(largest, from[i]);
        }
        largest = warp_max(largest);
        T sum = 0;
        for (int i = lane; i < classes; i += WARP) {
            sum += exp(from[i] - largest);
        }
        sum = log(warp_sum(sum));
        for (int i = lane; i < classes; i += WARP) {
            to[i] = from[i] - largest - sum;
        }
    }
}

template <typename T>
__global__ void log_softmax_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ output, int classes, int inner,
    int total, T* __restrict__ grad_input
) {
    for (int row = blockIdx.x * blockDim.x + threadIdx.x; row < total;
         row += blockDim.x * gridDim.x) {
        const int start = row / inner * classes * inner + row % inner;
        const T* grad = grad_output + start;
        const T* log_share = output + start;
        T* to = grad_input + start;
        T sum = 0;
        for (int i = 0; i < classes; ++i) {
            sum += grad[i * inner];
        }
        for (int i = 0; i < classes; ++i) {
            to[i * inner] = grad[i * inner] - exp(log_share[i * inner]) * sum;
        }
    }
}

template <typename T>
__global__ void log_softmax_backward_warp_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ output, int classes, int total,
    T* __restrict__ grad_input
) {
    const int lane = threadIdx.x % WARP;
    for (int row = (blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < total;
         row += blockDim.x * gridDim.x / WARP) {
        const T* grad = grad_output + row * classes;
        const T* log_share = output + row * classes;
        T* to = grad_input + row * classes;
        T sum = 0;
        for (int i = lane; i < classes; i += WARP) {
            sum += grad[i];
        }
        sum = warp_sum(sum);
        for (int i = lane; i < classes; i += WARP) {
            to[i] = grad[i] - exp(log_share[i]) * sum;
        }
    }
}
