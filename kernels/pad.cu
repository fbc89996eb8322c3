// Pad arrays: a border of one value, of mirrored values, or of the nearest ones, and the way back.
//
//     output[plane, out_y, out_x] = input[plane, source(out_y), source(out_x)]       y = out_y - top
//
//     constant    `value` where y or x lies outside of the input
//     reflect     source = -y for y < 0, 2 (height - 1) - y for y >= height
//     replicate   source = y cut to [0, height - 1]
//
//     backward    grad_input[plane, y, x] = sum of grad_output over the outputs with source (y, x)
//
// One thread computes one element of what is written, neighbouring threads neighbouring ones.
// Backward, a pixel takes from the outputs that have copied it, in their order. Mirrored they are
// three at most along an axis: one on its own place, one in the border before and one after.
// Repeated they are one, or a whole border where the pixel lies at the edge.

__device__ __forceinline__ int mirrored(int y, int size) {
    y = abs(y);
    return min(y, 2 * (size - 1) - y);
}

// The output that shows pixel `y` in the border before (side -1), on its own place (0) or in the
// border after (1) along an axis; -1 where there is none.
__device__ __forceinline__ int mirror_image(int y, int side, int before, int size, int outputs) {
    if (side == 0) {
        return before + y;
    }
    // A pixel at the edge is its own mirror image and must not be counted again.
    const int edge = side == 1 ? size - 1 : 0;
    const int out = before + 2 * edge - y;
    return y == edge || out < 0 || out >= outputs ? -1 : out;
}

template <typename T>
__global__ void pad_constant_cuda(
    const T* __restrict__ input, int height, int width, int top, int left, T value, int out_h,
    int out_w, int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % out_w - left;
        const int y = i / out_w % out_h - top;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        output[i] = inside ? input[(i / (out_w * out_h) * height + y) * width + x] : value;
    }
}

template <typename T>
__global__ void pad_reflect_forward_cuda(
    const T* __restrict__ input, int height, int width, int top, int left, int out_h, int out_w,
    int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = mirrored(i % out_w - left, width);
        const int y = mirrored(i / out_w % out_h - top, height);
        output[i] = input[(i / (out_w * out_h) * height + y) * width + x];
    }
}

template <typename T>
__global__ void pad_reflect_backward_cuda(
    const T* __restrict__ grad_output, int out_h, int out_w, int top, int left, int height,
    int width, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const T* plane = grad_output + i / (width * height) * (out_h * out_w);
        T sum = 0;
        for (int side_y = -1; side_y <= 1; ++side_y) {
            const int out_y = mirror_image(y, side_y, top, height, out_h);
            for (int side_x = -1; side_x <= 1; ++side_x) {
                const int out_x = mirror_image(x, side_x, left, width, out_w);
                if (out_y >= 0 && out_x >= 0) {
                    sum += plane[out_y * out_w + out_x];
                }
            }
        }
        grad_input[i] = sum;
    }
}

template <typename T>
__global__ void pad_replicate_forward_cuda(
    const T* __restrict__ input, int height, int width, int top, int left, int out_h, int out_w,
    int total, T* __restrict__ output
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = min(max(i % out_w - left, 0), width - 1);
        const int y = min(max(i / out_w % out_h - top, 0), height - 1);
        output[i] = input[(i / (out_w * out_h) * height + y) * width + x];
    }
}

template <typename T>
__global__ void pad_replicate_backward_cuda(
    const T* __restrict__ grad_output, int out_h, int out_w, int top, int left, int height,
    int width, int total, T* __restrict__ grad_input
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int x = i % width;
        const int y = i / width % height;
        const T* plane = grad_output + i / (width * height) * (out_h * out_w);
        const int first_y = y == 0 ? 0 : top + y;
        const int last_y = y == height - 1 ? out_h - 1 : top + y;
        const int first_x = x == 0 ? 0 : left + x;
        const int last_x = x == width - 1 ? out_w - 1 : left + x;
        T sum = 0;
        for (int out_y = first_y; out_y <= last_y; ++out_y) {
            for (int out_x = first_x; out_x <= last_x; ++out_x) {
                sum += plane[out_y * out_w + out_x];
            }
        }
        grad_input[i] = sum;
    }
}
