// The threads of one block, taking turns on one thread of the CPU.
//
// A thread runs until it must wait: at a barrier, or for the other lanes of its warp. Then the next
// thread that can go on is switched to directly. Stacks are given out lazily: a fibre, a stack with
// a place to come back to, runs one new thread after the other for as long as none has to wait;
// only a thread that waits keeps its fibre. A kernel without barriers is therefore a plain loop
// over function calls, a few nanoseconds a thread.
//
// Everything a block needs lives in its Worker and nothing here is locked: blocks on other CPU
// threads have Workers of their own.
#include "internal.h"

extern "C" {
#pragma GCC visibility push(default)
__thread uint3 threadIdx, blockIdx, blockDim, gridDim;
#pragma GCC visibility pop
}

// --------------------------------------------------------------------------------- taking turns

static void run_fibre();

static Fibre* take_fibre(Worker* w) {
    if (!w->idle.empty()) {
        Fibre* fibre = w->idle.back();
        w->idle.pop_back();
        return fibre;
    }
    int number = w->fibres++;
    char* stack = w->stacks + number * STACK_BYTES;
    if (number >= w->guarded) {  // a stack that overflows must not run into its neighbour's
        mprotect(stack, PAGE, PROT_NONE);
        w->guarded = number + 1;
    }
    // Tops at equal offsets within a page would all fall into the same few sets of the cache.
    size_t stagger = number * 1088 % 16384;
    make_context(w->fibre[number].context, stack, STACK_BYTES - stagger, run_fibre);
    return &w->fibre[number];
}

static inline void enter(Worker* w, int i) {
    w->current = i;
    w->thread[i].state = RUNNING;
    threadIdx = w->index[i];
}

static inline void make_ready(Worker* w, int i) {
    w->thread[i].state = READY;
    w->ready[(w->ready_head + w->ready_count++) % MAX_THREADS] = i;
}

// The thread whose turn it is, or -1 if all wait. Threads that were started go on before new ones
// are started; in random order the draw decides.
static inline int next_thread(Worker* w) {
    bool fresh = w->started < w->threads;
    if (w->ready_count && !(w->launch->order == RANDOM && fresh && draw(w) & 1)) {
        if (w->launch->order == RANDOM) {
            unsigned other = (w->ready_head + draw(w) % w->ready_count) % MAX_THREADS;
            std::swap(w->ready[w->ready_head], w->ready[other]);
        }
        int i = w->ready[w->ready_head];
        w->ready_head = (w->ready_head + 1) % MAX_THREADS;
        --w->ready_count;
        return i;
    }
    return fresh ? w->order[w->started++] : -1;
}

// Leave the running thread where it is and give the turn to another.
SWITCHES void wait(Worker* w) {
    Context& here = w->thread[w->current].fibre->context;
    int i = next_thread(w);
    if (i < 0) {
        switch_context(here, w->main);  // nobody can run: run_block says what is wrong
        return;
    }
    Thread& thread = w->thread[i];
    if (thread.state == NOT_STARTED) thread.fibre = take_fibre(w);
    enter(w, i);
    if (&thread.fibre->context != &here) switch_context(here, thread.fibre->context);
}

static void end_launch(Worker* w) {
    w->launch->aborted = true;
    Context nowhere;
    switch_context(nowhere, w->main);  // never unwinds: destructors of a kernel mean nothing
    __builtin_unreachable();
}

// ------------------------------------------------------------------------------------- barriers

static void release_barrier(Worker* w) {
    if (w->launch->mode == CHECK) w->barrier_lines.push_back(w->barrier_line);
    ++w->epoch;
    w->waiting = 0;
    w->barrier_line = 0;
    memcpy(w->vote_result[w->epoch & 1], w->vote, sizeof w->vote);
    w->vote[CUDASIM_COUNT] = 0;
    w->vote[CUDASIM_AND] = 1;
    w->vote[CUDASIM_OR] = 0;
    for (int k = 0; k < w->threads; ++k) {
        int i = w->order[k];
        if (w->thread[i].state == AT_BARRIER) make_ready(w, i);
    }
}

extern "C" void cudasim_barrier(int line) {
    Worker* w = worker;
    if (w->waiting && w->barrier_line != line) {
        Finding finding;
        finding.kind = BARRIER;
        finding.site = line;
        finding.other_site = w->barrier_line;
        describe_thread(finding, w, me(w));
        add_finding(finding);
        end_launch(w);
    }
    w->barrier_line = line;
    if (++w->waiting == w->alive) {
        release_barrier(w);
        return;
    }
    w->thread[w->current].state = AT_BARRIER;
    wait(w);
}

extern "C" int cudasim_barrier_reduce(int line, int predicate, int operation) {
    Worker* w = worker;
    w->vote[CUDASIM_COUNT] += predicate != 0;
    w->vote[CUDASIM_AND] &= predicate != 0;
    w->vote[CUDASIM_OR] |= predicate != 0;
    cudasim_barrier(line);
    // Two results in turn: a thread may be at the next vote before another has read this one.
    return w->vote_result[w->epoch & 1][operation];
}

// ---------------------------------------------------------------------------------------- warps

enum { SHUFFLE, BALLOT, SYNCWARP };

static void warp_finding(Worker* w, int line, int other_line, const char* detail) {
    Finding finding;
    finding.kind = WARP_DIVERGENCE;
    finding.site = line;
    finding.other_site = other_line;
    describe_thread(finding, w, me(w));
    set_text(finding.detail, sizeof finding.detail, detail);
    add_finding(finding);
}

// All lanes that were to come have come: give each its result and let the waiting ones go on.
static void end_meeting(Worker* w, int warp_number, Meeting& meeting) {
    Warp& warp = w->warp[warp_number];
    Thread* lanes = w->thread + warp_number * WARP;
    uint32_t arrived = meeting.arrived;
    if (meeting.operation == SYNCWARP) ++warp.epoch;
    uint64_t ballot = 0;
    if (meeting.operation == BALLOT) {
        for (int lane = 0; lane < WARP; ++lane) {
            if (arrived >> lane & 1 && lanes[lane].value) ballot |= 1u << lane;
        }
    }
    for (uint32_t rest = arrived; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        Thread& thread = lanes[lane];
        if (meeting.operation != SHUFFLE) {
            thread.result = ballot;
        } else if (arrived >> thread.source & 1) {
            thread.result = lanes[thread.source].value;
        } else {
            thread.result = ~0ull;
            thread.source = -1;
        }
        if (thread.state == IN_WARP) make_ready(w, warp_number * WARP + lane);
    }
    meeting = warp.meeting[--warp.meetings];
}

static Meeting* find_meeting(Worker* w, Warp& warp, uint32_t mask, int operation, int line) {
    for (int i = 0; i < warp.meetings; ++i) {
        Meeting& meeting = warp.meeting[i];
        if (meeting.mask == mask && meeting.operation == operation && meeting.line == line) {
            return &meeting;
        }
        if (meeting.mask != mask) continue;  // other lanes, or lanes that are not here yet
        char text[160];
        snprintf(text, sizeof text, "other lanes of its mask %08x wait at another warp primitive",
                 mask);
        warp_finding(w, line, meeting.line, text);
        end_launch(w);
    }
    Meeting& meeting = warp.meeting[warp.meetings++];
    meeting.mask = mask;
    meeting.arrived = 0;
    meeting.operation = operation;
    meeting.line = line;
    return &meeting;
}

// Meet the other lanes of `mask` and return this lane's result.
SWITCHES uint64_t meet(Worker* w, uint32_t mask, uint64_t value, int source, int operation,
                       int line) {
    int i = w->current, lane = i % WARP;
    Warp& warp = w->warp[i / WARP];
    Thread& self = w->thread[i];
    if (!(mask >> lane & 1)) {
        char text[160];
        snprintf(text, sizeof text, "lane %d calls it with the mask %08x, which does not name it",
                 lane, mask);
        warp_finding(w, line, 0, text);
        end_launch(w);
    }
    Meeting* meeting = find_meeting(w, warp, mask, operation, line);
    self.value = value;
    self.source = source;
    meeting->arrived |= 1u << lane;
    if (meeting->arrived == (mask & warp.live)) {
        end_meeting(w, i / WARP, *meeting);
    } else {
        self.state = IN_WARP;
        wait(w);
    }
    return self.result;
}

extern "C" void cudasim_syncwarp(unsigned mask, int line) {
    meet(worker, mask, 0, 0, SYNCWARP, line);
}

extern "C" unsigned cudasim_ballot(unsigned mask, int predicate, int line) {
    return static_cast<unsigned>(meet(worker, mask, predicate != 0, 0, BALLOT, line));
}

extern "C" uint64_t cudasim_shuffle(unsigned mask, uint64_t value, int kind, int operand, int width,
                                    int line) {
    Worker* w = worker;
    int lane = w->current % WARP;
    int first = lane & ~(width - 1), end = first + width, source = lane;
    if (kind == CUDASIM_INDEX) source = first + (operand & (width - 1));
    if (kind == CUDASIM_UP && lane - operand >= first) source = lane - operand;
    if (kind == CUDASIM_DOWN && lane + operand < end) source = lane + operand;
    if (kind == CUDASIM_XOR && (lane ^ operand) < end) source = lane ^ operand;
    source &= WARP - 1;
    uint64_t result = meet(w, mask, value, source, SHUFFLE, line);
    if (w->thread[w->current].source < 0) {
        char text[160];
        bool exists = w->warp[w->current / WARP].lanes >> source & 1;
        snprintf(text, sizeof text, "it reads lane %d, which %s", source,
                 exists ? "does not take part" : "the block does not have");
        warp_finding(w, line, 0, text);
    }
    return result;
}

// --------------------------------------------------------------------------------- shared memory

extern "C" char* cudasim_shared_base() { return worker->shared; }

extern "C" void* cudasim_shared(const void* key, size_t bytes, size_t align, const char* name,
                                int line) {
    Worker* w = worker;
    for (int i = 0; i < w->arrays; ++i) {
        if (w->array[i].key == key) return w->shared + w->array[i].offset;
    }
    w->shared_used = (w->shared_used + align - 1) / align * align + bytes;
    align = std::max<size_t>(align, 64);
    size_t offset = (w->shared_top + RED_ZONE + align - 1) / align * align;
    bool fits = w->arrays < 64 && offset + bytes + RED_ZONE <= SHARED_BYTES;
    if (!fits || w->shared_used > w->launch->shared_limit) {
        Finding finding;
        finding.kind = LIMIT;
        finding.space = SHARED;
        finding.site = line;
        describe_thread(finding, w, me(w));
        set_text(finding.name, sizeof finding.name, name);
        snprintf(finding.detail, sizeof finding.detail,
                 "the block has %zu bytes of shared memory with it, and a block may have %u",
                 w->shared_used, w->launch->shared_limit);
        add_finding(finding);
        end_launch(w);
    }
    SharedArray& array = w->array[w->arrays++];
    array.key = key;
    array.offset = offset;
    array.bytes = bytes;
    set_text(array.name, sizeof array.name, name);
    w->shared_top = offset + bytes;
    memset(w->shared + offset, 0xFF, bytes);
    return w->shared + offset;
}

extern "C" void* cudasim_dynamic_shared(const char* name, int line) {
    Worker* w = worker;
    static const char key = 0;
    if (w->launch->dynamic_bytes) {
        return cudasim_shared(&key, w->launch->dynamic_bytes, 16, name, line);
    }
    Finding finding;
    finding.kind = LIMIT;
    finding.space = SHARED;
    finding.site = line;
    describe_thread(finding, w, me(w));
    set_text(finding.name, sizeof finding.name, name);
    set_text(finding.detail, sizeof finding.detail,
             "the kernel has dynamic shared memory, and the launch gave it none");
    add_finding(finding);
    end_launch(w);
}

// --------------------------------------------------------------------------------------- a block

static void leave_kernel(Worker* w) {
    int i = w->current;
    w->thread[i].state = GONE;
    w->thread[i].left_at = w->epoch;
    --w->alive;
    Warp& warp = w->warp[i / WARP];
    warp.live &= ~(1u << i % WARP);
    // Those that wait for everybody still there may have waited for this thread alone.
    for (int k = warp.meetings; k-- > 0;) {
        Meeting& meeting = warp.meeting[k];
        if (meeting.arrived && meeting.arrived == (meeting.mask & warp.live)) {
            end_meeting(w, i / WARP, meeting);
        }
    }
    if (w->alive && w->waiting == w->alive) release_barrier(w);
}

// What every fibre does for ever: run threads, and lie idle in between.
static void run_fibre() {
    Worker* w = worker;
    Fibre* self = w->thread[w->current].fibre;
    for (;;) {
        w->launch->kernel(w->launch->arguments);
        leave_kernel(w);
        int i = next_thread(w);
        if (i >= 0 && w->thread[i].state == NOT_STARTED) {
            w->thread[i].fibre = self;
            enter(w, i);
            continue;
        }
        w->idle.push_back(self);
        if (i >= 0) enter(w, i);
        switch_context(self->context, i < 0 ? w->main : w->thread[i].fibre->context);
    }
}

static void reset_block(Worker* w, uint64_t block) {
    const uint3& grid = w->launch->grid;
    w->block = block;
    ++w->stamp;
    blockIdx = {static_cast<unsigned>(block % grid.x),
                static_cast<unsigned>(block / grid.x % grid.y),
                static_cast<unsigned>(block / grid.x / grid.y)};
    w->alive = w->threads;
    w->started = w->ready_head = w->ready_count = 0;
    w->waiting = w->barrier_line = 0;
    w->epoch = 1;
    w->barrier_lines.clear();
    w->arrays = w->last_array = 0;
    w->shared_top = w->shared_used = 0;
    w->vote[CUDASIM_COUNT] = 0;
    w->vote[CUDASIM_AND] = 1;
    w->vote[CUDASIM_OR] = 0;
    for (int i = 0; i < w->threads; ++i) w->thread[i].state = NOT_STARTED;
    for (int k = 0; k < w->warps; ++k) {
        int lanes = std::min(WARP, w->threads - k * WARP);
        w->warp[k].lanes = w->warp[k].live = lanes == WARP ? ~0u : (1u << lanes) - 1;
        w->warp[k].epoch = 0;
        w->warp[k].meetings = 0;
    }
    if (w->launch->order == RANDOM) {
        for (int i = w->threads - 1; i > 0; --i)
            std::swap(w->order[i], w->order[draw(w) % (i + 1)]);
    }
}

// Nobody can go on: say who waits where.
static void report_deadlock(Worker* w) {
    Finding finding;
    finding.kind = DEADLOCK;
    int at_barrier = 0, in_warp = 0, warp_line = 0, first = -1;
    for (int i = 0; i < w->threads; ++i) {
        at_barrier += w->thread[i].state == AT_BARRIER;
        in_warp += w->thread[i].state == IN_WARP;
        if (first < 0 && w->thread[i].state == IN_WARP) first = i;
    }
    if (first >= 0) {
        Warp& warp = w->warp[first / WARP];
        for (int k = 0; k < warp.meetings; ++k) {
            if (warp.meeting[k].arrived >> first % WARP & 1) warp_line = warp.meeting[k].line;
        }
        w->current = first;
    }
    finding.site = warp_line ? warp_line : w->barrier_line;
    finding.other_site = warp_line ? w->barrier_line : 0;
    describe_thread(finding, w, me(w));
    snprintf(finding.detail, sizeof finding.detail,
             "%d threads wait at __syncthreads, %d in a warp primitive for lanes that never come",
             at_barrier, in_warp);
    add_finding(finding);
}

// All have left; on a GPU that is only defined if all met the same barriers.
static void check_barrier_counts(Worker* w) {
    for (int i = 0; i < w->threads; ++i) {
        if (w->thread[i].left_at == w->epoch) continue;
        Finding finding;
        finding.kind = BARRIER;
        finding.site = w->barrier_lines[w->thread[i].left_at - 1];
        w->current = i;
        describe_thread(finding, w, me(w));
        snprintf(finding.detail, sizeof finding.detail, "left the kernel after %u of %u barriers",
                 w->thread[i].left_at - 1, w->epoch - 1);
        add_finding(finding);
        return;
    }
}

// Run all threads of a block; false when the launch is to end.
static bool run_block(Worker* w, uint64_t block) {
    reset_block(w, block);
    while (w->alive) {
        int i = next_thread(w);
        if (i < 0) {
            report_deadlock(w);
            w->launch->aborted = true;
        } else {
            if (w->thread[i].state == NOT_STARTED) w->thread[i].fibre = take_fibre(w);
            enter(w, i);
            switch_context(w->main, w->thread[i].fibre->context);
        }
        if (w->launch->aborted && w->alive) {
            w->fibres = 0;  // some are in the middle of a thread: all start anew
            w->idle.clear();
            return false;
        }
    }
    if (w->launch->mode == CHECK) check_barrier_counts(w);
    return true;
}
