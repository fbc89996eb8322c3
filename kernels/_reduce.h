// Sums and maxima over the 32 lanes of a warp, or over the threads of a block.
//
// Every thread gets the result, the same bits in each: all add the same numbers in the same tree.
//
//     warp_sum, warp_max    Butterfly. In five steps each lane combines its value with that of the
//                           lane whose number differs in one bit: 16, 8, 4, 2, 1 apart.
//     block_sum, block_max  Each warp reduces its own values and leaves the result in shared
//                           memory; then every thread combines the results of all warps in order.
//
// All 32 lanes must call the warp functions, and all BLOCK threads of a block, a multiple of 32,
// the block functions: no thread may have returned or be inside a branch that others skip. A thread
// without work of its own brings the neutral element, 0 or minus infinity. The block functions end
// at no barrier, but begin with one, so that they can be called again at once.
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

template <typename T, int BLOCK>
__device__ __forceinline__ T block_max(T value) {
    __shared__ T maxima[BLOCK / WARP];
    value = warp_max(value);
    __syncthreads();  // the maxima of an earlier call have been read
    if (threadIdx.x % WARP == 0) {
        maxima[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    T largest = maxima[0];
#pragma unroll
    for (int warp = 1; warp < BLOCK / WARP; ++warp) {
        largest = max(largest, maxima[warp]);
    }
    return largest;
}
