// search.c - from the roots to the blocks. Contract: reach/search.h.      SPDX-License-Identifier: MIT
#include "reach/search.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/pairs.h"
#include "base/win32.h"
#include "paths/thread.h"
#include "reach/block_index.h"
#include "reach/chunks.h"
#include "reach/pools.h"
#include "registry/registry.h"
#include "registry/scope.h"
#include "tracker/quarantine.h"
#include "tracker/recent.h"
#include "tracker/tracker.h"

enum {
    VERDICT = 7,            // bits of a fact: the verdict, 0 = none yet
    IS_ROW = 8,             // the result has the block
    IS_MET = 16,            // met in the first pass over lost blocks
    IS_HEAD = 32,           // it may be the head of a lost tree
    IS_OBJECT = 64,         // a handle lies on it
    WINDOW = 512,           // pages whose presence is read at once
    RED_ZONE = 128,         // bytes below a stack pointer that are in use
    CHECK_WORDS = 1 << 18,  // between two looks at the clock
    FOUND_MAX = 8,          // blocks that contain one address
    FAST_MAX = 1 << 16,     // chunks in fast bins that are known to be free
    SMALL_MAX = 1 << 16,    // blocks with something small of Python
    SPARE = 64,
};
// In an entry of /proc/self/pagemap.
static const uint64_t IN_MEMORY = UINT64_C(3) << 62;  // or in swap
static const uint64_t OF_FILE = UINT64_C(1) << 61;    // never written to

typedef struct search {
    const flk_search_order *order;
    flk_search_result *result;
    flk_areas areas;
    flk_block *copies;  // of all records
    uint32_t count, capacity;
    flk_block_index index;
    uint8_t *facts;    // of each place of the index
    uint32_t *holder;  // of each place: a place, or a number of a holder
    uint32_t *ends;    // of each place: where its chain ends
    uint32_t *queue;   // places whose contents are still to be read
    uint32_t head, tail;
    flk_pair *skips;  // begin and end of memory that is no root; sorted
    size_t skip_count, skip_max;
    size_t next_skip;  // cursors of next_hole
    uint32_t next_block[FLK_LAYER_HANDLE + 1];
    flk_chunks chunks;            // of the heap that is read now
    flk_pair free;                // its next free memory
    const flk_area *interpreter;  // its data, if it is an object of its own
    uintptr_t main_arena;
    uintptr_t low, span;                     // words that may be of interest
    uintptr_t owners[FLK_POOLS_OWNERS_MAX];  // types of Python
    uint32_t owner_count;
    // What a word that is read now means to the block that it points into.
    uint32_t from;
    uint8_t verdict;      // 0: it is only met
    int pagemap, memory;  // files of /proc
    unsigned char is_wanted[WINDOW];
    char *buffer;  // a piece
    uint64_t next_check, mapped_bytes;
    int failure;  // FLK_LOST_...
} search;

static void *map(search *s, size_t bytes) {
    size_t page = flk_platform_page_bytes();
    bytes = ((bytes ? bytes : 1) + page - 1) & ~(page - 1);
    void *pages = flk_platform_pages_map(bytes, page);
    if (pages)
        s->mapped_bytes += bytes;
    else
        s->failure = FLK_LOST_NO_MEMORY;
    return pages;
}

static void unmap(void *pages, size_t bytes) {
    size_t page = flk_platform_page_bytes();
    if (pages)
        flk_platform_pages_unmap(pages, ((bytes ? bytes : 1) + page - 1) &
                                            ~(page - 1));
}

static uintptr_t least(uintptr_t a, uintptr_t b) { return a < b ? a : b; }

static bool goes_on(search *s) {
    if (s->failure)
        return false;
    if (s->result->words >= s->next_check) {
        s->next_check = s->result->words + CHECK_WORDS;
        if (flk_platform_clock_coarse() > s->order->deadline_ns)
            s->failure = FLK_LOST_TOO_LONG;
    }
    return !s->failure;
}

// --- the blocks ----------------------------------------------------------------
static void copy_block(flk_entry *entry, void *context) {
    search *s = context;
    if (s->count < s->capacity)
        s->copies[s->count++] = flk_quarantine_block_of(
            (flk_layer)entry->layer, entry->address, &entry->record);
}

static bool is_row(const search *s, const flk_block *block) {
    const flk_search_view *view = &s->order->view;
    flk_record record = {.sequence = block->sequence, .flags = block->flags};
    return block->sequence >= view->since && block->sequence < view->until &&
           flk_tracker_is_shown(&record, view->inherited) &&
           flk_scope_is_within(block->scope, view->scope);
}

static void judge(search *s, uint32_t place, uint8_t verdict, uint32_t holder) {
    FLK_ASSERT(place < s->count && s->tail < s->count);
    s->facts[place] = (uint8_t)((s->facts[place] & ~VERDICT) | verdict);
    s->holder[place] = holder;
    // What holds a block was judged before it.
    s->ends[place] =
        verdict == FLK_VERDICT_HELD_BELOW ? s->ends[holder] : holder;
    s->queue[s->tail++] = place;
}

static flk_block *block_at(const search *s, uint32_t place) {
    FLK_ASSERT(place < s->count);
    return &s->copies[s->index.rows[place]];
}

// A handle may be a number that is no address. And memory with a name of its
// own is used by code without a pointer to it.
static void judge_handle(search *s, uint32_t place) {
    uintptr_t address = (uintptr_t)block_at(s, place)->address;
    const flk_area *area = flk_areas_at(&s->areas, address);
    if (!area || address < area->begin || area->kind == FLK_AREA_CLOSED)
        judge(s, place, FLK_VERDICT_HELD, FLK_HOLDER_UNSEARCHED);
    else if (area->holder != FLK_HOLDER_UNTRACKED &&
             area->kind != FLK_AREA_SHARED)
        judge(s, place, FLK_VERDICT_HELD, area->holder);
}

static void judge_at_once(search *s) {
    for (uint32_t place = 0; place < s->count; place++) {
        const flk_block *block = block_at(s, place);
        s->facts[place] = is_row(s, block) ? IS_ROW : 0;
        if (block->flags & FLK_RECORD_MOVING)
            judge(s, place, FLK_VERDICT_HELD, FLK_HOLDER_MOVING);
        else if (block->layer == FLK_LAYER_HANDLE)
            judge_handle(s, place);
    }
}

static bool collect(search *s) {
    uint64_t count = SPARE;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        count += flk_registry_shard_count(i);
    if (count >= UINT32_MAX / 2) {
        s->failure = FLK_LOST_NO_MEMORY;
        return false;
    }
    s->capacity = (uint32_t)count;
    s->copies = map(s, count * sizeof *s->copies);
    s->facts = map(s, count);
    s->holder = map(s, count * sizeof *s->holder);
    s->ends = map(s, count * sizeof *s->ends);
    s->queue = map(s, count * sizeof *s->queue);
    s->buffer = map(s, FLK_PIECE_BYTES);
    s->chunks.fast_max = FAST_MAX;
    s->chunks.fast = map(s, FAST_MAX * sizeof *s->chunks.fast);
    s->chunks.small_max = SMALL_MAX;
    s->chunks.small = map(s, SMALL_MAX * sizeof *s->chunks.small);
    if (s->failure)
        return false;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        flk_registry_visit_shard(i, copy_block, s);
    if (!flk_block_index_build(&s->index, s->copies, s->count))
        s->failure = FLK_LOST_NO_MEMORY;
    s->mapped_bytes += flk_block_index_bytes(&s->index);
    return !s->failure;
}

static void drop_all(search *s) {
    unmap(s->copies, s->capacity * sizeof *s->copies);
    unmap(s->facts, s->capacity);
    unmap(s->holder, s->capacity * sizeof *s->holder);
    unmap(s->ends, s->capacity * sizeof *s->ends);
    unmap(s->queue, s->capacity * sizeof *s->queue);
    unmap(s->buffer, FLK_PIECE_BYTES);
    unmap(s->chunks.fast, FAST_MAX * sizeof *s->chunks.fast);
    unmap(s->chunks.small, SMALL_MAX * sizeof *s->chunks.small);
    unmap(s->skips, s->skip_max * sizeof *s->skips);
    flk_block_index_drop(&s->index);
    flk_areas_drop(&s->areas);
    if (s->pagemap >= 0)
        close(s->pagemap);
    if (s->memory >= 0)
        close(s->memory);
}

// --- memory that is no root ------------------------------------------------------
static void skip(search *s, uintptr_t begin, uintptr_t end) {
    FLK_ASSERT(begin <= end);
    if (s->skip_count < s->skip_max && begin < end)
        s->skips[s->skip_count++] = (flk_pair){begin, end};
}

static void skip_freed(const flk_free *freed, void *context) {
    skip(context, (uintptr_t)freed->address,
         (uintptr_t)(freed->address + freed->record.size_bytes));
}

// What hooks remember of a thread (flk_marks) has addresses. It lies at the same
// distance from the ident of each thread: both are in its static thread-local
// memory. The blocks of the threads themselves are mappings of the core.
static void skip_marks(search *s) {
#if defined(__GLIBC__)
    uintptr_t distance =
        (uintptr_t)flk_platform_thread_marks() - flk_platform_thread_ident();
    flk_thread_list_lock();
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next) {
        uintptr_t marks = (uintptr_t)t->ident + distance;
        skip(s, marks, marks + sizeof(flk_marks));
    }
    flk_thread_list_unlock();
#else
    (void)s;  // thread-local memory may lie anywhere
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
static void skip_dead_stack(search *s, uintptr_t pointer, uint64_t ident) {
    const flk_area *area = flk_areas_at(&s->areas, pointer);
    if (!area || pointer < area->begin)
        return;
    bool is_stack = area->kind == FLK_AREA_MAIN_STACK;
    if (area->kind == FLK_AREA_ANONYMOUS && area->follows_guard)
        is_stack = ident ? ident >= pointer && ident < area->end
                         : has_thread_in(pointer, area->end);
    if (is_stack && pointer - area->begin > RED_ZONE)
        skip(s, area->begin, pointer - (ident ? 0 : RED_ZONE));
}

static void skip_dead_stacks(search *s) {
    const flk_search_caller *caller = &s->order->caller;
    skip_dead_stack(s, caller->stack_begin, caller->ident);
    const flk_stacks *stacks = s->order->stacks;
    for (uint32_t i = 0; i < stacks->count; i++)
        if (stacks->items[i].is_still)
            skip_dead_stack(s, stacks->items[i].pointer, 0);
}

// Whether memory is read in place: that of this child does not change, and absent
// pages read as zeros. Sanitizers allow no reads of what is not the program's.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { IS_READ_IN_PLACE = 0 };
#else
enum { IS_READ_IN_PLACE = 1 };
#endif

static bool is_still(const search *s) {
    return IS_READ_IN_PLACE && !s->order->in_process && s->pagemap >= 0;
}

static const flk_area *heap_area(const search *s) {
    for (size_t i = 0; i < s->areas.count; i++)
        if (s->areas.items[i].kind == FLK_AREA_HEAP)
            return &s->areas.items[i];
    return NULL;
}

// What malloc keeps of its free memory points to the ends of blocks.
static void skip_main_arena(search *s) {
    const flk_area *heap = heap_area(s);
    for (size_t i = 0; i < s->areas.count && heap && !s->main_arena; i++) {
        const flk_area *area = &s->areas.items[i];
        const char *name = s->result->holders.items[area->holder].name;
        if (area->kind == FLK_AREA_FILE && area->is_writable &&
            strncmp(name, "libc", 4) == 0)
            s->main_arena = flk_chunks_find_arena(area->begin, area->end,
                                                  heap->begin, heap->end);
    }
    if (s->main_arena)
        skip(s, s->main_arena, s->main_arena + flk_chunks_arena_bytes());
}

static uintptr_t arena_of(const search *s, const flk_area *area) {
    if (!is_still(s))
        return 0;
    if (area->kind == FLK_AREA_HEAP)
        return s->main_arena;
    bool may_be = area->kind == FLK_AREA_ANONYMOUS && area->is_writable;
    return may_be ? flk_chunks_arena_of(area->begin, area->end) : 0;
}

static void skip_arenas(search *s) {
    if (!is_still(s))
        return;
    skip_main_arena(s);
    for (size_t i = 0; i < s->areas.count; i++) {
        uintptr_t arena = arena_of(s, &s->areas.items[i]);
        if (arena)
            skip(s, arena, arena + flk_chunks_arena_bytes());
    }
}

typedef struct hole {
    uintptr_t begin, end;
    bool is_heap_block;
} hole;

// The next recorded block that ends behind `at`, if it begins before `found`.
static void find_block(search *s, uint32_t layer, uintptr_t at, hole *found) {
    const flk_block_index *x = &s->index;
    uint32_t *next = &s->next_block[layer];
    uint32_t end = x->layer_begin[layer + 1];
    while (*next < end && flk_block_index_end(&x->blocks[*next]) <= at)
        ++*next;
    if (*next == end)
        return;
    const flk_pair *block = &x->blocks[*next];
    if (flk_block_index_address(block) < found->begin)
        *found = (hole){flk_block_index_address(block),
                        flk_block_index_end(block), layer == FLK_LAYER_HEAP};
}

// The next memory at or behind `at` that is no root. `at` never falls.
static hole next_hole(search *s, uintptr_t at) {
    hole found = {UINTPTR_MAX, UINTPTR_MAX, false};
    while (s->next_skip < s->skip_count && s->skips[s->next_skip].value <= at)
        s->next_skip++;
    if (s->next_skip < s->skip_count)
        found = (hole){s->skips[s->next_skip].key, s->skips[s->next_skip].value,
                       false};
    while (s->free.value <= at)
        s->free = flk_chunks_next(&s->chunks);
    if (s->free.key < found.begin)
        found = (hole){s->free.key, s->free.value, false};
    for (uint32_t layer = FLK_LAYER_MAPPING; layer <= FLK_LAYER_HANDLE; layer++)
        find_block(s, layer, at, &found);
    return found;
}

// --- words -----------------------------------------------------------------------
// A word points into the block at this place.
static void reach(search *s, uint32_t place) {
    if (s->facts[place] & VERDICT)
        return;
    if (s->verdict) {
        judge(s, place, s->verdict, s->from);
    } else if (!(s->facts[place] & IS_MET)) {
        s->facts[place] |= IS_MET;
        s->queue[s->tail++] = place;
    }
}

static FLK_NOINLINE void look_up(search *s, uintptr_t word) {
    uint32_t places[FOUND_MAX];
    uint32_t count = flk_block_index_find(&s->index, word, places, FOUND_MAX);
    for (uint32_t i = 0; i < count; i++)
        reach(s, places[i]);
    if (count || !(word & 7))
        return;
    // A tag may be in the lower bits of a pointer to the start of a block that
    // is smaller than the tag.
    uintptr_t start = word & ~(uintptr_t)7;
    count = flk_block_index_find(&s->index, start, places, FOUND_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (flk_block_index_address(&s->index.blocks[places[i]]) == start)
            reach(s, places[i]);
}

static inline bool may_point(const search *s, uintptr_t word) {
    return word - s->low < s->span && flk_block_index_may_have(&s->index, word);
}

// Words that lead to blocks, and those that tell what a live object of Python
// owns: its type.
static void note_words(search *s) {
    uintptr_t end = s->index.high + 7;
    s->low = s->index.low;
    s->owner_count = flk_pools_owner_types(s->owners);
    for (uint32_t i = 0; i < s->owner_count; i++) {
        uintptr_t type = s->owners[i];
        flk_block_index_note(&s->index, type);
        s->low = least(s->low, type);
        end = end > type + 1 ? end : type + 1;
    }
    s->span = end - s->low;
}

static inline uintptr_t word_in(const char *bytes, size_t i) {
    uintptr_t word;
    memcpy(&word, bytes + i * sizeof word, sizeof word);
    return word;
}

static bool is_of_interest(const search *s, uintptr_t word) {
    uint32_t place;
    for (uint32_t i = 0; i < s->owner_count; i++)
        if (s->owners[i] == word)
            return true;
    return flk_block_index_find(&s->index, word, &place, 1) ||
           flk_block_index_find(&s->index, word & ~(uintptr_t)7, &place, 1);
}

// Whether some memory has a word that leads to a block or is the type of an
// owner. Most pieces have none. Words are taken together, since branches would
// be foretold wrongly.
static bool has_words(const search *s, const char *copy, uintptr_t begin,
                      uintptr_t end) {
    enum { TOGETHER = 8, AHEAD = 256 };
    const uintptr_t low = s->low, span = s->span;
    const uint64_t *lines = s->index.lines;
    uintptr_t at = (begin + 7) & ~(uintptr_t)7;
    const char *from = copy + (at - begin);
    size_t count = at < end ? (end - at) / sizeof(uintptr_t) : 0;
    for (size_t i = 0; i < count; i += TOGETHER) {
        size_t some = count - i < TOGETHER ? count - i : TOGETHER;
        uint64_t found = 0;
        FLK_PREFETCH(from + (i + AHEAD) * sizeof(uintptr_t));
        for (size_t k = 0; k < some; k++) {
            uintptr_t word = word_in(from, i + k);
            found |= (uint64_t)(word - low < span) &
                     flk_block_index_line(lines, word);
        }
        for (size_t k = 0; found && k < some; k++)
            if (may_point(s, word_in(from, i + k)) &&
                is_of_interest(s, word_in(from, i + k)))
                return true;
    }
    return false;
}

static bool is_text(unsigned char byte) {
    return (byte >= ' ' && byte <= '~') || (byte >= '\t' && byte <= '\r');
}

// Whether this word, which may be an address, has the end of a C string that
// began before it, at `first` at the latest 8 bytes earlier. Behind the end is
// what an earlier use of the memory left, such as the upper bytes of a pointer.
// A true pointer behind 8 bytes of text is taken for such a word if its lowest
// bytes are text and a 0, too. (A lowest byte of 0 is no sign: one pointer in
// sixteen has it.)
static FLK_NOINLINE bool ends_text(const char *first, const char *word) {
    const unsigned char *bytes = (const unsigned char *)word;
    if (word - first < (ptrdiff_t)sizeof(uintptr_t) || *bytes == 0)
        return false;
    for (size_t i = 1; i <= sizeof(uintptr_t); i++)
        if (!is_text((unsigned char)word[-(ptrdiff_t)i]))
            return false;
    while (is_text(*bytes))  // not longer than the word: its highest byte is 0
        bytes++;
    return *bytes == 0;
}

// Reads the whole words from `begin` on, whose bytes are at `copy`.
static void read_words(search *s, const char *copy, uintptr_t begin,
                       uintptr_t end) {
    FLK_ASSERT(copy && begin <= end);
    uintptr_t at = (begin + 7) & ~(uintptr_t)7;
    const char *from = copy + (at - begin);
    const char *first = from;
    size_t count = at < end ? (end - at) / sizeof(uintptr_t) : 0;
    s->result->words += count;
    for (; count > 0; count--, from += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, from, sizeof word);
        if (may_point(s, word) && !ends_text(first, from))
            look_up(s, word);
    }
}

static void read_root_words(search *s, const char *copy, uintptr_t begin,
                            uintptr_t end) {
    for (uintptr_t at = begin; at < end;) {
        hole next = next_hole(s, at);
        uintptr_t stop = least(next.begin, end);
        if (stop > at)
            read_words(s, copy + (at - begin), at, stop);
        if (stop == end)
            return;
        at = next.end;
        if (next.is_heap_block && is_still(s))
            at = flk_chunks_block_end(next.begin, next.end);
    }
}

// --- which pages -------------------------------------------------------------------
// Reads which pages of the window at `begin` have contents: pages that were
// never written to have no pointers to blocks.
static void read_window(search *s, const flk_area *area, uintptr_t begin,
                        size_t pages) {
    FLK_ASSERT(pages > 0 && pages <= WINDOW);
    uint64_t entries[WINDOW];
    size_t page = flk_platform_page_bytes();
    bool is_known = false;
    if (area->kind == FLK_AREA_SHARED) {
        is_known = flk_platform_pages_resident(begin, pages, s->is_wanted);
    } else if (s->pagemap >= 0) {
        ssize_t bytes = (ssize_t)(pages * sizeof *entries);
        is_known = pread(s->pagemap, entries, (size_t)bytes,
                         (off_t)(begin / page * sizeof *entries)) == bytes;
        for (size_t i = 0; i < pages && is_known; i++)
            s->is_wanted[i] = entries[i] & IN_MEMORY && !(entries[i] & OF_FILE);
    }
    if (!is_known)  // code and constants then are not read
        memset(s->is_wanted, area->is_writable || area->kind != FLK_AREA_FILE,
               pages);
}

// The bytes of memory; NULL if they cannot be read.
static const char *bytes_at(search *s, const flk_area *area, uintptr_t begin,
                            size_t bytes) {
    FLK_ASSERT(bytes <= FLK_PIECE_BYTES);
    if (is_still(s) && area->kind != FLK_AREA_SHARED)
        return (const char *)begin;
    if (s->memory < 0 ||
        !flk_platform_memory_copy(s->memory, begin, s->buffer, bytes))
        return NULL;
    return s->buffer;
}

// Calls for each stretch of an area that has contents. A stretch is not longer
// than a piece; whole pieces are passed at once.
typedef void (*stretch_reader)(search *s, const flk_area *area,
                               const char *copy, uintptr_t begin,
                               uintptr_t end);

static bool is_of_file(const flk_area *area) {
    return area->kind == FLK_AREA_FILE || area->kind == FLK_AREA_SHARED;
}

static bool is_any(const unsigned char *flags, size_t count) {
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any |= flags[i];
    return any;
}

// One piece, or the part of it that is in the area.
static void read_piece(search *s, const flk_area *area, uintptr_t window,
                       uintptr_t begin, uintptr_t end, stretch_reader reader) {
    size_t page = flk_platform_page_bytes();
    const unsigned char *wanted = s->is_wanted + (begin - window) / page;
    size_t pages = (end - 1) / page - begin / page + 1;
    if (!is_any(wanted, pages))
        return;
    for (uintptr_t at = begin; at < end; wanted++) {
        // Pages of anonymous memory without contents read as zeros.
        uintptr_t next =
            is_of_file(area) ? least((at & ~(page - 1)) + page, end) : end;
        bool is_read = *wanted || !is_of_file(area);
        const char *copy = is_read ? bytes_at(s, area, at, next - at) : NULL;
        if (copy)
            reader(s, area, copy, at, next);
        at = next;
    }
}

static void read_stretches(search *s, const flk_area *area, uintptr_t begin,
                           uintptr_t end, stretch_reader reader) {
    FLK_ASSERT(area->begin <= begin && begin <= end && end <= area->end);
    size_t page = flk_platform_page_bytes();
    for (uintptr_t at = begin; at < end && goes_on(s);) {
        uintptr_t window = at & ~(page - 1);
        if (s->pagemap >= 0 && area->kind != FLK_AREA_SHARED)
            window = flk_platform_pages_next_used(
                s->pagemap, window, (end + page - 1) & ~(page - 1));
        at = window > at ? window : at;
        if (at >= end)
            break;
        uintptr_t stop = least((at / (WINDOW * page) + 1) * WINDOW * page, end);
        size_t pages = (stop - window + page - 1) / page;
        read_window(s, area, window, pages);
        if (!is_any(s->is_wanted, pages))
            at = stop;
        while (at < stop) {
            uintptr_t next =
                least((at / FLK_PIECE_BYTES + 1) * FLK_PIECE_BYTES, stop);
            read_piece(s, area, window, at, next, reader);
            at = next;
        }
    }
}

// --- stacks of ended threads -------------------------------------------------------
// The C library keeps them for threads to come, with what they held. Such an
// area begins behind a guard page, and the data of its thread end the stack.
static void find_ended_stack(search *s, const flk_area *area, const char *copy,
                             uintptr_t begin, uintptr_t end) {
    (void)copy;  // it is the memory itself
    uintptr_t thread =
        flk_stacks_ended_thread(s->order->stacks, begin, end, area->end);
    if (thread)
        skip(s, area->begin, thread);
}

static void skip_ended_stacks(search *s) {
    for (size_t i = 0; i < s->areas.count && is_still(s); i++) {
        const flk_area *area = &s->areas.items[i];
        if (area->kind == FLK_AREA_ANONYMOUS && area->follows_guard)
            read_stretches(s, area, area->begin, area->end, find_ended_stack);
    }
}

// After everything else is mapped, since the mappings of the search are listed,
// too.
static bool list_skips(search *s) {
    s->skip_max = flk_platform_pages_own(NULL, 0) + FLK_STACKS_MAX + SPARE +
                  2 * s->areas.count + flk_thread_list_live_count() +
                  flk_recent_held_count();
    s->skips = map(s, s->skip_max * sizeof *s->skips);
    if (!s->skips)
        return false;
    s->skip_count = flk_platform_pages_own(s->skips, s->skip_max);
    if (s->skip_count > s->skip_max)
        s->skip_count = s->skip_max;
    skip(s, s->order->own_begin, s->order->own_end);
    skip_marks(s);
    flk_recent_visit_held(skip_freed, s);
    skip_dead_stacks(s);
    skip_arenas(s);
    skip_ended_stacks(s);
    flk_pairs_sort(s->skips, s->skip_count);
    return true;
}

// --- roots -------------------------------------------------------------------------
static void from_root(search *s, uint32_t holder) {
    s->verdict = FLK_VERDICT_HELD;
    s->from = holder;
}

static void note_small(search *s, flk_small small) {
    if (s->chunks.small_count < s->chunks.small_max)
        s->chunks.small[s->chunks.small_count++] =
            (flk_pair){small.address, small.used};
}

// Only the blocks that Python uses: the others have stale pointers.
static void read_pool(search *s, const flk_pool *pool, const char *copy,
                      uintptr_t begin) {
    from_root(s, FLK_HOLDER_PYTHON);
    for (uint32_t i = 0; i < pool->count; i++) {
        size_t at = FLK_POOL_HEAD + (size_t)i * pool->block_bytes;
        if (flk_pools_is_free(pool, i))
            continue;
        uint32_t used = flk_pools_used(copy + at, pool->block_bytes);
        flk_small small;
        if (is_still(s) &&
            flk_pools_owned(copy + at, pool->block_bytes, &small))
            note_small(s, small);
        read_root_words(s, copy + at, begin + at, begin + at + used);
    }
}

static const char *object_of(const search *s, const flk_area *area) {
    return s->result->holders.items[area->holder].name;
}

// In a program with the interpreter inside, other code has data there, too.
static void find_interpreter(search *s) {
    uintptr_t type = flk_pools_interpreter();
    const flk_area *area = type ? flk_areas_at(&s->areas, type) : NULL;
    if (!area || area->begin > type || !is_still(s))
        return;
    const char *name = object_of(s, area);
    if (strncmp(name, "python", 6) == 0 || strncmp(name, "libpython", 9) == 0)
        s->interpreter = area;
}

// The locks of the interpreter itself. It keeps no pointer to anything else that
// looks like one.
static void note_locks(search *s, const char *copy, size_t bytes) {
    const flk_area *heap = heap_area(s);
    for (size_t i = 0; heap && i + sizeof(uintptr_t) <= bytes;
         i += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, copy + i, sizeof word);
        if (word > heap->begin && word < heap->end && word % 16 == 0 &&
            flk_chunks_is_lock(word))
            note_small(s, (flk_small){word, FLK_SMALL_LOCK});
    }
}

static bool is_of_interpreter(const search *s, const flk_area *area) {
    return s->interpreter && area->is_writable &&
           strcmp(object_of(s, area), object_of(s, s->interpreter)) == 0;
}

static void read_root(search *s, const flk_area *area, const char *copy,
                      uintptr_t begin, uintptr_t end) {
    flk_pool pool;
    if (is_of_interpreter(s, area))
        note_locks(s, copy, end - begin);
    if (!has_words(s, copy, begin, end)) {
        s->result->words += (end - begin) / sizeof(uintptr_t);
        return;
    }
    if (area->kind == FLK_AREA_ANONYMOUS && begin % FLK_PIECE_BYTES == 0 &&
        end - begin == FLK_PIECE_BYTES && flk_pools_read(copy, begin, &pool)) {
        read_pool(s, &pool, copy, begin);
        return;
    }
    from_root(s, area->holder);
    read_root_words(s, copy, begin, end);
}

// Names the stacks of threads. An area with the C library's data of a thread is
// its stack, or belongs to the main thread.
static void name_stacks(search *s) {
    flk_thread_list_lock();
    for (flk_thread *t = flk_thread_list_first(); t; t = t->next) {
        flk_area *area = flk_areas_at(&s->areas, (uintptr_t)t->ident);
        if (!area || t->ident < area->begin || area->kind != FLK_AREA_ANONYMOUS)
            continue;
        area->holder = flk_areas_holder(
            &s->result->holders,
            area->follows_guard ? FLK_HOLDER_STACK : FLK_HOLDER_THREAD_DATA,
            t->number, "");
    }
    flk_thread_list_unlock();
}

static void read_registers(search *s) {
    flk_holders *holders = &s->result->holders;
    from_root(s, flk_areas_holder(holders, FLK_HOLDER_REGISTERS, 0, ""));
    const flk_stacks *stacks = s->order->stacks;
    for (uint32_t i = 0; i < stacks->count; i++)
        for (int k = 0; k < FLK_STACK_ARGUMENTS; k++)
            if (may_point(s, stacks->items[i].arguments[k]))
                look_up(s, stacks->items[i].arguments[k]);
}

static void read_areas(search *s, bool are_heaps) {
    s->next_skip = 0;
    for (uint32_t layer = 0; layer <= FLK_LAYER_HANDLE; layer++)
        s->next_block[layer] = s->index.layer_begin[layer];
    for (size_t i = 0; i < s->areas.count && goes_on(s); i++) {
        const flk_area *area = &s->areas.items[i];
        uintptr_t arena = arena_of(s, area);
        if (area->kind == FLK_AREA_CLOSED || (arena != 0) != are_heaps)
            continue;
        flk_chunks_begin(&s->chunks, area->begin, area->end, arena);
        s->free = flk_chunks_next(&s->chunks);
        read_stretches(s, area, area->begin, area->end, read_root);
    }
}

// Objects tell what is small in the heaps of malloc, so these are read last.
static void read_roots(search *s) {
    read_registers(s);
    find_interpreter(s);
    read_areas(s, false);
    flk_pairs_sort(s->chunks.small, s->chunks.small_count);
    read_areas(s, true);
}

// --- blocks ------------------------------------------------------------------------
static void read_contents(search *s, const flk_area *area, const char *copy,
                          uintptr_t begin, uintptr_t end) {
    (void)area;
    read_words(s, copy, begin, end);
}

static void read_block(search *s, uint32_t place) {
    const flk_pair *block = &s->index.blocks[place];
    uintptr_t at = flk_block_index_address(block);
    uintptr_t end = flk_block_index_end(block);
    if (end - at < sizeof(uintptr_t))
        return;
    s->from = place;
    // A block may reach over several mappings.
    for (flk_area *area = flk_areas_at(&s->areas, at);
         area && area < s->areas.items + s->areas.count && area->begin < end;
         area++) {
        if (area->kind == FLK_AREA_CLOSED)
            continue;
        uintptr_t begin = at > area->begin ? at : area->begin;
        uintptr_t stop = least(end, area->end);
        if (stop - begin > FLK_PIECE_BYTES || is_of_file(area)) {
            read_stretches(s, area, begin, stop, read_contents);
            continue;
        }
        const char *copy = bytes_at(s, area, begin, stop - begin);
        if (copy)
            read_words(s, copy, begin, stop);
    }
}

static void follow(search *s, uint8_t verdict) {
    s->verdict = verdict;
    while (s->head < s->tail && goes_on(s))
        read_block(s, s->queue[s->head++]);
}

// Marks the blocks at whose address a handle is recorded.
static void mark_objects(search *s) {
    uint32_t places[FOUND_MAX];
    const uint32_t *begin = s->index.layer_begin;
    for (uint32_t h = begin[FLK_LAYER_HANDLE]; h < begin[FLK_LAYER_HANDLE + 1];
         h++) {
        uintptr_t address = (uintptr_t)block_at(s, h)->address;
        uint32_t count =
            flk_block_index_find(&s->index, address, places, FOUND_MAX);
        for (uint32_t i = 0; i < count; i++)
            if (block_at(s, places[i])->address == address &&
                places[i] < begin[FLK_LAYER_HANDLE])
                s->facts[places[i]] |= IS_OBJECT;
    }
}

static void meet(search *s, uint32_t place) {
    FLK_ASSERT(place < s->count);
    if (s->facts[place] & (VERDICT | IS_MET))
        return;
    s->facts[place] |= IS_HEAD | IS_MET;
    s->queue[s->tail++] = place;
    follow(s, 0);
}

static void part(search *s, uint32_t place) {
    FLK_ASSERT(place < s->count);
    if (s->facts[place] & VERDICT || !(s->facts[place] & IS_HEAD))
        return;
    judge(s, place, FLK_VERDICT_LOST, FLK_HOLDER_NONE);
    follow(s, FLK_VERDICT_LOST_BELOW);
}

// Finds the heads of lost trees, by two passes. The first one follows each block
// that no earlier one led to. A later head may lead to an earlier one, but not
// the reverse. So the second pass begins with the last: what it leads to is
// below, and what is left is a head. Objects come first in the first pass, so
// that the head of a ring is the object and not a part of it.
static void part_lost(search *s) {
    uint32_t begun = s->tail;
    mark_objects(s);
    for (uint32_t place = 0; place < s->count && goes_on(s); place++)
        if (s->facts[place] & IS_OBJECT)
            meet(s, place);
    for (uint32_t place = 0; place < s->count && goes_on(s); place++)
        if (!(s->facts[place] & IS_OBJECT))
            meet(s, place);
    s->head = s->tail = begun;
    for (uint32_t place = s->count; place-- > 0 && goes_on(s);)
        if (!(s->facts[place] & IS_OBJECT))
            part(s, place);
    for (uint32_t place = s->count; place-- > 0 && goes_on(s);)
        if (s->facts[place] & IS_OBJECT)
            part(s, place);
}

// --- the result ----------------------------------------------------------------------
static bool is_lost_below(const search *s, uint32_t place) {
    return (s->facts[place] & VERDICT) == FLK_VERDICT_LOST_BELOW;
}

// The head of the lost tree that the block is in. Chains may be as long as there
// are blocks, so each block on the way learns the head, too.
static uint32_t head_of(search *s, uint32_t place) {
    uint32_t head = place;
    while (is_lost_below(s, head))
        head = s->ends[head];
    while (place != head) {
        uint32_t above = s->ends[place];
        s->ends[place] = head;
        place = above;
    }
    return head;
}

static void write_row(search *s, uint32_t i, uint32_t place,
                      const uint32_t *row_of) {
    flk_search_result *result = s->result;
    uint8_t verdict = s->facts[place] & VERDICT;
    FLK_ASSERT(verdict != 0);
    bool is_below =
        verdict == FLK_VERDICT_LOST_BELOW || verdict == FLK_VERDICT_HELD_BELOW;
    uint32_t holder = s->holder[place], end = s->ends[place];
    result->blocks[i] = *block_at(s, place);
    result->blocks[i].address = ~result->blocks[i].address;
    result->verdicts[i] = verdict;
    result->held_by[i] = is_below ? row_of[holder] : holder;
    if (verdict == FLK_VERDICT_LOST || verdict == FLK_VERDICT_LOST_BELOW)
        end = row_of[head_of(s, place)];
    result->ends[i] = end;
}

// By sequence number. The sorted blocks and the queue are not needed any more;
// their memory is used for the order and for the row of each place.
static void write_rows(search *s) {
    flk_pair *order = s->index.blocks;
    uint32_t *row_of = s->queue, count = 0;
    for (uint32_t place = 0; place < s->count; place++) {
        row_of[place] = FLK_HOLDER_NONE;
        if (s->facts[place] & IS_ROW && count < s->result->max)
            order[count++] = (flk_pair){block_at(s, place)->sequence, place};
    }
    flk_pairs_sort(order, count);
    for (uint32_t i = 0; i < count; i++)
        row_of[order[i].value] = i;
    for (uint32_t i = 0; i < count; i++)
        write_row(s, i, (uint32_t)order[i].value, row_of);
    s->result->count = count;
}

// The parent of the child confirms which threads did not run.
static void wait_for_stacks(search *s) {
    while (s->order->are_confirmed && goes_on(s) &&
           !atomic_load(s->order->are_confirmed)) {
        flk_platform_pause();
        s->next_check = 0;  // look at the clock
    }
}

static void open_files(search *s) {
    s->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    s->memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
}

static void search_all(search *s) {
    wait_for_stacks(s);
    if (s->failure || !collect(s))
        return;
    if (!flk_areas_read(&s->areas, &s->result->holders, s->pagemap)) {
        s->failure = FLK_LOST_IMPOSSIBLE;
        return;
    }
    s->mapped_bytes += s->areas.mapped_bytes;
    name_stacks(s);
    note_words(s);
    if (!list_skips(s))
        return;
    judge_at_once(s);
    read_roots(s);
    follow(s, FLK_VERDICT_HELD_BELOW);
    part_lost(s);
    if (!s->failure)
        write_rows(s);
}

int flk_search_run(const flk_search_order *order, flk_search_result *result) {
    FLK_ASSERT(order && order->stacks && result && result->holders.items);
    search s = {.order = order,
                .result = result,
                .chunks.key = order->cache_key,
                .pagemap = -1,
                .memory = -1};
    int saved = errno;
    result->count = result->words = 0;
    flk_areas_begin_holders(&result->holders);
    open_files(&s);
    search_all(&s);
    result->memory_bytes = s.mapped_bytes;
    drop_all(&s);
    errno = saved;
    return s.failure;
}
