// Half of a block waits at one barrier, half at another: on a GPU this hangs, or does worse.
// cudasim: shift grid=4 block=256 n=1000 x=float32[n] y=float32[n]:empty
__global__ void shift(const float* x, float* y, int n) {
    __shared__ float part[257];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x % 2 == 0) {
        part[threadIdx.x] = x[min(i, n - 1)];
        __syncthreads();
    } else {
        part[threadIdx.x] = 0.f;
        __syncthreads();
    }
    if (i < n) y[i] = part[threadIdx.x];
}
