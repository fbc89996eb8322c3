// RoI pooling: the maximum of every bin of every region of interest, and the way back.
//
//     rois[k] = batch index n, x1, y1, x2, y2 in pixels of the image, both ends inclusive
//
//     first = round(y1 * spatial_scale)      last = round(y2 * spatial_scale)      x likewise
//     bin   = max(last - first + 1, 1) / out_h
//     rows of bin out_y:  [first + floor(out_y bin), first + ceil((out_y + 1) bin)), cut at the
//     border; halves are rounded away from zero
//
//     forward   output[k, c, out_y, out_x] = max of input[n, c, y, x] over the bin, 0 without pixels
//         argmax[k, c, out_y, out_x] = y * width + x of the first maximum, or -1
//     backward  grad_input[n, c, y, x] = sum of grad_output over bins of image n with argmax (y, x)
//     gather    output = input[n, c] at argmax, 0 where argmax is -1
//
// One thread computes one element of what is written. Backward that is a pixel, which walks the
// regions of its image in their order and takes from each bin that it won. Most regions do not hold
// it, and of the others only the bins about it can: the search costs little more than reading the
// rois, and needs no atomics, whose order would differ from run to run. Threads of a warp have the
// same regions before them and mostly the same bins, so that they read the same lines.

#include "_product.h"

// A region's first pixel along an axis and how many it has, at least 1.
struct Extent {
    int first, length;
};

// Rounds halves away from zero.
template <typename T>
__device__ __forceinline__ int rounded(T value) {
    const int whole = int(value);
    const T rest = value - T(whole);
    return rest >= T(0.5f) ? whole + 1 : rest <= T(-0.5f) ? whole - 1 : whole;
}

template <typename T>
__device__ __forceinline__ Extent extent(T start, T end, T scale) {
    const int first = rounded(product(start, scale));
    return {first, max(rounded(product(end, scale)) - first + 1, 1)};
}

// A bin's first pixel and end inside the image.
struct Bin {
    int first, last;
};

template <typename T>
__device__ __forceinline__ Bin bin(int out, int bins, Extent roi, int size) {
    const T bin_size = T(roi.length) / T(bins);
    const int start = roi.first + int(floor(T(out) * bin_size));
    const int end = roi.first + int(ceil(T(out + 1) * bin_size));
    return {min(max(start, 0), size), min(max(end, 0), size)};
}

// The bins that a pixel `offset` pixels behind the first one of a region may lie in, none where
// last <= first. Exactly they are those with out * bin < offset + 1 and (out + 1) * bin > offset;
// as those products are rounded, one more on either side is asked.
template <typename T>
__device__ __forceinline__ Bin bins_about(int offset, int bins, int length) {
    if (offset < 0 || offset > length) {
        return {0, 0};
    }
    const T bins_a_pixel = T(bins) / T(length);
    const int first = int(T(offset) * bins_a_pixel) - 1;
    const int last = int(T(offset + 1) * bins_a_pixel) + 2;
    return {max(first, 0), min(last, bins)};
}

template <typename T>
__global__ void roi_pool_forward_cuda(
    const T* __restrict__ input, int channels, int height, int width, const T* __restrict__ rois,
    T spatial_scale, int out_h, int out_w, int total, T* __restrict__ output,
    int* __restrict__ argmax
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int out_x = i % out_w;
        const int out_y = i / out_w % out_h;
        const int c = i / (out_w * out_h) % channels;
        const T* roi = rois + i / (out_w * out_h * channels) * 5;
        const T* plane = input + (int(roi[0]) * channels + c) * (height * width);
        const Bin rows = bin<T>(out_y, out_h, extent(roi[2], roi[4], spatial_scale), height);
        const Bin columns = bin<T>(out_x, out_w, extent(roi[1], roi[3], spatial_scale), width);
        T best = 0;
        int index = -1;
        for (int y = rows.first; y < rows.last; ++y) {
            for (int x = columns.first; x < columns.last; ++x) {
                const T value = plane[y * width + x];
                if (index < 0 || value > best || (isnan(value) && !isnan(best))) {
                    best = value;
                    index = y * width + x;
                }
            }
        }
        output[i] = best;
        argmax[i] = index;
    }
}

template <typename T>
__global__ void roi_pool_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ rois, const int* __restrict__ argmax,
    int count, int channels, int out_h, int out_w, T spatial_scale, int height, int width,
    int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const int c = i / (width * height) % channels;
        const int n = i / (width * height * channels);
        T sum = 0;
        for (int k = 0; k < count; ++k) {
            const T* roi = rois + k * 5;
            if (int(roi[0]) != n) {
                continue;
            }
            const Extent tall = extent(roi[2], roi[4], spatial_scale);
            const Extent wide = extent(roi[1], roi[3], spatial_scale);
            const Bin rows = bins_about<T>(y - tall.first, out_h, tall.length);
            const Bin columns = bins_about<T>(x - wide.first, out_w, wide.length);
            for (int out_y = rows.first; out_y < rows.last; ++out_y) {
                for (int out_x = columns.first; out_x < columns.last; ++out_x) {
                    const int out = ((k * channels + c) * out_h + out_y) * out_w + out_x;
                    if (argmax[out] == y * width + x) {
                        sum += grad_output[out];
                    }
                }
            }
        }
        grad_input[i] = sum;
    }
}

template <typename T>
__global__ void roi_pool_gather_cuda(
    const T* __restrict__ input, int channels, int pixels, const T* __restrict__ rois,
    const int* __restrict__ argmax, int bins, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int c = i / bins % channels;
        const int n = int(rois[i / (bins * channels) * 5]);
        const int index = argmax[i];
        output[i] = index >= 0 ? input[(n * channels + c) * pixels + index] : T(0);
    }
}
