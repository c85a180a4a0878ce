// context.h - which scope an allocation belongs to.                       SPDX-License-Identifier: MIT
// Keeps:   in each flk_thread, the context seen last and its scope. The number of open context scopes is process-wide.
// Cost:    one load if no context scope is open; else the loads of flk_pycontext_look, and once for each switch of the
//          context those of flk_pycontext_find.
// Callers: any thread, GIL not needed.
// Rules:   1. The context of the thread has a scope: that scope, or the nearest one around it that is open.
//          2. It has none, and this thread has opened a context scope: the allocation is outside, if a task or
//             Context.run entered the context, or if that is how all scopes of this thread were opened.
//          3. Else no scope claims the thread or greenlet: registry/nesting.h decides.
// Invariant: a scope of rule 1 is never guessed. Where contexts cannot be read (no layout, no C callables), only the
//            context in which this thread set a scope last is known. Other allocations go to the process and are
//            counted in flk_context_unknown().
#ifndef FLK_CONTEXT_H
#define FLK_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"

// Called in this order. A scope without a number of its own is FLK_SCOPE_NONE.
// A context scope is about to be opened (+1), or was not opened after all (-1).
void flk_context_count(int change);
// It is open, in this thread's current context. `around`: the scope that the
// context had before, or FLK_SCOPE_NONE. `is_attached`: the thread holds the GIL.
void flk_context_open(uint32_t scope, uint32_t around, bool is_attached);
// It ended, in whatever thread.
void flk_context_close(uint32_t scope);
// The variable of this thread's current context was set to the scope, or to
// None: FLK_SCOPE_NONE.
void flk_context_set(uint32_t scope, bool is_attached);
// Relaxed. The order is explained in context.c.
extern atomic_int flk_contexts_open;
static inline bool flk_context_is_open(void) {
    return atomic_load_explicit(&flk_contexts_open, memory_order_relaxed) != 0;
}
// The scope of an allocation by this thread, for flk_origin: a scope, or
// FLK_SCOPE_NONE (rule 2), or FLK_SCOPE_UNCLAIMED (rule 3). Inside the guard.
// `is_attached`: the thread holds the GIL.
uint32_t flk_context_scope(flk_thread *thread, bool is_attached);
// The same, outside the guard and without the GIL.
uint32_t flk_context_here(void);
// Rules 2 and 3 for this thread, in a context without a scope of which nothing
// else is known.
uint32_t flk_context_without_scope(void);

// Blocks given to the process because the context could not be read.
uint64_t flk_context_unread(void);
// The same, and blocks of rule 3 that more than one scope may own.
uint64_t flk_context_unknown(void);
// Blocks of rule 3 that were given to a scope around this one, or to the
// process, and may be its own; of these the live ones, which takes O(blocks).
uint64_t flk_context_doubted(uint32_t scope);
uint64_t flk_context_doubted_live(uint32_t scope);
void flk_context_clear(void);
// In the child of a fork, after the other threads were forgotten.
void flk_context_forked(void);

#endif
