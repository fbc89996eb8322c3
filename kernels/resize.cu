// Resize images: nearest pixel or bilinear interpolation, and the way back.
//
//     nearest    output[n, c, out_y, out_x] = input[n, c, source(out_y), source(out_x)]
//         source(out_y) = min(floor((out_y + offset) scale), height - 1)
//         offset = 0, or 1/2 for the pixel whose centre is nearest
//
//     bilinear   output[n, c, out_y, out_x] = the sum of the four pixels about the place (y, x), each
//                    with the share (1 - |y - its row|) (1 - |x - its column|)
//         y = out_y scale                              with align_corners
//         y = max((out_y + 1/2) scale - 1/2, 0)        without
//
//     backward   grad_input[n, c, y, x] = sum of grad_output times the share it has read of (y, x)
//
// One thread computes one element of what is written. Backward that is a pixel: it finds the outputs
// that may have read it by turning the formulas round, a little generously as all is rounded, asks
// each what share it has read, and adds up in the order of the outputs. Which pixel is nearest is
// computed in float whatever T is.

#include "_product.h"

__device__ __forceinline__ int source_of(int out, float scale, float offset, int size) {
    return min(int(floor((float(out) + offset) * scale)), size - 1);
}

// Outputs, from first to before last.
struct Outputs {
    int first, last;
};

__device__ __forceinline__ Outputs outputs_of(
    int pixel, float scale, float offset, int size, int outputs
) {
    const float first = floor(float(pixel) / scale - offset) - 1.0f;
    const float last = floor(float(pixel + 1) / scale - offset) + 2.0f;
    return {
        int(max(first, 0.0f)), pixel == size - 1 ? outputs : int(min(last, float(outputs)))
    };
}

// The two pixels about the place of an output along an axis, and the second's share.
template <typename T>
struct Taps {
    int first, second;
    T share;
};

template <typename T>
__device__ __forceinline__ Taps<T> taps(int out, T scale, bool align_corners, int size) {
    const T place = align_corners
        ? product(T(out), scale)
        : max(product(T(out) + T(0.5f), scale) - T(0.5f), T(0));
    const int first = min(int(place), size - 1);
    const T share = min(place, T(size - 1)) - T(first);
    return {first, share > T(0) ? first + 1 : first, share};  // 0 times NaN would be NaN
}

// The share of a pixel that an output has read along an axis.
template <typename T>
__device__ __forceinline__ T share_of(int pixel, const Taps<T>& tap) {
    return (tap.first == pixel ? T(1) - tap.share : T(0)) +
           (tap.second == pixel ? tap.share : T(0));
}

// The outputs whose place may lie less than one from a pixel.
template <typename T>
__device__ __forceinline__ Outputs outputs_about(
    int pixel, T scale, bool align_corners, int size, int outputs
) {
    if (scale == T(0)) {
        return {0, outputs};
    }
    const T half = align_corners ? T(0) : T(0.5f);
    const T first = floor((T(pixel - 1) + half) / scale - half) - T(1);
    const T last = floor((T(pixel + 1) + half) / scale - half) + T(2);
    return {
        pixel == 0 ? 0 : int(min(max(first, T(0)), T(outputs))),
        pixel == size - 1 ? outputs : int(min(last, T(outputs)))
    };
}

template <typename T>
__global__ void resize_nearest_forward_cuda(
    const T* __restrict__ input, int height, int width, float scale_h, float scale_w, float offset,
    int out_h, int out_w, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = source_of(i % out_w, scale_w, offset, width);
        const int y = source_of(i / out_w % out_h, scale_h, offset, height);
        output[i] = input[(i / (out_w * out_h) * height + y) * width + x];
    }
}

template <typename T>
__global__ void resize_nearest_backward_cuda(
    const T* __restrict__ grad_output, int out_h, int out_w, float scale_h, float scale_w,
    float offset, int height, int width, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const T* plane = grad_output + i / (width * height) * (out_h * out_w);
        const Outputs rows = outputs_of(y, scale_h, offset, height, out_h);
        const Outputs columns = outputs_of(x, scale_w, offset, width, out_w);
        T sum = 0;
        for (int out_y = rows.first; out_y < rows.last; ++out_y) {
            if (source_of(out_y, scale_h, offset, height) != y) {
                continue;
            }
            for (int out_x = columns.first; out_x < columns.last; ++out_x) {
                if (source_of(out_x, scale_w, offset, width) == x) {
                    sum += plane[out_y * out_w + out_x];
                }
            }
        }
        grad_input[i] = sum;
    }
}

template <typename T>
__global__ void resize_bilinear_forward_cuda(
    const T* __restrict__ input, int height, int width, T scale_h, T scale_w, bool align_corners,
    int out_h, int out_w, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const Taps<T> x = taps(i % out_w, scale_w, align_corners, width);
        const Taps<T> y = taps(i / out_w % out_h, scale_h, align_corners, height);
        const T* plane = input + i / (out_w * out_h) * (height * width);
        const T* upper = plane + y.first * width;
        const T* lower = plane + y.second * width;
        const T above = (T(1) - x.share) * upper[x.first] + x.share * upper[x.second];
        const T below = (T(1) - x.share) * lower[x.first] + x.share * lower[x.second];
        output[i] = (T(1) - y.share) * above + y.share * below;
    }
}

template <typename T>
__global__ void resize_bilinear_backward_cuda(
    const T* __restrict__ grad_output, int out_h, int out_w, T scale_h, T scale_w,
    bool align_corners, int height, int width, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const T* plane = grad_output + i / (width * height) * (out_h * out_w);
        const Outputs rows = outputs_about(y, scale_h, align_corners, height, out_h);
        const Outputs columns = outputs_about(x, scale_w, align_corners, width, out_w);
        T sum = 0;
        for (int out_y = rows.first; out_y < rows.last; ++out_y) {
            const T share_y = share_of(y, taps(out_y, scale_h, align_corners, height));
            if (share_y == T(0)) {
                continue;
            }
            for (int out_x = columns.first; out_x < columns.last; ++out_x) {
                const T share_x = share_of(x, taps(out_x, scale_w, align_corners, width));
                if (share_x != T(0)) {
                    sum += share_x * (share_y * plane[out_y * out_w + out_x]);
                }
            }
        }
        grad_input[i] = sum;
    }
}
