// Sums over the threads of a block.
//
// Each warp sums its own values and leaves the result in shared memory; then every thread adds up
// the results of all warps in order. Every thread gets the sum, the same bits in each.
//
// All BLOCK threads of the block, a multiple of 32, must call: none may have returned or be inside a
// branch that others skip. A thread without work of its own brings 0. The function ends at no
// barrier, but begins with one, so that it can be called again at once.

#include "_warp.h"

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
