// Sums and maxima over the 32 lanes of a warp, and sums over the threads of a block.
//
// Every thread gets the result, the same bits in each: all add the same numbers in the same tree.
//
//     warp_sum, warp_max  Butterfly: in five steps each lane combines its value with that of the
//                         lane whose number differs in one bit, 16, 8, 4, 2 and 1 apart.
//     block_sum           Each warp sums its own values and leaves the result in shared memory;
//                         then every thread adds up the results of all warps in order.
//
// All 32 lanes must call the warp functions, and all BLOCK threads of a block, a multiple of 32,
// the block function: no thread may have returned or be inside a branch that others skip. A thread
// without work of its own brings the neutral element, 0 or minus infinity. The block function ends
// at no barrier, but begins with one, so that it can be called again at once.
//
// Maxima ignore NaN as long as there is another number.

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

template <typename T>
__device__ __forceinline__ T minus_infinity() {
    return T(__int_as_float(0xff800000));
}

template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, apart);
    }
    return value;
}

template <typename T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
        value = max(value, __shfl_xor_sync(ALL_LANES, value, apart));
    }
    return value;
}

template <typename T, int BLOCK>
__device__ __forceinline__ T block_sum(T value) {
    __shared__ T sums[BLOCK / WARP];
    value = warp_sum(value);
    __syncthreads();  // the sums of an earlier call have been read
    if (threadIdx.x % WARP == 0) {
        sums[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    T total = 0;
#pragma unroll
    for (int warp = 0; warp < BLOCK / WARP; ++warp) {
        total += sums[warp];
    }
    return total;
}
