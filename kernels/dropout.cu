// Dropout: a random part of the elements becomes zero, the rest grows to keep the expected sum.
//
//     output[i] = input[i] * (scale if hash(seed, i) >> 11 >= threshold else 0)
//         scale = 1 / (1 - p), threshold = ceil(p * 2^53)
//
//     hash(seed, i):   z = seed + (i + 1) * 0x9E3779B97F4A7C15                  all modulo 2^64
//                      z = (z xor z >> 30) * 0xBF58476D1CE4E5B9
//                      z = (z xor z >> 27) * 0x94D049BB133111EB
//                      hash = z xor z >> 31
//
// The random number of an element is a hash of its index: no thread waits for another's, nothing is
// kept, and the mask is the CPU's bit for bit.
//
// One thread computes one element `i`. Bound by memory: one read and one write; the three 64-bit
// products are some twenty instructions on 32-bit hardware.

// Output `i` of the generator SplitMix64 started at `seed`.
__device__ __forceinline__ unsigned long long hash(
    unsigned long long seed, unsigned long long i
) {
    unsigned long long z = seed + (i + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

template <typename T>
__global__ void dropout_forward_cuda(
    const T* __restrict__ input, unsigned long long seed, unsigned long long threshold, T scale,
    int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const bool kept = hash(seed, i) >> 11 >= threshold;
        output[i] = input[i] * (kept ? scale : T(0));
    }
}
