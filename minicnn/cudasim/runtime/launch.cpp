// A launch: the blocks of a grid dealt out to threads of the CPU, and what happens at a fault.
//
// In fast mode as many CPU threads as asked for take blocks, in the order of the launch, from a
// common counter. Check and profile mode run on one. Floats that are too small to be normal count
// as zero meanwhile, as they do in every kernel that CuPy compiles (-ftz=true).
#include <link.h>
#include <ucontext.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "internal.h"

namespace launching {

// ------------------------------------------------------------------------------------ workers

static void* map_memory(size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

constexpr size_t SIGNAL_STACK = 64 << 10;

static Worker* make_worker() {
    Worker* w = new Worker();
    w->stacks = static_cast<char*>(map_memory(MAX_THREADS * STACK_BYTES));
    w->shared = static_cast<char*>(map_memory(SHARED_BYTES));
    w->shared_shadow = static_cast<Shadow*>(map_memory(SHARED_BYTES / 4 * sizeof(Shadow)));
    w->signal_stack = static_cast<char*>(map_memory(SIGNAL_STACK));
    return w;
}

// Denormal numbers on and off, for the CPU thread that calls.
#if defined(__x86_64__)
static uint64_t flush_denormals(bool flush) {
    unsigned before = _mm_getcsr();
    if (flush) _mm_setcsr(before | 0x8040);  // flush to zero, denormals are zero
    return before;
}
static void restore_denormals(uint64_t before) { _mm_setcsr(static_cast<unsigned>(before)); }
#elif defined(__aarch64__)
static uint64_t flush_denormals(bool flush) {
    uint64_t before;
    asm volatile("mrs %0, fpcr" : "=r"(before));
    if (flush) asm volatile("msr fpcr, %0" : : "r"(before | 1ull << 24));
    return before;
}
static void restore_denormals(uint64_t before) { asm volatile("msr fpcr, %0" : : "r"(before)); }
#else
static uint64_t flush_denormals(bool) { return 0; }
static void restore_denormals(uint64_t) {}
#endif

static void set_up(Worker* w, Launch& launch) {
    // Fibres that lie idle remember the CPU thread they ran on; on another one, all start anew.
    if (!pthread_equal(w->owner, pthread_self())) {
        w->fibres = 0;
        w->idle.clear();
        w->owner = pthread_self();
    }
    w->launch = &launch;
    const uint3& size = launch.block;
    w->threads = size.x * size.y * size.z;
    w->warps = (w->threads + WARP - 1) / WARP;
    w->random = launch.seed * 0x9E3779B97F4A7C15ull + 88172645463325252ull;
    for (int i = 0; i < w->threads; ++i) {
        unsigned rest = i / size.x;
        w->order[i] = launch.order == DESCENDING ? w->threads - 1 - i : i;
        w->index[i] = {i - rest * size.x, rest % size.y, rest / size.y};
    }
    blockDim = size;
    gridDim = launch.grid;
}

// The block whose turn it is as number `i` of the launch.
static uint64_t ordered_block(const Launch& launch, uint64_t i) {
    if (launch.order == DESCENDING) return launch.blocks - 1 - i;
    if (launch.order == RANDOM) {
        return static_cast<uint64_t>(
            (static_cast<unsigned __int128>(i) * launch.step + launch.shift) % launch.blocks);
    }
    return i;
}

static void run_blocks(Worker* w, Launch& launch) {
    stack_t before, ours{};
    ours.ss_sp = w->signal_stack;
    ours.ss_size = SIGNAL_STACK;
    sigaltstack(&ours, &before);
    uint64_t control = flush_denormals(launch.flush_denormals);
    set_up(w, launch);
    worker = w;
    if (launch.mode == PROFILE) w->statistics = new Statistics();
    while (!launch.aborted) {
        uint64_t i = launch.next_block.fetch_add(1, std::memory_order_relaxed);
        if (i >= launch.blocks) break;
        uint64_t block = ordered_block(launch, i);
        if (launch.mode == PROFILE) {
            w->block = block;
            statistics::begin_block(w);
        }
        if (!run_block(w, block)) break;
        if (launch.mode == PROFILE) statistics::end_block(w);
    }
    if (launch.mode == PROFILE) {
        statistics::end_launch(w);
        delete w->statistics;
        w->statistics = nullptr;
    }
    worker = nullptr;
    restore_denormals(control);
    sigaltstack(&before, nullptr);
}

// --------------------------------------------------------------------------------- CPU threads

// Helpers sleep between launches. One that wakes up late finds the blocks gone and sleeps on;
// nobody waits for it.
struct Pool {
    std::mutex mutex;
    std::condition_variable wake, done;
    Launch* launch = nullptr;
    uint64_t number = 0;
    int wanted = 0, busy = 0, helpers = 0;
};

static Pool* pool;
static pid_t pool_process;

static void help(Pool* p) {
    Worker* w = make_worker();
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(p->mutex);
    for (;;) {
        p->wake.wait(lock, [&] { return p->launch && p->number != seen && p->wanted > 0; });
        seen = p->number;
        Launch* launch = p->launch;
        --p->wanted;
        ++p->busy;
        lock.unlock();
        run_blocks(w, *launch);
        lock.lock();
        if (--p->busy == 0) p->done.notify_all();
    }
}

static void run_with_helpers(Worker* w, Launch& launch, int helpers) {
    // Never destroyed, since its threads never end; a forked process has none of them.
    if (!pool || pool_process != getpid()) {
        pool = new Pool();
        pool_process = getpid();
    }
    Pool* p = pool;
    {
        std::lock_guard<std::mutex> lock(p->mutex);
        for (; p->helpers < helpers; ++p->helpers) std::thread(help, p).detach();
        p->launch = &launch;
        p->wanted = helpers;
        ++p->number;
    }
    for (int i = 0; i < helpers; ++i) p->wake.notify_one();
    run_blocks(w, launch);
    std::unique_lock<std::mutex> lock(p->mutex);
    p->launch = nullptr;
    p->wanted = 0;
    p->done.wait(lock, [&] { return p->busy == 0; });
}

// -------------------------------------------------------------------------------------- faults

static struct sigaction before[4];
static const int signals[4] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

static uintptr_t program_counter(void* context) {
#if defined(__x86_64__)
    return static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return static_cast<ucontext_t*>(context)->uc_mcontext.pc;
#else
    (void)context;
    return 0;
#endif
}

// A kernel touched what it may not: end the launch from within the handler, on the thread's behalf.
static void on_fault(int number, siginfo_t* info, void* context) {
    Worker* w = worker;
    if (!w) {  // not ours: let it happen again with the handler that was there before
        for (int i = 0; i < 4; ++i) {
            if (signals[i] == number) sigaction(number, &before[i], nullptr);
        }
        return;
    }
    Finding finding;
    finding.kind = number == SIGFPE ? UNDEFINED : number == SIGILL ? ASSERTION : FAULT;
    uintptr_t at = program_counter(context);
    if (at >= w->launch->code_begin && at < w->launch->code_end) {
        finding.site = CODE_OFFSET | static_cast<uint32_t>(at - w->launch->code_begin);
    }
    describe_thread(finding, w, me(w));
    const char* address = static_cast<const char*>(info->si_addr);
    if (number == SIGFPE) {
        set_text(finding.detail, sizeof finding.detail, "an integer is divided by zero");
    } else if (number == SIGILL) {
        set_text(finding.detail, sizeof finding.detail, "__trap() was called");
    } else if (static_cast<size_t>(address - w->stacks) < MAX_THREADS * STACK_BYTES) {
        set_text(finding.detail, sizeof finding.detail,
                 "the thread's local variables, or its recursion, need more than 128 KiB");
    } else {
        describe_address(finding, w, address);
    }
    add_finding(finding);
    end_launch(w);
}

static void catch_faults() {
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    // SA_NODEFER, since the handler is never returned from.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 4; ++i) sigaction(signals[i], &action, &before[i]);
}

static void release_faults() {
    for (int i = 0; i < 4; ++i) sigaction(signals[i], &before[i], nullptr);
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b) {
    return b ? greatest_common_divisor(b, a % b) : a;
}

// In random order block number i is (i * step + shift) modulo their number: a permutation if step
// and the number have no common divisor.
static void draw_order(Launch& launch) {
    uint64_t state = launch.seed * 0x9E3779B97F4A7C15ull + 1;
    state ^= state >> 29;
    state *= 0xBF58476D1CE4E5B9ull;
    state ^= state >> 32;
    launch.shift = state % launch.blocks;
    launch.step = std::max<uint64_t>(1, (state >> 20) % launch.blocks);
    while (greatest_common_divisor(launch.step, launch.blocks) != 1) ++launch.step;
}

// Without hooks a write just before an array, or into the few bytes between its end and the guard
// page, goes unnoticed while the kernel runs. It shows afterwards: nobody else writes there.
static void check_margins(const Launch& launch, uint64_t written_arguments) {
    for (int i = 0; i < launch.argument_count; ++i) {
        if (!(written_arguments >> i & 1)) continue;
        Block* block = arena::find(reinterpret_cast<const char*>(launch.arguments[i]));
        if (!block || !block->bytes) continue;
        char* end = block->base + block->bytes;
        char* last = block->span + block->span_bytes;
        char* first = std::max(block->span, block->base - 256);
        auto written = [](char c) { return static_cast<unsigned char>(c) != 0xFF; };
        char* p = std::find_if(first, block->base, written);
        if (p == block->base) p = std::find_if(end, last, written);
        if (p == last) continue;
        Finding finding;
        finding.kind = FAULT;
        finding.access = CUDASIM_WRITE;
        finding.space = GLOBAL;
        finding.argument = i;
        finding.offset = p - block->base;
        finding.array_bytes = block->bytes;
        add_finding(finding);
        memset(first, 0xFF, block->base - first);
        memset(end, 0xFF, last - end);
    }
}

static std::mutex one_at_a_time;
static Worker* first_worker;
static uint32_t launches;

}  // namespace launching

// The machine code and constants of the library that holds `code`.
EXPORTED void cudasim_code_range(const void* code, uintptr_t* begin, uintptr_t* end) {
    struct Query {
        uintptr_t code, begin, end;
    } query{reinterpret_cast<uintptr_t>(code), 0, 0};
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
            auto* q = static_cast<Query*>(data);
            uintptr_t low = UINTPTR_MAX, high = 0;
            for (int i = 0; i < info->dlpi_phnum; ++i) {
                if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
                uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
                low = std::min(low, begin);
                high = std::max(high, begin + info->dlpi_phdr[i].p_memsz);
            }
            if (q->code < low || q->code >= high) return 0;
            q->begin = low;
            q->end = high;
            return 1;
        },
        &query);
    *begin = query.begin;
    *end = query.end;
}

// Run a grid; returns how many findings there are, plus 1 << 16 if something was printed.
EXPORTED int cudasim_launch(Kernel kernel, const uint64_t* arguments, int argument_count,
                            uint64_t pointer_arguments, uint64_t written_arguments,
                            const uintptr_t* code_range, const unsigned* grid,
                            const unsigned* block, unsigned dynamic_bytes, unsigned shared_limit,
                            int mode, int order, uint64_t seed, int threads, int flush,
                            uint64_t profile_every) {
    std::lock_guard<std::mutex> lock(launching::one_at_a_time);
    Launch launch;
    launch.kernel = kernel;
    launch.arguments = arguments;
    launch.argument_count = argument_count;
    launch.pointer_arguments = pointer_arguments;
    launch.grid = {grid[0], grid[1], grid[2]};
    launch.block = {block[0], block[1], block[2]};
    launch.dynamic_bytes = dynamic_bytes;
    launch.shared_limit = shared_limit;
    launch.mode = mode;
    launch.order = order;
    launch.seed = seed;
    launch.blocks = uint64_t{grid[0]} * grid[1] * grid[2];
    launch.profile_every = profile_every;
    launch.id = ++launching::launches;
    launch.flush_denormals = flush;
    launch.code_begin = code_range[0];
    launch.code_end = code_range[1];
    if (order == RANDOM) launching::draw_order(launch);
    if (mode != CHECK) {
        // Nobody watches what is written: take all of it as written.
        for (int i = 0; i < argument_count; ++i) {
            if (!(written_arguments >> i & 1)) continue;
            if (Block* written = arena::find(reinterpret_cast<const char*>(arguments[i]))) {
                written->initialised = true;
            }
        }
    }

    if (!launching::first_worker) launching::first_worker = launching::make_worker();
    launching::catch_faults();
    uint64_t helpers = mode == FAST ? std::min<uint64_t>(threads, launch.blocks) - 1 : 0;
    if (helpers) {
        launching::run_with_helpers(launching::first_worker, launch, static_cast<int>(helpers));
    } else {
        launching::run_blocks(launching::first_worker, launch);
    }
    launching::release_faults();
    if (mode == FAST && !launch.aborted) launching::check_margins(launch, written_arguments);
    return static_cast<int>(findings::list.size()) | (findings::printed.empty() ? 0 : 1 << 16);
}
