// scope.h - scopes as a tree of small numbers.                           SPDX-License-Identifier: MIT
// Keeps:   parent and state of each scope; number 0 is the process and never ends.
// Cost:    open, end and drop O(threads), one lock; parent one load.
// Callers: open/end/drop from Python (any thread); parent from any thread, no lock. Rank: FLK_RANK_SCOPES.
// Fails:   limit or no page left: flk_scope_open returns the parent, and counts a drop for the caller.
// Invariant: a number is given out again only when nobody can name it: its object is gone (dropped) and no
//            live block carries it. A scope's parent is not reused before the scope is.
#ifndef FLK_SCOPE_H
#define FLK_SCOPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/values.h"

// A new scope below `parent`. What happens in an isolated one is not seen
// from its parents. `made` says whether the number is new.
uint32_t flk_scope_open(uint32_t parent, bool isolated, bool *made);
// The scope was left; who still holds its number gets its nearest ancestor
// that was not, from flk_scope_open_ancestor.
void flk_scope_end(uint32_t scope);
// Tells a number from the same one given out again later.
uint32_t flk_scope_serial(uint32_t scope);
// The scope itself, or its nearest ancestor that is open; FLK_SCOPE_NONE if
// there is none, or if the number was given out again (another serial).
uint32_t flk_scope_open_ancestor(uint32_t scope, uint32_t serial);
// The object that names the scope is gone: the number is free as soon as no
// live block carries it.
void flk_scope_drop(uint32_t scope);
// Where the scope's events are counted next; FLK_SCOPE_NONE at the top.
uint32_t flk_scope_above(uint32_t scope);  // not of the process
static inline uint32_t flk_scope_parent(uint32_t scope) {
    return scope == FLK_SCOPE_PROCESS ? FLK_SCOPE_NONE : flk_scope_above(scope);
}
// Is `scope` in the view of `view` (the same or below, not isolated)?
bool flk_scope_is_within(uint32_t scope, uint32_t view);

// Is the scope in nobody's view: isolated from the process, and the object
// that could show it gone?
bool flk_scope_is_unseen(uint32_t scope);

// Numbers in use, the process not counted; those of them only live blocks
// still hold.
uint32_t flk_scope_count(void);
uint32_t flk_scope_lingering_count(void);
// With the lock held: each number that was ever given out, 0 included.
void flk_scope_each_held(void (*visit)(uint32_t scope, void *context),
                         void *context);
void flk_scope_lock_all(void);
void flk_scope_unlock_all(void);

#endif
