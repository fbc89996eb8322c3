// How windows and pixels meet, seen from a pixel.

// The window along an axis whose tap at `tap` pixels from its start is pixel `y`; -1 if none.
__device__ __forceinline__ int window_with_tap(
    int y, int tap, int stride, int padding, int windows
) {
    const int start = y + padding - tap;
    return start >= 0 && start % stride == 0 && start / stride < windows ? start / stride : -1;
}
