// lost.c - makes the child, waits for it, takes its result. Contract: reach/lost.h.        SPDX-License-Identifier: MIT
#include "reach/lost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/platform.h"
#include "base/sequence.h"
#include "base/win32.h"
#include "elf/loaded.h"
#include "paths/pyframe.h"
#include "paths/thread.h"
#include "reach/chunks.h"
#include "reach/search.h"
#include "registry/registry.h"
#include "tracker/recent.h"

// In memory that the child shares with its parent. The arrays of the result
// follow it.
typedef struct shared {
    atomic_bool are_confirmed;  // the parent has confirmed the stacks
    int failure;
    flk_search_order order;
    flk_search_result result;
    flk_stacks stacks;
    flk_holder holders[FLK_HOLDERS_MAX];
    flk_block blocks[];
} shared;

enum { SPARE_ROWS = 64, TIME_MAX_MS = 3600000 };
enum { ROW_BYTES = sizeof(flk_block) + 2 * sizeof(uint32_t) + 1 };

static struct {
    atomic_ullong count, bytes_max, whole_ns_max, standing_ns_max;
} figures;

static void note_most(atomic_ullong *most, uint64_t value) {
    unsigned long long known = atomic_load(most);
    while (value > known && !atomic_compare_exchange_weak(most, &known, value))
        ;
}

static void note_figures(const flk_lost *lost) {
    atomic_fetch_add(&figures.count, 1);
    note_most(&figures.bytes_max, lost->memory_bytes);
    note_most(&figures.whole_ns_max, lost->whole_ns);
    note_most(&figures.standing_ns_max, lost->standing_ns);
}

void flk_lost_read(flk_lost_figures *out) {
    FLK_ASSERT(out);
    *out = (flk_lost_figures){atomic_load(&figures.count),
                              atomic_load(&figures.bytes_max),
                              atomic_load(&figures.whole_ns_max),
                              atomic_load(&figures.standing_ns_max)};
}

// --- the order ---------------------------------------------------------------
static uint64_t record_count(void) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        count += flk_registry_shard_count(i);
    return count;
}

static size_t bytes_for(uint64_t rows) {
    return flk_platform_pages_for(sizeof(shared) + rows * ROW_BYTES);
}

// The module of the core, if it is not part of a program (in tests): nothing of
// the program is in its data.
static void find_own_module(flk_search_order *order) {
#ifdef FLK_HAS_ELF
    flk_loaded module;
    if (flk_loaded_at((uintptr_t)&figures, &module) && module.path[0]) {
        order->own_begin = module.begin;
        order->own_end = module.end;
    }
#else
    (void)order;
#endif
}

static uint64_t cache_key(void) {
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    uint64_t key = flk_chunks_key(memory);
    if (memory >= 0)
        close(memory);
    return key;
}

static void fill_in(shared *sh, const flk_search_order *order, size_t bytes) {
    sh->order = *order;
    sh->order.stacks = &sh->stacks;
    uint64_t max = (bytes - sizeof(shared)) / ROW_BYTES;
    sh->result.max = max;
    sh->result.blocks = sh->blocks;
    sh->result.held_by = (uint32_t *)(sh->blocks + max);
    sh->result.ends = sh->result.held_by + max;
    sh->result.verdicts = (uint8_t *)(sh->result.ends + max);
    sh->result.holders.items = sh->holders;
    sh->failure = FLK_LOST_DIED;
}

// --- the child ---------------------------------------------------------------
// Locks that the search needs, in the order of their ranks. While they are held
// the registry is sound, and no record changes.
static void lock_all(void) {
    flk_thread_list_lock();
    flk_registry_lock_all();
    flk_recent_lock_all();
}

static void unlock_all(void) {
    flk_recent_unlock_all();
    flk_registry_unlock_all();
    flk_thread_list_unlock();
}

static void work(void *context) {
    shared *sh = context;
    flk_registry_alone();
    unlock_all();  // in the copy
    sh->failure = flk_search_run(&sh->order, &sh->result);
}

// Makes the child while no record can change; notes how long that took.
static int make_child(shared *sh, flk_lost *out) {
    int attached = flk_pyframe_attach();
    flk_stacks_note(&sh->stacks);
    uint64_t begun = flk_platform_clock_exact();
    lock_all();
    int child = flk_platform_child_begin(work, sh);
    unlock_all();
    out->standing_ns = flk_platform_clock_exact() - begun;
    if (child > 0)
        flk_stacks_confirm(&sh->stacks);
    flk_pyframe_detach(attached);
    out->moving_threads = sh->stacks.moving_count;
    atomic_store(&sh->are_confirmed, true);
    return child;
}

// The child looks at the clock by itself. This one is for a child that does not
// run at all.
static int wait_for(int child, const shared *sh) {
    uint64_t deadline = sh->order.deadline_ns + UINT64_C(1000000000);
    for (;;) {
        flk_child_state state = flk_platform_child_look(child);
        if (state == FLK_CHILD_ENDED)
            return sh->failure;
        if (state == FLK_CHILD_KILLED)
            return FLK_LOST_DIED;
        if (flk_platform_clock_coarse() > deadline) {
            flk_platform_child_kill(child);
            return FLK_LOST_TOO_LONG;
        }
        flk_platform_pause();
    }
}

static int search_in_child(shared *sh, flk_lost *out) {
    sh->order.are_confirmed = &sh->are_confirmed;
    int child = make_child(sh, out);
    return child > 0 ? wait_for(child, sh) : FLK_LOST_DIED;
}

// Without a child: the memory changes while it is read.
static int search_here(shared *sh, flk_lost *out) {
    out->is_weak = true;
    sh->order.in_process = true;
    sh->order.are_confirmed = NULL;
    int attached = flk_pyframe_attach();
    flk_stacks_note(&sh->stacks);
    for (uint32_t i = 0; i < sh->stacks.count; i++)
        sh->stacks.items[i].is_still = false;  // they go on
    out->moving_threads = sh->stacks.count;
    sh->failure = flk_search_run(&sh->order, &sh->result);
    flk_pyframe_detach(attached);
    return sh->failure;
}

static void take_result(shared *sh, flk_lost *out) {
    out->count = sh->result.count;
    out->blocks = sh->result.blocks;
    out->verdicts = sh->result.verdicts;
    out->held_by = sh->result.held_by;
    out->ends = sh->result.ends;
    out->holders = sh->holders;
    out->holder_count = sh->result.holders.count;
    out->words = sh->result.words;
    out->memory_bytes = sh->result.memory_bytes + out->page_bytes;
    FLK_ASSERT(out->count <= sh->result.max);
}

static int find_in_pages(const flk_search_order *order, bool may_fork,
                         flk_lost *out) {
    // Blocks may be allocated until the registry is locked; those beyond the
    // room are left out.
    uint64_t count = record_count();
    out->page_bytes = bytes_for(count + count / 8 + SPARE_ROWS);
    shared *sh = flk_platform_pages_share(out->page_bytes);
    if (!sh)
        return FLK_LOST_NO_MEMORY;
    out->pages = sh;
    fill_in(sh, order, out->page_bytes);
    int failure = may_fork ? search_in_child(sh, out) : FLK_LOST_DIED;
    if (failure == FLK_LOST_DIED)
        failure = search_here(sh, out);
    take_result(sh, out);
    return failure;
}

static FLK_NOINLINE int find_for(flk_search_order order, bool may_fork,
                                 uint64_t time_max_ms, flk_lost *out) {
    int saved = errno;
    uint64_t begun = flk_platform_clock_exact();
    memset(out, 0, sizeof *out);
    order.view.until = flk_sequence_mark();
    if (time_max_ms > TIME_MAX_MS)
        time_max_ms = TIME_MAX_MS;
    order.deadline_ns =
        flk_platform_clock_coarse() + time_max_ms * UINT64_C(1000000);
    find_own_module(&order);
    order.cache_key = cache_key();
    flk_thread_let_go(flk_thread_hold());  // this thread is in the list
    int failure = find_in_pages(&order, may_fork, out);
    out->taken_wall_ns = flk_sequence_wall_time(order.view.until);
    out->whole_ns = flk_platform_clock_exact() - begun;
    note_figures(out);
    if (failure != FLK_LOST_FOUND)
        flk_lost_drop(out);
    errno = saved;
    return failure;
}

// A function of its own, whose frame the search reads from FLK_STACK_BEGIN on.
FLK_NOINLINE int flk_lost_find(uint32_t view, uint64_t since, bool inherited,
                               bool may_fork, bool lost_only,
                               uint64_t time_max_ms, flk_lost *out) {
    FLK_ASSERT(out && view < FLK_SCOPES_MAX);
    flk_search_caller caller = {FLK_STACK_BEGIN(), flk_platform_thread_ident()};
    flk_search_view chosen = {view, since, 0, inherited};
    flk_search_order order = {
        .view = chosen, .caller = caller, .lost_only = lost_only};
    return find_for(order, may_fork, time_max_ms, out);
}

void flk_lost_drop(flk_lost *lost) {
    FLK_ASSERT(lost);
    if (lost->pages)
        flk_platform_pages_unmap(lost->pages, lost->page_bytes);
    lost->pages = NULL;
    lost->count = lost->holder_count = 0;
}
