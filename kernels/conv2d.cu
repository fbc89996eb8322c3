// 2-D convolution (cross-correlation, as the field has it), its data and its weight gradient.
//
//     output[n, o, out_y, out_x] = bias[o] + sum over c, ky, kx of
//                                  input[n, c, y, x] * weight[o, c, ky, kx]
//     grad_input[n, c, y, x]     = sum over o, ky, kx of
//                                  grad_output[n, o, out_y, out_x] * weight[o, c, ky, kx]
//     grad_weight[o, c, ky, kx]  = sum over n, out_y, out_x of
//                                  grad_output[n, o, out_y, out_x] * input[n, c, y, x]
//         y = out_y * stride_h - padding_h + ky * dilation_h        x likewise; outside the image: 0
//
// With groups, output channel o sees only the input channels of its own group, and `c` counts
// within it.
//
// Rungs, with the idea each adds:
//
//     direct         the definition: one thread an output, which gathers all its products. Every
//                    number is read from memory as often as it is used (from cache, mostly)
//     im2col         (im2col.cu, gemm.cu, and here what turns the batch) the sums of all outputs at
//                    once are one matrix product, so the register tile of `_tile.h` does them; but
//                    the columns are written and read, kernel_h * kernel_w times the input
//     tiled          the same product without the columns ("implicit GEMM"): a slab of them is
//                    gathered from the image on its way to shared memory, zeros where it is outside
//
// What the tiled rungs multiply, as in the product C[m, n] = sum over k of A[m, k] * B[k, n]:
//
//               m    n                   k                   A             B
//     forward   o    (n, out_y, out_x)   (c, ky, kx)         weight        unfolded input
//     data      c    (n, y, x)           (o, ky, kx)         weight        unfolded grad_output
//     weight    o    (c, ky, kx)         (n, out_y, out_x)   grad_output   unfolded input
//
// A number of an unfolded image lies at the sum of two places, that of the window's corner and that
// of the tap within the window. One of the two follows from n, does not change while k runs, and
// stays in registers; the other follows from k, which advances by a slab at a time, digit by digit
// like an odometer: the inner loop divides nothing.
//
// Data gradient with a stride. Pixels whose coordinates leave the same remainder when divided by
// the stride (a "phase") are met by the same taps, and no others: each phase is a convolution of its
// own with stride 1 and fewer taps, and no product with a zero between strides is ever made.
//
// Weight gradient. Few outputs, long sums: `splits` parts of the sum are computed by different
// blocks and then added in order, so the result is the same in every run.
//
// 2 N C_out / groups * C * kernel_h * kernel_w * out_h * out_w flops each.

#include "_tile.h"
#include "_unfold.h"
#include "_window.h"

template <typename T>
__global__ void conv2d_forward_cuda(
    const T* __restrict__ input, const T* __restrict__ weight, const T* __restrict__ bias,
    int channels, int height, int width, int out_channels, int kernel_h, int kernel_w, int stride_h,
    int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w, int groups,
    int out_h, int out_w, int total, T* __restrict__ output
) {
    const int group_channels = channels / groups;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int out_x = i % out_w;
        const int out_y = i / out_w % out_h;
        const int o = i / (out_w * out_h) % out_channels;
        const int n = i / (out_w * out_h * out_channels);
        const int first_c = o / (out_channels / groups) * group_channels;
        const T* plane = input + (n * channels + first_c) * (height * width);
        const T* tap = weight + o * group_channels * kernel_h * kernel_w;
        T sum = bias[o];
        for (int c = 0; c < group_channels; ++c) {
            for (int ky = 0; ky < kernel_h; ++ky) {
                const int y = out_y * stride_h - padding_h + ky * dilation_h;
                for (int kx = 0; kx < kernel_w; ++kx) {
                    const int x = out_x * stride_w - padding_w + kx * dilation_w;
                    if (0 <= y && y < height && 0 <= x && x < width) {
                        sum += plane[y * width + x] * *tap;
                    }
                    ++tap;
                }
            }
            plane += height * width;
        }
        output[i] = sum;
    }
}

template <typename T>
__global__ void conv2d_backward_data_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ weight, int channels, int height,
    int width, int out_channels, int kernel_h, int kernel_w, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w, int groups, int out_h, int out_w,
    int total, T* __restrict__ grad_input
) {
    const int group_channels = channels / groups;
    const int group_outputs = out_channels / groups;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const int c = i / (width * height) % channels;
        const int n = i / (width * height * channels);
        const int first_o = c / group_channels * group_outputs;
        const T* plane = grad_output + (n * out_channels + first_o) * (out_h * out_w);
        const T* taps = weight
            + (first_o * group_channels + c % group_channels) * (kernel_h * kernel_w);
        T sum = 0;
        for (int o = 0; o < group_outputs; ++o) {
            for (int ky = 0; ky < kernel_h; ++ky) {
                const int out_y = window_with_tap(y, ky * dilation_h, stride_h, padding_h, out_h);
                if (out_y < 0) {
                    continue;
                }
                for (int kx = 0; kx < kernel_w; ++kx) {
                    const int out_x =
                        window_with_tap(x, kx * dilation_w, stride_w, padding_w, out_w);
                    if (out_x >= 0) {
                        sum += plane[out_y * out_w + out_x] * taps[ky * kernel_w + kx];
                    }
                }
            }
            plane += out_h * out_w;
            taps += group_channels * kernel_h * kernel_w;
        }
        grad_input[i] = sum;
    }
}

template <typename T>
__global__ void conv2d_backward_weight_cuda(
    const T* __restrict__ input, const T* __restrict__ grad_output, int batch, int channels,
    int height, int width, int out_channels, int kernel_h, int kernel_w, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w, int groups, int out_h, int out_w,
    int total, T* __restrict__ grad_weight
) {
    const int group_channels = channels / groups;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int kx = i % kernel_w;
        const int ky = i / kernel_w % kernel_h;
        const int o = i / (kernel_w * kernel_h * group_channels);
        const int first_c = o / (out_channels / groups) * group_channels;
        const int c = first_c + i / (kernel_w * kernel_h) % group_channels;
        T sum = 0;
        for (int n = 0; n < batch; ++n) {
            const T* plane = input + (n * channels + c) * (height * width);
            const T* grad = grad_output + (n * out_channels + o) * (out_h * out_w);
            for (int out_y = 0; out_y < out_h; ++out_y) {
                const int y = out_y * stride_h - padding_h + ky * dilation_h;
                if (y < 0 || y >= height) {
                    continue;
                }
                for (int out_x = 0; out_x < out_w; ++out_x) {
                    const int x = out_x * stride_w - padding_w + kx * dilation_w;
                    if (0 <= x && x < width) {
                        sum += grad[out_y * out_w + out_x] * plane[y * width + x];
                    }
                }
            }
        }
        grad_weight[i] = sum;
    }
}

// Writes (C_out, n * out_h * out_w) as (n, C_out, out_h, out_w), adding the bias on the way.
template <typename T>
__global__ void batch_first_cuda(
    const T* __restrict__ rows, const T* __restrict__ bias, int batch, int out_channels,
    int plane_size, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int o = i / plane_size % out_channels;
        const int n = i / (plane_size * out_channels);
        output[i] = rows[(o * batch + n) * plane_size + i % plane_size] + bias[o];
    }
}

// Writes (n, C_out, out_h, out_w) as (C_out, n * out_h * out_w).
template <typename T>
__global__ void channels_first_cuda(
    const T* __restrict__ grad_output, int batch, int out_channels, int plane_size, int total,
    T* __restrict__ rows
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int n = i / plane_size % batch;
        const int o = i / (plane_size * batch);
        rows[i] = grad_output[(n * out_channels + o) * plane_size + i % plane_size];
    }
}

// What follows are the tiled rungs. `_unfold.h` has what brings their operands to shared memory.
// The 1 in their launch bounds asks for room for one block only, so for all the registers they want:
// with the 128 a thread that two blocks would leave them, some would spill.

// A block takes one tile of one group after the other: 16 * ROWS output channels at 128 positions.
// Neighbouring lanes gather for neighbouring positions, each warp for one step of k.
template <typename T, int ROWS, int OUTPUT_WIDE>
__global__ void __launch_bounds__(THREADS, 1) conv2d_forward_tiled_cuda(
    const T* __restrict__ input, const T* __restrict__ weight, const T* __restrict__ bias,
    int batch, int channels, int height, int width, int out_channels, int kernel_h, int kernel_w,
    int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h, int dilation_w,
    int groups, int out_h, int out_w, int total, T* __restrict__ output
) {
    constexpr int TILE_ROWS = SIDE * ROWS;
    __shared__ __align__(16) T a_slab[SLAB][TILE_ROWS + PAD<T>];
    __shared__ __align__(16) T b_slab[SLAB][TILE_COLUMNS + PAD<T>];
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int group_channels = channels / groups, rows = out_channels / groups;
    const int positions = batch * out_h * out_w, depth = group_channels * kernel_h * kernel_w;
    const int tiles_down = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int tiles_across = (positions + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const Digits strip_of_taps = digits(WARPS, kernel_h, kernel_w);
    for (int tile = blockIdx.x; tile < total; tile += gridDim.x) {
        const int m = tile % tiles_down * TILE_ROWS;
        const int first = tile / tiles_down % tiles_across * TILE_COLUMNS;
        const int group = tile / (tiles_down * tiles_across);
        const T* image = input + group * group_channels * height * width;
        const T* filters = weight + group * rows * depth;

        UnfoldedSlab<T, SLAB / WARPS> b_next;
#pragma unroll
        for (int j = 0; j < b_next.COUNT; ++j) {
            const int position = first + lane + j * b_next.APART;
            const Digits at = digits(position, out_h, out_w);
            const int y = at.middle * stride_h - padding_h, x = at.low * stride_w - padding_w;
            const int offset = at.high * channels * height * width + y * width + x;
            b_next.place(j, image, {offset, position < positions ? y : -FAR, x});
        }
        Digits tap = digits(warp, kernel_h, kernel_w);
        const auto distance = [&] {
            const int y = tap.middle * dilation_h, x = tap.low * dilation_w;
            const bool inside = tap.high < group_channels;
            return Distance{(tap.high * height + y) * width + x, inside ? y : -FAR, x};
        };

        StridedSlab<T, ROWS> a_next(filters, depth, m, rows);
        const auto load = [&](int k) {
            const int own = k + threadIdx.x % SLAB;
            a_next.load(own, own < depth);
#pragma unroll
            for (int strip = 0; strip < SLAB / WARPS; ++strip) {
                b_next.load(strip, height, width, distance());
                advance(tap, strip_of_taps, kernel_h, kernel_w);
            }
        };
        load(0);
        T sum[ROWS][COLUMNS];
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            const int o = m + row_of<T, ROWS>(i);
            const T start = o < rows ? bias[group * rows + o] : T(0);
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) {
                sum[i][j] = start;
            }
        }
        for (int k = 0; k < depth; k += SLAB) {
            a_next.store(a_slab);
            b_next.store(b_slab, warp, lane);
            __syncthreads();
            load(k + SLAB);
            multiply_slabs<T, ROWS>(a_slab, b_slab, sum);
            __syncthreads();  // before the next slabs take the place of these
        }

        const int plane = out_h * out_w;
        int offsets[COLUMNS / OUTPUT_WIDE];
#pragma unroll
        for (int j = 0; j < COLUMNS / OUTPUT_WIDE; ++j) {
            const int position = first + column_of<T, OUTPUT_WIDE>(j);
            const int n = position / plane;
            const int offset = (n * out_channels + group * rows) * plane + position % plane;
            offsets[j] = position < positions ? offset : -1;
        }
        store_tile<T, ROWS, OUTPUT_WIDE>(sum, m, rows, plane, offsets, output);
    }
}

// A block takes one tile of one phase of one group after the other: 16 * ROWS input channels at 128
// pixels. `tap_step` is how far apart the taps are that meet the same pixels: the smallest number
// whose product with the dilation the stride divides.
template <typename T, int ROWS, int OUTPUT_WIDE>
__global__ void __launch_bounds__(THREADS, 1) conv2d_backward_data_tiled_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ weight, int batch, int channels,
    int height, int width, int out_channels, int kernel_h, int kernel_w, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w, int groups, int out_h, int out_w,
    int tap_step_h, int tap_step_w, int total, T* __restrict__ grad_input
) {
    constexpr int TILE_ROWS = SIDE * ROWS;
    __shared__ __align__(16) T a_slab[SLAB][TILE_ROWS + PAD<T>];
    __shared__ __align__(16) T b_slab[SLAB][TILE_COLUMNS + PAD<T>];
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int rows = channels / groups, group_outputs = out_channels / groups;
    const int filter = kernel_h * kernel_w;
    // Of one phase there are so many pixels along an axis, or one less.
    const int phase_h = (height + stride_h - 1) / stride_h;
    const int phase_w = (width + stride_w - 1) / stride_w;
    const int phases_h = min(stride_h, height), phases_w = min(stride_w, width);
    const int positions = batch * phase_h * phase_w;
    const int tiles_down = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int tiles_across = (positions + TILE_COLUMNS - 1) / TILE_COLUMNS;
    // From one tap of a phase to the next, the pixel's window is so many windows earlier.
    const int shift_h = tap_step_h * dilation_h / stride_h;
    const int shift_w = tap_step_w * dilation_w / stride_w;
    for (int tile = blockIdx.x; tile < total; tile += gridDim.x) {
        const int m = tile % tiles_down * TILE_ROWS;
        const int first = tile / tiles_down % tiles_across * TILE_COLUMNS;
        const Digits part = digits(tile / (tiles_down * tiles_across), phases_h, phases_w);
        const int group = part.high, phase_y = part.middle, phase_x = part.low;
        const Taps taps_y =
            taps_of_phase(phase_y, kernel_h, stride_h, padding_h, dilation_h, tap_step_h);
        const Taps taps_x =
            taps_of_phase(phase_x, kernel_w, stride_w, padding_w, dilation_w, tap_step_w);
        const int depth = group_outputs * taps_y.count * taps_x.count;
        const int taps_h = max(taps_y.count, 1), taps_w = max(taps_x.count, 1);
        const Digits strip_of_taps = digits(WARPS, taps_h, taps_w);
        const Digits slab_of_taps = digits(SLAB, taps_h, taps_w);
        const T* image = grad_output + group * group_outputs * out_h * out_w;
        const T* filters = weight + group * group_outputs * rows * filter
            + taps_y.first * kernel_w + taps_x.first;

        UnfoldedSlab<T, SLAB / WARPS> b_next;
#pragma unroll
        for (int j = 0; j < b_next.COUNT; ++j) {
            const int position = first + lane + j * b_next.APART;
            const Digits at = digits(position, phase_h, phase_w);
            const int y = at.middle + taps_y.window, x = at.low + taps_x.window;
            const int offset = at.high * out_channels * out_h * out_w + y * out_w + x;
            b_next.place(j, image, {offset, position < positions ? y : -FAR, x});
        }
        // One for the number of grad_output that the thread loads, one for that of the weight.
        Digits tap = digits(warp, taps_h, taps_w);
        Digits own = digits(threadIdx.x % SLAB, taps_h, taps_w);
        const auto distance = [&] {
            const int y = -tap.middle * shift_h, x = -tap.low * shift_w;
            const bool inside = tap.high < group_outputs;
            return Distance{(tap.high * out_h + y) * out_w + x, inside ? y : -FAR, x};
        };
        const auto weight_of_tap = [&] {
            return own.high * rows * filter + own.middle * tap_step_h * kernel_w
                + own.low * tap_step_w;
        };

        StridedSlab<T, ROWS> a_next(filters, filter, m, rows);
        const auto load = [&] {
            a_next.load(weight_of_tap(), own.high < group_outputs);
            advance(own, slab_of_taps, taps_h, taps_w);
#pragma unroll
            for (int strip = 0; strip < SLAB / WARPS; ++strip) {
                b_next.load(strip, out_h, out_w, distance());
                advance(tap, strip_of_taps, taps_h, taps_w);
            }
        };
        T sum[ROWS][COLUMNS] = {};
        if (depth > 0) {
            load();
        }
        for (int k = 0; k < depth; k += SLAB) {
            a_next.store(a_slab);
            b_next.store(b_slab, warp, lane);
            __syncthreads();
            load();
            multiply_slabs<T, ROWS>(a_slab, b_slab, sum);
            __syncthreads();  // before the next slabs take the place of these
        }

        int offsets[COLUMNS / OUTPUT_WIDE];
#pragma unroll
        for (int j = 0; j < COLUMNS / OUTPUT_WIDE; ++j) {
            const int position = first + column_of<T, OUTPUT_WIDE>(j);
            const Digits at = digits(position, phase_h, phase_w);
            const int y = at.middle * stride_h + phase_y, x = at.low * stride_w + phase_x;
            const bool inside = position < positions && y < height && x < width;
            const int plane = at.high * channels + group * rows;
            offsets[j] = inside ? (plane * height + y) * width + x : -1;
        }
        store_tile<T, ROWS, OUTPUT_WIDE>(sum, m, rows, height * width, offsets, grad_input);
    }
}

// A block takes one tile of one part of the sum of one group after the other: 16 * ROWS output
// channels and 128 taps. `grad_weight` is (splits, C_out, C / groups, kernel_h, kernel_w).
// Neighbouring lanes load neighbouring positions: eight of them for each of four rows or columns.
template <typename T, int ROWS, int OUTPUT_WIDE>
__global__ void __launch_bounds__(THREADS, 1) conv2d_backward_weight_tiled_cuda(
    const T* __restrict__ input, const T* __restrict__ grad_output, int batch, int channels,
    int height, int width, int out_channels, int kernel_h, int kernel_w, int stride_h, int stride_w,
    int padding_h, int padding_w, int dilation_h, int dilation_w, int groups, int out_h, int out_w,
    int splits, int total, T* __restrict__ grad_weight
) {
    constexpr int TILE_ROWS = SIDE * ROWS;
    __shared__ __align__(16) T a_slab[SLAB][TILE_ROWS + PAD<T>];
    __shared__ __align__(16) T b_slab[SLAB][TILE_COLUMNS + PAD<T>];
    const int step = threadIdx.x % SLAB, column = threadIdx.x / SLAB;
    const int group_channels = channels / groups, rows = out_channels / groups;
    const int filter = group_channels * kernel_h * kernel_w, plane = out_h * out_w;
    const int depth = batch * plane;
    const int part = (depth + splits * SLAB - 1) / (splits * SLAB) * SLAB;
    const int tiles_down = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int tiles_across = (filter + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const Digits slab_of_positions = digits(SLAB, out_h, out_w);
    for (int tile = blockIdx.x; tile < total; tile += gridDim.x) {
        const int m = tile % tiles_down * TILE_ROWS;
        const int first = tile / tiles_down % tiles_across * TILE_COLUMNS;
        const int group = tile / (tiles_down * tiles_across) % groups;
        const int split = tile / (tiles_down * tiles_across * groups);
        const int k_first = split * part, k_end = min(depth, k_first + part);
        const T* image = input + group * group_channels * height * width;
        const T* grad = grad_output + group * rows * plane;

        UnfoldedSlab<T, 1> b_next;
#pragma unroll
        for (int j = 0; j < b_next.COUNT; ++j) {
            const int number = first + column + j * b_next.APART;
            const Digits at = digits(number, kernel_h, kernel_w);
            const int y = at.middle * dilation_h, x = at.low * dilation_w;
            const int offset = (at.high * height + y) * width + x;
            b_next.place(j, image, {offset, number < filter ? y : -FAR, x});
        }
        Digits position = digits(k_first + step, out_h, out_w);
        const auto corner = [&](bool inside) {
            const int y = position.middle * stride_h - padding_h;
            const int x = position.low * stride_w - padding_w;
            const int offset = position.high * channels * height * width + y * width + x;
            return Distance{offset, inside ? y : -FAR, x};
        };
        const auto output = [&] {
            return position.high * out_channels * plane + position.middle * out_w + position.low;
        };

        StridedSlab<T, ROWS> a_next(grad, plane, m, rows);
        const auto load = [&](int k) {
            a_next.load(output(), k + step < k_end);
            b_next.load(0, height, width, corner(k + step < k_end));
            advance(position, slab_of_positions, out_h, out_w);
        };
        load(k_first);
        T sum[ROWS][COLUMNS] = {};
        for (int k = k_first; k < k_end; k += SLAB) {
            a_next.store(a_slab);
            b_next.store(b_slab, step, column);
            __syncthreads();
            load(k + SLAB);
            multiply_slabs<T, ROWS>(a_slab, b_slab, sum);
            __syncthreads();  // before the next slabs take the place of these
        }

        int offsets[COLUMNS / OUTPUT_WIDE];
#pragma unroll
        for (int j = 0; j < COLUMNS / OUTPUT_WIDE; ++j) {
            const int number = first + column_of<T, OUTPUT_WIDE>(j);
            const int row = split * out_channels + group * rows;
            offsets[j] = number < filter ? row * filter + number : -1;
        }
        store_tile<T, ROWS, OUTPUT_WIDE>(sum, m, rows, filter, offsets, grad_weight);
    }
}
