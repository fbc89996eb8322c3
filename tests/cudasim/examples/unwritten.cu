// Add up in an array that nobody has set to zero.
// cudasim: accumulate n=500 x=float32[n] total=float32[n]:empty
__global__ void accumulate(const float* x, float* total, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) total[i] += x[i];
}
