// What the parts of the runtime share: a launch, the block that a CPU thread is running, findings.
//
// The parts are one translation unit, runtime.cpp, so that the calls between them on the hot paths
// (an access, a barrier) can be inlined:
//
//     context.h       switching between the stacks of two simulated threads
//     arena.cpp       device memory
//     findings.cpp    what a kernel did wrong
//     scheduler.cpp   the threads of a block, barriers, warps, shared memory
//     checks.cpp      bounds, races, uninitialised reads; the hooks that compilers call
//     statistics.cpp  sectors and bank conflicts
//     launch.cpp      a grid of blocks over the threads of the CPU, faults
#pragma once
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "context.h"
#include "runtime.h"

// Functions that may switch to another thread are inlined into the one that the kernel calls: the
// CPU mispredicts every return that follows a switch. That makes warp shuffles twice as fast.
#define SWITCHES static inline __attribute__((always_inline))

#define EXPORTED extern "C" __attribute__((visibility("default")))

// A place in the source: a line, or, with the top bit set, an offset into the kernel's machine
// code, which Python translates to a line when there is something to show.
using Site = uint32_t;
constexpr Site CODE_OFFSET = 0x80000000u;

constexpr int MAX_THREADS = 1024;  // of a block, as on every GPU
constexpr int WARP = 32;
constexpr size_t STACK_BYTES = 128 << 10;   // of a thread; only pages that are touched exist
constexpr size_t SHARED_BYTES = 256 << 10;  // of a block; more than any GPU has
constexpr size_t RED_ZONE = 64;             // unowned bytes around every shared array
constexpr size_t PAGE = 4096;

// ------------------------------------------------------------------------------------- findings

enum Kind {
    OUT_OF_BOUNDS,
    RACE,
    UNINITIALISED,
    BARRIER,
    WARP_DIVERGENCE,
    DEADLOCK,
    MISALIGNED,
    OVERFLOWED,
    UNDEFINED,
    FAULT,
    ASSERTION,
    LIMIT,
};
enum Space { NOWHERE, GLOBAL, SHARED };

// One thread of the grid, as block * MAX_THREADS + thread + 1; 0 is nobody.
using Who = uint32_t;

// As Python reads it; see findings.py.
struct Finding {
    int32_t kind = 0, access = -1, other_access = -1, space = NOWHERE;
    Site site = 0, other_site = 0;
    int32_t argument = -1, access_bytes = 0, column = 0, spare = 0;
    int32_t block[3] = {-1, -1, -1}, thread[3] = {-1, -1, -1};
    int32_t other_block[3] = {-1, -1, -1}, other_thread[3] = {-1, -1, -1};
    int64_t offset = 0, array_bytes = 0, count = 1;
    char name[64] = "";
    char detail[192] = "";
};

static void add_finding(Finding finding);

// ---------------------------------------------------------------------------------- device memory

// Who touched a word last: enough to say whether the next access races with it.
struct Access {
    Who who;
    Site site;
    uint32_t epoch;       // barriers of the block before it
    uint16_t warp_epoch;  // __syncwarp of the warp before it
    uint8_t bytes;        // which of the word's four
    uint8_t kind;         // CUDASIM_READ, CUDASIM_WRITE, CUDASIM_ATOMIC
};

// The shadow of a 4-byte word; one cache line, since an access needs all of it.
struct alignas(64) Shadow {
    Access write, read, second_read;
    uint32_t stamp;       // the launch (global) or block (shared) that the accesses belong to
    uint8_t initialised;  // which of the word's four bytes
};

// The same for profile mode: which bytes a launch has touched already.
struct Touched {
    uint32_t stamp;
    uint8_t read, written;
};

struct Block {
    char* base = nullptr;  // what the kernel gets
    size_t bytes = 0;
    char* span = nullptr;  // the pages it lies in
    size_t span_bytes = 0;
    bool initialised = false;  // every byte is known to have been written
    Shadow* shadow = nullptr;
    Touched* touched = nullptr;
};

// -------------------------------------------------------------------------------------- a launch

using Kernel = void (*)(const uint64_t*);
enum Order { ASCENDING, DESCENDING, RANDOM };
enum Mode { FAST, CHECK, PROFILE };

struct Launch {
    Kernel kernel;
    const uint64_t* arguments;
    int argument_count;
    uint64_t pointer_arguments;  // one bit each
    uint3 grid, block;
    uint32_t dynamic_bytes, shared_limit;
    int mode, order;
    uint64_t seed, blocks;
    uint64_t profile_every;
    uint32_t id;
    bool flush_denormals;
    uintptr_t code_begin, code_end;
    std::atomic<bool> aborted{false};
    std::atomic<uint64_t> next_block{0};
    uint64_t step = 1, shift = 0;  // of the random order of blocks
};

// ---------------------------------------------------- the block that a CPU thread is running

enum State : uint8_t { NOT_STARTED, RUNNING, READY, AT_BARRIER, IN_WARP, GONE };

struct Fibre {
    Context context;
};

struct Thread {
    Fibre* fibre;
    State state;
    uint32_t left_at;        // barriers it had passed when it left the kernel
    uint64_t value, result;  // what it gave to a warp primitive, what it gets
    int source;              // the lane it reads; -1 when the result is the same for all
};

// Lanes that have met, or are meeting, at one warp primitive.
struct Meeting {
    uint32_t mask = 0, arrived = 0;
    int operation = 0, line = 0;
};

struct Warp {
    uint32_t lanes, live;  // those there are, those that have not left
    uint16_t epoch;
    int meetings;  // how many of the entries are in use
    Meeting meeting[WARP];
};

struct SharedArray {
    const void* key;
    size_t offset, bytes;
    char name[64];
};

struct Statistics;

struct Worker {
    Launch* launch = nullptr;
    uint64_t block = 0;
    uint32_t stamp = 0;  // of the block, different for every one this worker ever ran
    int threads = 0, warps = 0, alive = 0;
    int current = 0;  // the running thread
    int started = 0;  // how many entries of `order` have been started
    int order[MAX_THREADS];
    uint3 index[MAX_THREADS];
    Thread thread[MAX_THREADS];
    Warp warp[MAX_THREADS / WARP];
    int ready[MAX_THREADS];  // a ring of threads that can go on
    unsigned ready_head = 0, ready_count = 0;

    int waiting = 0, barrier_line = 0;
    uint32_t epoch = 0;
    int vote[3], vote_result[2][3];
    std::vector<int> barrier_lines;  // where the block met, for check mode

    SharedArray array[64];
    int arrays = 0, last_array = 0;
    size_t shared_top = 0, shared_used = 0;

    Context main;
    Fibre fibre[MAX_THREADS];
    int fibres = 0;
    std::vector<Fibre*> idle;
    char* stacks = nullptr;
    int guarded = 0;  // stacks that have their guard page
    char* shared = nullptr;
    Shadow* shared_shadow = nullptr;
    char* signal_stack = nullptr;
    pthread_t owner{};
    uint64_t random = 1;
    bool profiled = false;  // this block is one of the sampled ones
    Statistics* statistics = nullptr;
};

static __thread Worker* worker;

static inline Who me(const Worker* w) {
    return static_cast<Who>(w->block % 4'000'000 * MAX_THREADS + w->current + 1);
}

static inline uint64_t draw(Worker* w) {  // xorshift64
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random;
}

[[noreturn]] static void end_launch(Worker* w);
static void describe_thread(Finding& finding, const Worker* w, Who who, bool other = false);
static void describe_address(Finding& finding, const Worker* w, const char* address);
