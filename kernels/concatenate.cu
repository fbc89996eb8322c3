// Join arrays along a dimension.
//
//     output[o, offset + r] = input[o, r]
//
// The input is read as (outer, run), the output as (outer, out_run): `run` joins the dimension along
// which arrays are joined and all after it. One launch copies one input; one thread copies one
// element, neighbouring threads neighbouring ones on both sides, so that a warp's accesses make full
// lines, but for those where a run begins or ends inside of one.

template <typename T>
__global__ void concatenate_cuda(
    const T* __restrict__ input, int run, int offset, int out_run, int total,
    T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        output[i / run * out_run + offset + i % run] = input[i];
    }
}
