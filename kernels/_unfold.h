// Operands of an implicit matrix product on their way from images to the slabs of `_tile.h`.
//
// A number of an unfolded image lies at the sum of two places: that of the window's corner and that
// of the tap within the window. With one of the two a thread begins, for several columns of the
// tile; the other follows from k. As k advances, its digits turn like those of an odometer, and the
// thread moves all its places by the same distance. Nothing is divided, and the test against the
// border is two comparisons a number.

constexpr int LANES = 32;
constexpr int WARPS = 8;  // of a block
constexpr int FAR = 1 << 28;  // so far above the image that no tap reaches it

// A number written with digits: (high * middles + middle) * lows + low.
struct Digits {
    int high, middle, low;
};

__device__ __forceinline__ Digits digits(int number, int middles, int lows) {
    return {number / lows / middles, number / lows % middles, number % lows};
}

__device__ __forceinline__ void advance(Digits& number, const Digits& by, int middles, int lows) {
    number.low += by.low;
    const bool low_carry = number.low >= lows;
    number.low -= low_carry ? lows : 0;
    number.middle += by.middle + low_carry;
    const bool middle_carry = number.middle >= middles;
    number.middle -= middle_carry ? middles : 0;
    number.high += by.high + middle_carry;
}

// The distance from one place in an image to another.
struct Distance {
    int offset, y, x;
};

// One slab of an unfolded image on its way to shared memory. The block gathers it in STRIPS parts;
// of each a thread has numbers of one step of k, in COUNT columns of the tile that are APART. It
// keeps their places, and as k advances moves all of them by the same distance: three additions
// each. A place may lie outside the image, where nothing is read.
template <typename T, int STRIPS>
struct UnfoldedSlab {
    static constexpr int STEPS = SLAB / STRIPS;
    static constexpr int APART = THREADS / STEPS;
    static constexpr int COUNT = TILE_COLUMNS / APART;

    const T* at[COUNT];
    int y[COUNT], x[COUNT];
    Distance moved;
    T held[STRIPS][COUNT];

    __device__ __forceinline__ UnfoldedSlab() : moved{0, 0, 0} {}

    __device__ __forceinline__ void place(int j, const T* image, const Distance& where) {
        at[j] = image + where.offset;
        y[j] = where.y;
        x[j] = where.x;
    }

    // Loads what lies at distance `to` from the places set by `place`.
    __device__ __forceinline__ void load(int strip, int height, int width, const Distance& to) {
#pragma unroll
        for (int j = 0; j < COUNT; ++j) {
            at[j] += to.offset - moved.offset;
            y[j] += to.y - moved.y;
            x[j] += to.x - moved.x;
            const bool inside =
                unsigned(y[j]) < unsigned(height) && unsigned(x[j]) < unsigned(width);
            held[strip][j] = inside ? __ldg(at[j]) : T(0);
        }
        moved = to;
    }

    __device__ __forceinline__ void store(
        T (&slab)[SLAB][TILE_COLUMNS + PAD<T>], int step, int column
    ) const {
#pragma unroll
        for (int strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
            for (int j = 0; j < COUNT; ++j) {
                slab[strip * STEPS + step][column + j * APART] = held[strip][j];
            }
        }
    }
};

// One slab of A where k does not run along memory: a thread has one step of k, in rows of the tile
// that are 16 apart, and moves along all of them together.
template <typename T, int ROWS>
struct StridedSlab {
    const T* at[ROWS];
    int moved;
    T held[ROWS];

    // The rows of the tile lie in memory `stride` apart; one beyond the last, whose outputs are not
    // stored, reads the last.
    __device__ __forceinline__ StridedSlab(
        const T* __restrict__ matrix, int stride, int first, int rows
    )
        : moved(0) {
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            at[i] = matrix + min(first + line(i), rows - 1) * stride;
        }
    }

    static __device__ __forceinline__ int line(int i) {
        return threadIdx.x / SLAB + i * (THREADS / SLAB);
    }

    __device__ __forceinline__ void load(int to, bool inside) {
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            at[i] += to - moved;
            held[i] = inside ? __ldg(at[i]) : T(0);
        }
        moved = to;
    }

    __device__ __forceinline__ void store(T (&slab)[SLAB][SIDE * ROWS + PAD<T>]) const {
#pragma unroll
        for (int i = 0; i < ROWS; ++i) {
            slab[threadIdx.x % SLAB][line(i)] = held[i];
        }
    }
};

// The taps along an axis that meet the pixels `phase`, `phase` + stride, `phase` + 2 stride, ... :
// `count` of them, from `first` on. The first meets pixel `phase` in window `window`.
struct Taps {
    int count, first, window;
};

__device__ __forceinline__ Taps taps_of_phase(
    int phase, int kernel, int stride, int padding, int dilation, int tap_step
) {
    int first = 0;
    while (first < tap_step && (phase + padding - first * dilation) % stride != 0) {
        ++first;
    }
    if (first >= min(tap_step, kernel)) {
        return {0, 0, 0};
    }
    const int count = (kernel - first + tap_step - 1) / tap_step;
    return {count, first, (phase + padding - first * dilation) / stride};
}
