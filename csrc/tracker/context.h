// context.h - the scope of C code that runs below Python code.           SPDX-License-Identifier: MIT
// Keeps:   in each flk_thread, the scope set last and the context in which it was set. The number of open context
//          scopes is process-wide.
// Cost:    two loads of the thread state.
// Callers: any thread, GIL not needed.
// Invariant: a scope is returned only if the current context of the thread is the one in which the scope was set, and
//            that context has not changed since. Otherwise FLK_SCOPE_NONE is returned, and the allocation is counted
//            in the process scope. If context scopes are open and the thread has a context, flk_context_unknown()
//            counts that case.
#ifndef FLK_CONTEXT_H
#define FLK_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "paths/thread.h"

// Sets the scope of this thread's current context. FLK_SCOPE_NONE clears it.
void flk_context_set(uint32_t scope);
// Counts a context scope that was opened (+1) or ended (-1). 0 changes nothing.
void flk_context_count(int change);
// Relaxed. The order is explained in context.c.
extern atomic_int flk_contexts_open;
static inline bool flk_context_is_open(void) {
    return atomic_load_explicit(&flk_contexts_open, memory_order_relaxed) != 0;
}
// Returns the scope for an allocation made by C code of this thread, or
// FLK_SCOPE_NONE.
uint32_t flk_context_scope(const flk_thread *thread);
uint64_t flk_context_unknown(void);
void flk_context_clear(void);

#endif
