// The register tile: the arithmetic that the matrix product and the convolutions share.
//
// A block of 16 x 16 threads computes a tile of C, 16 * ROWS rows by 128 columns, each thread
// ROWS x 8 outputs that stay in its registers while k runs. k advances by slabs of 16 steps:
//
//     shared memory <- registers     the slab of A and the slab of B that were loaded before
//     barrier
//     registers <- global memory     the next slabs: these loads are under way during the arithmetic
//     16 times                       ROWS numbers of A and 8 of B, shared memory -> registers,
//                                    then ROWS * 8 multiply-adds
//     barrier
//
// Why a tile for each thread. A multiply-add needs two numbers. With one output a thread both come
// from shared memory, and the loads outnumber the arithmetic two to one. With 8 x 8 outputs, 16
// numbers feed 64 multiply-adds, and as four of them come in one load, there are 4 loads for 64.
// Why a tile for each block. Each number of A is read from global memory once for 128 columns of C,
// each number of B once for 16 * ROWS rows.
// A C with few rows takes few ROWS, or most of the tile would be computed for nothing.
//
// Bank conflicts. Shared memory has 32 banks of 4 bytes, and a load of 16 bytes a thread is served
// 8 threads at a time. Eight neighbouring outputs a thread would put these 8 loads 32 bytes apart,
// two in each bank; so a thread's 8 columns are groups of 16 bytes, and between them lie the groups
// of the 15 others. Slabs lie with k outside, so that a step of k is read along memory. Threads that
// have loaded along k store across: PAD makes the steps start 4 banks apart, so that of 16 such
// threads only two meet in a bank. Without it all 16 would.

constexpr int THREADS = 256;
constexpr int SIDE = 16;  // the threads stand in a square
constexpr int SLAB = 16;
constexpr int COLUMNS = 8;
constexpr int TILE_COLUMNS = 128;

// 16 bytes' worth of numbers beside every step of a slab.
template <typename T>
constexpr int PAD = 16 / sizeof(T);

// COUNT neighbouring numbers, at most 16 bytes, moved by one instruction: float4, double2, ...
template <typename T, int COUNT>
struct alignas(COUNT * sizeof(T)) Pack {
    T at[COUNT];
};

// How many of a thread's `outputs` in a row or column are neighbours: what fits into 16 bytes.
template <typename T>
__device__ constexpr int neighbours(int outputs) {
    return outputs < 16 / int(sizeof(T)) ? outputs : 16 / int(sizeof(T));
}

// Where the i-th of a thread's outputs lies in the tile; `thread` counts along that side.
template <int GROUP>
__device__ __forceinline__ int place(int thread, int i) {
    return (i / GROUP * SIDE + thread) * GROUP + i % GROUP;
}

// Reads the OUTPUTS numbers of one step of k that belong to a thread.
template <typename T, int OUTPUTS, int EXTENT>
__device__ __forceinline__ void read_step(
    const T (&step)[EXTENT], int thread, T (&values)[OUTPUTS]
) {
    constexpr int GROUP = neighbours<T>(OUTPUTS);
#pragma unroll
    for (int i = 0; i < OUTPUTS; i += GROUP) {
        const auto pack = *reinterpret_cast<const Pack<T, GROUP>*>(&step[place<GROUP>(thread, i)]);
#pragma unroll
        for (int j = 0; j < GROUP; ++j) {
            values[i + j] = pack.at[j];
        }
    }
}

// Adds the product of two slabs to the thread's outputs.
template <typename T, int ROWS>
__device__ __forceinline__ void multiply_slabs(
    const T (&a)[SLAB][SIDE * ROWS + PAD<T>], const T (&b)[SLAB][TILE_COLUMNS + PAD<T>],
    T (&sum)[ROWS][COLUMNS]
) {
#pragma unroll
    for (int k = 0; k < SLAB; ++k) {
        T column[ROWS], row[COLUMNS];
        read_step(a[k], threadIdx.x / SIDE, column);
        read_step(b[k], threadIdx.x % SIDE, row);
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j) {
                sum[i][j] += column[i] * row[j];
            }
        }
    }
}

// One slab of a matrix on its way to shared memory: EXTENT lines (rows of A, columns of B) by SLAB
// steps of k, WIDE numbers at a time. In memory the neighbour of a number is the next along k
// (ALONG_K) or the next line's. Beyond the last step there are zeros; a line beyond the last, whose
// outputs are not stored, reads the last.
template <typename T, int EXTENT, int WIDE, bool ALONG_K>
struct MatrixSlab {
    static constexpr int PACKS = EXTENT * SLAB / WIDE;
    static constexpr int LOADS = (PACKS + THREADS - 1) / THREADS;

    const T* matrix;
    int stride;
    int first[LOADS];  // of each pack's line, its number at k = 0
    Pack<T, WIDE> held[LOADS];

    __device__ __forceinline__ MatrixSlab(
        const T* __restrict__ matrix, int stride, int first_line, int lines
    )
        : matrix(matrix), stride(stride) {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            const int l = min(first_line + line(i), lines - (ALONG_K ? 1 : WIDE));
            first[i] = ALONG_K ? l * stride : l;
        }
    }

    static __device__ __forceinline__ int line(int load) {
        const int pack = threadIdx.x + load * THREADS;
        return ALONG_K ? pack / (SLAB / WIDE) : pack % (EXTENT / WIDE) * WIDE;
    }

    static __device__ __forceinline__ int step(int load) {
        const int pack = threadIdx.x + load * THREADS;
        return ALONG_K ? pack % (SLAB / WIDE) * WIDE : pack / (EXTENT / WIDE);
    }

    static __device__ __forceinline__ bool needed(int load) {
        return PACKS % THREADS == 0 || threadIdx.x + load * THREADS < PACKS;
    }

    __device__ __forceinline__ void load(int k, int depth) {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            held[i] = Pack<T, WIDE>();
            const int s = k + step(i);
            if (needed(i) && s < depth) {
                const int from = first[i] + (ALONG_K ? s : s * stride);
                held[i] = *reinterpret_cast<const Pack<T, WIDE>*>(matrix + from);
            }
        }
    }

    __device__ __forceinline__ void store(T (&slab)[SLAB][EXTENT + PAD<T>]) const {
#pragma unroll
        for (int i = 0; i < LOADS; ++i) {
            if (!needed(i)) {
                continue;
            }
            if (ALONG_K) {
#pragma unroll
                for (int j = 0; j < WIDE; ++j) {
                    slab[step(i) + j][line(i)] = held[i].at[j];
                }
            } else {
                *reinterpret_cast<Pack<T, WIDE>*>(&slab[step(i)][line(i)]) = held[i];
            }
        }
    }
};

// The column of C, within the tile, of the first of the thread's j-th WIDE outputs in a row.
template <typename T, int WIDE>
__device__ __forceinline__ int column_of(int j) {
    return place<neighbours<T>(COLUMNS)>(threadIdx.x % SIDE, j * WIDE);
}

// The row of C, within the tile, of the thread's i-th outputs.
template <typename T, int ROWS>
__device__ __forceinline__ int row_of(int i) {
    return place<neighbours<T>(ROWS)>(threadIdx.x / SIDE, i);
}

// Writes the thread's outputs, row by row, WIDE neighbours at a time. Output (m, j) belongs at
// m * stride + offsets[j]; a negative offset is one beyond C.
template <typename T, int ROWS, int WIDE>
__device__ __forceinline__ void store_tile(
    const T (&sum)[ROWS][COLUMNS], int first_row, int rows, int stride,
    const int (&offsets)[COLUMNS / WIDE], T* __restrict__ c
) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
        const int m = first_row + row_of<T, ROWS>(i);
#pragma unroll
        for (int j = 0; j < COLUMNS / WIDE; ++j) {
            if (m < rows && offsets[j] >= 0) {
                Pack<T, WIDE> pack;
#pragma unroll
                for (int lane = 0; lane < WIDE; ++lane) {
                    pack.at[lane] = sum[i][j * WIDE + lane];
                }
                *reinterpret_cast<Pack<T, WIDE>*>(c + m * stride + offsets[j]) = pack;
            }
        }
    }
}
