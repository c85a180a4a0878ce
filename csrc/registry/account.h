// account.h - counts records in their type and in their chain of scopes. SPDX-License-Identifier: MIT
// Keeps:   nothing of its own: the cells of paths/thread.h.
// Cost:    one cell for the type, one for each scope from the innermost to the process.
// Callers: the thread that makes the event, inside the guard, holding the shard lock of the block's address.
// Fails:   flk_account_ready_any false: a cell cannot be had, nothing may be recorded (one more drop).
// Invariant: allocations - frees = live blocks, per type, per scope and in all (tests compare with the registry).
#ifndef FLK_ACCOUNT_H
#define FLK_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"
#include "registry/scope.h"

// Makes the cells of the totals, so that counting a free can never fail.
bool flk_account_prepare_type(uint32_t type);
bool flk_account_prepare_scope(uint32_t scope);

// Any scope and type.
bool flk_account_ready_any(flk_thread *thread, uint32_t scope, uint32_t type);
void flk_account_alloc_any(flk_thread *thread, uint32_t scope, uint32_t type,
                           uint64_t size_bytes);
void flk_account_free_any(flk_thread *thread, uint32_t scope, uint32_t type,
                          uint64_t size_bytes);

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
    if (FLK_UNLIKELY(!usual.type)) {
        flk_account_alloc_any(thread, scope, type, size_bytes);
        return;
    }
    flk_cell_alloc(usual.type, size_bytes);
    flk_cell_alloc(usual.scope, size_bytes);
}

static FLK_HOT void flk_account_free(flk_thread *thread, uint32_t scope,
                                     uint32_t type, uint64_t size_bytes) {
    flk_usual_cells usual = flk_account_usual(thread, scope, type);
    if (FLK_UNLIKELY(!usual.type)) {
        flk_account_free_any(thread, scope, type, size_bytes);
        return;
    }
    flk_cell_free(usual.scope, size_bytes);
    flk_cell_free(usual.type, size_bytes);
}

void flk_account_resize(flk_thread *thread, uint32_t scope, uint32_t type,
                        uint64_t old_bytes, uint64_t new_bytes);

void flk_account_scope(uint32_t scope, flk_sum *sum);
void flk_account_type(uint32_t type, flk_sum *sum);
bool flk_account_scope_is_empty(uint32_t scope);
// All cells of one scope to zero; the caller knows that no event is under
// way there: the scope is dropped and empty.
void flk_account_clear_scope(uint32_t scope);

// The functions below need the list of threads and all shards held.
// A live block is forgotten: it counts as freed, in the cells of the thread
// that allocated it, so that no count falls.
void flk_account_forget(uint32_t thread_number, uint32_t scope, uint32_t type,
                        uint64_t size_bytes);
// The peaks of one scope become what is live there now.
void flk_account_lower_peak_held(uint32_t scope);
// All counts become zero: in the child of a fork, and for tests.
void flk_account_clear_all(void);

#endif
