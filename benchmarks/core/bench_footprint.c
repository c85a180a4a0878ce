// bench_footprint.c - memory of the tracker for each live block, and under churn. SPDX-License-Identifier: MIT
// Questions: P13 (bytes a block, the worst count between 0.5M and 2M) and P14 (new addresses, 100 of them live).
// The addresses are laid out as those of glibc's malloc: size + 8 rounded up to 16, at least 32. Nothing is allocated
// there. All memory of the tracker counts: its arena, the blocks of threads, its static tables.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "bench.h"
#include "paths/callpath.h"
#include "registry/account.h"
#include "registry/names.h"
#include "registry/scope.h"
#include "registry/shard.h"
#include "tracker/tracker.h"

enum { PATHS = 10000, PATH_FRAMES = 8 };
enum { LIVE_MAX = 2000000, CHURN_LIVE = 100 };

static uint32_t paths[PATHS];
static uint16_t type;

static void make_paths(void) {
    uint64_t state = 7;
    for (int i = 0; i < PATHS; i++) {
        uint32_t path = FLK_PATH_EMPTY;
        for (int depth = 0; depth < PATH_FRAMES; depth++) {
            uint32_t fan = depth < 4 ? 4 : 64;
            path = flk_callpath_child(
                path, (uint32_t)(depth * 64 + bench_random(&state) % fan + 1));
        }
        paths[i] = path;
    }
}

static uint64_t tracker_bytes(void) {
    return flk_arena_bytes() + sizeof flk_shards +
           flk_thread_list_live_count() * (sizeof(flk_thread) + 4095) / 4096 *
               4096;
}

static void start(void) {
    flk_tracker_init();
    type = flk_names_intern("int32_t", "malloc", "free");
    flk_account_prepare_type(type);
}

// --- sizes -------------------------------------------------------------
static uint64_t small_size(uint64_t *state) {
    (void)state;
    return 48;
}

static uint64_t log_uniform(uint64_t *state, double low, double high) {
    double part = (double)(bench_random(state) >> 11) / 9007199254740992.0;
    return (uint64_t)(low * pow(high / low, part));
}

static uint64_t mixed_size(uint64_t *state) {
    return log_uniform(state, 16, 4096);
}

static uint64_t large_size(uint64_t *state) {
    return log_uniform(state, 4096, 65536);
}

static uint64_t room_of(uint64_t size_bytes) {
    uint64_t room = (size_bytes + 8 + 15) & ~UINT64_C(15);
    return room < 32 ? 32 : room;
}

// --- P13 ---------------------------------------------------------------
static void on_alloc(uint64_t address, uint64_t size_bytes, uint64_t i) {
    flk_origin origin = {
        .type = type, .scope = FLK_SCOPE_NONE, .path = paths[i % PATHS]};
    if (!flk_tracker_on_alloc(FLK_LAYER_HEAP, address, size_bytes, 0, &origin))
        abort();
}

static void on_free(uint64_t address) {
    flk_record out;
    if (flk_tracker_on_free(FLK_LAYER_HEAP, address, type, &out) != FLK_TAKEN)
        abort();
}

// Each kind of block has a process of its own, in which nothing was tracked
// before. The figures come back through shared memory.
typedef struct figures {
    double worst, worst_rss, freed;
    size_t worst_count;
} figures;

static void fill(uint64_t (*size)(uint64_t *state), figures *f) {
    static uint64_t addresses[LIVE_MAX];
    uint64_t state = 3, address = UINT64_C(0x555500000010);
    uint64_t rss = bench_rss();
    size_t next = bench_size(500000, 5000), count = 0;
    size_t live_max = bench_size(LIVE_MAX, 20000);
    for (; count < live_max; count++) {
        uint64_t size_bytes = size(&state);
        addresses[count] = address;
        on_alloc(address, size_bytes, count);
        address += room_of(size_bytes);
        if (count + 1 != next && count + 1 != live_max)
            continue;
        double each = (double)tracker_bytes() / (double)(count + 1);
        next += next / 10;
        if (each <= f->worst)
            continue;
        f->worst = each;
        f->worst_count = count + 1;
        f->worst_rss = (double)(bench_rss() - rss) / (double)(count + 1) -
                       sizeof addresses[0];
    }
    while (count > 0)
        on_free(addresses[--count]);
    f->freed = (double)tracker_bytes() / 1024;
}

static void footprint(const char *what, uint64_t (*size)(uint64_t *state),
                      double limit) {
    figures *f = mmap(NULL, sizeof *f, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        start();
        make_paths();
        fill(size, f);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        abort();
    char text[80];
    snprintf(text, sizeof text, "%s blocks (worst at %zu live)", what,
             f->worst_count);
    bench_row_one("P13", text, "B", f->worst, limit);
    snprintf(text, sizeof text, "%s blocks, growth of RSS", what);
    bench_row_one("", text, "B", f->worst_rss, 0);
    snprintf(text, sizeof text, "%s blocks, all freed", what);
    bench_row_one("", text, "KiB", f->freed, 0);
}

// --- P14 ---------------------------------------------------------------
static void churn(uint64_t steps) {
    uint64_t live[CHURN_LIVE] = {0}, state = 5, most = 0;
    uint64_t address = UINT64_C(0x7F0000000010);
    uint64_t before = tracker_bytes();
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t size_bytes = small_size(&state) + i % 128;
        if (live[i % CHURN_LIVE])
            on_free(live[i % CHURN_LIVE]);
        live[i % CHURN_LIVE] = address;
        on_alloc(address, size_bytes, i);
        address += room_of(size_bytes);
        if (i % 1000 == 0 && tracker_bytes() > most)
            most = tracker_bytes();
    }
    for (int i = 0; i < CHURN_LIVE; i++)
        on_free(live[i]);
    char text[80];
    snprintf(text, sizeof text, "%.0e fresh addresses, %d live, most",
             (double)steps, CHURN_LIVE);
    bench_row_one("P14", text, "KiB", (double)most / 1024, 1024);
    bench_row_one("", "of that before the churn", "KiB", (double)before / 1024,
                  0);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    footprint("48-byte", small_size, 40);
    footprint("16 B to 4 KiB", mixed_size, 40);
    footprint("4 to 64 KiB", large_size, 64);
    start();
    churn(bench_is_full() ? 100000000 : bench_size(10000000, 10000));
    return bench_end();
}
