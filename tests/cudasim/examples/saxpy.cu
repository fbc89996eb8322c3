// y = a * x + y. Right; every argument can be guessed.
template <typename T>
__global__ void saxpy(const T* __restrict__ x, T* __restrict__ y, T a, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x) {
        y[i] = a * x[i] + y[i];
    }
}
