// holes.c - ranges, free chunks and recorded blocks, merged. Contract: reach/holes.h.   SPDX-License-Identifier: MIT
#include "reach/holes.h"

#include <string.h>

#include "base/config.h"
#include "base/pairs.h"
#include "paths/thread.h"
#include "tracker/recent.h"

enum {
    RED_ZONE = 128,       // bytes below a stack pointer that are in use
    FAST_MAX = 1 << 16,   // chunks in fast bins that are known to be free
    SMALL_MAX = 1 << 16,  // blocks with something small of Python
    RANGES_SPARE = 64,    // ranges
    PAIR = sizeof(flk_pair),
};

static flk_pair *map_pairs(size_t count) {
    return flk_platform_pages_map(flk_platform_pages_for(count * PAIR),
                                  flk_platform_page_bytes());
}

static void unmap_pairs(flk_pair *pairs, size_t count) {
    if (pairs)
        flk_platform_pages_unmap(pairs, flk_platform_pages_for(count * PAIR));
}

bool flk_holes_open(flk_holes *holes) {
    FLK_ASSERT(holes && holes->order && holes->areas && holes->index);
    flk_chunks *chunks = &holes->chunks;
    chunks->areas = holes->areas;
    chunks->steps = FLK_CHUNKS_STEPS_MAX;
    chunks->key = holes->order->cache_key;
    chunks->fast_max = FAST_MAX;
    chunks->fast = map_pairs(FAST_MAX);
    chunks->small_max = SMALL_MAX;
    chunks->small = map_pairs(SMALL_MAX);
    return chunks->fast && chunks->small;
}

void flk_holes_drop(flk_holes *holes) {
    FLK_ASSERT(holes);
    unmap_pairs(holes->chunks.fast, FAST_MAX);
    unmap_pairs(holes->chunks.small, SMALL_MAX);
    unmap_pairs(holes->ranges, holes->max);
    flk_heaps_drop(&holes->heaps);
}

size_t flk_holes_bytes(const flk_holes *holes) {
    return flk_platform_pages_for(FAST_MAX * PAIR) +
           flk_platform_pages_for(SMALL_MAX * PAIR) +
           flk_platform_pages_for(holes->max * PAIR) +
           flk_heaps_bytes(&holes->heaps);
}

// --- listing -------------------------------------------------------------------
static void add(flk_holes *h, uintptr_t begin, uintptr_t end) {
    FLK_ASSERT(begin <= end);
    if (h->count < h->max && begin < end)
        h->ranges[h->count++] = (flk_pair){begin, end};
}

static void add_freed(const flk_free *freed, void *context) {
    add(context, (uintptr_t)freed->address,
        (uintptr_t)(freed->address + freed->record.size_bytes));
}

// What hooks remember of a thread (flk_marks) has addresses. It lies at the same
// distance from the ident of each thread: both are in its static thread-local
// memory. The blocks of the threads themselves are mappings of the core.
static void add_marks(flk_holes *h) {
#if defined(__GLIBC__)
    uintptr_t distance =
        (uintptr_t)flk_platform_thread_marks() - flk_platform_thread_ident();
    flk_thread_list_lock();
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next) {
        uintptr_t marks = (uintptr_t)t->ident + distance;
        add(h, marks, marks + sizeof(flk_marks));
    }
    flk_thread_list_unlock();
#else
    (void)h;  // thread-local memory may lie anywhere
#endif
}

static bool has_thread_in(uintptr_t begin, uintptr_t end) {
    bool found = false;
    flk_thread_list_lock();
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next)
        found |= t->ident >= begin && t->ident < end;
    flk_thread_list_unlock();
    return found;
}

// The part of a stack below its pointer is dead. It is known to be a stack if it
// is the main one, or if it begins behind a guard page and the C library's data
// of a thread, which lie at the end of its stack, follow the pointer. (The
// pointer may lie in a stack that the program made itself, for coroutines.)
static void add_dead_stack(flk_holes *h, uintptr_t pointer, uint64_t ident) {
    const flk_area *area = flk_areas_at(h->areas, pointer);
    if (!area || pointer < area->begin)
        return;
    bool is_stack = area->kind == FLK_AREA_MAIN_STACK;
    if (area->kind == FLK_AREA_ANONYMOUS && area->follows_guard)
        is_stack = ident ? ident >= pointer && ident < area->end
                         : has_thread_in(pointer, area->end);
    if (is_stack && pointer - area->begin > RED_ZONE)
        add(h, area->begin, pointer - (ident ? 0 : RED_ZONE));
}

static void add_dead_stacks(flk_holes *h) {
    const flk_search_caller *caller = &h->order->caller;
    add_dead_stack(h, caller->stack_begin, caller->ident);
    const flk_stacks *stacks = h->order->stacks;
    for (uint32_t i = 0; i < stacks->count; i++)
        if (stacks->items[i].is_still)
            add_dead_stack(h, stacks->items[i].pointer, 0);
}

// The C library keeps the stacks of ended threads for threads to come, with what
// they held. Such an area begins behind a guard page, and the data of its thread
// end the stack.
static bool find_ended_stack(void *context, const flk_area *area,
                             const char *copy, uintptr_t begin, uintptr_t end) {
    flk_holes *h = context;
    (void)copy;  // it is the memory itself
    uintptr_t thread =
        flk_stacks_ended_thread(h->order->stacks, begin, end, area->end);
    if (thread)
        add(h, area->begin, thread);
    return true;
}

static void add_ended_stacks(flk_holes *h) {
    for (size_t i = 0; i < h->areas->count && h->contents->is_still; i++) {
        const flk_area *area = &h->areas->items[i];
        if (area->kind == FLK_AREA_ANONYMOUS && area->follows_guard)
            flk_contents_read(h->contents, area, area->begin, area->end,
                              find_ended_stack, h);
    }
}

// What malloc keeps of its free memory points to the ends of blocks.
static void add_arenas(flk_holes *h) {
    size_t bytes = flk_heaps_arena_bytes();
    for (size_t i = 0; i < h->heaps.count; i++) {
        uintptr_t arena = h->heaps.items[i].arena;
        if (i == 0 || arena != h->heaps.items[i - 1].arena)
            add(h, arena, arena + bytes);
    }
}

bool flk_holes_list(flk_holes *holes, const flk_holders *holders) {
    FLK_ASSERT(holes && holes->contents && holders && !holes->ranges);
    size_t max = flk_platform_pages_own(NULL, 0) + FLK_STACKS_MAX +
                 RANGES_SPARE + 2 * holes->areas->count +
                 flk_thread_list_live_count() + flk_recent_held_count();
    if (!flk_heaps_list(&holes->heaps, holes->areas, holders, holes->contents))
        return false;
    max += holes->heaps.count;
    holes->ranges = map_pairs(max);
    if (!holes->ranges)
        return false;
    holes->max = max;
    holes->count = flk_platform_pages_own(holes->ranges, max);
    if (holes->count > max)
        holes->count = max;
    add(holes, holes->order->own_begin, holes->order->own_end);
    add_marks(holes);
    flk_recent_visit_held(add_freed, holes);
    add_dead_stacks(holes);
    add_arenas(holes);
    add_ended_stacks(holes);
    flk_pairs_sort(holes->ranges, holes->count);
    return true;
}

void flk_holes_note_small(flk_holes *holes, flk_small small) {
    FLK_ASSERT(holes);
    flk_chunks *chunks = &holes->chunks;
    if (chunks->small_count < chunks->small_max)
        chunks->small[chunks->small_count++] =
            (flk_pair){small.address, small.used};
}

// --- finding -------------------------------------------------------------------
void flk_holes_begin(flk_holes *holes) {
    FLK_ASSERT(holes && holes->ranges);
    flk_pairs_sort(holes->chunks.small, holes->chunks.small_count);
    holes->next_range = 0;
    for (uint32_t layer = 0; layer <= FLK_LAYER_HANDLE; layer++)
        holes->next_block[layer] = holes->index->layer_begin[layer];
}

void flk_holes_enter(flk_holes *holes, const flk_heap *heap) {
    FLK_ASSERT(holes);
    flk_chunks_begin(&holes->chunks, heap);
    holes->free = flk_chunks_next(&holes->chunks);
}

// The next recorded block that ends behind `at`, if it begins before `found`.
static void find_block(flk_holes *h, uint32_t layer, uintptr_t at,
                       flk_hole *found) {
    const flk_block_index *x = h->index;
    uint32_t *next = &h->next_block[layer];
    uint32_t end = x->layer_begin[layer + 1];
    while (*next < end && flk_block_index_end(&x->blocks[*next]) <= at)
        ++*next;
    if (*next == end)
        return;
    const flk_pair *block = &x->blocks[*next];
    if (flk_block_index_address(block) < found->begin)
        *found =
            (flk_hole){flk_block_index_address(block),
                       flk_block_index_end(block), layer == FLK_LAYER_HEAP};
}

flk_hole flk_holes_next(flk_holes *holes, uintptr_t at) {
    flk_hole found = {UINTPTR_MAX, UINTPTR_MAX, false};
    while (holes->next_range < holes->count &&
           holes->ranges[holes->next_range].value <= at)
        holes->next_range++;
    if (holes->next_range < holes->count) {
        const flk_pair *range = &holes->ranges[holes->next_range];
        found = (flk_hole){range->key, range->value, false};
    }
    while (holes->free.value <= at)
        holes->free = flk_chunks_next(&holes->chunks);
    if (holes->free.key < found.begin)
        found = (flk_hole){holes->free.key, holes->free.value, false};
    for (uint32_t layer = FLK_LAYER_MAPPING; layer <= FLK_LAYER_HANDLE; layer++)
        find_block(holes, layer, at, &found);
    return found;
}
