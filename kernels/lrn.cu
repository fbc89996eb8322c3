// Local response normalisation: each value divided by a power of the energy of nearby channels.
//
//     scale  = k + alpha * sum of input^2 over the window, channels c - size / 2 ... c + (size - 1) / 2
//     output = input * scale^-beta
//
//     grad_input = grad_output * scale^-beta - 2 alpha beta * input
//         * sum of grad_output * output / scale over c - (size - 1) / 2 ... c + size / 2,
//           the channels in whose window c lies
//
// Arrays are (batch, channels, spatial). Neighbouring threads compute neighbouring pixels, so every
// access of a warp is a run of memory, in whichever channel. Powers are exp(-beta * log(scale)):
// scale is positive.
//
//     plain   One thread computes one element and sums its window afresh.
//     window  One thread walks the channels of one pixel, and its window slides along: one square
//             comes in, one goes out, two reads for a window of any size. What is left when large
//             squares have gone may be nothing but their rounding error, and infinity minus infinity
//             is NaN: a sum below a quarter of its peak, or NaN, is taken afresh.

template <typename T>
__device__ __forceinline__ T energy(const T* pixel, int first, int last, int spatial) {
    T sum = 0;
    for (int j = first; j <= last; ++j) {
        sum += pixel[j * spatial] * pixel[j * spatial];
    }
    return sum;
}

template <typename T>
__global__ void lrn_forward_cuda(
    const T* __restrict__ input, int size, T alpha, T beta, T k, int channels, int spatial,
    int total, T* __restrict__ output, T* __restrict__ scale
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int c = i / spatial % channels;
        const T* pixel = input + i - c * spatial;
        const int first = max(c - size / 2, 0);
        const int last = min(c + (size - 1) / 2, channels - 1);
        const T base = k + alpha * energy(pixel, first, last, spatial);
        scale[i] = base;
        output[i] = input[i] * exp(-beta * log(base));
    }
}

template <typename T>
__global__ void lrn_backward_cuda(
    const T* __restrict__ grad_output, const T* __restrict__ input, const T* __restrict__ output,
    const T* __restrict__ scale, int size, T alpha, T beta, int channels, int spatial, int total,
    T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int c = i / spatial % channels;
        const int first = max(c - (size - 1) / 2, 0);
        const int last = min(c + size / 2, channels - 1);
        T sum = 0;
        for (int j = first; j <= last; ++j) {
            const int at = i + (j - c) * spatial;
            sum += grad_output[at] * output[at] / scale[at];
        }
        const T power = exp(-beta * log(scale[i]));
        grad_input[i] = grad_output[i] * power - T(2) * alpha * beta * input[i] * sum;
    }
}

template <typename T>
__global__ void lrn_forward_window_cuda(
    const T* __restrict__ input, int size, T alpha, T beta, T k, int channels, int spatial,
    int total, T* __restrict__ output, T* __restrict__ scale
) {
    const int before = size / 2;
    const int after = (size - 1) / 2;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int corner = i / spatial * channels * spatial + i % spatial;
        const T* pixel = input + corner;
        T sum = energy(pixel, 0, min(after, channels) - 1, spatial);
        T peak = sum;
        for (int c = 0; c < channels; ++c) {
            if (c + after < channels) {
                const T entering = pixel[(c + after) * spatial];
                sum += entering * entering;
                peak = max(peak, sum);
            }
            if (c - before > 0) {
                const T leaving = pixel[(c - before - 1) * spatial];
                sum -= leaving * leaving;
            }
            if (!(sum >= T(0.25) * peak)) {
                const int last = min(c + after, channels - 1);
                sum = energy(pixel, max(c - before, 0), last, spatial);
                peak = sum;
            }
            const T base = k + alpha * sum;
            const int at = corner + c * spatial;
            scale[at] = base;
            output[at] = input[at] * exp(-beta * log(base));
        }
    }
}
