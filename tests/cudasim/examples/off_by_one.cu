// The mean of each value and the next. The last thread has no next.
// cudasim: neighbours n=1000 x=float32[n] y=float32[n]:empty
__global__ void neighbours(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 0.5f * (x[i] + x[i + 1]);
}
