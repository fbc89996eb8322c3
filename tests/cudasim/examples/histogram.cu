// Count each value. Two threads that meet in one bin lose a count: += is no atomic.
// cudasim: histogram grid=4 block=128 n=1000 values=int32[n]:random bins=int32[10]:zeros
__global__ void histogram(const int* values, int* bins, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    bins[values[i]] += 1;
}
