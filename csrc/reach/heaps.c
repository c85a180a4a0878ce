// heaps.c - finds arenas by their words, and heaps by their arenas. Contract: reach/heaps.h.   SPDX-License-Identifier: MIT
#include "reach/heaps.h"

#include <string.h>

#include "base/config.h"
#include "base/platform.h"
#include "reach/heads.h"

// malloc_state: lock, flags, the fast bins, the last chunk, a remainder, the
// other bins, and more. glibc 2.43 has no fast bins.
typedef struct layout {
    uint32_t fast, fast_bins, top, bins, bytes;
} layout;
static const layout layouts[] = {{16, 10, 96, 112, 0x898},
                                 {8, 0, 8, 24, 0x840}};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };
// That of the first arena that was found.
static const layout *in_use = layouts;
// A thread may have been changing some bins.
enum { BINS_CHECKED = 64, BINS_LEAST = 60 };
enum { FLAGS_AT = 4, IS_NOT_CONTIGUOUS = 2 };  // in malloc_state
// heap_info: its arena, the previous heap, the size, and what makes it 32 or 48
// bytes long. Heaps of other arenas begin at multiples of their greatest size.
enum { HEAP_MAX = 1 << 26, HEAP_INFO_LEAST = 32, HEAP_INFO_MAX = 128 };
// What malloc maps instead of brk has 128 KiB and more, unless M_TOP_PAD is less.
enum { REGION_COMMON = 1 << 14 };
enum { HEAPS_SPARE = 64, STEPS_MAX = 1 << 24 };

static uintptr_t word_at(uintptr_t address) {
    uintptr_t word;
    memcpy(&word, (const void *)address, sizeof word);
    return word;
}

static bool is_within(uintptr_t address, uintptr_t begin, uintptr_t end) {
    return address >= begin && address < end;
}

// --- the list --------------------------------------------------------------------
// `least`: the size of a heap.
static size_t most_heaps(const flk_areas *areas, uintptr_t least) {
    size_t most = HEAPS_SPARE + areas->count;
    for (size_t i = 0; i < areas->count; i++)
        if (areas->items[i].kind == FLK_AREA_ANONYMOUS)
            most += (areas->items[i].end - areas->items[i].begin) / least;
    return most;
}

size_t flk_heaps_bytes(const flk_heaps *heaps) {
    return flk_platform_pages_for(heaps->max * sizeof *heaps->items);
}

void flk_heaps_drop(flk_heaps *heaps) {
    FLK_ASSERT(heaps);
    if (heaps->items)
        flk_platform_pages_unmap(heaps->items, flk_heaps_bytes(heaps));
    *heaps = (flk_heaps){.count = 0};
}

const flk_heap *flk_heaps_at(const flk_heaps *heaps, uintptr_t address) {
    FLK_ASSERT(heaps);
    size_t low = 0, high = heaps->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (heaps->items[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < heaps->count ? &heaps->items[low] : NULL;
}

// Keeps the list sorted. Heaps are few, and found nearly in order.
static void add_heap(flk_heaps *heaps, flk_heap heap) {
    FLK_ASSERT(heap.begin < heap.end);
    size_t at = heaps->count;
    if (at == heaps->max)
        return;
    while (at > 0 && heaps->items[at - 1].begin > heap.begin)
        at--;
    bool overlaps = (at > 0 && heaps->items[at - 1].end > heap.begin) ||
                    (at < heaps->count && heaps->items[at].begin < heap.end);
    if (overlaps)
        return;
    memmove(&heaps->items[at + 1], &heaps->items[at],
            (heaps->count - at) * sizeof heap);
    heaps->items[at] = heap;
    heaps->count++;
}

// --- arenas ------------------------------------------------------------------------
size_t flk_heaps_arena_bytes(void) { return in_use->bytes; }

const uintptr_t *flk_heaps_fast_bins(uintptr_t arena, uint32_t *count) {
    FLK_ASSERT(arena && count);
    *count = in_use->fast_bins;
    return (const uintptr_t *)(arena + in_use->fast);
}

// The end of the last chunk; 0 if there is no such chunk.
static uintptr_t end_of_top(const layout *how, uintptr_t arena,
                            const flk_areas *areas) {
    uintptr_t top = word_at(arena + how->top);
    if (!flk_areas_have(areas, top, FLK_HEADS_BYTES))
        return 0;
    uintptr_t end = top + flk_heads_size(top);
    bool is_end = end > top && end % flk_platform_page_bytes() == 0 &&
                  flk_areas_have(areas, end - FLK_HEADS_BYTES, FLK_HEADS_BYTES);
    return is_end ? end : 0;
}

// A bin is empty, and points to itself, or its first and last chunk point back.
static bool is_bin(uintptr_t bin, const flk_areas *areas) {
    uintptr_t self = bin - FLK_HEADS_BYTES;
    uintptr_t first = word_at(bin), last = word_at(bin + 8);
    if (first == self || last == self)
        return first == last;
    return flk_areas_have(areas, first, FLK_HEADS_CHUNK_LEAST) &&
           flk_areas_have(areas, last, FLK_HEADS_CHUNK_LEAST) &&
           word_at(first + FLK_HEADS_BYTES + 8) == self &&
           word_at(last + FLK_HEADS_BYTES) == self;
}

static bool is_arena(const layout *how, uintptr_t arena,
                     const flk_areas *areas) {
    if (!end_of_top(how, arena, areas))
        return false;
    int sound = 0;
    for (int i = 0; i < BINS_CHECKED; i++)
        sound += is_bin(arena + how->bins + (uintptr_t)i * 16, areas);
    return sound >= BINS_LEAST;
}

// In the data of the C library.
static uintptr_t main_arena_in(const flk_area *data, const flk_areas *areas) {
    for (const layout *how = layouts; how < layouts + LAYOUTS; how++)
        for (uintptr_t at = (data->begin + 15) & ~(uintptr_t)15;
             at + how->bytes <= data->end; at += 16)
            if (is_arena(how, at, areas)) {
                in_use = how;
                return at;
            }
    return 0;
}

static uintptr_t main_arena(const flk_areas *areas,
                            const flk_holders *holders) {
    uintptr_t found = 0;
    for (size_t i = 0; i < areas->count && !found; i++) {
        const flk_area *area = &areas->items[i];
        const char *name = holders->items[area->holder].name;
        if (area->kind == FLK_AREA_FILE && area->is_writable &&
            strncmp(name, "libc", 4) == 0)
            found = main_arena_in(area, areas);
    }
    return found;
}

// --- heaps of the main arena ---------------------------------------------------------
// What brk gave. Code that changes the protection of pages cuts it in areas.
static flk_heap brk_heap(const flk_areas *areas) {
    flk_heap heap = {0, 0, 0, false};
    for (size_t i = 0; i < areas->count; i++) {
        const flk_area *area = &areas->items[i];
        if (area->kind != FLK_AREA_HEAP)
            continue;
        heap.begin = heap.begin ? heap.begin : area->begin;
        heap.end = area->end;
    }
    return heap;
}

// Once brk fails malloc ends what it got by two heads that are no chunks.
static void add_brk_heap(flk_heaps *heaps, uintptr_t arena, uintptr_t top_end,
                         const flk_areas *areas) {
    flk_heap heap = brk_heap(areas);
    if (heap.begin == heap.end)
        return;
    heap.arena = arena;
    heap.has_top = is_within(top_end - 1, heap.begin, heap.end);
    heap.end = heap.has_top ? top_end : heap.end - FLK_HEADS_CHUNK_LEAST;
    if (heap.has_top || flk_heads_is_fence(areas, heap.end))
        add_heap(heaps, heap);
}

// A region that malloc mapped begins with a page and ends with the last chunk, or
// with two heads that are no chunks.
typedef struct region_search {
    flk_heaps *heaps;
    const flk_areas *areas;
    uintptr_t arena, top_end;
    uintptr_t next;  // behind the region that was found
} region_search;

static void try_region(region_search *s, uintptr_t begin, uintptr_t limit) {
    flk_heap heap = {begin, limit, s->arena, false};
    uint64_t steps = STEPS_MAX;
    heap.has_top = is_within(s->top_end - 1, begin, limit);
    if (heap.has_top)
        limit = s->top_end;
    heap.end = flk_heads_run(s->areas, begin, limit, &steps);
    bool is_region = heap.has_top ? heap.end == limit
                                  : flk_heads_is_fence(s->areas, heap.end);
    if (!is_region || heap.end == begin)
        return;
    add_heap(s->heaps, heap);
    s->next = heap.end;
}

static bool find_regions(void *context, const flk_area *area, const char *copy,
                         uintptr_t begin, uintptr_t end) {
    region_search *s = context;
    size_t page = flk_platform_page_bytes();
    (void)copy;  // it is the memory itself
    for (uintptr_t at = begin; at < end; at += page)
        if (at >= s->next && at % page == 0)
            try_region(s, at, area->end);
    return true;
}

static void add_regions(flk_heaps *heaps, uintptr_t arena, uintptr_t top_end,
                        const flk_areas *areas, flk_contents *contents) {
    region_search s = {heaps, areas, arena, top_end, 0};
    for (size_t i = 0; i < areas->count; i++) {
        const flk_area *area = &areas->items[i];
        if (area->kind == FLK_AREA_ANONYMOUS && area->is_writable)
            flk_contents_read(contents, area, area->begin, area->end,
                              find_regions, &s);
    }
}

// --- heaps of other arenas -------------------------------------------------------------
// The size that its head gives it; 0 if this is no heap.
static uintptr_t size_of_heap(const flk_areas *areas, uintptr_t heap) {
    if (!flk_areas_have(areas, heap, HEAP_INFO_MAX))
        return 0;
    uintptr_t size = word_at(heap + 16);
    bool is_size = size > HEAP_INFO_MAX && size <= HEAP_MAX &&
                   size % flk_platform_page_bytes() == 0 &&
                   word_at(heap + 8) % HEAP_MAX == 0;
    return is_size && flk_areas_have(areas, heap + size - FLK_HEADS_BYTES,
                                     FLK_HEADS_BYTES)
               ? size
               : 0;
}

// An arena lies behind the head of its first heap.
static bool is_arena_of_heap(uintptr_t arena, const flk_areas *areas) {
    uintptr_t first = arena & ~(uintptr_t)(HEAP_MAX - 1);
    return arena % 16 == 0 && size_of_heap(areas, first) &&
           word_at(first) == arena &&
           is_within(arena, first + HEAP_INFO_LEAST, first + HEAP_INFO_MAX) &&
           flk_areas_have(areas, arena, in_use->bytes) &&
           is_arena(in_use, arena, areas);
}

static void try_heap(flk_heaps *heaps, const flk_areas *areas, uintptr_t at) {
    uintptr_t size = size_of_heap(areas, at);
    uintptr_t arena = size ? word_at(at) : 0;
    if (!size || !is_arena_of_heap(arena, areas))
        return;
    uintptr_t head = arena % HEAP_MAX;  // the size of heap_info
    uintptr_t begin =
        is_within(arena, at, at + size) ? arena + in_use->bytes : at + head;
    flk_heap heap = {(begin + 15) & ~(uintptr_t)15, at + size, arena, false};
    heap.has_top = end_of_top(in_use, arena, areas) == heap.end;
    uint64_t steps = STEPS_MAX;
    if (!heap.has_top)  // it ends with a head that is no chunk
        heap.end = flk_heads_run(areas, heap.begin, heap.end, &steps);
    if (heap.begin < heap.end)
        add_heap(heaps, heap);
}

static void add_other_heaps(flk_heaps *heaps, const flk_areas *areas) {
    for (size_t i = 0; i < areas->count; i++) {
        const flk_area *area = &areas->items[i];
        if (area->kind != FLK_AREA_ANONYMOUS || !area->is_writable)
            continue;
        uintptr_t at =
            (area->begin + HEAP_MAX - 1) & ~(uintptr_t)(HEAP_MAX - 1);
        for (; at >= area->begin && at < area->end; at += HEAP_MAX)
            try_heap(heaps, areas, at);
    }
}

static bool is_contiguous(uintptr_t main_arena) {
    uint32_t flags = 0;
    if (main_arena)
        memcpy(&flags, (const void *)(main_arena + FLAGS_AT), sizeof flags);
    return !(flags & IS_NOT_CONTIGUOUS);
}

bool flk_heaps_list(flk_heaps *heaps, const flk_areas *areas,
                    const flk_holders *holders, flk_contents *contents) {
    FLK_ASSERT(heaps && areas && holders && contents && !heaps->items);
    bool is_read = flk_heads_are_glibc() && contents->is_still;
    uintptr_t arena = is_read ? main_arena(areas, holders) : 0;
    bool has_regions = !is_contiguous(arena);
    heaps->count = 0;
    heaps->max = most_heaps(areas, has_regions ? REGION_COMMON : HEAP_MAX);
    heaps->items = flk_platform_pages_map(flk_heaps_bytes(heaps),
                                          flk_platform_page_bytes());
    if (!heaps->items)
        return false;
    uintptr_t top_end = arena ? end_of_top(in_use, arena, areas) : 0;
    if (arena)
        add_brk_heap(heaps, arena, top_end, areas);
    if (is_read)
        add_other_heaps(heaps, areas);
    if (has_regions)
        add_regions(heaps, arena, top_end, areas, contents);
    return true;
}
