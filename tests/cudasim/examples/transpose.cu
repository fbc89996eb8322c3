// Two transposes. Both are right; ask `minicnn cudasim profile` which one a GPU likes.
// cudasim: transpose_plain grid=4,4 block=32,8 rows=128 cols=128 input=[rows,cols] output=[cols,rows]:empty
// cudasim: transpose_tiled grid=4,4 block=32,8 rows=128 cols=128 input=[rows,cols] output=[cols,rows]:empty
constexpr int TILE = 32;

__global__ void transpose_plain(const float* input, float* output, int rows, int cols) {
    int x = blockIdx.x * TILE + threadIdx.x;
    for (int y = blockIdx.y * TILE + threadIdx.y; y < (blockIdx.y + 1) * TILE; y += blockDim.y) {
        if (x < cols && y < rows) output[x * rows + y] = input[y * cols + x];
    }
}

__global__ void transpose_tiled(const float* input, float* output, int rows, int cols) {
    __shared__ float tile[TILE][TILE + 1];
    int x = blockIdx.x * TILE + threadIdx.x;
    for (int j = threadIdx.y; j < TILE; j += blockDim.y) {
        int y = blockIdx.y * TILE + j;
        if (x < cols && y < rows) tile[j][threadIdx.x] = input[y * cols + x];
    }
    __syncthreads();
    x = blockIdx.y * TILE + threadIdx.x;
    for (int j = threadIdx.y; j < TILE; j += blockDim.y) {
        int y = blockIdx.x * TILE + j;
        if (x < rows && y < cols) output[y * rows + x] = tile[threadIdx.x][j];
    }
}
