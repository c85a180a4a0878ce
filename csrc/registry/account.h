// account.h - counts of what each type and each scope allocated and freed. SPDX-License-Identifier: MIT
// Keeps:   a ring of the lingering scopes: scopes that are dropped but still have live blocks. The counts are cells of
//          threads (paths/thread.h).
// Cost:    an event counts in one cell for the type, and in one cell for each scope from the innermost to the process.
//          A sum is O(threads). Opening or dropping a scope is O(threads); opening also checks one lingering scope.
// Callers: an event is counted by the thread that makes it, inside its guard, with the shard lock of the block's
//          address held. Sums and scopes: any thread. Lock ranks: FLK_RANK_SCOPES, then FLK_RANK_THREADS, then
//          FLK_RANK_TOTALS.
// Fails:   flk_account_ready_any returns false if there is no memory for a cell. The caller then does not record the
//          event and counts a drop. Counting an event for which it returned true cannot fail.
// Invariant: allocations - frees = live blocks, for each type, each scope and the process; flk_tracker_check compares
//            with the registry. A count falls in two cases only: a scope's number is given back, and the child
//            of a fork clears all counts.
#ifndef FLK_ACCOUNT_H
#define FLK_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/platform.h"
#include "paths/thread.h"
#include "registry/scope.h"

// --- scopes -------------------------------------------------------------
// Opens a scope below `parent` and returns its number. An isolated scope is in
// no view of the scopes above it. Without memory, or at the limit, the result
// is `parent` and `made` is set to false.
uint32_t flk_account_open_scope(uint32_t parent, bool isolated, bool *made);
// Drops the scope: the Python object of the scope is gone. The number becomes
// free at once if no live block carries it. Otherwise the scope lingers, and a
// later call of flk_account_open_scope frees the number.
void flk_account_drop_scope(uint32_t scope);
// The number of lingering scopes.
uint32_t flk_account_lingering_count(void);
// Gives back all lingering numbers that no event in progress uses, whatever
// their counts of live blocks are. Returns how many were given back. Needs the
// locks of flk_account_forget and FLK_RANK_SCOPES. No record may carry a
// dropped scope any more.
uint32_t flk_account_recycle_held(void);

// --- before an event ----------------------------------------------------
// Make the cells that sum up ended threads. Each type and each scope needs its
// cell before its first event, so that a free can always be counted. False
// without memory.
bool flk_account_prepare_type(uint32_t type);
bool flk_account_prepare_scope(uint32_t scope);
// Makes the cells of the thread for an event in any scope.
bool flk_account_ready_any(flk_thread *thread, uint32_t scope, uint32_t type);

// --- an event -----------------------------------------------------------
void flk_account_alloc_any(flk_thread *thread, uint32_t scope, uint32_t type,
                           uint64_t size_bytes);
void flk_account_free_any(flk_thread *thread, uint32_t scope, uint32_t type,
                          uint64_t size_bytes);
// A live block has another type from now on. The thread has a cell for `to`.
void flk_account_retype(flk_thread *thread, uint32_t from, uint32_t to,
                        uint64_t size_bytes);
void flk_account_resize(flk_thread *thread, uint32_t scope, uint32_t type,
                        uint64_t old_bytes, uint64_t new_bytes);

// The cells of a usual event: one in the scope of the process whose cells are
// those the thread used last. The struct holds pointers to the cells, because
// another event of the thread (a record that is replaced) may change the cache
// between the look-up and the count.
typedef struct flk_usual_cells {
    flk_cell *type, *scope;  // both NULL: the event is not usual
} flk_usual_cells;

static FLK_HOT flk_usual_cells flk_account_usual(const flk_thread *thread,
                                                 uint32_t scope,
                                                 uint32_t type) {
    FLK_ASSERT(thread != NULL);
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
// Forgets a live block: it is counted as freed in the cells of the thread that
// allocated it, so that no count falls.
void flk_account_forget(uint32_t thread_number, uint32_t scope, uint32_t type,
                        uint64_t size_bytes);
// Lowers the peaks of one scope to what is live there now.
void flk_account_lower_peak_held(uint32_t scope);
// Sets all counts to zero. Used in the child of a fork and in tests.
void flk_account_clear_all(void);

#endif
