// scope.c - the tree of scopes. Contract: registry/scope.h.                  SPDX-License-Identifier: MIT
#include "registry/scope.h"

#include "base/arena.h"
#include "base/config.h"
#include "base/platform.h"
#include "paths/thread.h"

typedef struct scope {
    // Relaxed: set before the number is returned.
    atomic_uint parent;
    atomic_uint outer;  // the scope it was opened in, also if it is isolated
    // In a free number: the next free number. Else for the owner of the number.
    uint32_t link;
    atomic_bool is_dropped;  // relaxed
    // Rises by 2 when the scope begins. Odd after the scope ended. Relaxed.
    atomic_uint serial;
    flk_scope_nest nest;
} scope;

enum { PAGE_SCOPES = 512, SCOPE_PAGES = FLK_SCOPES_MAX / PAGE_SCOPES };

static struct {
    flk_lock lock;
    _Atomic(scope *) pages[SCOPE_PAGES];  // release: entries are complete
    uint32_t fresh;       // this number and all above were never taken
    uint32_t free_first;  // of the free list, 0 = none
    uint32_t used_count;
} scopes = {.lock = FLK_LOCK_INIT(FLK_RANK_SCOPES), .fresh = 1};

static scope *scope_at(uint32_t number) {
    FLK_ASSERT(number != FLK_SCOPE_PROCESS && number < FLK_SCOPES_MAX);
    scope *page = atomic_load_explicit(&scopes.pages[number / PAGE_SCOPES],
                                       memory_order_acquire);
    FLK_ASSERT(page != NULL);
    return &page[number % PAGE_SCOPES];
}

static inline bool is_locked(void) {
    return atomic_load(&scopes.lock.word) != 0;
}

// --- numbers -----------------------------------------------------------
// Makes the page of the number if there is none yet; false without memory.
static bool page_ready(uint32_t number) {
    FLK_ASSERT(number < FLK_SCOPES_MAX && is_locked());
    _Atomic(scope *) *page = &scopes.pages[number / PAGE_SCOPES];
    if (!atomic_load_explicit(page, memory_order_relaxed)) {
        scope *made = flk_arena_keep(PAGE_SCOPES * sizeof *made);
        atomic_store_explicit(page, made, memory_order_release);
    }
    return atomic_load_explicit(page, memory_order_relaxed) != NULL;
}

uint32_t flk_scope_take_held(void) {
    FLK_ASSERT(is_locked());
    uint32_t number = scopes.free_first;
    if (number) {
        scopes.free_first = scope_at(number)->link;
    } else {
        number = scopes.fresh;
        if (number >= FLK_SCOPES_MAX || !page_ready(number))
            return FLK_SCOPE_NONE;
        scopes.fresh++;
    }
    scopes.used_count++;
    return number;
}

void flk_scope_give_back_held(uint32_t number) {
    FLK_ASSERT(is_locked() && scopes.used_count > 0);
    scope_at(number)->link = scopes.free_first;
    scopes.free_first = number;
    scopes.used_count--;
}

void flk_scope_begin_held(uint32_t number, uint32_t outer, bool isolated) {
    FLK_ASSERT(outer < FLK_SCOPES_MAX);
    FLK_ASSERT(is_locked() && number != outer);
    uint32_t parent = isolated ? FLK_SCOPE_NONE : outer;
    scope *begun = scope_at(number);
    atomic_store_explicit(&begun->is_dropped, false, memory_order_relaxed);
    atomic_store_explicit(&begun->parent, parent, memory_order_relaxed);
    atomic_store_explicit(&begun->outer, outer, memory_order_relaxed);
    atomic_store_explicit(&begun->serial, flk_scope_serial(number) + 2,
                          memory_order_relaxed);
}

void flk_scope_set_dropped_held(uint32_t number) {
    FLK_ASSERT(is_locked() && !flk_scope_is_dropped(number));
    atomic_store_explicit(&scope_at(number)->is_dropped, true,
                          memory_order_relaxed);
}

uint32_t *flk_scope_link_held(uint32_t number) {
    FLK_ASSERT(is_locked());
    return &scope_at(number)->link;
}

flk_scope_nest *flk_scope_nest_held(uint32_t number) {
    static flk_scope_nest of_process = {
        .is_open = true, .is_root = true, .is_sure = true};
    FLK_ASSERT(is_locked());
    return number == FLK_SCOPE_PROCESS ? &of_process : &scope_at(number)->nest;
}

// --- the tree ----------------------------------------------------------
uint32_t flk_scope_above(uint32_t number) {
    return atomic_load_explicit(&scope_at(number)->parent,
                                memory_order_relaxed);
}

bool flk_scope_is_within(uint32_t number, uint32_t view) {
    FLK_ASSERT(number == FLK_SCOPE_NONE || number < FLK_SCOPES_MAX);
    while (number != view && number != FLK_SCOPE_NONE)
        number = flk_scope_parent(number);
    return number == view;
}

bool flk_scope_is_dropped(uint32_t number) {
    return number != FLK_SCOPE_PROCESS &&
           atomic_load_explicit(&scope_at(number)->is_dropped,
                                memory_order_relaxed);
}

bool flk_scope_is_unseen(uint32_t number) {
    FLK_ASSERT(number < FLK_SCOPES_MAX);
    uint32_t above;
    while ((above = flk_scope_parent(number)) != FLK_SCOPE_NONE)
        number = above;
    return flk_scope_is_dropped(number);
}

// --- which scope is current --------------------------------------------
static uint32_t serial_of(uint32_t number) {
    return atomic_load_explicit(&scope_at(number)->serial,
                                memory_order_relaxed);
}

uint32_t flk_scope_serial(uint32_t number) {
    return number == FLK_SCOPE_PROCESS ? 0 : serial_of(number) & ~1u;
}

void flk_scope_end(uint32_t number) {
    if (number != FLK_SCOPE_PROCESS)
        atomic_fetch_or_explicit(&scope_at(number)->serial, 1,
                                 memory_order_relaxed);
}

static bool is_open(uint32_t number) {
    FLK_ASSERT(number < FLK_SCOPES_MAX);
    return number == FLK_SCOPE_PROCESS || !(serial_of(number) & 1);
}

uint32_t flk_scope_open_ancestor(uint32_t number, uint32_t serial) {
    FLK_ASSERT(number == FLK_SCOPE_NONE || number < FLK_SCOPES_MAX);
    if (number == FLK_SCOPE_NONE || flk_scope_serial(number) != serial)
        return FLK_SCOPE_NONE;
    while (!is_open(number))  // the process is
        number = atomic_load_explicit(&scope_at(number)->outer,
                                      memory_order_relaxed);
    return number;
}

// --- all of them -------------------------------------------------------
uint32_t flk_scope_count(void) {
    flk_scope_lock_all();
    uint32_t count = scopes.used_count;
    flk_scope_unlock_all();
    return count;
}

void flk_scope_each_held(void (*visit)(uint32_t, void *), void *context) {
    FLK_ASSERT(is_locked() && visit != NULL);
    for (uint32_t number = 0; number < scopes.fresh; number++)
        visit(number, context);
}

void flk_scope_lock_all(void) { flk_thread_lock(&scopes.lock); }
void flk_scope_unlock_all(void) { flk_thread_unlock(&scopes.lock); }
