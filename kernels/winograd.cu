// Convolution with fewer multiplications: Winograd's F(4x4, 3x3) and F(2x2, 5x5), stride 1.
//
//     output = A^T [sum over c of (G weight[o, c] G^T) * (B^T tile[c] B)] A      for each tile
//
// An output tile of step x step pixels needs an input tile of 6 x 6, and 36 products a channel in
// place of step * step * kernel * kernel. `_cook_toom.py` has the matrices and their meaning.
//
// The one rung, in steps that each read and write memory:
//
//     input, filter        B^T tile B, G weight G^T. A thread takes one tile of one channel, or one
//                          filter of one channel, all of it in registers. The 36 places xi lie in
//                          36 planes, so that neighbouring threads write neighbouring numbers
//     multiply             for each of the 36 places and each group, one matrix product: a block
//                          computes a tile of one of them (`_tile.h`), all are one launch
//     output               A^T M A, one thread a tile, and the bias
//     grad_output,         the transposes of output and filter, for the gradient of the weight,
//     grad_filter          whose sums run over all tiles
//
// The transforms do about 3 multiply-adds for each number they move: memory bounds them. The product
// does 36 / step^2 / kernel^2 of the arithmetic of a convolution.

#include "_tile.h"

constexpr int SIX = 6;  // numbers along a side of a tile

// B^T d.
struct InputTransform {
    template <typename T>
    static __device__ __forceinline__ void apply(const T (&d)[SIX], T (&v)[SIX]) {
        const T p = d[3] - d[1], q = d[4] - d[2];
        v[0] = d[0] + d[4] - T(1.5) * p - T(2) * d[2];
        v[1] = d[1] - d[4] + T(2.5) * d[2] + T(0.5) * d[3];
        v[2] = d[1] + d[4] + T(0.5) * d[2] - T(2.5) * d[3];
        v[3] = p + T(2) * q;
        v[4] = T(2) * p - q;
        v[5] = d[1] + d[5] - T(1.5) * q - T(2) * d[3];
    }
};

// What follows takes powers of the points: of 1 and -1 the sums of even and odd terms, of 2 and
// -1/2 the powers of two.

// (-1/2)^i.
template <typename T>
__device__ constexpr T power_of_half(int i) {
    return T(i % 2 ? -1 : 1) / T(1 << i);
}

// G g, of 3 or 5 taps.
struct FilterTransform {
    template <typename T, int TAPS>
    static __device__ __forceinline__ void apply(const T (&g)[TAPS], T (&u)[SIX]) {
        T even = 0, odd = 0, at_two = 0, at_half = 0;
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
            (i % 2 ? odd : even) += g[i];
            at_two += T(1 << i) * g[i];
            at_half += power_of_half<T>(i) * g[i];
        }
        u[0] = g[0];
        u[1] = (even + odd) * T(1.0 / 3);
        u[2] = (even - odd) * T(1.0 / 3);
        u[3] = at_two * T(1.0 / 30);
        u[4] = at_half * T(16.0 / 15);
        u[5] = g[TAPS - 1];
    }
};

// G^T u, the gradients of 3 or 5 taps.
struct FilterAdjoint {
    template <typename T, int TAPS>
    static __device__ __forceinline__ void apply(const T (&u)[SIX], T (&g)[TAPS]) {
        const T even = (u[1] + u[2]) * T(1.0 / 3), odd = (u[1] - u[2]) * T(1.0 / 3);
        const T at_two = u[3] * T(1.0 / 30), at_half = u[4] * T(16.0 / 15);
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
            g[i] = (i % 2 ? odd : even) + T(1 << i) * at_two + power_of_half<T>(i) * at_half;
        }
        g[0] += u[0];
        g[TAPS - 1] += u[5];
    }
};

// A^T m, 4 or 2 outputs.
struct OutputTransform {
    template <typename T, int OUTPUTS>
    static __device__ __forceinline__ void apply(const T (&m)[SIX], T (&y)[OUTPUTS]) {
        const T even = m[1] + m[2], odd = m[1] - m[2];
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            y[i] = (i % 2 ? odd : even) + T(1 << i) * m[3] + power_of_half<T>(i) * m[4];
        }
        y[0] += m[0];
        y[OUTPUTS - 1] += m[5];
    }
};

// A y, of the gradients of 4 or 2 outputs.
struct OutputAdjoint {
    template <typename T, int OUTPUTS>
    static __device__ __forceinline__ void apply(const T (&y)[OUTPUTS], T (&m)[SIX]) {
        T even = 0, odd = 0, at_two = 0, at_half = 0;
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            (i % 2 ? odd : even) += y[i];
            at_two += T(1 << i) * y[i];
            at_half += power_of_half<T>(i) * y[i];
        }
        m[0] = y[0];
        m[1] = even + odd;
        m[2] = even - odd;
        m[3] = at_two;
        m[4] = at_half;
        m[5] = y[OUTPUTS - 1];
    }
};

// Applies a transform to the columns of a square and then to its rows.
template <typename Transform, typename T, int FROM, int TO>
__device__ __forceinline__ void transform_square(const T (&from)[FROM][FROM], T (&to)[TO][TO]) {
    T half[TO][FROM];
#pragma unroll
    for (int j = 0; j < FROM; ++j) {
        T column[FROM], result[TO];
#pragma unroll
        for (int i = 0; i < FROM; ++i) {
            column[i] = from[i][j];
        }
        Transform::apply(column, result);
#pragma unroll
        for (int i = 0; i < TO; ++i) {
            half[i][j] = result[i];
        }
    }
#pragma unroll
    for (int i = 0; i < TO; ++i) {
        Transform::apply(half[i], to[i]);
    }
}

// The 36 numbers of a thread lie in planes of `plane` numbers.
template <typename T>
__device__ __forceinline__ void load_planes(
    const T* __restrict__ from, int plane, T (&to)[SIX][SIX]
) {
#pragma unroll
    for (int xi = 0; xi < SIX * SIX; ++xi) {
        to[xi / SIX][xi % SIX] = from[xi * plane];
    }
}

template <typename T>
__device__ __forceinline__ void store_planes(
    const T (&from)[SIX][SIX], int plane, T* __restrict__ to
) {
#pragma unroll
    for (int xi = 0; xi < SIX * SIX; ++xi) {
        to[xi * plane] = from[xi / SIX][xi % SIX];
    }
}

// Reads a square of an image whose corner is (y, x); zeros where it is outside.
template <typename T, int EXTENT>
__device__ __forceinline__ void load_square(
    const T* __restrict__ image, int height, int width, int y, int x, T (&square)[EXTENT][EXTENT]
) {
#pragma unroll
    for (int i = 0; i < EXTENT; ++i) {
#pragma unroll
        for (int j = 0; j < EXTENT; ++j) {
            const bool inside = 0 <= y + i && y + i < height && 0 <= x + j && x + j < width;
            square[i][j] = inside ? image[(y + i) * width + x + j] : T(0);
        }
    }
}

// `transformed` is (36, channels, tiles).
template <typename T>
__global__ void winograd_input_cuda(
    const T* __restrict__ input, int padding_h, int padding_w, int tiles_y, int tiles_x, int step,
    int batch, int channels, int height, int width, int total, T* __restrict__ transformed
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % tiles_x * step - padding_w;
        const int y = i / tiles_x % tiles_y * step - padding_h;
        const int n = i / (tiles_x * tiles_y) % batch;
        const int c = i / (tiles_x * tiles_y * batch);
        T d[SIX][SIX], v[SIX][SIX];
        load_square(input + (n * channels + c) * (height * width), height, width, y, x, d);
        transform_square<InputTransform>(d, v);
        store_planes(v, total, transformed + i);
    }
}

// `transformed` is (36, groups * rows, depth): for each output channel the input channels that it
// sees, or, if `swapped`, the other way round and the taps reversed.
template <typename T, int KERNEL>
__global__ void winograd_filter_cuda(
    const T* __restrict__ weight, int groups, int swapped, int rows, int depth, int total,
    T* __restrict__ transformed
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int k = i % depth;
        const int r = i / depth;
        const int place = swapped ? (r / rows * depth + k) * rows + r % rows : i;
        const T* taps = weight + place * (KERNEL * KERNEL);
        T g[KERNEL][KERNEL], u[SIX][SIX];
#pragma unroll
        for (int tap = 0; tap < KERNEL * KERNEL; ++tap) {
            g[tap / KERNEL][tap % KERNEL] = taps[swapped ? KERNEL * KERNEL - 1 - tap : tap];
        }
        transform_square<FilterTransform>(g, u);
        store_planes(u, total, transformed + i);
    }
}

// A block takes one tile of 16 * ROWS x 128 numbers of one product after the other. `c` is
// (matrices, rows, columns), and so are `a` and `b`. WIDE as for the one product in `gemm.cu`, but 1
// for doubles, for which there would be too few registers.
template <typename T, int ROWS, int WIDE, int b_transposed>
__global__ void __launch_bounds__(THREADS) winograd_multiply_cuda(
    const T* __restrict__ a, const T* __restrict__ b, int rows, int columns, int depth, int total,
    T* __restrict__ c
) {
    constexpr int TILE_ROWS = SIDE * ROWS;
    __shared__ __align__(16) T a_slab[SLAB][TILE_ROWS + PAD<T>];
    __shared__ __align__(16) T b_slab[SLAB][TILE_COLUMNS + PAD<T>];
    const int tiles_down = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int tiles_across = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const int b_stride = b_transposed ? depth : columns;
    for (int tile = blockIdx.x; tile < total; tile += gridDim.x) {
        const int m = tile % tiles_down * TILE_ROWS;
        const int n = tile / tiles_down % tiles_across * TILE_COLUMNS;
        const int matrix = tile / (tiles_down * tiles_across);
        MatrixSlab<T, TILE_ROWS, WIDE, true> a_next(a + matrix * rows * depth, depth, m, rows);
        MatrixSlab<T, TILE_COLUMNS, WIDE, b_transposed> b_next(
            b + matrix * depth * columns, b_stride, n, columns
        );
        a_next.load(0, depth);
        b_next.load(0, depth);
        T sum[ROWS][COLUMNS] = {};
        for (int k = 0; k < depth; k += SLAB) {
            a_next.store(a_slab);
            b_next.store(b_slab);
            __syncthreads();
            a_next.load(k + SLAB, depth);
            b_next.load(k + SLAB, depth);
            multiply_slabs<T, ROWS>(a_slab, b_slab, sum);
            __syncthreads();  // before the next slabs take the place of these
        }
        int offsets[COLUMNS / WIDE];
#pragma unroll
        for (int j = 0; j < COLUMNS / WIDE; ++j) {
            const int column = n + column_of<T, WIDE>(j);
            offsets[j] = column < columns ? column : -1;
        }
        store_tile<T, ROWS, WIDE>(
            sum, m, rows, columns, offsets, c + tile / (tiles_down * tiles_across) * rows * columns
        );
    }
}

// `products` is (36, out_channels, tiles).
template <typename T, int step>
__global__ void winograd_output_cuda(
    const T* __restrict__ products, const T* __restrict__ bias, int tiles_y, int tiles_x, int batch,
    int out_channels, int out_h, int out_w, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % tiles_x * step;
        const int y = i / tiles_x % tiles_y * step;
        const int n = i / (tiles_x * tiles_y) % batch;
        const int o = i / (tiles_x * tiles_y * batch);
        T m[SIX][SIX], tile[step][step];
        load_planes(products + i, total, m);
        transform_square<OutputTransform>(m, tile);
        T* plane = output + (n * out_channels + o) * (out_h * out_w);
#pragma unroll
        for (int j = 0; j < step * step; ++j) {
            const int out_y = y + j / step, out_x = x + j % step;
            if (out_y < out_h && out_x < out_w) {
                plane[out_y * out_w + out_x] = tile[j / step][j % step] + bias[o];
            }
        }
    }
}

// `transformed` is (36, out_channels, tiles).
template <typename T, int step>
__global__ void winograd_grad_output_cuda(
    const T* __restrict__ grad_output, int tiles_y, int tiles_x, int batch, int out_channels,
    int out_h, int out_w, int total, T* __restrict__ transformed
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % tiles_x * step;
        const int y = i / tiles_x % tiles_y * step;
        const int n = i / (tiles_x * tiles_y) % batch;
        const int o = i / (tiles_x * tiles_y * batch);
        T grad[step][step], m[SIX][SIX];
        load_square(
            grad_output + (n * out_channels + o) * (out_h * out_w), out_h, out_w, y, x, grad
        );
        transform_square<OutputAdjoint>(grad, m);
        store_planes(m, total, transformed + i);
    }
}

// `products` is (36, out_channels, channels of a group).
template <typename T, int KERNEL>
__global__ void winograd_grad_filter_cuda(
    const T* __restrict__ products, int total, T* __restrict__ grad_weight
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        T u[SIX][SIX], g[KERNEL][KERNEL];
        load_planes(products + i, total, u);
        transform_square<FilterAdjoint>(u, g);
#pragma unroll
        for (int tap = 0; tap < KERNEL * KERNEL; ++tap) {
            grad_weight[i * (KERNEL * KERNEL) + tap] = g[tap / KERNEL][tap % KERNEL];
        }
    }
}
