// nesting.h - which open scope the blocks of threads belong to that no scope claims.  SPDX-License-Identifier: MIT
// Keeps:   the open scopes as a forest (flk_scope_nest in registry/scope.h). The process and the process scopes are its
//          roots, the last one opened is the top. A context scope lies below the scope that was open in its context,
//          if that was opened after the top; else it lies below the top.
// Answer:  go down from the top while there is exactly one scope below. The scope where this ends gets the blocks. If
//          two or more are below it, each scope below it may be their owner: they are in doubt.
// Cost:    open and close: O(depth), and O(threads) for scopes in doubt. A scope that is closed before the scopes below
//          it costs O(scopes). Reading the answer is one load.
// Callers: any thread, inside or outside the guard. Lock rank: FLK_RANK_SCOPES, then FLK_RANK_THREADS.
// Invariant: a scope is sure if it is the answer of its root or around it; the answer of a root is its `innermost`.
//            `above` of an open scope is open. below_count and below_sum are those of the open scopes whose `above`
//            it is, without roots.
#ifndef FLK_NESTING_H
#define FLK_NESTING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"

// The answer; with FLK_NESTING_DOUBT if scopes below it are in doubt. Sequentially
// consistent: a scope that closes is gone from here before its number is free
// (registry/account.c, flk_tracker_hold_unclaimed).
#define FLK_NESTING_DOUBT (1u << 31)
extern atomic_uint flk_nesting_unclaimed;

// Opens a context scope. `around`: the scope that was open in its context, or
// FLK_SCOPE_NONE. `opener`: number of this thread. `is_bare`: opened outside of
// tasks and Context.run.
void flk_nesting_open(uint32_t scope, uint32_t around, uint16_t opener,
                      bool is_bare);
// Opens a process scope.
void flk_nesting_open_root(uint32_t scope);
typedef struct flk_nesting_closed {
    bool was_open, was_bare;
    uint16_t opener;
} flk_nesting_closed;
// Closes a scope of either kind. A scope that is not open stays so.
flk_nesting_closed flk_nesting_close(uint32_t scope);
void flk_nesting_end(uint32_t scope);  // the same without a result

// False if no scope was ever in doubt.
extern atomic_bool flk_nesting_doubts;
static inline bool flk_nesting_is_doubted(void) {
    return atomic_load_explicit(&flk_nesting_doubts, memory_order_relaxed);
}
// How many blocks were given to a scope around this one, or to the process, and
// may be its own. Its number is in use.
uint64_t flk_nesting_doubted(uint32_t scope);
// Among what sequence numbers these blocks are: from `*begin` to below `*end`.
// False if there is none.
bool flk_nesting_doubt_span(uint32_t scope, uint64_t *begin, uint64_t *end);

// In the child of a fork. If this thread has context scopes open, those of the
// threads that do not exist there are closed, since no thread could leave them.
void flk_nesting_forked(uint16_t own_number);
// For tests: compares the forest with its invariants. O(scopes).
bool flk_nesting_check(void);

#endif
