// Pooling: the maximum or the mean of every window of every plane (n, c), and the way back.
//
//     max       output[n, c, out_y, out_x] = max of input[n, c, y, x] over the window
//         y = out_y * stride_h - padding_h + ky * dilation_h,  0 <= ky < kernel_h      x likewise
//         argmax[n, c, out_y, out_x] = y * width + x of the first maximum in row-major order
//     average   output[n, c, out_y, out_x] = (sum of input[n, c, y, x] over the window) / count
//
//     max backward  grad_input[n, c, y, x] = sum of grad_output over windows with argmax (y, x)
//     max gather    output = input at argmax, 0 where argmax is -1
//     avg backward  grad_input[n, c, y, x] = sum of grad_output / count over windows with (y, x)
//
// NaN counts as the largest number; a window without a pixel has argmax -1.
//
// One thread computes one element of what is written. Backward that element is a pixel, and instead
// of windows that give to pixels, a pixel takes from the windows it lies in, in the order in which
// they would have given: the same sum, and no two threads ever add to the same number. A pixel lies
// in ceil(kernel / stride)^2 windows at most, whose numbers its neighbours have just read.
//
// With a stride of 2 a warp reads every second element: one tap uses half of each sector of 32
// bytes, and the next finds the other half in the cache.
//
// Rungs:
//     plain           every tap is tested against the border
//     forward v2      2x2 and 3x3 windows with stride 2, none over the border: the window is a
//                     constant to the compiler, which unrolls it, so that all its loads are under
//                     way before the first comparison
//     backward bins   not faster, other windows: the bins of adaptive pooling

// The first window along an axis with pixel `y`. Window `out` reaches from out * stride - padding
// to `reach` pixels further.
__device__ __forceinline__ int first_window(int y, int reach, int stride, int padding) {
    const int before = y + padding - reach;  // where the earliest window with y would have to begin
    return before <= 0 ? 0 : (before + stride - 1) / stride;
}

// The end of the windows along an axis with pixel `y`, of which there are `windows`.
__device__ __forceinline__ int end_window(int y, int stride, int padding, int windows) {
    return min((y + padding) / stride + 1, windows);
}

// A window's first pixel and end along an axis, and how many pixels the mean counts.
struct Window {
    int first, last, count;
};

__device__ __forceinline__ Window window(
    int out, int kernel, int stride, int padding, int size, bool count_include_pad
) {
    const int start = out * stride - padding;
    const int end = min(start + kernel, size + padding);
    const int first = max(start, 0);
    const int last = min(end, size);
    return {first, last, count_include_pad ? end - start : last - first};
}

// The sum of one plane's grad_output over the windows top..bottom, left..right that `pixel` won.
template <typename T>
__device__ __forceinline__ T sum_of_wins(
    const T* __restrict__ grad_output, const int* __restrict__ argmax, int out_w, int top,
    int bottom, int left, int right, int pixel
) {
    T sum = 0;
    for (int out_y = top; out_y < bottom; ++out_y) {
        for (int out_x = left; out_x < right; ++out_x) {
            const int out = out_y * out_w + out_x;
            if (argmax[out] == pixel) {
                sum += grad_output[out];
            }
        }
    }
    return sum;
}

template <typename T>
__global__ void max_pool2d_forward_cuda(
    const T* __restrict__ input, int height, int width, int kernel_h, int kernel_w, int stride_h,
    int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w, int out_h,
    int out_w, int total, T* __restrict__ output, int* __restrict__ argmax
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int out_x = i % out_w;
        const int out_y = i / out_w % out_h;
        const T* plane = input + i / (out_h * out_w) * (height * width);
        T best = -T(__int_as_float(0x7f800000));  // minus infinity
        int index = -1;
        for (int ky = 0; ky < kernel_h; ++ky) {
            const int y = out_y * stride_h - padding_h + ky * dilation_h;
            if (y < 0 || y >= height) {
                continue;
            }
            for (int kx = 0; kx < kernel_w; ++kx) {
                const int x = out_x * stride_w - padding_w + kx * dilation_w;
                if (x < 0 || x >= width) {
                    continue;
                }
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

// Pools taps x taps windows.
template <typename T, int taps>
__global__ void max_pool2d_forward_v2_cuda(
    const T* __restrict__ input, int height, int width, int out_h, int out_w, int total,
    T* __restrict__ output, int* __restrict__ argmax
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = 2 * (i % out_w);
        const int y = 2 * (i / out_w % out_h);
        const T* plane = input + i / (out_h * out_w) * (height * width);
        T best = plane[y * width + x];
        int index = y * width + x;
#pragma unroll
        for (int ky = 0; ky < taps; ++ky) {
#pragma unroll
            for (int kx = 0; kx < taps; ++kx) {
                const T value = plane[(y + ky) * width + x + kx];
                if (value > best || (isnan(value) && !isnan(best))) {
                    best = value;
                    index = (y + ky) * width + x + kx;
                }
            }
        }
        output[i] = best;
        argmax[i] = index;
    }
}

template <typename T>
__global__ void max_pool2d_backward_cuda(
    const T* __restrict__ grad_output, const int* __restrict__ argmax, int out_h, int out_w,
    int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w,
    int dilation_h, int dilation_w, int height, int width, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const int plane = i / (height * width) * (out_h * out_w);
        const int top = first_window(y, (kernel_h - 1) * dilation_h, stride_h, padding_h);
        const int left = first_window(x, (kernel_w - 1) * dilation_w, stride_w, padding_w);
        grad_input[i] = sum_of_wins(
            grad_output + plane, argmax + plane, out_w, top,
            end_window(y, stride_h, padding_h, out_h), left,
            end_window(x, stride_w, padding_w, out_w), y * width + x
        );
    }
}

// Bin `out` of `bins` holds pixel y when out * size / bins < y + 1 and (out + 1) * size / bins > y:
// when out is at least floor(y * bins / size) and less than ceil((y + 1) * bins / size).
template <typename T>
__global__ void max_pool2d_backward_bins_cuda(
    const T* __restrict__ grad_output, const int* __restrict__ argmax, int out_h, int out_w,
    int height, int width, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const int plane = i / (height * width) * (out_h * out_w);
        grad_input[i] = sum_of_wins(
            grad_output + plane, argmax + plane, out_w, y * out_h / height,
            ((y + 1) * out_h + height - 1) / height, x * out_w / width,
            ((x + 1) * out_w + width - 1) / width, y * width + x
        );
    }
}

template <typename T>
__global__ void max_pool2d_gather_cuda(
    const T* __restrict__ input, int height, int width, const int* __restrict__ argmax, int out_h,
    int out_w, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const T* plane = input + i / (out_h * out_w) * (height * width);
        const int index = argmax[i];
        output[i] = index >= 0 ? plane[index] : T(0);
    }
}

template <typename T>
__global__ void avg_pool2d_forward_cuda(
    const T* __restrict__ input, int height, int width, int kernel_h, int kernel_w, int stride_h,
    int stride_w, int padding_h, int padding_w, bool count_include_pad, int out_h, int out_w,
    int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int out_x = i % out_w;
        const int out_y = i / out_w % out_h;
        const T* plane = input + i / (out_h * out_w) * (height * width);
        const Window rows = window(out_y, kernel_h, stride_h, padding_h, height, count_include_pad);
        const Window columns =
            window(out_x, kernel_w, stride_w, padding_w, width, count_include_pad);
        T sum = 0;
        for (int y = rows.first; y < rows.last; ++y) {
            for (int x = columns.first; x < columns.last; ++x) {
                sum += plane[y * width + x];
            }
        }
        output[i] = sum / T(rows.count * columns.count);
    }
}

template <typename T>
__global__ void avg_pool2d_backward_cuda(
    const T* __restrict__ grad_output, int out_h, int out_w, int kernel_h, int kernel_w,
    int stride_h, int stride_w, int padding_h, int padding_w, bool count_include_pad, int height,
    int width, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const T* plane = grad_output + i / (height * width) * (out_h * out_w);
        const int top = first_window(y, kernel_h - 1, stride_h, padding_h);
        const int bottom = end_window(y, stride_h, padding_h, out_h);
        const int left = first_window(x, kernel_w - 1, stride_w, padding_w);
        const int right = end_window(x, stride_w, padding_w, out_w);
        T sum = 0;
        for (int out_y = top; out_y < bottom; ++out_y) {
            const int rows =
                window(out_y, kernel_h, stride_h, padding_h, height, count_include_pad).count;
            for (int out_x = left; out_x < right; ++out_x) {
                const int columns =
                    window(out_x, kernel_w, stride_w, padding_w, width, count_include_pad).count;
                sum += plane[out_y * out_w + out_x] / T(rows * columns);
            }
        }
        grad_input[i] = sum;
    }
}
