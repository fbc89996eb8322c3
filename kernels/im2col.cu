// im2col and col2im: unfold windows of an image into columns, and sum columns back into an image.
//
//     columns[c, ky, kx, n, out_y, out_x] = input[n, c, y, x]      (0 outside the image)
//         y = out_y * stride_h - padding_h + ky * dilation_h
//         x = out_x * stride_w - padding_w + kx * dilation_w
//
//     image[n, c, y, x] = sum of columns[c, ky, kx, n, out_y, out_x] over all (ky, kx, out_y, out_x)
//     that read (y, x)
//
// im2col: one thread computes one element of the columns. Neighbouring threads write neighbours,
// and with stride 1 read neighbours too.
// col2im: one thread computes one pixel. A tap (ky, kx) reads the pixel in at most one window along
// each axis, the one with out * stride = y + padding - ky * dilation, if there is one: the thread
// gathers what the CPU scatters, in the same order of taps, and the bits are the same.
//
// Bytes moved: one read of the input (from cache kernel_h * kernel_w times), one write of the
// columns; the reverse for col2im, with one add an element.

#include "_window.h"

template <typename T>
__global__ void im2col_cuda(
    const T* __restrict__ input, int batch, int channels, int height, int width, int kernel_h,
    int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h,
    int dilation_w, int out_h, int out_w, int total, T* __restrict__ columns
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int out_x = i % out_w;
        const int out_y = i / out_w % out_h;
        const int n = i / (out_w * out_h) % batch;
        const int row = i / (out_w * out_h * batch);
        const int kx = row % kernel_w;
        const int ky = row / kernel_w % kernel_h;
        const int c = row / (kernel_w * kernel_h);
        const int y = out_y * stride_h - padding_h + ky * dilation_h;
        const int x = out_x * stride_w - padding_w + kx * dilation_w;
        const bool inside = 0 <= y && y < height && 0 <= x && x < width;
        columns[i] = inside ? input[((n * channels + c) * height + y) * width + x] : T(0);
    }
}

template <typename T>
__global__ void col2im_cuda(
    const T* __restrict__ columns, int batch, int channels, int kernel_h, int kernel_w, int out_h,
    int out_w, int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h,
    int dilation_w, int height, int width, int total, T* __restrict__ image
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const int c = i / (width * height) % channels;
        const int n = i / (width * height * channels);
        T sum = 0;
        for (int ky = 0; ky < kernel_h; ++ky) {
            const int out_y = window_with_tap(y, ky * dilation_h, stride_h, padding_h, out_h);
            if (out_y < 0) {
                continue;
            }
            for (int kx = 0; kx < kernel_w; ++kx) {
                const int out_x = window_with_tap(x, kx * dilation_w, stride_w, padding_w, out_w);
                if (out_x >= 0) {
                    const int row = (c * kernel_h + ky) * kernel_w + kx;
                    sum += columns[((row * batch + n) * out_h + out_y) * out_w + out_x];
                }
            }
        }
        image[i] = sum;
    }
}
