// Greedy non-maximum suppression: of boxes that overlap much, only the best scored is kept.
//
//     in order of falling scores: keep a box unless its IoU with a box already kept is above the
//     threshold
//
//     IoU(a, b) = overlap / (area a + area b - overlap)        area = (x2 - x1) (y2 - y1)
//     overlap   = max(min(x2) - max(x1), 0) max(min(y2) - max(y1), 0)
//
// The boxes come sorted, one coordinate after the other: boxes (4, count), rows x1, y1, x2, y2.
//
// Rungs:
//     plain  one thread does all of it
//     mask   all pairs at once, then the boxes in order. In nms_mask_cuda one thread compares box i
//            with 64 others and writes bit b of mask[word, i] if box i would suppress box
//            64 word + b; neighbouring threads have neighbouring i, so that they load and store
//            neighbouring numbers, and all read the same 64 boxes. In nms_sweep_cuda one block
//            keeps in shared memory which boxes are suppressed, a bit each. It goes through the
//            boxes in order, and for each that is kept its threads unite the words of that box.

#include "_product.h"

constexpr int WORD = 64;  // bits in a word of the mask

template <typename T>
struct Box {
    T x1, y1, x2, y2;
};

template <typename T>
__device__ __forceinline__ Box<T> load(const T* boxes, int count, int i) {
    return {boxes[i], boxes[count + i], boxes[2 * count + i], boxes[3 * count + i]};
}

// Products are rounded on their own, as on the CPU: an IoU next to the threshold must not fall on
// the other side of it.
template <typename T>
__device__ __forceinline__ bool overlaps(const Box<T>& a, const Box<T>& b, T threshold) {
    const T wide = max(min(a.x2, b.x2) - max(a.x1, b.x1), T(0));
    const T high = max(min(a.y2, b.y2) - max(a.y1, b.y1), T(0));
    const T overlap = product(wide, high);
    const T area_a = product(a.x2 - a.x1, a.y2 - a.y1);
    const T area_b = product(b.x2 - b.x1, b.y2 - b.y1);
    return overlap / (area_a + area_b - overlap) > threshold;
}

template <typename T>
__global__ void nms_cuda(
    const T* __restrict__ boxes, T threshold, int count, int total, bool* __restrict__ keep
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        for (int j = 0; j < count; ++j) {
            keep[j] = true;
        }
        for (int best = 0; best < count; ++best) {
            if (!keep[best]) {
                continue;
            }
            const Box<T> box = load(boxes, count, best);
            for (int j = best + 1; j < count; ++j) {
                if (overlaps(box, load(boxes, count, j), threshold)) {
                    keep[j] = false;
                }
            }
        }
    }
}

template <typename T>
__global__ void nms_mask_cuda(
    const T* __restrict__ boxes, T threshold, int count, int total,
    unsigned long long* __restrict__ mask
) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < total; i += blockDim.x * gridDim.x) {
        const int better = i % count;
        const int first = i / count * WORD;
        const Box<T> box = load(boxes, count, better);
        unsigned long long bits = 0;
        for (int j = max(first, better + 1); j < min(first + WORD, count); ++j) {
            if (overlaps(box, load(boxes, count, j), threshold)) {
                bits |= 1ull << (j - first);
            }
        }
        mask[i] = bits;
    }
}

__global__ void nms_sweep_cuda(
    const unsigned long long* __restrict__ mask, int count, int words, int total,
    bool* __restrict__ keep
) {
    extern __shared__ unsigned long long suppressed[];
    for (int item = blockIdx.x; item < total; item += gridDim.x) {
        for (int word = threadIdx.x; word < words; word += blockDim.x) {
            suppressed[word] = 0;
        }
        __syncthreads();
        for (int i = 0; i < count; ++i) {
            const bool kept = !(suppressed[i / WORD] >> (i % WORD) & 1ull);
            if (threadIdx.x == 0) {
                keep[i] = kept;
            }
            if (kept) {  // for all threads or for none: all read the same word
                __syncthreads();  // and all have read it
                for (int word = i / WORD + threadIdx.x; word < words; word += blockDim.x) {
                    suppressed[word] |= mask[word * count + i];
                }
                __syncthreads();
            }
        }
    }
}
