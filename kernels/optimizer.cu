// Optimizer steps: one pass over a parameter, its gradient and its running averages, in place.
//
// SGD, with g = gradient + weight_decay * parameter and v the velocity:
//
//     v         <- momentum * v + undamped * g          (v <- g in the first step)
//     parameter <- parameter - lr * v                   (lr * (g + momentum * v) with nesterov)
//
// Without velocity, parameter <- parameter - lr * g. Adam, with g as above:
//
//     exp_avg    <- exp_avg + rate1 * (g - exp_avg)
//     exp_avg_sq <- beta2 * exp_avg_sq + rate2 * g^2
//     parameter  <- shrink * parameter - step_size * exp_avg / denominator
//                   denominator = sqrt(exp_avg_sq) / root_correction2 + eps
//
// One thread updates element `i` of all arrays. The scalars come from the host, formed in float64:
// none is computed anew by a million threads. Bound by memory: SGD with momentum reads 3 arrays and
// writes 2, Adam reads 4 and writes 3.

template <typename T>
__global__ void sgd_step_cuda(
    const T* __restrict__ gradient, T lr, T momentum, T undamped, T weight_decay, bool nesterov,
    bool first, bool has_velocity, int total, T* __restrict__ parameter, T* __restrict__ velocity
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        T g = gradient[i];
        if (weight_decay != T(0)) {
            g += weight_decay * parameter[i];
        }
        if (has_velocity) {
            const T v = first ? g : momentum * velocity[i] + undamped * g;
            velocity[i] = v;
            g = nesterov ? g + momentum * v : v;
        }
        parameter[i] -= lr * g;
    }
}

template <typename T>
__global__ void adam_step_cuda(
    const T* __restrict__ gradient, T step_size, T rate1, T beta2, T rate2, T root_correction2,
    T eps, T shrink, T weight_decay, int total, T* __restrict__ parameter,
    T* __restrict__ exp_avg, T* __restrict__ exp_avg_sq
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        T g = gradient[i];
        if (weight_decay != T(0)) {
            g += weight_decay * parameter[i];
        }
        const T average = exp_avg[i] + rate1 * (g - exp_avg[i]);
        const T average_sq = beta2 * exp_avg_sq[i] + rate2 * g * g;
        const T denominator = sqrt(average_sq) / root_correction2 + eps;
        exp_avg[i] = average;
        exp_avg_sq[i] = average_sq;
        parameter[i] = shrink * parameter[i] - step_size * average / denominator;
    }
}
