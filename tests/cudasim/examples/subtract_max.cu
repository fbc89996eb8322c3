// cudasim: subtract_max grid=rows block=128 rows=7 cols=300 x=float32[rows,cols]
__global__ void subtract_max(float* x, int rows, int cols) {
    __shared__ float best[128];
    float* row = x + blockIdx.x * cols;
    float largest = row[0];
    for (int c = threadIdx.x; c < cols; c += 128) largest = max(largest, row[c]);
    best[threadIdx.x] = largest;
    for (int half = 64; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) {
            best[threadIdx.x] = max(best[threadIdx.x], best[threadIdx.x + half]);
        }
    }
    for (int c = threadIdx.x; c < cols; c += 128) row[c] -= best[0];
}
