// scope.c - the tree of scopes. Contract: registry/scope.h.                   SPDX-License-Identifier: MIT
#include "registry/scope.h"

#include "base/arena.h"
#include "base/config.h"
#include "base/platform.h"
#include "paths/thread.h"
#include "registry/account.h"

typedef struct scope {
    atomic_uint parent;      // relaxed: set before the number is handed out
    uint32_t next;           // free list or ring of lingering scopes
    atomic_bool is_dropped;  // relaxed: its object is gone
    atomic_uint serial;  // rises by 2 when given out; 1 more once it was left
} scope;

enum { PAGE_SCOPES = 512, SCOPE_PAGES = FLK_SCOPES_MAX / PAGE_SCOPES };

static struct {
    flk_lock lock;
    _Atomic(scope *) pages[SCOPE_PAGES];  // release: entries are complete
    uint32_t fresh;       // numbers from here on were never given out
    uint32_t free_first;  // 0 = none
    uint32_t lingering;   // last of a ring, 0 = none
    uint32_t used_count, lingering_count;
} scopes = {.lock = FLK_LOCK_INIT(FLK_RANK_SCOPES), .fresh = 1};

static scope *scope_at(uint32_t number) {
    scope *page = atomic_load_explicit(&scopes.pages[number / PAGE_SCOPES],
                                       memory_order_acquire);
    return page ? &page[number % PAGE_SCOPES] : NULL;
}

uint32_t flk_scope_above(uint32_t number) {
    return atomic_load_explicit(&scope_at(number)->parent,
                                memory_order_relaxed);
}

uint32_t flk_scope_serial(uint32_t number) {
    if (number == FLK_SCOPE_PROCESS)
        return 0;
    return atomic_load_explicit(&scope_at(number)->serial,
                                memory_order_relaxed) &
           ~1u;
}

void flk_scope_end(uint32_t number) {
    if (number != FLK_SCOPE_PROCESS)
        atomic_fetch_or_explicit(&scope_at(number)->serial, 1,
                                 memory_order_relaxed);
}

static bool is_open(uint32_t number) {
    return number == FLK_SCOPE_PROCESS ||
           !(atomic_load_explicit(&scope_at(number)->serial,
                                  memory_order_relaxed) &
             1);
}

uint32_t flk_scope_open_ancestor(uint32_t number, uint32_t serial) {
    if (number == FLK_SCOPE_NONE || flk_scope_serial(number) != serial)
        return FLK_SCOPE_NONE;
    while (number != FLK_SCOPE_NONE && !is_open(number))
        number = flk_scope_parent(number);
    return number;
}

bool flk_scope_is_within(uint32_t number, uint32_t view) {
    while (number != view && number != FLK_SCOPE_NONE)
        number = flk_scope_parent(number);
    return number == view;
}

bool flk_scope_is_unseen(uint32_t number) {
    uint32_t above;
    while ((above = flk_scope_parent(number)) != FLK_SCOPE_NONE)
        number = above;
    return number != FLK_SCOPE_PROCESS &&
           atomic_load_explicit(&scope_at(number)->is_dropped,
                                memory_order_relaxed);
}

// --- lingering: dropped, but with live blocks --------------------------
static void ring_add(uint32_t number) {
    scope *added = scope_at(number);
    if (scopes.lingering) {
        scope *last = scope_at(scopes.lingering);
        added->next = last->next;
        last->next = number;
    } else {
        added->next = number;
    }
    scopes.lingering = number;
    scopes.lingering_count++;
}

static void number_free(uint32_t number) {
    flk_account_clear_scope(number);
    scope_at(number)->next = scopes.free_first;
    scopes.free_first = number;
    scopes.used_count--;
}

// Can nobody name it any more? Events that still hold on to it are asked
// first: they count before they let go.
static bool is_free(uint32_t number) {
    return !flk_thread_list_use_scope(number) &&
           flk_account_scope_is_empty(number);
}

// Looks at one scope of the ring a call: so a loop of scopes pays O(1).
static void ring_advance(void) {
    if (!scopes.lingering)
        return;
    scope *last = scope_at(scopes.lingering);
    uint32_t number = last->next;
    if (!is_free(number)) {
        scopes.lingering = number;
        return;
    }
    if (number == scopes.lingering)
        scopes.lingering = 0;
    else
        last->next = scope_at(number)->next;
    scopes.lingering_count--;
    number_free(number);
}

// --- open and drop -----------------------------------------------------
static bool page_ready(uint32_t number) {
    _Atomic(scope *) *page = &scopes.pages[number / PAGE_SCOPES];
    if (!atomic_load_explicit(page, memory_order_relaxed)) {
        scope *made = flk_arena_keep(PAGE_SCOPES * sizeof *made);
        atomic_store_explicit(page, made, memory_order_release);
    }
    return atomic_load_explicit(page, memory_order_relaxed) != NULL;
}

static uint32_t number_take(void) {
    uint32_t number = scopes.free_first;
    if (number) {
        scopes.free_first = scope_at(number)->next;
    } else {
        number = scopes.fresh;
        if (number >= FLK_SCOPES_MAX || !page_ready(number) ||
            !flk_account_prepare_scope(number))
            return FLK_SCOPE_NONE;
        scopes.fresh++;
    }
    scopes.used_count++;
    return number;
}

uint32_t flk_scope_open(uint32_t parent, bool isolated, bool *made) {
    flk_thread_lock(&scopes.lock);
    ring_advance();
    uint32_t number = number_take();
    *made = number != FLK_SCOPE_NONE;
    if (*made) {
        scope *opened = scope_at(number);
        atomic_store_explicit(&opened->is_dropped, false, memory_order_relaxed);
        atomic_store_explicit(&opened->parent,
                              isolated ? FLK_SCOPE_NONE : parent,
                              memory_order_relaxed);
        atomic_store_explicit(&opened->serial, flk_scope_serial(number) + 2,
                              memory_order_relaxed);
    }
    flk_thread_unlock(&scopes.lock);
    return *made ? number : parent;
}

void flk_scope_drop(uint32_t number) {
    FLK_ASSERT(number != FLK_SCOPE_PROCESS);
    flk_thread_lock(&scopes.lock);
    atomic_store_explicit(&scope_at(number)->is_dropped, true,
                          memory_order_relaxed);
    if (is_free(number))
        number_free(number);
    else
        ring_add(number);
    flk_thread_unlock(&scopes.lock);
}

uint32_t flk_scope_count(void) {
    flk_thread_lock(&scopes.lock);
    uint32_t count = scopes.used_count;
    flk_thread_unlock(&scopes.lock);
    return count;
}

uint32_t flk_scope_lingering_count(void) {
    flk_thread_lock(&scopes.lock);
    uint32_t count = scopes.lingering_count;
    flk_thread_unlock(&scopes.lock);
    return count;
}

void flk_scope_each_held(void (*visit)(uint32_t, void *), void *context) {
    for (uint32_t number = 0; number < scopes.fresh; number++)
        visit(number, context);
}

void flk_scope_lock_all(void) { flk_thread_lock(&scopes.lock); }
void flk_scope_unlock_all(void) { flk_thread_unlock(&scopes.lock); }
