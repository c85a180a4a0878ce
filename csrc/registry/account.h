// account.h - the books: what each type and each scope allocated and freed. SPDX-License-Identifier: MIT
// Keeps:   the counts themselves are cells of threads (paths/thread.h). Here: the lingering scopes, which are dropped
//          but have live blocks, as a ring.
// Cost:    an event counts in one cell for the type, and one for each scope from the innermost to the process. A sum is
//          O(threads). Opening or dropping a scope is O(threads): one lingering scope is looked at each time.
// Callers: events: the thread that makes them, inside its guard, holding the shard lock of the block's address. Sums
//          and scopes: any thread. Lock ranks: FLK_RANK_SCOPES, then FLK_RANK_THREADS, then FLK_RANK_TOTALS.
// Fails:   flk_account_ready_any returns false: a cell cannot be had, so the event must not be recorded (one more
//          drop). What was ready is counted without failing.
// Invariant: allocations - frees = live blocks, for each type, each scope and the process; flk_tracker_check compares
//            with the registry. No count ever falls, but that of a scope whose number is given back, and all of them
//            in the child of a fork.
#ifndef FLK_ACCOUNT_H
#define FLK_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"
#include "registry/scope.h"

// --- scopes -------------------------------------------------------------
// A new scope below `parent`; an isolated one is in no view of those above.
// Without memory, or at the limit, it is the parent's number; `made` tells.
uint32_t flk_account_open_scope(uint32_t parent, bool isolated, bool *made);
// The object that names the scope is gone. Its number is free at once if no
// live block carries it, else some time after.
void flk_account_drop_scope(uint32_t scope);
// Scopes that only live blocks still hold.
uint32_t flk_account_lingering_count(void);
// Gives all lingering numbers back, although they are counted as having live
// blocks. Needs the locks of flk_account_forget and FLK_RANK_SCOPES, and that
// no record carries a dropped scope any more. Returns how many.
uint32_t flk_account_recycle_held(void);

// --- before an event ----------------------------------------------------
// Makes the cells in which ended threads are summed up. Each type and scope
// needs them before its first event, so that a free can always be counted.
bool flk_account_prepare_type(uint32_t type);
bool flk_account_prepare_scope(uint32_t scope);
// Makes the cells of the thread for an event in any scope.
bool flk_account_ready_any(flk_thread *thread, uint32_t scope, uint32_t type);

// --- an event -----------------------------------------------------------
void flk_account_alloc_any(flk_thread *thread, uint32_t scope, uint32_t type,
                           uint64_t size_bytes);
void flk_account_free_any(flk_thread *thread, uint32_t scope, uint32_t type,
                          uint64_t size_bytes);
void flk_account_resize(flk_thread *thread, uint32_t scope, uint32_t type,
                        uint64_t old_bytes, uint64_t new_bytes);

// The usual event: in the scope of the process, with the cells that the thread
// used last. The cells themselves are kept, not the fact that they are cached:
// between the look-up and the count another event of the thread (a record that
// is replaced) may change what is cached.
typedef struct flk_usual_cells {
    flk_cell *type, *scope;  // NULL both: the event is not usual
} flk_usual_cells;

static FLK_HOT flk_usual_cells flk_account_usual(const flk_thread *thread,
                                                 uint32_t scope,
                                                 uint32_t type) {
    if (FLK_LIKELY(scope == FLK_SCOPE_PROCESS &&
                   thread->cached_scope == scope &&
                   thread->cached_type == type))
        return (flk_usual_cells){thread->cached_type_cell,
                                 thread->cached_scope_cell};
    return (flk_usual_cells){NULL, NULL};
}

static FLK_HOT void flk_account_alloc(flk_thread *thread, uint32_t scope,
                                      uint32_t type, uint64_t size_bytes,
                                      flk_usual_cells usual) {
    FLK_ASSERT(thread->inside && !usual.type == !usual.scope);
    if (FLK_UNLIKELY(!usual.type)) {
        flk_account_alloc_any(thread, scope, type, size_bytes);
        return;
    }
    flk_cell_alloc(usual.type, size_bytes);
    flk_cell_alloc(usual.scope, size_bytes);
}

static FLK_HOT void flk_account_free(flk_thread *thread, uint32_t scope,
                                     uint32_t type, uint64_t size_bytes) {
    FLK_ASSERT(thread->inside && type != 0);
    flk_usual_cells usual = flk_account_usual(thread, scope, type);
    if (FLK_UNLIKELY(!usual.type)) {
        flk_account_free_any(thread, scope, type, size_bytes);
        return;
    }
    flk_cell_free(usual.scope, size_bytes);
    flk_cell_free(usual.type, size_bytes);
}

// --- sums ---------------------------------------------------------------
void flk_account_scope(uint32_t scope, flk_sum *sum);
void flk_account_type(uint32_t type, flk_sum *sum);
bool flk_account_scope_is_empty(uint32_t scope);

// --- corrections: with the list of threads and all shards held ----------
// A live block is forgotten: it counts as freed, in the cells of the thread
// that allocated it, so that no count falls.
void flk_account_forget(uint32_t thread_number, uint32_t scope, uint32_t type,
                        uint64_t size_bytes);
// The peaks of one scope become what is live there now.
void flk_account_lower_peak_held(uint32_t scope);
// All counts become zero: in the child of a fork, and for tests.
void flk_account_clear_all(void);

#endif
