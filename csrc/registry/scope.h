// scope.h - scopes as a tree of small numbers.                               SPDX-License-Identifier: MIT
// Keeps:   parent and state of each scope. Number 0 is the process, which has no parent and never ends.
// Cost:    a parent is one load, without a lock; the other functions are O(depth) or O(1).
// Callers: any thread. A function whose name ends with _held needs the lock (flk_scope_lock_all), rank
//          FLK_RANK_SCOPES. Code that has a number reads its state without the lock. registry/account.h opens and
//          drops scopes, because the counts decide when a number is free again.
// Fails:   flk_scope_take_held returns FLK_SCOPE_NONE at the limit (FLK_SCOPES_MAX) or without memory.
// Invariant: a scope is dropped after the scopes that were opened below it. A number is given back after its scope was
//            dropped and no live block carries it. So a parent outlives its scope.
#ifndef FLK_SCOPE_H
#define FLK_SCOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"

// --- numbers ------------------------------------------------------------
// Takes a number that is not in use.
uint32_t flk_scope_take_held(void);
void flk_scope_give_back_held(uint32_t scope);
// Begins the scope of a taken number. `outer` is the scope it is opened in; the
// events of an isolated scope are not part of any other view.
void flk_scope_begin_held(uint32_t scope, uint32_t outer, bool isolated);
// Drops the scope: its Python object is gone, and no code refers to the number.
void flk_scope_set_dropped_held(uint32_t scope);
// A word for lists of numbers. The owner of a number may use it from taking the
// number until giving it back.
uint32_t *flk_scope_link_held(uint32_t scope);

// What registry/nesting.c keeps of each scope.
typedef struct flk_scope_nest {
    uint32_t above;         // the open scope around it, or a root
    uint32_t below_count;   // open context scopes directly below it
    uint32_t below_sum;     // sum of their numbers: the number of an only one
    uint32_t innermost;     // of a root: its answer
    uint64_t doubted;       // blocks that may be its own, at the last change
    uint64_t doubted_from;  // in doubt: all such blocks at its beginning
    uint64_t doubt_begin, doubt_end;  // sequence numbers; 0: none
    uint16_t opener;  // number of the thread that opened it; 0: unknown
    bool is_open, is_root, is_sure, is_bare;
} flk_scope_nest;
flk_scope_nest *flk_scope_nest_held(uint32_t scope);

// --- the tree -----------------------------------------------------------
// The parent: the next scope in which an event of `scope` is counted. `scope` is
// not the process.
uint32_t flk_scope_above(uint32_t scope);
// The parent; FLK_SCOPE_NONE for the process and for an isolated scope.
static inline uint32_t flk_scope_parent(uint32_t scope) {
    return scope == FLK_SCOPE_PROCESS ? FLK_SCOPE_NONE : flk_scope_above(scope);
}
// True if `scope` is part of the view of `view`: it is `view` itself, or it is
// below `view` and no scope between them is isolated.
bool flk_scope_is_within(uint32_t scope, uint32_t view);
bool flk_scope_is_dropped(uint32_t scope);
// True if the scope is in no view any more: it is isolated from the process, and
// the outermost scope above it is dropped.
bool flk_scope_is_unseen(uint32_t scope);

// --- which scope is current ---------------------------------------------
// Ends a scope. Code that still has its number gets the nearest scope around it
// that did not end, from flk_scope_open_ancestor.
void flk_scope_end(uint32_t scope);
// Distinguishes scopes that have the same number at different times.
uint32_t flk_scope_serial(uint32_t scope);
// The scope if it is open, else the nearest open scope in which it was opened,
// isolated or not. FLK_SCOPE_NONE if the number has another serial now.
uint32_t flk_scope_open_ancestor(uint32_t scope, uint32_t serial);

// --- all of them --------------------------------------------------------
// The number of scopes in use, without the process.
uint32_t flk_scope_count(void);
// Calls `visit` for each number that was ever taken, and for 0.
void flk_scope_each_held(void (*visit)(uint32_t scope, void *context),
                         void *context);
void flk_scope_lock_all(void);
void flk_scope_unlock_all(void);

#endif
