// scope.h - scopes as a tree of small numbers.                               SPDX-License-Identifier: MIT
// Keeps:   parent and state of each scope. Number 0 is the process, which has no parent and never ends.
// Cost:    a parent is one load, without a lock; the other functions are O(depth) or O(1).
// Callers: any thread. Functions that end with _held need the lock (flk_scope_lock_all), rank FLK_RANK_SCOPES; the
//          state of a number is read without it by any code that has the number. registry/account.h opens and drops
//          scopes: only the counts say when a number is free again.
// Fails:   flk_scope_take_held returns FLK_SCOPE_NONE at the limit (FLK_SCOPES_MAX) or without memory.
// Invariant: a scope is dropped after the scopes that were opened below it, and a number is given back after it was
//            dropped and when no live block carries it. So a parent outlives its scope.
#ifndef FLK_SCOPE_H
#define FLK_SCOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"

// --- numbers ------------------------------------------------------------
// A number that is not in use.
uint32_t flk_scope_take_held(void);
void flk_scope_give_back_held(uint32_t scope);
// The scope of a taken number begins. `parent` is FLK_SCOPE_NONE for one that
// is isolated: what happens in it is not part of any other view.
void flk_scope_begin_held(uint32_t scope, uint32_t parent);
// Its object is gone: no code can name the number any more.
void flk_scope_set_dropped_held(uint32_t scope);
// A word for lists of numbers, free for use between taking and giving back.
uint32_t *flk_scope_link_held(uint32_t scope);

// --- the tree -----------------------------------------------------------
// The scope where the events of a scope count next; not of the process.
uint32_t flk_scope_above(uint32_t scope);
static inline uint32_t flk_scope_parent(uint32_t scope) {
    return scope == FLK_SCOPE_PROCESS ? FLK_SCOPE_NONE : flk_scope_above(scope);
}
// Is `scope` part of the view of `view`: the same, or below it and not
// isolated?
bool flk_scope_is_within(uint32_t scope, uint32_t view);
bool flk_scope_is_dropped(uint32_t scope);
// Is the scope in no view any more: isolated from the process, and the object
// that could show it gone?
bool flk_scope_is_unseen(uint32_t scope);

// --- which scope is current ---------------------------------------------
// The scope was left. Code that still has its number gets its nearest ancestor
// that was not left, from flk_scope_open_ancestor.
void flk_scope_end(uint32_t scope);
// Distinguishes the scopes that have the same number one after the other.
uint32_t flk_scope_serial(uint32_t scope);
// The scope, or its nearest ancestor that is open. FLK_SCOPE_NONE if there is
// none, or if the number has another serial by now.
uint32_t flk_scope_open_ancestor(uint32_t scope, uint32_t serial);

// --- all of them --------------------------------------------------------
// Numbers in use, without the process.
uint32_t flk_scope_count(void);
// Calls for each number that was ever taken, 0 included.
void flk_scope_each_held(void (*visit)(uint32_t scope, void *context),
                         void *context);
void flk_scope_lock_all(void);
void flk_scope_unlock_all(void);

#endif
