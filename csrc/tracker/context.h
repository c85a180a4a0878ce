// context.h - the scope of C code that runs below Python code.               SPDX-License-Identifier: MIT
// Keeps:   in each flk_thread the scope that was set last, and the context (contextvars) it was set in. Here: how many
//          context scopes are open.
// Cost:    two loads of the thread state.
// Callers: any thread, the GIL is not needed. flk_context_scope is called by the thread itself, as a part of an event.
// Fails:   never. Where the scope is not certain, the result is FLK_SCOPE_NONE, which stands for the process scope, and
//          one more in flk_context_unknown().
// Invariant: a scope is named only if the thread's context is the one that the scope was set in, and is unchanged since.
#ifndef FLK_CONTEXT_H
#define FLK_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"

// The present context of this thread has this scope; FLK_SCOPE_NONE: none.
void flk_context_set(uint32_t scope);

// A context scope opens (+1) or ends (-1). It is counted before code other
// than that which opens it can see it, and as long as it is open: a thread
// that finds 0 has no context scope.
void flk_context_count(int change);
extern atomic_int flk_contexts_open;  // relaxed, for the reason above
static inline bool flk_context_is_open(void) {
    return atomic_load_explicit(&flk_contexts_open, memory_order_relaxed) != 0;
}

// The scope of an allocation that C code of this thread makes.
uint32_t flk_context_scope(const flk_thread *thread);

// Allocations whose scope was not certain.
uint64_t flk_context_unknown(void);
void flk_context_clear(void);

#endif
