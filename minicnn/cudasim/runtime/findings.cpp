// What a kernel did wrong, kept as fields; Python makes sentences of them.
#include "internal.h"

namespace findings {

static std::vector<Finding> list;
static std::string printed;
static std::mutex mutex;
constexpr size_t MOST = 64;                // different ones; a faulty kernel repeats itself
constexpr size_t PRINTED_BYTES = 1 << 20;  // as large as the buffer a GPU has for printf

}  // namespace findings

// Keep a finding, or count it if the same was found at the same lines before.
static void add_finding(Finding finding) {
    std::lock_guard<std::mutex> lock(findings::mutex);
    for (Finding& known : findings::list) {
        if (known.kind == finding.kind && known.site == finding.site &&
            known.other_site == finding.other_site) {
            ++known.count;
            return;
        }
    }
    if (findings::list.size() < findings::MOST) findings::list.push_back(finding);
}

static void set_text(char* field, size_t size, const char* text) {
    snprintf(field, size, "%s", text);
}

static void describe_thread(Finding& finding, const Worker* w, Who who, bool other) {
    if (!w || !who) return;
    uint64_t block = (who - 1) / MAX_THREADS, thread = (who - 1) % MAX_THREADS;
    const uint3 &grid = w->launch->grid, &size = w->launch->block;
    int32_t* b = other ? finding.other_block : finding.block;
    int32_t* t = other ? finding.other_thread : finding.thread;
    b[0] = block % grid.x;
    b[1] = block / grid.x % grid.y;
    b[2] = block / grid.x / grid.y;
    t[0] = thread % size.x;
    t[1] = thread / size.x % size.y;
    t[2] = thread / size.x / size.y;
}

// The shared array that holds an address, or the nearest one.
static const SharedArray* nearest_shared(const Worker* w, const char* address) {
    const SharedArray* nearest = nullptr;
    size_t best = SIZE_MAX;
    size_t offset = address - w->shared;
    for (int i = 0; i < w->arrays; ++i) {
        const SharedArray& array = w->array[i];
        size_t end = array.offset + array.bytes;
        size_t away = offset < array.offset ? array.offset - offset
                      : offset >= end       ? offset - end + 1
                                            : 0;
        if (away < best) {
            best = away;
            nearest = &array;
        }
    }
    return nearest;
}

// Which array an address belongs to, or was probably meant to.
static void describe_address(Finding& finding, const Worker* w, const char* address) {
    if (w && static_cast<size_t>(address - w->shared) < SHARED_BYTES) {
        finding.space = SHARED;
        if (const SharedArray* array = nearest_shared(w, address)) {
            set_text(finding.name, sizeof finding.name, array->name);
            finding.offset = address - (w->shared + array->offset);
            finding.array_bytes = array->bytes;
        }
        return;
    }
    Block* block = arena::nearest(address);
    if (!block) {
        finding.offset = reinterpret_cast<int64_t>(address);
        return;
    }
    finding.space = GLOBAL;
    const char* start = block->base;
    if (w) {
        // Of several arguments that point into the block, the one that begins closest before.
        for (int i = 0; i < w->launch->argument_count; ++i) {
            if (!(w->launch->pointer_arguments >> i & 1)) continue;
            const char* pointer = reinterpret_cast<const char*>(w->launch->arguments[i]);
            if (pointer < block->base || pointer > block->base + block->bytes) continue;
            bool closer = pointer <= address && (start > address || pointer > start);
            if (finding.argument < 0 || closer) {
                finding.argument = i;
                start = pointer;
            }
        }
    }
    finding.offset = address - start;
    finding.array_bytes = block->base + block->bytes - start;
}

EXPORTED int cudasim_finding_bytes() { return sizeof(Finding); }

// Hand over what was found, and forget it.
EXPORTED int cudasim_take_findings(Finding* out, int most) {
    std::lock_guard<std::mutex> lock(findings::mutex);
    int count = std::min<int>(most, findings::list.size());
    std::copy_n(findings::list.begin(), count, out);
    findings::list.clear();
    return count;
}

EXPORTED int cudasim_take_printed(char* out, int most) {
    std::lock_guard<std::mutex> lock(findings::mutex);
    int count = std::min<int>(most, findings::printed.size());
    memcpy(out, findings::printed.data(), count);
    findings::printed.clear();
    return count;
}

extern "C" int cudasim_printf(const char* format, ...) {
    char text[1024];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    std::lock_guard<std::mutex> lock(findings::mutex);
    if (findings::printed.size() + sizeof text <= findings::PRINTED_BYTES)
        findings::printed += text;
    return length;
}

extern "C" void cudasim_fail(const char* what, int line) {
    Worker* w = worker;
    Finding finding;
    finding.kind = ASSERTION;
    finding.site = line;
    describe_thread(finding, w, me(w));
    set_text(finding.detail, sizeof finding.detail, what);
    add_finding(finding);
    end_launch(w);
}
