// Cross-entropy of log-probabilities and a target class, and its gradient.
//
//     loss[n, x]    = (1 - s) * w[t] * -log_probs[n, t, x]
//                     + s / C * sum over c of w[c] * -log_probs[n, c, x]   0 where t = ignore_index
//     weights[n, x] = w[t]                                                 0 where t = ignore_index
//         t = target[n, x], w = weight (all ones by default), s = label_smoothing
//
//     grad_log_probs[n, c, x] = -grad_output[n, x] * w[c] * ((1 - s if c = t else 0) + s / C)
//
// Index letters: `n` the example, `c` the class, `x` the pixel (only one where the input is a
// matrix). Log-probabilities are (N, classes, pixels); target, loss and weights are (N, pixels).
//
// One thread computes one element of what is written: a loss, a weight, or the gradient of one
// log-probability, which needs no look at the other classes. Pixels are neighbours in memory, and
// so are their threads; only the reads at the targets are scattered, as the targets are.

template <typename T>
__global__ void cross_entropy_forward_cuda(
    const T* __restrict__ log_probs, const long long* __restrict__ target,
    const T* __restrict__ weight, int classes, int pixels, long long ignore_index,
    T label_smoothing, int total, T* __restrict__ loss
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int n = i / pixels;
        const int x = i % pixels;
        const long long t = target[i];
        if (t == ignore_index) {
            loss[i] = 0;
            continue;
        }
        const T* example = log_probs + n * classes * pixels + x;
        T sum = -weight[t] * example[t * pixels];
        // Not multiplied by a smoothing of 0: log-probabilities of minus infinity would become NaN.
        if (label_smoothing > T(0)) {
            T smooth = 0;
            for (int c = 0; c < classes; ++c) {
                smooth -= weight[c] * example[c * pixels];
            }
            sum = (T(1) - label_smoothing) * sum + label_smoothing / T(classes) * smooth;
        }
        loss[i] = sum;
    }
}

template <typename T>
__global__ void cross_entropy_backward_cuda(
    const T* __restrict__ grad_output, const long long* __restrict__ target,
    const T* __restrict__ weight, int classes, int pixels, long long ignore_index,
    T label_smoothing, int total, T* __restrict__ grad_log_probs
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % pixels;
        const int c = i / pixels % classes;
        const int place = i / (classes * pixels) * pixels + x;
        const long long t = target[place];
        const T wanted = (c == t ? T(1) - label_smoothing : T(0)) + label_smoothing / T(classes);
        // A gradient of infinity must not become NaN in the classes that nobody wants.
        const bool counts = t != ignore_index && wanted > T(0);
        grad_log_probs[i] = counts ? -grad_output[place] * weight[c] * wanted : T(0);
    }
}

template <typename T>
__global__ void cross_entropy_weights_cuda(
    const long long* __restrict__ target, const T* __restrict__ weight, long long ignore_index,
    int total, T* __restrict__ weights
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        weights[i] = target[i] == ignore_index ? T(0) : weight[target[i]];
    }
}
