// General matrix multiplication: C[m, n] = sum over k of A[m, k] * B[k, n].
//
// C is row-major, rows x columns; `depth` is the length of the sum. Rungs, slow to fast, with the
// idea each adds, and what bounds it:
//
//     plain          one thread an output: it walks along a row of A and down a column of B, so that
//                    each number of A is read from memory N times and each of B M times
//     plain_shared   a block computes 16 x 16 outputs and shares what it reads: every number loaded
//                    into shared memory serves 16 threads. Now the loads from shared memory are the
//                    bound, two for each multiply-add
//     tiled          a thread computes up to 8 x 8 outputs and shares what it reads among them: 16
//                    numbers from shared memory feed 64 multiply-adds. With 16-byte loads, loads of
//                    the next slab under way during the arithmetic, and A and B each as it lies in
//                    memory, transposed or not: `_tile.h` tells how
//
// Where C is small and the sums are long, a tile for each block would leave most of a GPU without
// work. Then the depth is cut into `splits` parts, each with a C of its own, and tiled_sum adds
// these, always in the same order. The cut follows from the shapes alone, so the bits do as well.
//
// 2 M N K flops over M K + K N + M N elements.

#include "_tile.h"

constexpr int SHARED_SIDE = 16;

template <typename T>
__global__ void gemm_plain_cuda(
    const T* __restrict__ a, const T* __restrict__ b, int columns, int depth, int total,
    T* __restrict__ c
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int n = i % columns;
        const int m = i / columns;
        T sum = 0;
        for (int k = 0; k < depth; ++k) {
            sum += a[m * depth + k] * b[k * columns + n];
        }
        c[i] = sum;
    }
}

// A block takes one tile of 16 x 16 outputs after the other, `total` in all.
template <typename T>
__global__ void __launch_bounds__(THREADS) gemm_plain_shared_cuda(
    const T* __restrict__ a, const T* __restrict__ b, int rows, int columns, int depth, int total,
    T* __restrict__ c
) {
    __shared__ T a_tile[SHARED_SIDE][SHARED_SIDE];
    __shared__ T b_tile[SHARED_SIDE][SHARED_SIDE];
    const int y = threadIdx.x / SHARED_SIDE, x = threadIdx.x % SHARED_SIDE;
    const int tiles_across = (columns + SHARED_SIDE - 1) / SHARED_SIDE;
    for (int tile = blockIdx.x; tile < total; tile += gridDim.x) {
        const int m = tile / tiles_across * SHARED_SIDE + y;
        const int n = tile % tiles_across * SHARED_SIDE + x;
        T sum = 0;
        for (int k = 0; k < depth; k += SHARED_SIDE) {
            a_tile[y][x] = m < rows && k + x < depth ? a[m * depth + k + x] : T(0);
            b_tile[y][x] = k + y < depth && n < columns ? b[(k + y) * columns + n] : T(0);
            __syncthreads();
#pragma unroll
            for (int step = 0; step < SHARED_SIDE; ++step) {
                sum += a_tile[y][step] * b_tile[step][x];
            }
            __syncthreads();  // before the next slab takes the place of this one
        }
        if (m < rows && n < columns) {
            c[m * columns + n] = sum;
        }
    }
}

// A block takes one tile of 16 * ROWS x 128 outputs and one part of the depth after the other.
// `c` is (splits, rows, columns). WIDE is 1, or 16 bytes' worth if all rows in memory begin at
// multiples of 16 bytes and have a multiple of that length.
template <typename T, int ROWS, int WIDE, int a_transposed, int b_transposed>
__global__ void __launch_bounds__(THREADS) gemm_tiled_cuda(
    const T* __restrict__ a, const T* __restrict__ b, int rows, int columns, int depth, int total,
    T* __restrict__ c, int splits
) {
    constexpr int TILE_ROWS = SIDE * ROWS;
    __shared__ __align__(16) T a_slab[SLAB][TILE_ROWS + PAD<T>];
    __shared__ __align__(16) T b_slab[SLAB][TILE_COLUMNS + PAD<T>];
    const int tiles_down = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int tiles_across = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
    const int part = (depth + splits * SLAB - 1) / (splits * SLAB) * SLAB;
    const int a_stride = a_transposed ? rows : depth;
    const int b_stride = b_transposed ? depth : columns;
    for (int tile = blockIdx.x; tile < total; tile += gridDim.x) {
        const int m = tile % tiles_down * TILE_ROWS;
        const int n = tile / tiles_down % tiles_across * TILE_COLUMNS;
        const int split = tile / (tiles_down * tiles_across);
        const int k_end = min(depth, (split + 1) * part);
        MatrixSlab<T, TILE_ROWS, WIDE, !a_transposed> a_next(a, a_stride, m, rows);
        MatrixSlab<T, TILE_COLUMNS, WIDE, b_transposed> b_next(b, b_stride, n, columns);
        a_next.load(split * part, k_end);
        b_next.load(split * part, k_end);
        T sum[ROWS][COLUMNS] = {};
        for (int k = split * part; k < k_end; k += SLAB) {
            a_next.store(a_slab);
            b_next.store(b_slab);
            __syncthreads();
            a_next.load(k + SLAB, k_end);
            b_next.load(k + SLAB, k_end);
            multiply_slabs<T, ROWS>(a_slab, b_slab, sum);
            __syncthreads();  // before the next slabs take the place of these
        }
        int offsets[COLUMNS / WIDE];
#pragma unroll
        for (int j = 0; j < COLUMNS / WIDE; ++j) {
            const int column = n + column_of<T, WIDE>(j);
            offsets[j] = column < columns ? split * rows * columns + column : -1;
        }
        store_tile<T, ROWS, WIDE>(sum, m, rows, columns, offsets, c);
    }
}

// Adds the parts of C that came of a cut depth: `partial` is (splits, total).
template <typename T>
__global__ void gemm_tiled_sum_cuda(
    const T* __restrict__ partial, int splits, int total, T* __restrict__ c
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        T sum = partial[i];
        for (int split = 1; split < splits; ++split) {
            sum += partial[split * total + i];
        }
        c[i] = sum;
    }
}
