// Profile mode: what each line asks of the memory system, by a GPU's rules.
//
// The 32 lanes of a warp that execute a load together make one request. The n-th execution of a
// line by a lane belongs to the n-th request of its warp; that is exact unless lanes run a loop a
// different number of times. Once a block has ended, its requests are counted:
//
//     global   memory moves in sectors of 32 bytes. A request costs the distinct sectors that its
//              lanes touch; ideal is what its distinct bytes would fill.
//     shared   32 banks, 4 bytes wide, serve one word each a cycle. A request takes as many cycles
//              as the busiest bank has distinct words; lanes that read the same word share it.
//              Accesses of 8 bytes go by half warps, of 16 by quarter warps.
//
// Also counted are the bytes of each array that a launch touches at least once: they have to come
// from memory, whatever the caches do.
#include "internal.h"

// One row of a profile, as Python reads it; see profile.py.
struct Row {
    Site site = 0;
    int32_t kind = 0, space = 0, bytes = 0;
    int64_t requests = 0, lanes = 0, sectors = 0, ideal_sectors = 0;
    int64_t cycles = 0, ideal_cycles = 0, worst_degree = 0;
};

struct Request {
    uint64_t address[WARP];
    uint32_t lanes = 0;
};

struct Line {
    Row row;
    uint32_t executions[MAX_THREADS] = {};
    std::vector<Request> requests[MAX_THREADS / WARP];
};

struct Statistics {
    std::unordered_map<uint64_t, Line> lines;
    uint64_t last_key = ~0ull;
    Line* last = nullptr;
    struct Footprint {
        int64_t read = 0, written = 0;
    };
    std::unordered_map<const Block*, Footprint> footprints;
    uint64_t blocks = 0, profiled_blocks = 0;
};

namespace statistics {

static std::vector<Row> rows;
struct ArrayRow {
    int32_t argument;
    int32_t spare;
    int64_t array_bytes, read, written;
};
static std::vector<ArrayRow> arrays;
static uint64_t profiled_blocks;

// `address` is counted from where a GPU would have aligned the array, to 256 bytes at least.
static void count(Worker* w, uint64_t address, unsigned bytes, int kind, int space, Site site,
                  Site code) {
    Statistics& s = *w->statistics;
    uint64_t key = uint64_t{code} << 8 | bytes << 3 | kind << 1 | (space == SHARED);
    if (key != s.last_key) {
        s.last = &s.lines[key];
        s.last_key = key;
        Row& row = s.last->row;
        row.site = site;
        row.kind = kind;
        row.space = space;
        row.bytes = bytes;
    }
    auto& requests = s.last->requests[w->current / WARP];
    uint32_t n = s.last->executions[w->current]++;
    if (requests.size() <= n) requests.resize(n + 1);
    requests[n].address[w->current % WARP] = address;
    requests[n].lanes |= 1u << w->current % WARP;
}

static void count_shared(Worker* w, size_t offset, unsigned bytes, int kind, Site site, Site code) {
    count(w, offset, bytes, kind, SHARED, site, code);
}

static void count_global(Worker* w, Block& block, size_t offset, unsigned bytes, int kind,
                         Site site, Site code) {
    auto& footprint = w->statistics->footprints[&block];
    Touched* touched = arena::touched_of(block);
    for (size_t i = offset; i < offset + bytes;) {
        Touched& word = touched[i / 4];
        if (word.stamp != w->launch->id) word = {w->launch->id, 0, 0};
        size_t next = std::min((i / 4 + 1) * 4, offset + bytes);
        uint8_t mask = (15u << i % 4) & (15u >> (i / 4 * 4 + 4 - next));
        if (kind != CUDASIM_WRITE) {
            footprint.read += __builtin_popcount(mask & ~word.read);
            word.read |= mask;
        }
        if (kind != CUDASIM_READ) {
            footprint.written += __builtin_popcount(mask & ~word.written);
            word.written |= mask;
        }
        i = next;
    }
    if (!w->profiled) return;
    // Blocks must not share a sector: their numbers, far apart, stand in for their addresses.
    uint64_t number = arena::owner[(block.span - arena::base) / PAGE];
    count(w, number << 40 | offset, bytes, kind, GLOBAL, site, code);
}

static int64_t distinct(std::vector<uint64_t>& values) {
    std::sort(values.begin(), values.end());
    return std::unique(values.begin(), values.end()) - values.begin();
}

static void add_global(Row& row, const Request& request) {
    std::vector<uint64_t> sectors, words;
    for (int lane = 0; lane < WARP; ++lane) {
        if (!(request.lanes >> lane & 1)) continue;
        uint64_t first = request.address[lane], last = first + row.bytes - 1;
        words.push_back(first);
        for (uint64_t sector = first / 32; sector <= last / 32; ++sector) sectors.push_back(sector);
    }
    row.sectors += distinct(sectors);
    row.ideal_sectors += (distinct(words) * row.bytes + 31) / 32;
}

static void add_shared(Row& row, const Request& request) {
    const int together = row.bytes >= 16 ? 8 : row.bytes >= 8 ? 16 : 32;
    for (int first = 0; first < WARP; first += together) {
        std::vector<uint64_t> words;
        for (int lane = first; lane < first + together; ++lane) {
            if (!(request.lanes >> lane & 1)) continue;
            for (int byte = 0; byte < row.bytes; byte += 4) {
                words.push_back((request.address[lane] + byte) / 4);
            }
        }
        if (words.empty()) continue;
        words.resize(distinct(words));
        int load[32] = {};
        int64_t busiest = 0;
        for (uint64_t word : words) busiest = std::max<int64_t>(busiest, ++load[word % 32]);
        row.cycles += busiest;
        row.ideal_cycles += 1;
        row.worst_degree = std::max(row.worst_degree, busiest);
    }
}

static void begin_block(Worker* w) {
    ++w->statistics->blocks;
    w->profiled = w->block % w->launch->profile_every == 0;
    w->statistics->profiled_blocks += w->profiled;
}

static void end_block(Worker* w) {
    for (auto& entry : w->statistics->lines) {
        Line& line = entry.second;
        for (auto& requests : line.requests) {
            for (const Request& request : requests) {
                if (!request.lanes) continue;
                line.row.requests += 1;
                line.row.lanes += __builtin_popcount(request.lanes);
                if (line.row.space == GLOBAL) add_global(line.row, request);
                if (line.row.space == SHARED) add_shared(line.row, request);
            }
            requests.clear();
        }
        memset(line.executions, 0, sizeof line.executions);
    }
}

// Keep what a launch has shown until Python asks.
static void end_launch(Worker* w) {
    rows.clear();
    arrays.clear();
    for (auto& entry : w->statistics->lines) rows.push_back(entry.second.row);
    for (auto& entry : w->statistics->footprints) {
        Finding place;
        describe_address(place, w, entry.first->base);
        arrays.push_back({place.argument, 0, static_cast<int64_t>(entry.first->bytes),
                          entry.second.read, entry.second.written});
    }
    profiled_blocks = w->statistics->profiled_blocks;
}

}  // namespace statistics

EXPORTED int cudasim_take_rows(Row* out, int most) {
    int count = std::min<int>(most, statistics::rows.size());
    std::copy_n(statistics::rows.begin(), count, out);
    return statistics::rows.size();
}

EXPORTED int cudasim_take_arrays(statistics::ArrayRow* out, int most) {
    int count = std::min<int>(most, statistics::arrays.size());
    std::copy_n(statistics::arrays.begin(), count, out);
    return statistics::arrays.size();
}

EXPORTED uint64_t cudasim_profiled_blocks() { return statistics::profiled_blocks; }
