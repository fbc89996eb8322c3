// Sums and maxima over the 32 lanes of a warp.
//
// Butterfly: in five steps each lane combines its value with that of the lane whose number differs
// in one bit, 16, 8, 4, 2 and 1 apart. Every lane gets the result, the same bits in each: all add
// the same numbers in the same tree.
//
// All 32 lanes must call: none may have returned or be inside a branch that others skip. A lane
// without work of its own brings the neutral element, 0 or minus infinity. Maxima pass over NaN as
// long as there is another number.

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
