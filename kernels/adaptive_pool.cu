// Adaptive pooling: the maximum or the mean of out_h x out_w bins that share out a plane (n, c).
//
//     bin i of `bins` on an axis of `size` pixels:[floor(i size / bins), ceil((i + 1) size / bins))
//
//     max       output[n, c, out_y, out_x] = max of input[n, c, y, x] over bin out_y x bin out_x
//         argmax[n, c, out_y, out_x] = y * width + x of the first maximum in row-major order
//     average   output[n, c, out_y, out_x] = (sum of input[n, c, y, x] over the bin) / its pixels
//     backward  grad_input[n, c, y, x] = sum of grad_output / its pixels over all bins with (y, x)
//
// Bins are never empty. NaN counts as the largest number. The maximum's backward pass and second
// derivative are `max_pool2d_backward_bins_cuda` and `max_pool2d_gather_cuda` of `pool`.
//
// One thread computes one element of what is written. Backward that element is a pixel, which takes
// from the bins it lies in, in the order in which they would have given.
//
// Rungs of the average:
//     plain  A thread walks through its bin: what a warp reads at a time lies in many sectors of 32
//            bytes, which its next steps find in the cache.
//     warp   For bins of 32 pixels and more, as where a whole plane is averaged: a warp computes
//            one element, its lanes read neighbouring pixels, and shuffles add up their sums.

#include "_warp.h"

// A bin's first pixel and end along an axis.
struct Bin {
    int first, last;
};

__device__ __forceinline__ Bin bin(int out, int bins, int size) {
    return {out * size / bins, ((out + 1) * size + bins - 1) / bins};
}

// The first bin along an axis with pixel `y`: the least `out` with (out + 1) * size / bins > y.
__device__ __forceinline__ int first_bin(int y, int bins, int size) {
    return y * bins / size;
}

// The end of the bins with pixel `y`: the least `out` with out * size / bins >= y + 1.
__device__ __forceinline__ int end_bin(int y, int bins, int size) {
    return ((y + 1) * bins + size - 1) / size;
}

template <typename T>
__global__ void adaptive_avg_pool2d_forward_cuda(
    const T* __restrict__ input, int height, int width, int out_h, int out_w, int total,
    T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const Bin rows = bin(i / out_w % out_h, out_h, height);
        const Bin columns = bin(i % out_w, out_w, width);
        const T* plane = input + i / (out_h * out_w) * (height * width);
        T sum = 0;
        for (int y = rows.first; y < rows.last; ++y) {
            for (int x = columns.first; x < columns.last; ++x) {
                sum += plane[y * width + x];
            }
        }
        const int count = (rows.last - rows.first) * (columns.last - columns.first);
        output[i] = sum / T(count);
    }
}

template <typename T>
__global__ void adaptive_avg_pool2d_forward_warp_cuda(
    const T* __restrict__ input, int height, int width, int out_h, int out_w, int total,
    T* __restrict__ output
) {
    const int lane = threadIdx.x % WARP;
    for (int i = (blockIdx.x * blockDim.x + threadIdx.x) / WARP; i < total;
         i += blockDim.x * gridDim.x / WARP) {
        const Bin rows = bin(i / out_w % out_h, out_h, height);
        const Bin columns = bin(i % out_w, out_w, width);
        const T* plane = input + i / (out_h * out_w) * (height * width);
        const int bin_w = columns.last - columns.first;
        const int count = (rows.last - rows.first) * bin_w;
        T sum = 0;
        for (int pixel = lane; pixel < count; pixel += WARP) {
            const int y = rows.first + pixel / bin_w;
            const int x = columns.first + pixel % bin_w;
            sum += plane[y * width + x];
        }
        sum = warp_sum(sum);
        if (lane == 0) {
            output[i] = sum / T(count);
        }
    }
}

template <typename T>
__global__ void adaptive_avg_pool2d_backward_cuda(
    const T* __restrict__ grad_output, int out_h, int out_w, int height, int width, int total,
    T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const T* plane = grad_output + i / (height * width) * (out_h * out_w);
        const int top = first_bin(y, out_h, height);
        const int bottom = end_bin(y, out_h, height);
        const int left = first_bin(x, out_w, width);
        const int right = end_bin(x, out_w, width);
        T sum = 0;
        for (int out_y = top; out_y < bottom; ++out_y) {
            const Bin rows = bin(out_y, out_h, height);
            for (int out_x = left; out_x < right; ++out_x) {
                const Bin columns = bin(out_x, out_w, width);
                const int count = (rows.last - rows.first) * (columns.last - columns.first);
                sum += plane[out_y * out_w + out_x] / T(count);
            }
        }
        grad_input[i] = sum;
    }
}

template <typename T>
__global__ void adaptive_max_pool2d_forward_cuda(
    const T* __restrict__ input, int height, int width, int out_h, int out_w, int total,
    T* __restrict__ output, int* __restrict__ argmax
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const Bin rows = bin(i / out_w % out_h, out_h, height);
        const Bin columns = bin(i % out_w, out_w, width);
        const T* plane = input + i / (out_h * out_w) * (height * width);
        T best = plane[rows.first * width + columns.first];
        int index = rows.first * width + columns.first;
        for (int y = rows.first; y < rows.last; ++y) {
            for (int x = columns.first; x < columns.last; ++x) {
                const T value = plane[y * width + x];
                if (value > best || (isnan(value) && !isnan(best))) {
                    best = value;
                    index = y * width + x;
                }
            }
        }
        output[i] = best;
        argmax[i] = index;
    }
}
