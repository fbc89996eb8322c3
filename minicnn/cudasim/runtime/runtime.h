// What a simulated kernel may ask of the runtime: where it is, barriers, warps, shared memory, and
// the hook that must precede every access to device memory in check and profile mode.
//
// Two kinds of code are written against this header: the CUDA C of a `.cu` file, through
// cuda_shim.h, and C++ translated from PTX. Both end in one function a kernel,
//
//     extern "C" void cudasim_kernel(const uint64_t* arguments);
//
// which runs ONE thread of the grid from start to end. `arguments` holds each parameter's value in
// an 8-byte cell of its own, at the cell's start. Whenever the thread has to wait for others it
// calls one of the functions below, which runs other threads of its block meanwhile.
//
// `line` is always a line of the source text; it tells barriers apart and is shown to people.
#pragma once
#include <stddef.h>
#include <stdint.h>

struct uint3 {
    unsigned x, y, z;
};

// Two words a variable are few enough for the static TLS block that dlopen still has.
#define CUDASIM_THREAD_LOCAL extern __thread __attribute__((tls_model("initial-exec")))

extern "C" {

#pragma GCC visibility push(default)

// The four built-in variables of CUDA.
CUDASIM_THREAD_LOCAL uint3 threadIdx, blockIdx, blockDim, gridDim;

// Wait until all threads of the block that have not left the kernel are at this line.
void cudasim_barrier(int line);

// The same, and combine every thread's predicate: how many hold, whether all do, whether any does.
enum { CUDASIM_COUNT, CUDASIM_AND, CUDASIM_OR };
int cudasim_barrier_reduce(int line, int predicate, int operation);

// Wait until the lanes of `mask` are here, and order their accesses to memory.
void cudasim_syncwarp(unsigned mask, int line);

// Exchange `value` among the lanes of `mask` and return the one that CUDA's __shfl_sync,
// __shfl_up_sync, __shfl_down_sync or __shfl_xor_sync would. With CUDASIM_INDEX and width 32 the
// operand is simply the lane to read from.
enum { CUDASIM_INDEX, CUDASIM_UP, CUDASIM_DOWN, CUDASIM_XOR };
uint64_t cudasim_shuffle(unsigned mask, uint64_t value, int kind, int operand, int width, int line);

// Return one bit a lane of `mask`: set where the lane's predicate is not 0.
unsigned cudasim_ballot(unsigned mask, int predicate, int line);

// The block's shared array known by `key`: reserved when the first thread asks, filled with 0xFF.
void* cudasim_shared(const void* key, size_t bytes, size_t align, const char* name, int line);
// The dynamic one, as large as the launch said.
void* cudasim_dynamic_shared(const char* name, int line);
// Where this block's shared memory begins; all its arrays lie within the next 256 KiB.
char* cudasim_shared_base(void);

// Announce an access to global or shared memory before it happens. An access that is out of bounds
// does not return: the launch ends.
enum { CUDASIM_READ, CUDASIM_WRITE, CUDASIM_ATOMIC };
void cudasim_access(const void* address, unsigned bytes, int kind, int line);

// End the launch: a failed assertion, or __trap().
void cudasim_fail(const char* what, int line) __attribute__((noreturn));

// Device printf; the text appears when the launch has ended.
int cudasim_printf(const char* format, ...) __attribute__((format(printf, 1, 2)));

#pragma GCC visibility pop

}  // extern "C"

// Read, compute and write one value as an indivisible step, also between the blocks that other
// threads of the CPU run at the same time. Returns the value before.
#define CUDASIM_UNCHECKED __attribute__((no_sanitize("thread"), no_sanitize("undefined")))

template <typename T, typename Compute>
CUDASIM_UNCHECKED static inline T cudasim_change(T* address, Compute compute) {
    T before, after;
    __atomic_load(address, &before, __ATOMIC_RELAXED);
    do {
        after = compute(before);
    } while (!__atomic_compare_exchange(address, &before, &after, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
    return before;
}
