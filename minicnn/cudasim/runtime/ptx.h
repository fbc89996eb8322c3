// What C++ translated from PTX is written against: the runtime's services in PTX's terms.
//
// Each access to global or shared memory is announced before it happens, where the build asks for
// it by CUDASIM_WATCHED. Every announcement is a call of its own in the compiled code, so that
// accesses of one line can be told apart.

#pragma once

#include <stdio.h>

#include "ptx_arithmetic.h"
#include "runtime.h"

using std::ceil;
using std::copysign;
using std::cos;
using std::exp2;
using std::fabs;
using std::floor;
using std::fma;
using std::log2;
using std::rint;
using std::sin;
using std::sqrt;
using std::tanh;
using std::trunc;

#define PTX_INLINE __attribute__((always_inline)) inline

namespace ptx {

// ---------------------------------------------------------------- where a thread is

PTX_INLINE unsigned thread() {
    return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
}

PTX_INLINE unsigned lane() { return thread() % 32; }

// Leave the mode in which the CPU flushes subnormal numbers, for kernels of float64.
PTX_INLINE void keep_subnormals() {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() & ~0x8040u);
#elif defined(__aarch64__)
    uint64_t mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    asm volatile("msr fpcr, %0" : : "r"(mode & ~(uint64_t(1) << 24)));
#endif
}

// ---------------------------------------------------------------- memory

// A macro, so that the debug information of the call holds the line of the CUDA source.
#ifdef CUDASIM_WATCHED
#define ANNOUNCE(at, bytes, kind, line) cudasim_access(at, bytes, kind, line)
#else
#define ANNOUNCE(at, bytes, kind, line) ((void)0)
#endif

template <typename T>
PTX_INLINE T load(const char* at) {
    T value;
    memcpy(&value, at, sizeof value);
    return value;
}

template <typename T>
PTX_INLINE void store(char* at, T value) {
    memcpy(at, &value, sizeof value);
}

template <typename T, typename Compute>
PTX_INLINE T change(char* at, Compute compute) {
    return cudasim_change((T*)at, compute);
}

// `at` holds the address of the text of a condition.
inline void assertion_failed(const char* at, int line) {
    char text[200];
    snprintf(text, sizeof text, "assert(%s) failed", load<const char*>(at));
    cudasim_fail(text, line);
}

// ---------------------------------------------------------------- threads together

enum { COUNT = CUDASIM_COUNT, AND = CUDASIM_AND, OR = CUDASIM_OR };
enum Shuffle { IDX, UP, DOWN, XOR };

// The clamp operand holds two fields of 5 bits: the last lane that may be read, and which bits of
// the lane number stay as they are, for warps split into segments.
inline uint32_t shuffle(
    Shuffle kind, uint32_t value, uint32_t operand, uint32_t clamp, uint32_t mask, bool& valid,
    int line
) {
    const int own = lane(), segment = clamp >> 8 & 31, limit = clamp & 31;
    const int last = (own & segment) | (limit & ~segment), first = own & segment;
    const int by = operand & 31;
    int source = own;
    switch (kind) {
        case IDX: source = first | (by & ~segment); break;
        case UP: source = own - by; break;
        case DOWN: source = own + by; break;
        case XOR: source = own ^ by; break;
    }
    valid = kind == UP ? source >= last : source <= last;
    if (!valid) source = own;
    return uint32_t(cudasim_shuffle(mask, value, CUDASIM_INDEX, source, 32, line));
}

}  // namespace ptx
