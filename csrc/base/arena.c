// arena.c - slabs of chunks. Contract: base/arena.h.                      SPDX-License-Identifier: MIT
#include "base/arena.h"

#include <string.h>

#include "base/config.h"
#include "base/platform.h"

enum { STRIPES = 4 };
// Chunk sizes are multiples of 16 bytes up to 512, of 64 up to 2048, and of
// 512 up to 5120, so that rounding up wastes little.
enum { SMALL_STEP = 16, SMALL_MAX = 512, SMALL_CLASSES = 32 };
enum { MIDDLE_STEP = 64, MIDDLE_MAX = 2048, MIDDLE_CLASSES = 24 };
enum { LARGE_STEP = 512, CLASS_MAX = 5120, LARGE_CLASSES = 6 };
enum { CLASSES = SMALL_CLASSES + MIDDLE_CLASSES + LARGE_CLASSES };

// The head of each slab. The first word of a free chunk links to the next one.
typedef struct slab {
    struct slab *next;  // in the list of usable slabs, or of free slabs
    struct slab *previous;
    void *free;             // returned chunks
    uint32_t fresh_offset;  // chunks from here on were never handed out
    uint32_t used_count;    // chunks in use
    uint32_t chunk_bytes;   // 0 while the slab is free
    uint32_t stripe_index;
    uint64_t padding[3];
} slab;

_Static_assert(sizeof(slab) == 64, "chunks start on a cache line");
_Static_assert(CLASS_MAX <= (FLK_SLAB_BYTES - sizeof(slab)) / 3,
               "a slab holds at least three chunks");
_Static_assert(SMALL_CLASSES *SMALL_STEP == SMALL_MAX &&
                   MIDDLE_CLASSES * MIDDLE_STEP == MIDDLE_MAX - SMALL_MAX &&
                   LARGE_CLASSES * LARGE_STEP == CLASS_MAX - MIDDLE_MAX,
               "no gap between the ranges of sizes");

typedef struct stripe {
    _Alignas(64) flk_lock lock;
    slab *usable[CLASSES];  // slabs with a free chunk; under `lock`
} stripe;

static struct {
    stripe stripes[STRIPES];
    // Guards everything below. Taken after the lock of a stripe.
    _Alignas(64) flk_lock lock;
    slab *free_slabs;  // all pages are backed by memory
    slab *bare_slabs;  // only the first page is; the others were released
    uint32_t free_count;
    char *span;  // the unused rest of the newest span
    size_t span_left;
    size_t span_next;  // bytes of the next span
    char *keep;        // the unused rest of the pages of flk_arena_keep
    size_t keep_left;
    atomic_ullong bytes;  // relaxed: a figure for reports
} arena = {
    .stripes = {{.lock = FLK_LOCK_INIT(FLK_RANK_ARENA)},
                {.lock = FLK_LOCK_INIT(FLK_RANK_ARENA)},
                {.lock = FLK_LOCK_INIT(FLK_RANK_ARENA)},
                {.lock = FLK_LOCK_INIT(FLK_RANK_ARENA)}},
    .lock = FLK_LOCK_INIT(FLK_RANK_ARENA),
};

static void count_bytes(int64_t change) {
    atomic_fetch_add_explicit(&arena.bytes, (uint64_t)change,
                              memory_order_relaxed);
}

uint64_t flk_arena_bytes(void) {
    return atomic_load_explicit(&arena.bytes, memory_order_relaxed);
}

// --- sizes -------------------------------------------------------------
static uint32_t steps(size_t bytes, size_t step) {
    return (uint32_t)((bytes + step - 1) / step) - 1;
}

static uint32_t class_of(size_t bytes) {
    FLK_ASSERT(bytes > 0 && bytes <= CLASS_MAX);
    if (bytes <= SMALL_MAX)
        return steps(bytes, SMALL_STEP);
    if (bytes <= MIDDLE_MAX)
        return SMALL_CLASSES + steps(bytes - SMALL_MAX, MIDDLE_STEP);
    return SMALL_CLASSES + MIDDLE_CLASSES +
           steps(bytes - MIDDLE_MAX, LARGE_STEP);
}

static size_t class_bytes(uint32_t class_index) {
    FLK_ASSERT(class_index < CLASSES);
    size_t number = class_index + 1;
    if (number <= SMALL_CLASSES)
        return number * SMALL_STEP;
    number -= SMALL_CLASSES;
    if (number <= MIDDLE_CLASSES)
        return SMALL_MAX + number * MIDDLE_STEP;
    return MIDDLE_MAX + (number - MIDDLE_CLASSES) * LARGE_STEP;
}

size_t flk_arena_usable(size_t bytes) {
    if (bytes == 0)
        bytes = 1;
    return bytes <= CLASS_MAX ? class_bytes(class_of(bytes))
                              : flk_platform_pages_for(bytes);
}

// --- slabs -------------------------------------------------------------
// Large pages are not requested: the first touch of one takes a millisecond or
// more, which the kernel spends on clearing it.
static bool map_span(void) {
    size_t bytes = arena.span_next ? arena.span_next : FLK_SPAN_BYTES_MIN;
    char *span = flk_platform_pages_map(bytes, FLK_SLAB_BYTES);
    if (!span)
        return false;
    if (bytes < FLK_SPAN_BYTES_MAX)
        arena.span_next = bytes * 2;
    FLK_ASSERT((uintptr_t)span % FLK_SLAB_BYTES == 0);
    arena.span = span;
    arena.span_left = bytes;
    return true;
}

// The caller holds arena.lock.
static slab *slab_pop(void) {
    slab *found = arena.free_slabs;
    if (found) {
        arena.free_slabs = found->next;
        arena.free_count--;
        return found;
    }
    count_bytes(FLK_SLAB_BYTES);
    if ((found = arena.bare_slabs)) {
        arena.bare_slabs = found->next;
        return found;
    }
    if (arena.span_left == 0 && !map_span()) {
        count_bytes(-FLK_SLAB_BYTES);
        return NULL;
    }
    FLK_ASSERT(arena.span_left >= FLK_SLAB_BYTES);
    found = (slab *)arena.span;
    arena.span += FLK_SLAB_BYTES;
    arena.span_left -= FLK_SLAB_BYTES;
    return found;
}

static slab *slab_new(uint32_t class_index, uint32_t stripe_index) {
    flk_lock_take(&arena.lock);
    slab *made = slab_pop();
    flk_lock_release(&arena.lock);
    if (!made)
        return NULL;
    FLK_ASSERT(stripe_index < STRIPES);
    memset(made, 0, sizeof *made);
    made->chunk_bytes = (uint32_t)class_bytes(class_index);
    made->fresh_offset = sizeof(slab);
    made->stripe_index = stripe_index;
    return made;
}

// Keeps a few empty slabs whole. Of further ones all pages but the first are
// returned to the system; the first page holds the head with the link.
static void slab_drop(slab *empty) {
    FLK_ASSERT(empty->used_count == 0 && empty->chunk_bytes != 0);
    flk_lock_take(&arena.lock);
    empty->chunk_bytes = 0;
    if (arena.free_count < 8) {
        empty->next = arena.free_slabs;
        arena.free_slabs = empty;
        arena.free_count++;
    } else {
        size_t page = flk_platform_page_bytes();
        flk_platform_pages_forget((char *)empty + page, FLK_SLAB_BYTES - page);
        empty->next = arena.bare_slabs;
        arena.bare_slabs = empty;
        count_bytes(-FLK_SLAB_BYTES);
    }
    flk_lock_release(&arena.lock);
}

static bool slab_is_full(const slab *s) {
    return !s->free && s->fresh_offset + s->chunk_bytes > FLK_SLAB_BYTES;
}

static void list_push(slab **list, slab *s) {
    FLK_ASSERT(*list != s);
    s->previous = NULL;
    s->next = *list;
    if (*list)
        (*list)->previous = s;
    *list = s;
}

static void list_remove(slab **list, slab *s) {
    FLK_ASSERT(s->previous ? s->previous->next == s : *list == s);
    if (s->previous)
        s->previous->next = s->next;
    else
        *list = s->next;
    if (s->next)
        s->next->previous = s->previous;
}

// --- chunks ------------------------------------------------------------
static void *chunk_take(slab **list) {
    slab *s = *list;
    FLK_ASSERT(s && !slab_is_full(s));
    void *chunk = s->free;
    if (chunk) {
        memcpy(&s->free, chunk, sizeof s->free);
    } else {
        chunk = (char *)s + s->fresh_offset;
        s->fresh_offset += s->chunk_bytes;
    }
    s->used_count++;
    if (slab_is_full(s))
        list_remove(list, s);
    return chunk;
}

static void *large_get(size_t bytes) {
    size_t pages = flk_platform_pages_for(bytes);
    FLK_ASSERT(pages >= bytes);
    void *got = flk_platform_pages_map(pages, flk_platform_page_bytes());
    if (got)
        count_bytes((int64_t)pages);
    return got;
}

void *flk_arena_get(size_t bytes, uint32_t stripe_hint) {
    if (bytes == 0)
        bytes = 1;
    if (bytes > CLASS_MAX)
        return large_get(bytes);
    uint32_t class_index = class_of(bytes);
    uint32_t stripe_index = stripe_hint % STRIPES;
    stripe *own = &arena.stripes[stripe_index];
    void *chunk = NULL;
    flk_lock_take(&own->lock);
    slab **list = &own->usable[class_index];
    slab *made = *list ? *list : slab_new(class_index, stripe_index);
    if (made) {
        if (!*list)
            list_push(list, made);
        chunk = chunk_take(list);
    }
    flk_lock_release(&own->lock);
    FLK_ASSERT(((uintptr_t)chunk & 15) == 0);
    return chunk;
}

static slab *slab_of(void *chunk) {
    return (slab *)((uintptr_t)chunk & ~(uintptr_t)(FLK_SLAB_BYTES - 1));
}

void flk_arena_put(void *chunk, size_t bytes) {
    if (!chunk)
        return;
    if (bytes > CLASS_MAX) {
        flk_platform_pages_unmap(chunk, flk_platform_pages_for(bytes));
        count_bytes(-(int64_t)flk_platform_pages_for(bytes));
        return;
    }
    slab *s = slab_of(chunk);
    stripe *own = &arena.stripes[s->stripe_index];
    flk_lock_take(&own->lock);
    FLK_ASSERT(s->used_count > 0);
    FLK_ASSERT(flk_arena_usable(bytes) == s->chunk_bytes);
    slab **list = &own->usable[class_of(s->chunk_bytes)];
    if (slab_is_full(s))
        list_push(list, s);
    memcpy(chunk, &s->free, sizeof s->free);
    s->free = chunk;
    s->used_count--;
    // A loop that frees the last chunk of a slab and takes a new one is cheap,
    // because slab_drop keeps some slabs.
    if (s->used_count == 0) {
        list_remove(list, s);
        slab_drop(s);
    }
    flk_lock_release(&own->lock);
}

void *flk_arena_keep(size_t bytes) {
    FLK_ASSERT(bytes > 0);
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > FLK_SLAB_BYTES / 4)
        return large_get(bytes);
    flk_lock_take(&arena.lock);
    if (bytes > arena.keep_left) {
        void *pages = large_get(FLK_SLAB_BYTES);
        if (pages) {
            arena.keep = pages;
            arena.keep_left = FLK_SLAB_BYTES;
        }
    }
    char *kept = NULL;
    if (bytes <= arena.keep_left) {
        kept = arena.keep;
        arena.keep += bytes;
        arena.keep_left -= bytes;
    }
    flk_lock_release(&arena.lock);
    FLK_ASSERT(((uintptr_t)kept & 15) == 0);
    return kept;
}

// --- checks and fork ---------------------------------------------------
static bool slab_check(const slab *s, uint32_t class_index) {
    uint32_t handed_out = (uint32_t)(s->fresh_offset - sizeof(slab));
    uint32_t free_count = 0;
    for (void *chunk = s->free; chunk; memcpy(&chunk, chunk, sizeof chunk))
        if (slab_of(chunk) != s || free_count++ > handed_out)
            return false;
    return s->chunk_bytes == class_bytes(class_index) && !slab_is_full(s) &&
           handed_out == (s->used_count + free_count) * s->chunk_bytes;
}

bool flk_arena_check(void) {
    bool good = true;
    flk_arena_lock_all();
    for (uint32_t i = 0; i < STRIPES; i++)
        for (uint32_t c = 0; c < CLASSES; c++) {
            for (slab *s = arena.stripes[i].usable[c]; s; s = s->next) {
                good &= slab_check(s, c) && s->stripe_index == i;
                good &= !s->next || s->next->previous == s;
                good &= s->used_count > 0;
            }
        }
    flk_arena_unlock_all();
    return good;
}

void flk_arena_lock_all(void) {
    for (uint32_t i = 0; i < STRIPES; i++)
        flk_lock_take(&arena.stripes[i].lock);
    flk_lock_take(&arena.lock);
}

void flk_arena_unlock_all(void) {
    flk_lock_release(&arena.lock);
    for (uint32_t i = STRIPES; i-- > 0;)
        flk_lock_release(&arena.stripes[i].lock);
}
