// Batch normalisation: every channel brought to mean 0 and variance 1, scaled and shifted.
//
//     statistics  mean = sum(input) / count        variance = sum((input - mean)^2) / count
//     forward     output = xhat * weight + bias    xhat = (input - mean) / sqrt(variance + eps)
//
//     sums        grad_weight = sum(grad_output * xhat)        grad_bias = sum(grad_output)
//     backward    grad_input = weight / sqrt(variance + eps)
//                     * (grad_output - grad_bias / count - xhat * grad_weight / count)
//
// Arrays are (batch, channels, spatial); sums run over the batch and the pixels of a channel,
// count = batch * spatial of them. In forward and backward one thread computes one element.
//
// Statistics and sums, rungs slow to fast:
//
//     plain   One thread computes one channel. A warp's 32 threads read 32 channels, spatial
//             elements apart: every access is a memory transaction of its own.
//     block   One block computes one channel, its threads on neighbouring pixels. Each keeps sums of
//             its own; warps add theirs by shuffles, the block adds the warps' in shared memory.
//             Statistics read the input once: each thread keeps count, mean and sum of squared
//             deviations of what it has seen (Welford), and two such triples merge into the triple
//             of both (Chan, Golub and LeVeque). Nothing large is subtracted from anything large.

#include "_reduce.h"

constexpr int BLOCK = 256;

// Plain ------------------------------------------------------------------------------------------

template <typename T>
__global__ void batch_norm_statistics_cuda(
    const T* __restrict__ input, int batch, int channels, int spatial, int total,
    T* __restrict__ mean, T* __restrict__ variance
) {
    for (int c = blockIdx.x * blockDim.x + threadIdx.x; c < total; c += blockDim.x * gridDim.x) {
        const T count = T(batch * spatial);
        T sum = 0;
        for (int n = 0; n < batch; ++n) {
            const T* plane = input + (n * channels + c) * spatial;
            for (int x = 0; x < spatial; ++x) {
                sum += plane[x];
            }
        }
        const T center = sum / count;
        T squares = 0;
        for (int n = 0; n < batch; ++n) {
            const T* plane = input + (n * channels + c) * spatial;
            for (int x = 0; x < spatial; ++x) {
                squares += (plane[x] - center) * (plane[x] - center);
            }
        }
        mean[c] = center;
        variance[c] = squares / count;
    }
}

template <typename T>
__global__ void batch_norm_forward_cuda(
    const T* __restrict__ input, const T* __restrict__ mean, const T* __restrict__ variance,
    const T* __restrict__ weight, const T* __restrict__ bias, T eps, int channels, int spatial,
    int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int c = i / spatial % channels;
        const T scale = weight[c] / sqrt(variance[c] + eps);
        output[i] = (input[i] - mean[c]) * scale + bias[c];
    }
}

template <typename T>
__global__ void batch_norm_sums_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ input, const T* __restrict__ mean,
    const T* __restrict__ variance, T eps, int batch, int channels, int spatial, int total,
    T* __restrict__ grad_weight, T* __restrict__ grad_bias
) {
    for (int c = blockIdx.x * blockDim.x + threadIdx.x; c < total; c += blockDim.x * gridDim.x) {
        const T center = mean[c];
        T products = 0;
        T sum = 0;
        for (int n = 0; n < batch; ++n) {
            const T* plane = input + (n * channels + c) * spatial;
            const T* grad = grad_output + (n * channels + c) * spatial;
            for (int x = 0; x < spatial; ++x) {
                products += grad[x] * (plane[x] - center);
                sum += grad[x];
            }
        }
        grad_weight[c] = products / sqrt(variance[c] + eps);
        grad_bias[c] = sum;
    }
}

template <typename T>
__global__ void batch_norm_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ input, const T* __restrict__ mean,
    const T* __restrict__ variance, const T* __restrict__ weight,
    const T* __restrict__ grad_weight, const T* __restrict__ grad_bias, T eps, int batch,
    int channels, int spatial, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int c = i / spatial % channels;
        const T share = T(1) / T(batch * spatial);
        const T inverse = T(1) / sqrt(variance[c] + eps);
        const T xhat = (input[i] - mean[c]) * inverse;
        const T rest = grad_output[i] - share * grad_bias[c] - share * grad_weight[c] * xhat;
        grad_input[i] = weight[c] * inverse * rest;
    }
}

// Block ------------------------------------------------------------------------------------------

// Make (count, mean, squares) describe the values of both triples.
template <typename T>
__device__ __forceinline__ void merge(
    T& count, T& mean, T& squares, T other_count, T other_mean, T other_squares
) {
    const T both = count + other_count;
    const T share = both > T(0) ? other_count / both : T(0);
    const T apart = other_mean - mean;
    squares += other_squares + apart * apart * count * share;
    mean += apart * share;
    count = both;
}

template <typename T>
__global__ void __launch_bounds__(BLOCK) batch_norm_statistics_block_cuda(
    const T* __restrict__ input, int batch, int channels, int spatial, int total,
    T* __restrict__ mean, T* __restrict__ variance
) {
    __shared__ T counts[BLOCK / WARP];
    __shared__ T means[BLOCK / WARP];
    __shared__ T squares[BLOCK / WARP];
    for (int c = blockIdx.x; c < total; c += gridDim.x) {
        T seen = 0;
        T center = 0;
        T spread = 0;
        for (int i = threadIdx.x; i < batch * spatial; i += BLOCK) {
            const T value = input[(i / spatial * channels + c) * spatial + i % spatial];
            const T apart = value - center;
            seen += T(1);
            center += apart / seen;
            spread += apart * (value - center);
        }
// Rolled up: a division a round is long, and in double ptxas spills what would be unrolled.
#pragma unroll 1
        for (int apart = WARP / 2; apart > 0; apart /= 2) {
            merge(
                seen, center, spread, __shfl_xor_sync(ALL_LANES, seen, apart),
                __shfl_xor_sync(ALL_LANES, center, apart),
                __shfl_xor_sync(ALL_LANES, spread, apart)
            );
        }
        __syncthreads();  // the triples of the channel before have been read
        if (threadIdx.x % WARP == 0) {
            counts[threadIdx.x / WARP] = seen;
            means[threadIdx.x / WARP] = center;
            squares[threadIdx.x / WARP] = spread;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
#pragma unroll 1
            for (int warp = 1; warp < BLOCK / WARP; ++warp) {
                merge(seen, center, spread, counts[warp], means[warp], squares[warp]);
            }
            mean[c] = center;
            variance[c] = spread / seen;
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(BLOCK) batch_norm_sums_block_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ input, const T* __restrict__ mean,
    const T* __restrict__ variance, T eps, int batch, int channels, int spatial, int total,
    T* __restrict__ grad_weight, T* __restrict__ grad_bias
) {
    for (int c = blockIdx.x; c < total; c += gridDim.x) {
        const T center = mean[c];
        T products = 0;
        T sum = 0;
        for (int i = threadIdx.x; i < batch * spatial; i += BLOCK) {
            const int at = (i / spatial * channels + c) * spatial + i % spatial;
            products += grad_output[at] * (input[at] - center);
            sum += grad_output[at];
        }
        products = block_sum<T, BLOCK>(products);
        sum = block_sum<T, BLOCK>(sum);
        if (threadIdx.x == 0) {
            grad_weight[c] = products / sqrt(variance[c] + eps);
            grad_bias[c] = sum;
        }
    }
}
