// A product that is rounded before anything is added to it.
//
// A compiler for GPUs joins a product and the sum it goes into in one fused multiply-add, which
// rounds once instead of twice. That is faster and nearly always welcome. Where a comparison or a
// cast to an integer follows, though, the last bit decides whether a box survives or which pixel is
// meant, and the CPU, which rounds twice, would decide otherwise. The result of an fma that adds
// nothing is the rounded product, and is not joined with anything.

template <typename T>
__device__ __forceinline__ T product(T a, T b) {
    return fma(a, b, T(0));
}
