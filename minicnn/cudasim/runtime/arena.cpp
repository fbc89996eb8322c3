// Device memory: one large reserved range of addresses, in which every array has pages of its own.
//
//     | guard | 0xFF ... array | guard | 0xFF ... array | guard ...
//
// An array ends, up to 15 bytes, where its last page ends, and the page behind cannot be touched:
// in fast mode, where nothing watches the accesses, an overrun is a fault. Everything that nobody
// has written is 0xFF, a NaN or -1. What is freed cannot be touched either, and is used again only
// after many other blocks of its size have been freed.
#include "internal.h"

namespace arena {

static char* base;
static size_t reserved, top;
static uint32_t* owner;              // the block that each page belongs to; 0 is none
static std::deque<Block> blocks(1);  // a deque, so that growing moves no block
static std::vector<uint32_t> unused_numbers;
static std::mutex mutex;

struct Span {
    char* begin;
    bool resident;  // its pages still hold memory
};
static std::map<size_t, std::deque<Span>> freed;  // by size, the oldest first
static size_t resident_bytes;                     // of freed spans

constexpr size_t GUARD = 4 * PAGE;
constexpr size_t KEPT_BYTES = 256 << 20;  // memory that freed spans may go on holding
constexpr size_t ALIGNMENT = 16;  // what a float4 needs; 256, as on a GPU, would hide overruns

// How many freed spans of a size must lie idle before the first is used again: many small ones, so
// that use after free is found, but few large ones, since a fresh page costs more than a used one.
static size_t quarantine(size_t bytes) { return std::clamp<size_t>((16 << 20) / bytes, 2, 64); }

static void* reserve(size_t bytes, int protection) {
    void* memory =
        mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

static bool open() {
    // As much as the system lets us have: addresses cost nothing.
    for (reserved = 1ull << 40; !base && reserved >= 1ull << 28; reserved /= base ? 1 : 4) {
        base = static_cast<char*>(reserve(reserved, PROT_NONE));
    }
    if (!base) return false;
    owner =
        static_cast<uint32_t*>(reserve(reserved / PAGE * sizeof(uint32_t), PROT_READ | PROT_WRITE));
    top = GUARD;
    return owner != nullptr;
}

// Round to a few sizes an octave, so that freed spans fit again; short of one page for small ones.
static size_t span_size(size_t bytes) {
    size_t pages = std::max<size_t>(1, (bytes + PAGE - 1) / PAGE);
    size_t step = 1;
    while (pages / step >= 16) step *= 2;
    return (pages + step - 1) / step * step * PAGE;
}

// A range of addresses of this size; none of its pages can be touched yet.
static char* take_span(size_t bytes) {
    auto found = freed.find(bytes);
    bool full = top + bytes + GUARD > reserved;
    if (found != freed.end() && found->second.size() > (full ? 0 : quarantine(bytes))) {
        Span span = found->second.front();
        found->second.pop_front();
        if (span.resident) resident_bytes -= bytes;
        return span.begin;
    }
    if (full) return nullptr;
    char* begin = base + top;
    top += bytes + GUARD;
    return begin;
}

static inline bool contains(const char* address) {
    return static_cast<size_t>(address - base) < reserved && base;
}

static inline Block* find(const char* address) {
    if (!contains(address)) return nullptr;
    uint32_t number = owner[(address - base) / PAGE];
    return number ? &blocks[number] : nullptr;
}

static size_t words(const Block& block) { return block.bytes / 4 + 2; }

static Shadow* shadow_of(Block& block) {
    if (!block.shadow) {
        block.shadow =
            static_cast<Shadow*>(reserve(words(block) * sizeof(Shadow), PROT_READ | PROT_WRITE));
    }
    return block.shadow;
}

static Touched* touched_of(Block& block) {
    if (!block.touched) {
        block.touched =
            static_cast<Touched*>(reserve(words(block) * sizeof(Touched), PROT_READ | PROT_WRITE));
    }
    return block.touched;
}

// The block whose pages or guard hold an address: what a fault there was probably meant for.
static Block* nearest(const char* address) {
    if (!contains(address)) return nullptr;
    size_t page = (address - base) / PAGE;
    for (size_t back = 0; back <= GUARD / PAGE && back <= page; ++back) {
        if (owner[page - back]) return &blocks[owner[page - back]];
    }
    for (size_t ahead = 1; ahead <= GUARD / PAGE && page + ahead < reserved / PAGE; ++ahead) {
        if (owner[page + ahead]) return &blocks[owner[page + ahead]];
    }
    return nullptr;
}

}  // namespace arena

EXPORTED void* cudasim_allocate(size_t bytes, int initialised) {
    std::lock_guard<std::mutex> lock(arena::mutex);
    if (!arena::base && !arena::open()) return nullptr;
    if (bytes > arena::reserved) return nullptr;
    size_t size = arena::span_size(bytes);
    char* span = arena::take_span(size);
    if (!span || mprotect(span, size, PROT_READ | PROT_WRITE)) return nullptr;

    uint32_t number;
    if (arena::unused_numbers.empty()) {
        number = static_cast<uint32_t>(arena::blocks.size());
        arena::blocks.emplace_back();
    } else {
        number = arena::unused_numbers.back();
        arena::unused_numbers.pop_back();
    }
    Block& block = arena::blocks[number];
    block = Block();
    block.bytes = bytes;
    block.span = span;
    block.span_bytes = size;
    block.initialised = initialised;
    uintptr_t end = reinterpret_cast<uintptr_t>(span + size);
    block.base = reinterpret_cast<char*>((end - bytes) & ~uintptr_t{arena::ALIGNMENT - 1});
    if (bytes == 0) block.base = span;
    if (initialised) {  // the caller is about to write all that is his
        memset(span, 0xFF, block.base - span);
        memset(block.base + bytes, 0xFF, span + size - (block.base + bytes));
    } else {
        memset(span, 0xFF, size);
    }
    size_t first = (span - arena::base) / PAGE;
    std::fill_n(arena::owner + first, size / PAGE, number);
    return block.base;
}

EXPORTED void cudasim_free(char* address) {
    std::lock_guard<std::mutex> lock(arena::mutex);
    Block* block = arena::find(address);
    if (!block) return;
    size_t first = (block->span - arena::base) / PAGE;
    arena::unused_numbers.push_back(arena::owner[first]);
    std::fill_n(arena::owner + first, block->span_bytes / PAGE, 0u);
    if (block->shadow) munmap(block->shadow, arena::words(*block) * sizeof(Shadow));
    if (block->touched) munmap(block->touched, arena::words(*block) * sizeof(Touched));

    // Pages that stay need not be zeroed by the system again: large arrays come back every step.
    bool keep = arena::resident_bytes + block->span_bytes <= arena::KEPT_BYTES;
    if (keep) {
        arena::resident_bytes += block->span_bytes;
    } else {
        madvise(block->span, block->span_bytes, MADV_DONTNEED);
    }
    mprotect(block->span, block->span_bytes, PROT_NONE);
    arena::freed[block->span_bytes].push_back({block->span, keep});
    *block = Block();
}

EXPORTED void cudasim_mark_initialised(char* address, size_t bytes) {
    std::lock_guard<std::mutex> lock(arena::mutex);
    Block* block = arena::find(address);
    if (!block || block->initialised) return;
    if (address <= block->base && address + bytes >= block->base + block->bytes) {
        block->initialised = true;
        return;
    }
    Shadow* shadow = arena::shadow_of(*block);
    size_t begin = address - block->base;
    for (size_t i = begin; i < begin + bytes && i < block->bytes; ++i) {
        shadow[i / 4].initialised |= 1 << i % 4;
    }
}
