// search.c - from the roots to the blocks. Contract: reach/search.h.      SPDX-License-Identifier: MIT
#include "reach/search.h"

#include <errno.h>
#include <string.h>

#include "base/config.h"
#include "base/pairs.h"
#include "base/platform.h"
#include "paths/thread.h"
#include "reach/block_index.h"
#include "reach/contents.h"
#include "reach/heads.h"
#include "reach/holes.h"
#include "reach/pools.h"
#include "reach/tails.h"
#include "reach/texts.h"
#include "reach/verdicts.h"
#include "registry/registry.h"
#include "registry/scope.h"
#include "tracker/quarantine.h"
#include "tracker/tracker.h"

enum {
    CHECK_WORDS = 1 << 18,  // between two looks at the clock
    SPARE = 64,             // blocks
};

typedef struct search {
    const flk_search_order *order;
    flk_search_result *result;
    flk_contents contents;
    flk_areas areas;
    flk_block *copies;  // of all records
    uint32_t count, capacity;
    flk_block_index index;
    flk_verdicts verdicts;
    flk_holes holes;
    flk_tails tails;
    bool may_be_unused;  // what is read: memory that may be part of an array
    const flk_area *interpreter;  // its data, if it is an object of its own
    uintptr_t low, span;          // words that may be of interest
    uintptr_t owners[FLK_POOLS_OWNERS_MAX];  // types of Python
    uint32_t owner_count;
    uint64_t next_check;
    bool ends_early;  // when all blocks of the result are held
    int failure;      // FLK_LOST_...
} search;

static bool is_done(const search *s) {
    return s->ends_early && s->verdicts.rows_left == 0;
}

static bool goes_on(search *s) {
    if (s->failure || is_done(s))
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

// A handle may be a number that is no address. And memory with a name of its
// own is used by code without a pointer to it.
static void judge_handle(search *s, uint32_t place) {
    uintptr_t address =
        (uintptr_t)flk_verdicts_block(&s->verdicts, place)->address;
    const flk_area *area = flk_areas_at(&s->areas, address);
    if (!area || address < area->begin || area->kind == FLK_AREA_CLOSED)
        flk_verdicts_judge(&s->verdicts, place, FLK_VERDICT_HELD,
                           FLK_HOLDER_UNSEARCHED);
    else if (area->holder != FLK_HOLDER_UNTRACKED &&
             area->kind != FLK_AREA_SHARED)
        flk_verdicts_judge(&s->verdicts, place, FLK_VERDICT_HELD, area->holder);
}

static void judge_at_once(search *s) {
    for (uint32_t place = 0; place < s->count; place++) {
        const flk_block *block = flk_verdicts_block(&s->verdicts, place);
        bool is_shown = is_row(s, block);
        s->verdicts.facts[place] = is_shown ? FLK_FACT_ROW : 0;
        s->verdicts.rows_left += is_shown;
        if (block->flags & FLK_RECORD_MOVING)
            flk_verdicts_judge(&s->verdicts, place, FLK_VERDICT_HELD,
                               FLK_HOLDER_MOVING);
        else if (block->layer == FLK_LAYER_HANDLE)
            judge_handle(s, place);
    }
    // What is inside of a handle follows from what holds it.
    const uint32_t *begin = &s->index.layer_begin[FLK_LAYER_HANDLE];
    s->ends_early = s->order->lost_only && begin[0] == begin[1];
}

// The copies of all records, in mapped pages.
static bool copy_blocks(search *s) {
    uint64_t count = SPARE;
    for (uint32_t i = 0; i < FLK_SHARDS; i++)
        count += flk_registry_shard_count(i);
    if (count >= UINT32_MAX / 2)
        return false;
    s->capacity = (uint32_t)count;
    s->copies = flk_platform_pages_map(
        flk_platform_pages_for(count * sizeof *s->copies),
        flk_platform_page_bytes());
    for (uint32_t i = 0; i < FLK_SHARDS && s->copies; i++)
        flk_registry_visit_shard(i, copy_block, s);
    return s->copies;
}

// Everything that is mapped before the mappings of the search are listed.
static bool collect(search *s) {
    s->holes.order = s->order;
    s->holes.areas = &s->areas;
    s->holes.index = &s->index;
    s->holes.contents = &s->contents;
    bool fits = copy_blocks(s) &&
                flk_verdicts_open(&s->verdicts, s->capacity) &&
                flk_holes_open(&s->holes) && flk_tails_open(&s->tails) &&
                flk_block_index_build(&s->index, s->copies, s->count);
    if (!fits)
        s->failure = FLK_LOST_NO_MEMORY;
    s->verdicts.blocks = s->copies;
    s->verdicts.index = &s->index;
    s->verdicts.count = s->count;
    return fits;
}

static uint64_t mapped_bytes(const search *s) {
    return flk_platform_pages_for(s->capacity * sizeof *s->copies) +
           flk_platform_pages_for(FLK_PIECE_BYTES) +
           flk_verdicts_bytes(s->capacity) + flk_holes_bytes(&s->holes) +
           (s->tails.words ? flk_tails_bytes() : 0) +
           flk_block_index_bytes(&s->index) + s->areas.mapped_bytes;
}

static void drop_all(search *s) {
    if (s->copies)
        flk_platform_pages_unmap(
            s->copies, flk_platform_pages_for(s->capacity * sizeof *s->copies));
    flk_verdicts_drop(&s->verdicts);
    flk_holes_drop(&s->holes);
    flk_tails_drop(&s->tails);
    flk_block_index_drop(&s->index);
    flk_areas_drop(&s->areas);
    flk_contents_close(&s->contents);
}

// --- words -----------------------------------------------------------------------
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
        s->low = s->low < type ? s->low : type;
        end = end > type + 1 ? end : type + 1;
    }
    s->span = end - s->low;
}

static inline uintptr_t word_in(const char *bytes, size_t i) {
    uintptr_t word;
    memcpy(&word, bytes + i * sizeof word, sizeof word);
    return word;
}

static bool leads_to_block(const search *s, uintptr_t word) {
    uint32_t place;
    return flk_block_index_find(&s->index, word, &place, 1) ||
           flk_block_index_find(&s->index, word & ~(uintptr_t)7, &place, 1);
}

static bool is_of_interest(const search *s, uintptr_t word) {
    for (uint32_t i = 0; i < s->owner_count; i++)
        if (s->owners[i] == word)
            return true;
    return leads_to_block(s, word);
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

static void point(search *s, uintptr_t at, uintptr_t word) {
    if (s->may_be_unused && leads_to_block(s, word) &&
        flk_tails_keep(&s->tails, at, s->verdicts.from))
        return;
    flk_verdicts_point(&s->verdicts, word);
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
        uintptr_t address = at + (uintptr_t)(from - first);
        if (may_point(s, word) && !flk_texts_end(first, from, address))
            point(s, address, word);
    }
}

static void read_root_words(search *s, const char *copy, uintptr_t begin,
                            uintptr_t end) {
    for (uintptr_t at = begin; at < end;) {
        flk_hole next = flk_holes_next(&s->holes, at);
        uintptr_t stop = next.begin < end ? next.begin : end;
        if (stop > at)
            read_words(s, copy + (at - begin), at, stop);
        if (stop == end)
            return;
        at = next.end;
        if (next.is_heap_block && s->contents.is_still)
            at = flk_heads_block_end(next.begin, next.end);
    }
}

// --- roots -------------------------------------------------------------------------
static void from_root(search *s, uint32_t holder) {
    s->verdicts.verdict = FLK_VERDICT_HELD;
    s->verdicts.from = holder;
}

// The instance of a class may be smaller than its block.
static uint32_t instance_bytes(const search *s, const char *block,
                               uint32_t block_bytes) {
    for (uint32_t before = 0; before <= FLK_POOLS_BEFORE_MAX;
         before += FLK_POOL_STEP) {
        uintptr_t type = flk_pools_class_at(block, block_bytes, before);
        if (!type || !flk_areas_have(&s->areas, type, FLK_POOLS_CLASS_BYTES))
            continue;
        uint32_t bytes = flk_pools_instance_bytes((const void *)type, block,
                                                  block_bytes, before);
        if (bytes)
            return bytes;
    }
    return block_bytes;
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
        if (s->contents.is_still && used == pool->block_bytes)
            used = instance_bytes(s, copy + at, used);
        flk_small small;
        if (s->contents.is_still &&
            flk_pools_owned(copy + at, pool->block_bytes, &small))
            flk_holes_note_small(&s->holes, small);
        s->may_be_unused = s->contents.is_still && used == pool->block_bytes;
        uint32_t unset, first = 0;
        if (flk_pools_unset(copy + at, used, &unset)) {
            read_root_words(s, copy + at, begin + at, begin + at + unset);
            first = unset + FLK_POOLS_UNSET_BYTES;
        }
        read_root_words(s, copy + at + first, begin + at + first,
                        begin + at + used);
    }
    s->may_be_unused = false;
}

static const char *object_of(const search *s, const flk_area *area) {
    return s->result->holders.items[area->holder].name;
}

// In a program with the interpreter inside, other code has data there, too.
static void find_interpreter(search *s) {
    uintptr_t type = flk_pools_interpreter();
    const flk_area *area = type ? flk_areas_at(&s->areas, type) : NULL;
    if (!area || area->begin > type || !s->contents.is_still)
        return;
    const char *name = object_of(s, area);
    if (strncmp(name, "python", 6) == 0 || strncmp(name, "libpython", 9) == 0)
        s->interpreter = area;
}

// The locks of the interpreter itself. It keeps no pointer to anything else that
// looks like one.
static void note_lock(search *s, uintptr_t word) {
    const flk_heap *heap = flk_heaps_at(&s->holes.heaps, word);
    if (word % FLK_HEADS_ALIGNMENT == 0 && heap && word > heap->begin &&
        flk_areas_have(&s->areas, word - FLK_HEADS_BYTES,
                       FLK_HEADS_CHUNK_LEAST) &&
        flk_heads_is_lock(word))
        flk_holes_note_small(&s->holes, (flk_small){word, FLK_SMALL_LOCK});
}

static void note_locks(search *s, const char *copy, size_t bytes) {
    for (size_t i = 0; i < bytes / sizeof(uintptr_t); i++)
        note_lock(s, word_in(copy, i));
}

static bool is_of_interpreter(const search *s, const flk_area *area) {
    return s->interpreter && area->is_writable &&
           strcmp(object_of(s, area), object_of(s, s->interpreter)) == 0;
}

static bool read_root(void *context, const flk_area *area, const char *copy,
                      uintptr_t begin, uintptr_t end) {
    search *s = context;
    flk_pool pool;
    if (is_of_interpreter(s, area))
        note_locks(s, copy, end - begin);
    if (!has_words(s, copy, begin, end)) {
        s->result->words += (end - begin) / sizeof(uintptr_t);
        return goes_on(s);
    }
    if (area->kind == FLK_AREA_ANONYMOUS && begin % FLK_PIECE_BYTES == 0 &&
        end - begin == FLK_PIECE_BYTES && flk_pools_read(copy, begin, &pool)) {
        read_pool(s, &pool, copy, begin);
        return goes_on(s);
    }
    from_root(s, area->holder);
    read_root_words(s, copy, begin, end);
    return goes_on(s);
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
                flk_verdicts_point(&s->verdicts, stacks->items[i].arguments[k]);
}

static void read_range(search *s, const flk_area *area, uintptr_t begin,
                       uintptr_t end) {
    if (begin < end && area->kind != FLK_AREA_CLOSED && goes_on(s))
        flk_contents_read(&s->contents, area, begin, end, read_root, s);
}

typedef enum root_part {
    DATA_OF_OBJECTS = 1,
    OF_THREADS = 2,
    OTHER_MEMORY = 4,
} root_part;

static root_part root_part_of(const search *s, const flk_area *area) {
    switch (s->result->holders.items[area->holder].kind) {
    case FLK_HOLDER_DATA:
    case FLK_HOLDER_BSS:
        return DATA_OF_OBJECTS;
    case FLK_HOLDER_STACK:
    case FLK_HOLDER_THREAD_DATA:
        return OF_THREADS;
    default:
        return OTHER_MEMORY;
    }
}

static void read_outside_heaps(search *s, unsigned parts) {
    flk_holes_begin(&s->holes);
    flk_holes_enter(&s->holes, NULL);
    const flk_heaps *heaps = &s->holes.heaps;
    const flk_heap *end = heaps->items + heaps->count, *heap = heaps->items;
    for (size_t i = 0; i < s->areas.count; i++) {
        const flk_area *area = &s->areas.items[i];
        bool is_read = root_part_of(s, area) & parts;
        uintptr_t at = area->begin;
        for (; heap < end && heap->begin < area->end; heap++) {
            if (is_read)
                read_range(s, area, at, heap->begin);
            at = heap->end;
            if (heap->end > area->end)
                break;  // it goes on in the next area
        }
        if (is_read)
            read_range(s, area, at, area->end);
    }
}

static void read_heap(search *s, const flk_heap *heap) {
    flk_holes_enter(&s->holes, heap);
    const flk_area *area = flk_areas_at(&s->areas, heap->begin);
    const flk_area *last = s->areas.items + s->areas.count;
    for (; area && area < last && area->begin < heap->end; area++)
        read_range(s, area,
                   area->begin > heap->begin ? area->begin : heap->begin,
                   area->end < heap->end ? area->end : heap->end);
}

static void read_heaps(search *s) {
    flk_holes_begin(&s->holes);
    s->may_be_unused = true;
    for (size_t i = 0; i < s->holes.heaps.count; i++)
        read_heap(s, &s->holes.heaps.items[i]);
    s->may_be_unused = false;
}

static void read_kept_words(search *s) {
    flk_tails_settle(&s->tails, &s->areas, &s->contents);
    for (size_t i = 0; i < s->tails.count; i++) {
        const flk_pair *word = &s->tails.words[i];
        from_root(s, (uint32_t)word->value);
        flk_verdicts_point(&s->verdicts, word_in((const char *)word->key, 0));
    }
}

// --- blocks ------------------------------------------------------------------------
static bool read_contents(void *context, const flk_area *area, const char *copy,
                          uintptr_t begin, uintptr_t end) {
    search *s = context;
    (void)area;
    read_words(s, copy, begin, end);
    return goes_on(s);
}

static void read_block(search *s, uint32_t place) {
    const flk_pair *block = &s->index.blocks[place];
    uintptr_t at = flk_block_index_address(block);
    uintptr_t end = flk_block_index_end(block);
    if (end - at < sizeof(uintptr_t))
        return;
    // A block may reach over several mappings.
    for (flk_area *area = flk_areas_at(&s->areas, at);
         area && area < s->areas.items + s->areas.count && area->begin < end;
         area++) {
        if (area->kind == FLK_AREA_CLOSED)
            continue;
        uintptr_t begin = at > area->begin ? at : area->begin;
        uintptr_t stop = end < area->end ? end : area->end;
        if (stop - begin > FLK_PIECE_BYTES || flk_contents_are_of_file(area)) {
            flk_contents_read(&s->contents, area, begin, stop, read_contents,
                              s);
            continue;
        }
        const char *copy =
            flk_contents_at(&s->contents, area, begin, stop - begin);
        if (copy)
            read_words(s, copy, begin, stop);
    }
}

static bool follow(void *context, uint8_t verdict) {
    search *s = context;
    uint32_t place;
    s->verdicts.verdict = verdict;
    while (goes_on(s) && flk_verdicts_next(&s->verdicts, &place))
        read_block(s, place);
    return !s->failure;
}

// Objects tell what is small in the heaps of malloc, so these are read last.
static void read_roots(search *s) {
    read_registers(s);
    find_interpreter(s);
    if (s->ends_early) {
        // Little memory, which holds most of what libraries keep, comes first.
        for (unsigned part = DATA_OF_OBJECTS; part <= OTHER_MEMORY; part *= 2) {
            read_outside_heaps(s, part);
            follow(s, FLK_VERDICT_HELD_BELOW);
        }
    } else {
        read_outside_heaps(s, DATA_OF_OBJECTS | OF_THREADS | OTHER_MEMORY);
    }
    read_heaps(s);
    if (goes_on(s))
        read_kept_words(s);
    follow(s, FLK_VERDICT_HELD_BELOW);
}

// --- the result ----------------------------------------------------------------------
static void write_row(search *s, uint32_t i, uint32_t place,
                      const uint32_t *row_of) {
    flk_search_result *result = s->result;
    uint8_t verdict = s->verdicts.facts[place] & FLK_FACT_VERDICT;
    FLK_ASSERT(verdict != 0);
    bool is_below =
        verdict == FLK_VERDICT_LOST_BELOW || verdict == FLK_VERDICT_HELD_BELOW;
    uint32_t holder = s->verdicts.holder[place];
    uint32_t end = s->verdicts.ends[place];
    result->blocks[i] = *flk_verdicts_block(&s->verdicts, place);
    result->blocks[i].address = ~result->blocks[i].address;
    result->verdicts[i] = verdict;
    result->held_by[i] = is_below ? row_of[holder] : holder;
    if (verdict == FLK_VERDICT_LOST || verdict == FLK_VERDICT_LOST_BELOW)
        end = row_of[flk_verdicts_head_of(&s->verdicts, place)];
    result->ends[i] = end;
}

// By sequence number. The sorted blocks and the queue are not needed any more;
// their memory is used for the order and for the row of each place.
static void write_rows(search *s) {
    flk_pair *order = s->index.blocks;
    uint32_t *row_of = s->verdicts.queue, count = 0;
    for (uint32_t place = 0; place < s->count; place++) {
        row_of[place] = FLK_HOLDER_NONE;
        if (s->verdicts.facts[place] & FLK_FACT_ROW && count < s->result->max)
            order[count++] = (flk_pair){
                flk_verdicts_block(&s->verdicts, place)->sequence, place};
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

static void search_all(search *s) {
    if (!flk_contents_open(&s->contents, s->order->in_process))
        s->failure = FLK_LOST_NO_MEMORY;
    wait_for_stacks(s);
    if (s->failure || !collect(s))
        return;
    if (!flk_areas_read(&s->areas, &s->result->holders, s->contents.pagemap)) {
        s->failure = FLK_LOST_IMPOSSIBLE;
        return;
    }
    name_stacks(s);
    note_words(s);
    if (!flk_holes_list(&s->holes, &s->result->holders)) {
        s->failure = FLK_LOST_NO_MEMORY;
        return;
    }
    judge_at_once(s);
    read_roots(s);
    s->ends_early &= is_done(s);
    if (!s->failure && !s->ends_early)
        flk_verdicts_part_lost(&s->verdicts, follow, s);
    if (!s->failure)
        write_rows(s);
}

int flk_search_run(const flk_search_order *order, flk_search_result *result) {
    FLK_ASSERT(order && order->stacks && result && result->holders.items);
    search s = {.order = order, .result = result};
    int saved = errno;
    result->count = result->words = 0;
    flk_areas_begin_holders(&result->holders);
    search_all(&s);
    result->memory_bytes = mapped_bytes(&s);
    drop_all(&s);
    errno = saved;
    return s.failure;
}
