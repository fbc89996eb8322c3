// RoIAlign: the mean of a grid of bilinear samples in every bin of every region, and the way back.
//
//     rois[k] = batch index n, x1, y1, x2, y2 in pixels of the image; nothing is rounded
//
//     start  = y1 * spatial_scale - offset       offset = 1/2 if aligned else 0      x likewise
//     length = (y2 - y1) * spatial_scale, at least 1 unless aligned
//     bin    = length / out_h                    grid = sampling_ratio, or ceil(bin) if that is <= 0
//
//     sample i of bin out_y:  y = start + out_y bin + (i + 1/2) bin / grid,  0 <= i < grid
//     tap(y, p) = max(0, 1 - |y' - p|) with y' = y cut to [0, height - 1]; 0 if y < -1 or y > height
//
//     weight_y[k, out_y, p] = sum of tap(y, p) over the samples of the bin           x likewise
//
//     forward   output[k, c, out_y, out_x] =
//                   sum_yx weight_y[k, out_y, y] weight_x[k, out_x, x] input[n, c, y, x] / grid^2
//     backward  grad_input[n, c, y, x] = sum of weight_y weight_x grad_output / grid^2 over all
//                   bins of image n
//
// Forward, one thread computes one bin in one channel, sample after sample. Backward, one thread
// computes one pixel: it walks the regions of its image in their order and takes from the bins that
// read it. Most regions do not reach it, and of the others only the bins about it can. What a bin
// has read of a pixel is the product of a weight by row and one by column, so that two short sums
// replace grid^2 samples. No atomics, whose order would differ from run to run.

#include "_product.h"

// How a region is sampled along one axis.
template <typename T>
struct Samples {
    T start, bin;
    int grid;
};

template <typename T>
__device__ __forceinline__ Samples<T> samples(
    T first, T last, T scale, int sampling_ratio, bool aligned, int bins
) {
    const T offset = aligned ? T(0.5f) : T(0);
    const T start = product(first, scale) - offset;
    const T length = product(last, scale) - offset - start;
    const T bin = (aligned ? length : max(length, T(1))) / T(bins);
    return {start, bin, sampling_ratio > 0 ? sampling_ratio : max(int(ceil(bin)), 0)};
}

template <typename T>
__device__ __forceinline__ T place_of(const Samples<T>& axis, int out, int i) {
    const T inside = product(T(i) + T(0.5f), axis.bin) / T(axis.grid);
    return axis.start + product(T(out), axis.bin) + inside;
}

// The two pixels about a place and their shares; `low` is -1 outside of the image.
template <typename T>
struct Taps {
    int low, high;
    T low_share, high_share;
};

template <typename T>
__device__ __forceinline__ Taps<T> taps(T place, int size) {
    if (place < T(-1) || place > T(size)) {
        return {-1, -1, T(0), T(0)};
    }
    place = max(place, T(0));
    const int low = min(int(place), size - 1);
    const T high_share = min(place, T(size - 1)) - T(low);
    const int high = high_share > T(0) ? low + 1 : low;  // 0 times NaN would be NaN
    return {low, high, T(1) - high_share, high_share};
}

// What bin `out` reads of a pixel along one axis.
template <typename T>
__device__ __forceinline__ T weight(const Samples<T>& axis, int out, int pixel, int size) {
    T sum = 0;
    for (int i = 0; i < axis.grid; ++i) {
        const Taps<T> tap = taps(place_of(axis, out, i), size);
        sum += tap.low == pixel ? tap.low_share : T(0);
        sum += tap.high == pixel ? tap.high_share : T(0);
    }
    return sum;
}

// The bins, from first to before last, that may read a pixel.
struct Bins {
    int first, last;
};

// Samples that touch the pixel lie less than one from it, at the border up to where they count at
// all; those of bin `out` lie from start + out * bin to start + (out + 1) * bin. As these numbers
// are rounded, one bin more on either side is asked.
template <typename T>
__device__ __forceinline__ Bins bins_about(const Samples<T>& axis, int pixel, int size, int bins) {
    if (!(axis.bin > T(0))) {
        return {0, bins};
    }
    const T nearest = T(pixel - 1);
    const T farthest = T(pixel == size - 1 ? size : pixel + 1);
    const T first = floor((nearest - axis.start) / axis.bin) - T(1);
    const T last = floor((farthest - axis.start) / axis.bin) + T(2);
    return {int(min(max(first, T(0)), T(bins))), int(min(max(last, T(0)), T(bins)))};
}

template <typename T>
__global__ void roi_align_forward_cuda(
    const T* __restrict__ input, int channels, int height, int width, const T* __restrict__ rois,
    T spatial_scale, int sampling_ratio, bool aligned, int out_h, int out_w, int total,
    T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int out_x = i % out_w;
        const int out_y = i / out_w % out_h;
        const int c = i / (out_w * out_h) % channels;
        const T* roi = rois + i / (out_w * out_h * channels) * 5;
        const T* plane = input + (int(roi[0]) * channels + c) * (height * width);
        const Samples<T> tall =
            samples(roi[2], roi[4], spatial_scale, sampling_ratio, aligned, out_h);
        const Samples<T> wide =
            samples(roi[1], roi[3], spatial_scale, sampling_ratio, aligned, out_w);
        T sum = 0;
        for (int sample_y = 0; sample_y < tall.grid; ++sample_y) {
            const Taps<T> y = taps(place_of(tall, out_y, sample_y), height);
            if (y.low < 0) {
                continue;
            }
            for (int sample_x = 0; sample_x < wide.grid; ++sample_x) {
                const Taps<T> x = taps(place_of(wide, out_x, sample_x), width);
                if (x.low < 0) {
                    continue;
                }
                const T* upper = plane + y.low * width;
                const T* lower = plane + y.high * width;
                sum += y.low_share * (x.low_share * upper[x.low] + x.high_share * upper[x.high]) +
                       y.high_share * (x.low_share * lower[x.low] + x.high_share * lower[x.high]);
            }
        }
        output[i] = sum / T(max(tall.grid * wide.grid, 1));
    }
}

template <typename T>
__global__ void roi_align_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ rois, int count, int channels,
    int out_h, int out_w, T spatial_scale, int sampling_ratio, bool aligned, int height, int width,
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
            const Samples<T> tall =
                samples(roi[2], roi[4], spatial_scale, sampling_ratio, aligned, out_h);
            const Samples<T> wide =
                samples(roi[1], roi[3], spatial_scale, sampling_ratio, aligned, out_w);
            const Bins rows = bins_about(tall, y, height, out_h);
            const Bins columns = bins_about(wide, x, width, out_w);
            const T* bins = grad_output + (k * channels + c) * (out_h * out_w);
            for (int out_y = rows.first; out_y < rows.last; ++out_y) {
                const T weight_y = weight(tall, out_y, y, height);
                if (weight_y == T(0)) {
                    continue;
                }
                T row = 0;
                for (int out_x = columns.first; out_x < columns.last; ++out_x) {
                    const T weight_x = weight(wide, out_x, x, width);
                    if (weight_x != T(0)) {
                        row += weight_x * bins[out_y * out_w + out_x];
                    }
                }
                sum += weight_y * row / T(tall.grid * wide.grid);
            }
        }
        grad_input[i] = sum;
    }
}
