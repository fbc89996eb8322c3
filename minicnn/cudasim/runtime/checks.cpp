// Check mode: every access to memory is looked at before it happens.
//
// Kernels are compiled as for ThreadSanitizer, so that the compiler calls `__tsan_read4(address)`
// and its like at every access, and for UndefinedBehaviorSanitizer, so that it calls a handler on
// overflow and misalignment. The sanitizers' own libraries are not linked: the functions are here.
//
// Bounds are exact. Global arrays lie in the arena, which knows the owner of every page; shared
// arrays are placed by the scheduler, with unowned bytes between them; what is neither must be on a
// thread's stack or among the module's constants.
//
// Races are found by order, not by luck. Two accesses to the same bytes from different threads, one
// of them a write and not both atomic, race unless something orders them: within a block a barrier
// between them, within a warp also __syncwarp; between blocks only the end of the launch.
// Per word the last write and two reads since are remembered, with the number of barriers each
// thread had passed.
#include "internal.h"

namespace checks {

static inline bool races(const Access& before, const Access& now) {
    if (!before.who || before.who == now.who || !(before.bytes & now.bytes)) return false;
    if (before.kind == CUDASIM_ATOMIC && now.kind == CUDASIM_ATOMIC) return false;
    uint32_t a = before.who - 1, b = now.who - 1;
    if (a / MAX_THREADS != b / MAX_THREADS) return true;
    if (before.epoch != now.epoch) return false;
    return a / WARP != b / WARP || before.warp_epoch == now.warp_epoch;
}

static void report_race(Worker* w, const Access& before, const Access& now, const char* address) {
    Finding finding;
    finding.kind = RACE;
    finding.site = now.site;
    finding.other_site = before.site;
    finding.access = now.kind;
    finding.other_access = before.kind;
    describe_thread(finding, w, now.who);
    describe_thread(finding, w, before.who, true);
    describe_address(finding, w, address);
    add_finding(finding);
}

static void report_access(Worker* w, int kind, const char* address, unsigned bytes, int access,
                          Site site) {
    Finding finding;
    finding.kind = kind;
    finding.site = site;
    finding.access = access;
    finding.access_bytes = bytes;
    describe_thread(finding, w, me(w));
    describe_address(finding, w, address);
    add_finding(finding);
}

static inline bool same_block_later(const Access& before, const Access& now) {
    return (before.who - 1) / MAX_THREADS == (now.who - 1) / MAX_THREADS &&
           before.epoch != now.epoch;
}

// Look at one word of an access.
static void check_word(Worker* w, Shadow& s, const Access& now, const char* address,
                       bool known_initialised) {
    if (now.kind != CUDASIM_WRITE && !known_initialised &&
        (s.initialised & now.bytes) != now.bytes) {
        report_access(w, UNINITIALISED, address, 4, now.kind, now.site);
        s.initialised |= now.bytes;  // once is enough
    }
    if (races(s.write, now)) report_race(w, s.write, now, address);
    if (now.kind == CUDASIM_READ) {
        if (!s.read.who || s.read.who == now.who || same_block_later(s.read, now)) {
            s.read = now;
        } else if (!s.second_read.who ||
                   (s.second_read.who - 1) / WARP == (s.read.who - 1) / WARP ||
                   s.second_read.epoch != now.epoch) {
            s.second_read = now;
        }
        return;
    }
    if (races(s.read, now)) {
        report_race(w, s.read, now, address);
    } else if (races(s.second_read, now)) {
        report_race(w, s.second_read, now, address);
    }
    s.write = now;
    s.initialised |= now.bytes;
    s.read.who = s.second_read.who = 0;
}

// Look at an access of up to 16 bytes, word by word. `stamp` tells shadows of another launch, or of
// another block's shared memory, from this one's.
static inline void check_words(Worker* w, Shadow* shadow, size_t offset, const char* address,
                               unsigned bytes, int kind, Site site, uint32_t stamp, bool shared,
                               bool known_initialised) {
    Access now{
        me(w), site, w->epoch, w->warp[w->current / WARP].epoch, 0, static_cast<uint8_t>(kind)};
    const size_t end = offset + bytes;
    for (size_t word = offset / 4; word * 4 < end; ++word) {
        Shadow& s = shadow[word];
        if (s.stamp != stamp) {
            s.write.who = s.read.who = s.second_read.who = 0;
            if (shared) s.initialised = 0;
            s.stamp = stamp;
        }
        unsigned mask = 15;
        if (word * 4 < offset) mask &= 15u << (offset - word * 4);
        if (word * 4 + 4 > end) mask &= 15u >> (word * 4 + 4 - end);
        now.bytes = mask;
        check_word(w, s, now, address + (std::max(word * 4, offset) - offset), known_initialised);
    }
}

[[noreturn]] static void out_of_bounds(Worker* w, const char* address, unsigned bytes, int kind,
                                       Site site) {
    report_access(w, OUT_OF_BOUNDS, address, bytes, kind, site);
    end_launch(w);
}

static bool is_private(const Worker* w, const char* address) {
    if (static_cast<size_t>(address - w->stacks) < MAX_THREADS * STACK_BYTES) return true;
    uintptr_t a = reinterpret_cast<uintptr_t>(address);
    if (a >= w->launch->code_begin && a < w->launch->code_end) return true;
    // threadIdx and its like lie near our own thread-local variable.
    return a - (reinterpret_cast<uintptr_t>(&worker) - 16384) < 32768;
}

// `code` tells apart the accesses that one line makes.
static inline void access(const char* address, unsigned bytes, int kind, Site site, Site code) {
    Worker* w = worker;
    if (!w) return;
    size_t offset = address - w->shared;
    if (offset < SHARED_BYTES) {
        int i = w->last_array;  // mostly the one used before
        for (int tries = 0;; ++tries, i = i + 1 < w->arrays ? i + 1 : 0) {
            if (tries == w->arrays) out_of_bounds(w, address, bytes, kind, site);
            const SharedArray& array = w->array[i];
            if (offset >= array.offset && offset + bytes <= array.offset + array.bytes) break;
        }
        w->last_array = i;
        if (w->launch->mode == CHECK) {
            check_words(w, w->shared_shadow, offset, address, bytes, kind, site, w->stamp, true,
                        false);
        } else if (w->profiled) {
            statistics::count_shared(w, offset, bytes, kind, site, code);
        }
        return;
    }
    if (arena::contains(address)) {
        Block* block = arena::find(address);
        if (!block || address < block->base || address + bytes > block->base + block->bytes) {
            out_of_bounds(w, address, bytes, kind, site);
        }
        if (w->launch->mode == CHECK) {
            check_words(w, arena::shadow_of(*block), address - block->base, address, bytes, kind,
                        site, w->launch->id, false, block->initialised);
        } else {
            statistics::count_global(w, *block, address - block->base, bytes, kind, site, code);
        }
        return;
    }
    if (!is_private(w, address)) out_of_bounds(w, address, bytes, kind, site);
}

// Where the compiler's call to a hook came from.
static inline Site caller(void* return_address) {
    Worker* w = worker;
    if (!w) return 0;
    return CODE_OFFSET | static_cast<uint32_t>(reinterpret_cast<uintptr_t>(return_address) - 1 -
                                               w->launch->code_begin);
}

}  // namespace checks

extern "C" void cudasim_access(const void* address, unsigned bytes, int kind, int line) {
    Worker* w = worker;
    if (w && reinterpret_cast<uintptr_t>(address) % bytes) {  // a GPU faults
        checks::report_access(w, MISALIGNED, static_cast<const char*>(address), bytes, kind, line);
        end_launch(w);
    }
    checks::access(static_cast<const char*>(address), bytes, kind, line,
                   checks::caller(__builtin_return_address(0)));
}

// ------------------------------------------------------------ what the compiler calls: accesses

#define HOOK(NAME, BYTES, KIND)                                  \
    EXPORTED void NAME(char* address) {                          \
        Site site = checks::caller(__builtin_return_address(0)); \
        checks::access(address, BYTES, KIND, site, site);        \
    }
#define HOOKS(BYTES)                                                   \
    HOOK(__tsan_read##BYTES, BYTES, CUDASIM_READ)                      \
    HOOK(__tsan_write##BYTES, BYTES, CUDASIM_WRITE)                    \
    HOOK(__tsan_unaligned_read##BYTES, BYTES, CUDASIM_READ)            \
    HOOK(__tsan_unaligned_write##BYTES, BYTES, CUDASIM_WRITE)          \
    HOOK(__tsan_volatile_read##BYTES, BYTES, CUDASIM_READ)             \
    HOOK(__tsan_volatile_write##BYTES, BYTES, CUDASIM_WRITE)           \
    HOOK(__tsan_unaligned_volatile_read##BYTES, BYTES, CUDASIM_READ)   \
    HOOK(__tsan_unaligned_volatile_write##BYTES, BYTES, CUDASIM_WRITE) \
    EXPORTED void __tsan_read_write##BYTES(char* address) {            \
        Site site = checks::caller(__builtin_return_address(0));       \
        checks::access(address, BYTES, CUDASIM_READ, site, site);      \
        checks::access(address, BYTES, CUDASIM_WRITE, site, site);     \
    }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

static inline void access_range(char* address, size_t bytes, int kind, Site site) {
    for (size_t i = 0; i < bytes; i += 4) {
        checks::access(address + i, std::min<size_t>(4, bytes - i), kind, site, site);
    }
}
EXPORTED void __tsan_read_range(char* address, size_t bytes) {
    access_range(address, bytes, CUDASIM_READ, checks::caller(__builtin_return_address(0)));
}
EXPORTED void __tsan_write_range(char* address, size_t bytes) {
    access_range(address, bytes, CUDASIM_WRITE, checks::caller(__builtin_return_address(0)));
}
// clang calls these for copies of whole structures.
EXPORTED void* __tsan_memcpy(char* to, char* from, size_t bytes) {
    access_range(from, bytes, CUDASIM_READ, checks::caller(__builtin_return_address(0)));
    access_range(to, bytes, CUDASIM_WRITE, checks::caller(__builtin_return_address(0)));
    return memcpy(to, from, bytes);
}
EXPORTED void* __tsan_memmove(char* to, char* from, size_t bytes) {
    access_range(from, bytes, CUDASIM_READ, checks::caller(__builtin_return_address(0)));
    access_range(to, bytes, CUDASIM_WRITE, checks::caller(__builtin_return_address(0)));
    return memmove(to, from, bytes);
}
EXPORTED void* __tsan_memset(char* to, int value, size_t bytes) {
    access_range(to, bytes, CUDASIM_WRITE, checks::caller(__builtin_return_address(0)));
    return memset(to, value, bytes);
}
EXPORTED void __tsan_init() {}
EXPORTED void __tsan_func_entry(void*) {}
EXPORTED void __tsan_func_exit() {}
EXPORTED void __tsan_vptr_update(void*, void*) {}
EXPORTED void __tsan_vptr_read(void*) {}

// ------------------------------------------------ what the compiler calls: undefined behaviour

// What it passes, by the first fields of its descriptors.
struct SourcePlace {
    const char* file;
    uint32_t line, column;
};
struct TypeDescriptor {
    uint16_t kind, info;  // 0: an integer; info holds its sign and the logarithm of its width
    char name[1];
};
struct Descriptor {
    SourcePlace place;
    const TypeDescriptor* type;
};

namespace checks {

static void report_undefined(int kind, const Descriptor* at, const char* detail, bool ends,
                             const char* address = nullptr) {
    Worker* w = worker;
    if (!w) return;
    Finding finding;
    finding.kind = kind;
    finding.site = at->place.line;
    finding.column = at->place.column;
    describe_thread(finding, w, me(w));
    if (address) describe_address(finding, w, address);
    set_text(finding.detail, sizeof finding.detail, detail);
    add_finding(finding);
    if (ends) end_launch(w);
}

static void write_value(char* text, size_t size, const TypeDescriptor* type, uintptr_t value) {
    int bits = 1 << (type->info >> 1);
    if (type->kind != 0 || bits > 64) {
        snprintf(text, size, "?");
    } else if (type->info & 1) {
        snprintf(text, size, "%lld",
                 static_cast<long long>(static_cast<int64_t>(value << (64 - bits)) >> (64 - bits)));
    } else {
        snprintf(text, size, "%llu", static_cast<unsigned long long>(value));
    }
}

static void arithmetic(int kind, const Descriptor* at, const char* sign, uintptr_t left,
                       uintptr_t right, bool ends) {
    char a[32], b[32], text[192];
    write_value(a, sizeof a, at->type, left);
    write_value(b, sizeof b, at->type, right);
    snprintf(text, sizeof text, "%s %s %s in type %s", a, sign, b, at->type->name);
    report_undefined(kind, at, text, ends);
}

}  // namespace checks

EXPORTED void __ubsan_handle_add_overflow(Descriptor* at, uintptr_t a, uintptr_t b) {
    checks::arithmetic(OVERFLOWED, at, "+", a, b, false);
}
EXPORTED void __ubsan_handle_sub_overflow(Descriptor* at, uintptr_t a, uintptr_t b) {
    checks::arithmetic(OVERFLOWED, at, "-", a, b, false);
}
EXPORTED void __ubsan_handle_mul_overflow(Descriptor* at, uintptr_t a, uintptr_t b) {
    checks::arithmetic(OVERFLOWED, at, "*", a, b, false);
}
EXPORTED void __ubsan_handle_negate_overflow(Descriptor* at, uintptr_t a) {
    char value[32], text[192];
    checks::write_value(value, sizeof value, at->type, a);
    snprintf(text, sizeof text, "-(%s) in type %s", value, at->type->name);
    checks::report_undefined(OVERFLOWED, at, text, false);
}
EXPORTED void __ubsan_handle_divrem_overflow(Descriptor* at, uintptr_t a, uintptr_t b) {
    checks::arithmetic(UNDEFINED, at, "/ or %", a, b, true);
}
EXPORTED void __ubsan_handle_shift_out_of_bounds(Descriptor* at, uintptr_t a, uintptr_t b) {
    struct Shift : Descriptor {
        const TypeDescriptor* right;
    };
    char value[32], by[32], text[192];
    checks::write_value(value, sizeof value, at->type, a);
    checks::write_value(by, sizeof by, static_cast<Shift*>(at)->right, b);
    snprintf(text, sizeof text, "%s of type %s shifted by %s", value, at->type->name, by);
    checks::report_undefined(UNDEFINED, at, text, false);
}
EXPORTED void __ubsan_handle_out_of_bounds(Descriptor* at, uintptr_t index) {
    struct Index : Descriptor {
        const TypeDescriptor* index;
    };
    char value[32], text[192];
    checks::write_value(value, sizeof value, static_cast<Index*>(at)->index, index);
    snprintf(text, sizeof text, "index %s of an array of type %s", value, at->type->name);
    checks::report_undefined(OUT_OF_BOUNDS, at, text, false);
}
EXPORTED void __ubsan_handle_type_mismatch_v1(Descriptor* at, uintptr_t pointer) {
    struct Mismatch : Descriptor {
        unsigned char log_alignment, check;
    };
    char text[192];
    if (!pointer) {
        snprintf(text, sizeof text, "a null pointer to %s is followed", at->type->name);
        checks::report_undefined(OUT_OF_BOUNDS, at, text, true);
        return;
    }
    snprintf(text, sizeof text, "a %s wants an address that is a multiple of %d", at->type->name,
             1 << static_cast<Mismatch*>(at)->log_alignment);
    checks::report_undefined(MISALIGNED, at, text, true, reinterpret_cast<const char*>(pointer));
}
EXPORTED void __ubsan_handle_builtin_unreachable(Descriptor* at) {
    checks::report_undefined(UNDEFINED, at, "a place that cannot be reached is reached", true);
}
